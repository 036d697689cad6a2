"""What the tests of the Models room share: real small models, a fixed box, downloads that live in memory."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

from textual.pilot import Pilot
from textual.widgets import Static

from qwen_tui.errors import ModelError
from qwen_tui.hardware.gpus import Gpu
from qwen_tui.models.catalogue import Catalogue
from qwen_tui.models.download_queue import Downloads
from qwen_tui.models.download_state import (
    DownloadPlan,
    DownloadRequest,
    DownloadState,
    DownloadStatus,
    FileProgress,
    PlannedFile,
    QueueOptions,
)
from qwen_tui.models.fit import GIB
from qwen_tui.models.fit_box import Box
from qwen_tui.models.local_folders import Place
from qwen_tui.server.model_records import ModelRecords
from qwen_tui.ui.app import QwenApp
from qwen_tui.ui.model_shelf import ModelShelf
from qwen_tui.ui.screens.models import ModelsScreen
from qwen_tui.ui.services import Services
from qwen_tui.ui.widgets.card_view import CardView
from qwen_tui.ui.widgets.model_coming import ComingPart
from qwen_tui.ui.widgets.model_here import HerePart
from tests.ui.conftest import running, wait_until
from tests.unit.test_catalogue import make_model
from tests.unit.test_fit_box import model

BOX = Box((Gpu(0, "GPU-0", "RTX 4090", 24 * GIB, 23 * GIB, 1 * GIB, (8, 9)),), (64 * GIB, 60 * GIB), False, (0, 24))
MB = 1_000_000
REQUEST = DownloadRequest("qwen/Qwen2-7B-Instruct")
STATE = DownloadState(
    id="qwen2-7b",
    request=REQUEST,
    status=DownloadStatus.RUNNING,
    position=0,
    done=6_200 * MB,
    total=10_000 * MB,
    checked=3_000 * MB,
    rate=50.0 * MB,
    files=4,
    files_done=1,
    active=(FileProgress("model-2.safetensors", 5_000 * MB, 3_200 * MB),),
    folder=Path("/models/qwen/Qwen2-7B-Instruct"),
)
FILES = (
    FileProgress("model-1.safetensors", 3_000 * MB, 3_000 * MB, True),
    FileProgress("model-2.safetensors", 5_000 * MB, 3_200 * MB),
    FileProgress("model-3.safetensors", 2_000 * MB, 0),
)


class FakeDownloads:
    """`Downloads` in memory, with the same methods; the test sets `states` and reads `calls`."""

    def __init__(self, *states: DownloadState) -> None:
        self.states = {state.id: state for state in states}
        self.calls: list[tuple[str, object]] = []
        self.options = QueueOptions()
        self.plan_error: ModelError | None = None
        self.free = 100_000 * MB
        self.planned: list[DownloadRequest] = []

    def list(self) -> tuple[DownloadState, ...]:
        return tuple(self.states.values())

    def files(self, id: str) -> tuple[FileProgress, ...]:
        return FILES

    async def plan(self, request: DownloadRequest) -> DownloadPlan:
        self.planned.append(request)
        if self.plan_error is not None:
            raise self.plan_error
        files = (PlannedFile("model.safetensors", 9_000 * MB, 1_000 * MB), PlannedFile("config.json", 700, 700))
        return DownloadPlan(request, Path("/models/x"), "master", files, 2, self.free, 1_000 * MB)

    async def start(self, request: DownloadRequest) -> str:
        self.calls.append(("start", request))
        id = request.model.rpartition("/")[2]
        self.states[id] = DownloadState(id, request, DownloadStatus.LISTING, len(self.states))
        return id

    def _put(self, call: str, id: str, status: DownloadStatus) -> None:
        self.calls.append((call, id))
        self.states[id] = dataclasses.replace(self.states[id], status=status, rate=None, active=())

    async def pause(self, id: str) -> None:
        self._put("pause", id, DownloadStatus.PAUSED)

    async def resume(self, id: str) -> None:
        self._put("resume", id, DownloadStatus.RUNNING)

    async def cancel(self, id: str, *, delete_files: bool = False) -> int:
        self._put("cancel all" if delete_files else "cancel", id, DownloadStatus.CANCELLED)
        return 5 * MB

    async def remove(self, id: str) -> None:
        self.calls.append(("remove", id))
        del self.states[id]

    def move(self, id: str, by: int) -> None:
        self.calls.append(("move", (id, by)))
        ids = list(self.states)
        ids.insert(max(0, ids.index(id) + by), ids.pop(ids.index(id)))
        self.states = {name: self.states[name] for name in ids}

    def set_options(self, options: QueueOptions) -> None:
        self.options = options


def with_downloads(services: Services, *states: DownloadState) -> FakeDownloads:
    """Give `services` these downloads."""
    fake = FakeDownloads(*states)
    services.downloads = cast(Downloads, fake)
    return fake


def with_models(services: Services, folder: Path, box: Box = BOX) -> None:
    """Have the Models room show what lies in `folder`, for a box that is always the same."""

    def catalogue(records: ModelRecords) -> Catalogue:
        return Catalogue(services.paths, where=[Place(folder, "modelscope")])

    services.shelf = ModelShelf(catalogue, lambda: box, ModelRecords)


def three_models(folder: Path) -> Path:
    """One that fits, one whose weights are packed, and one whose weight file is short; their folder."""
    make_model(folder / "qwen" / "Qwen2-7B-Instruct")
    make_model(folder / "qwen" / "Qwen2-0.5B", num_hidden_layers=4, max_position_embeddings=4096)
    broken = make_model(folder / "qwen" / "Qwen2-Short") / "model.safetensors"
    broken.write_bytes(broken.read_bytes()[:-8])
    return folder


def with_still_models(services: Services) -> None:
    """Have the Models room show models whose paths, sizes and times are always the same."""
    mistral = {"num_hidden_layers": 32, "num_key_value_heads": 8, "sliding_window": 4096}
    models = (
        model(id="qwen/Qwen2-7B-Instruct", size=15_231_000_000, architecture="Qwen2ForCausalLM",
              has_chat_template=True),
        model({"num_hidden_layers": 80, "hidden_size": 8192}, 135.0, id="qwen/Qwen2-72B-Instruct",
              size=145_000_000_000, architecture="Qwen2ForCausalLM", has_chat_template=True),
        model(mistral, 3.9, id="一家公司/模型-7B-GPTQ", size=4_200_000_000, quantization="gptq", bits=4),
        model(id="qwen/Qwen2-Short", size=9_000_000_000, problems=("model-2.safetensors is missing",)),
    )  # fmt: skip
    with_models(services, Path("/nowhere"))
    paths = [Path("/models") / entry.id for entry in models]
    services.shelf.models = tuple(
        dataclasses.replace(entry, path=path, root=path) for entry, path in zip(models, paths, strict=True)
    )
    services.shelf.box = BOX
    services.shelf.fits = {entry.path: services.shelf.fit_for(entry) for entry in services.shelf.models}  # type: ignore[misc]
    services.shelf.looked = True

    async def look(tell: Callable[[], None]) -> None:
        tell()

    services.shelf.look = services.shelf.look_at_box = look  # type: ignore[method-assign]


def shown(app: QwenApp) -> str:
    """Everything that the cells of the terminal say now."""
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip) for strip in strips)


def about(app: QwenApp) -> str:
    """What is said of the entry under the cursor."""
    return str(app.screen_stack[0].query_one("#about", Static).content)


@asynccontextmanager
async def room(services: Services, size: tuple[int, int] = (120, 40)) -> AsyncIterator[tuple[QwenApp, Pilot[None]]]:
    """The Models room after its first look."""
    async with running(services, "models", size) as (app, pilot):
        await wait_until(pilot, lambda: services.shelf.box is not None and bool(about(app)))
        yield app, pilot


def coming(app: QwenApp) -> ComingPart:
    return app.screen_stack[0].query_one(ComingPart)


def card_text(app: QwenApp) -> str:
    return app.screen.query_one(CardView).text


async def go_to(app: QwenApp, pilot: Pilot[None], id: str) -> None:
    """Put the cursor on the model of this id."""
    screen = app.screen
    assert isinstance(screen, ModelsScreen)
    here = screen.query_one(HerePart)
    await pilot.press("home")
    for _model in app.services.shelf.models:
        if here.chosen is not None and here.chosen.id == id:
            return
        await pilot.press("down")
    raise AssertionError(id)
