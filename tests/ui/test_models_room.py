"""The Models room: what it draws, and what its keys do."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Static

from qwen_tui.errors import ModelError
from qwen_tui.models.card import Card
from qwen_tui.models.download_state import DownloadProblem, DownloadState, DownloadStatus, QueueOptions, Stall
from qwen_tui.models.hub_search import HubModel
from qwen_tui.models.tokens import TokenNeeded, Tokens
from qwen_tui.models.verify import FileVerdict, Verification
from qwen_tui.progress import OnProgress, Progress
from qwen_tui.server.plan import Plan, PlanLine
from qwen_tui.server.spec import ServerSpec
from qwen_tui.ui.app import QwenApp
from qwen_tui.ui.screens.dialogs import Choice, Confirm, ErrorDialog
from qwen_tui.ui.screens.download_form import DownloadForm
from qwen_tui.ui.screens.models import ModelsScreen
from qwen_tui.ui.screens.models_card import CardScreen
from qwen_tui.ui.screens.models_folder import AskFolder
from qwen_tui.ui.screens.server_form import ServerForm
from qwen_tui.ui.screens.servers import ServersScreen
from qwen_tui.ui.services import Services
from qwen_tui.ui.widgets.card_view import CardView
from qwen_tui.ui.widgets.download_detail import download_lines, summary_line
from qwen_tui.ui.widgets.model_coming import ComingPart
from qwen_tui.ui.widgets.model_here import HerePart
from qwen_tui.ui.widgets.model_rows import download_row
from qwen_tui.ui.widgets.room_tabs import RoomTabs
from tests.ui.conftest import ready, running, wait_until, with_servers
from tests.ui.models_room import (
    FILES,
    REQUEST,
    STATE,
    FakeDownloads,
    three_models,
    with_downloads,
    with_models,
    with_still_models,
)
from tests.unit.test_catalogue import make_model


def shown(app: QwenApp) -> str:
    """Everything that the cells of the terminal say now."""
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip) for strip in strips)


def about(app: QwenApp) -> str:
    """What is said of the entry under the cursor."""
    return str(app.screen_stack[0].query_one("#about", Static).content)


@pytest.fixture
def models(services: Services, tmp_path: Path) -> Path:
    """Three models in a folder."""
    folder = three_models(tmp_path / "ms")
    with_models(services, folder)
    with_downloads(services)
    return folder


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
    for _step in range(len(services_models(app))):
        if here.chosen is not None and here.chosen.id == id:
            return
        await pilot.press("down")
    raise AssertionError(id)


def services_models(app: QwenApp) -> tuple[Any, ...]:
    return app.services.shelf.models


# Pictures


@pytest.mark.parametrize("size", [(80, 24), (140, 40)], ids=["80x24", "140x40"])
def test_models(services: Services, snap_compare: Any, language: str, size: tuple[int, int]) -> None:
    services.settings.language = language
    with_still_models(services)
    with_downloads(services, STATE)

    async def drawn(pilot: Pilot[None]) -> None:
        app = cast(QwenApp, pilot.app)
        await wait_until(pilot, lambda: "62 %" in app.coming and bool(app.screen.query(ComingPart)))
        await wait_until(pilot, lambda: bool(coming(app).states) and bool(about(app)))
        await pilot.pause()

    assert snap_compare(QwenApp(services, "models"), terminal_size=size, run_before=drawn)


# Here


async def test_an_empty_room_says_what_to_press(services: Services, tmp_path: Path) -> None:
    with_models(services, tmp_path / "nothing")
    with_downloads(services)
    async with room(services, (80, 24)) as (app, _pilot):
        text = shown(app)
        assert "No models yet" in text
        assert "n  download one by its id" in text
        assert "n new download" in text


async def test_models_are_listed_with_how_they_fit(services: Services, models: Path) -> None:
    async with room(services, (80, 24)) as (app, pilot):
        text = shown(app)
        assert "3 models" in text
        assert "qwen/Qwen2-7B-Instruct" in text
        assert "bfloat16" in text
        await go_to(app, pilot, "qwen/Qwen2-7B-Instruct")
        model = services.shelf.models[1]
        assert services.shelf.fits[model.path].why in about(app)
        assert "32,768 tokens" in about(app)
        await go_to(app, pilot, "qwen/Qwen2-Short")
        assert "! not whole" in about(app)
        assert services.shelf.models[2].problems[0] in about(app)
        await pilot.press("question_mark")
        await wait_until(pilot, lambda: "With a model that is here" in shown(app))


async def test_the_server_of_a_model_is_named_and_chatted_with(services: Services, models: Path) -> None:
    spec = ServerSpec("mine", str(models / "qwen" / "Qwen2-7B-Instruct"))
    with_servers(services, ready("another"), ready("mine", spec=spec))
    async with room(services) as (app, pilot):
        await go_to(app, pilot, "qwen/Qwen2-7B-Instruct")
        assert "served by mine  ready" in about(app)
        await pilot.press("c")
        assert app.target is not None
        assert app.target.name == "mine"
        assert app.screen_stack[0].query("Prompt")


async def test_two_marked_models_are_compared(services: Services, models: Path) -> None:
    async with room(services) as (app, pilot):
        await go_to(app, pilot, "qwen/Qwen2-0.5B")
        await pilot.press("space")
        assert "space on a second model" in about(app)
        await pilot.press("down", "space")
        assert "Side by side" in about(app)
        line = next(line for line in about(app).splitlines() if line.startswith("Reckoned"))
        assert line.split().count("4,096") == 2  # both for the same context
        await pilot.press("space")
        assert "Side by side" not in about(app)


async def test_the_filter_narrows_the_list_and_escape_ends_it(services: Services, models: Path) -> None:
    async with room(services) as (app, pilot):
        await pilot.press("slash", "s", "h", "o", "r", "t")
        assert "1 shown" in shown(app)
        await pilot.press("enter")
        assert "! not whole" in about(app)
        await pilot.press("slash", "escape")
        assert "shown" not in shown(app)


async def test_a_model_is_served_in_two_keys(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The form has what the fit proposes: this context does not fit whole."""

    def plan(spec: ServerSpec, *_args: object, **_options: object) -> Plan:
        return Plan(spec, (PlanLine("ok", "port", "free"),), 0.1)

    monkeypatch.setattr("qwen_tui.ui.screens.plan.make_plan", plan)
    servers = with_servers(services)
    make_model(tmp_path / "m" / "long" / "Long", max_position_embeddings=4_000_000)
    with_models(services, tmp_path / "m")
    with_downloads(services)
    async with room(services) as (app, pilot):
        assert "Proposed start" in about(app)
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, ServerForm))
        await pilot.press("ctrl+s")
        await wait_until(pilot, lambda: bool(servers.calls) and isinstance(app.screen, ServersScreen))
        spec = servers.calls[0][1]
        assert isinstance(spec, ServerSpec)
        assert spec.model == str(tmp_path / "m" / "long" / "Long")
        assert spec.max_model_len == services.shelf.fits[Path(spec.model)].context
        assert spec.max_model_len < 4_000_000
        assert app.target is not None
        assert app.target.name == "Long"


async def test_what_is_missing_of_a_model_is_downloaded(services: Services, models: Path) -> None:
    async with room(services) as (app, pilot):
        await go_to(app, pilot, "qwen/Qwen2-Short")
        assert "enter download the rest" in shown(app)
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, DownloadForm))
        assert isinstance(app.screen, DownloadForm)
        assert app.screen.request.model == "qwen/Qwen2-Short"
        assert app.screen.request.cache_dir == str(models)


async def test_deleting_asks_names_the_bytes_and_frees_them(services: Services, models: Path) -> None:
    async with room(services) as (app, pilot):
        await go_to(app, pilot, "qwen/Qwen2-7B-Instruct")
        await pilot.press("d")
        await wait_until(pilot, lambda: isinstance(app.screen, Confirm))
        assert "are freed" in shown(app)
        await pilot.press("enter")  # means no
        await wait_until(pilot, lambda: isinstance(app.screen, ModelsScreen))
        assert (models / "qwen" / "Qwen2-7B-Instruct").is_dir()
        await pilot.press("d")
        await wait_until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("y")
        await wait_until(pilot, lambda: len(services.shelf.models) == 2)
        assert not (models / "qwen" / "Qwen2-7B-Instruct").exists()


async def test_a_model_in_use_is_not_deleted(services: Services, models: Path) -> None:
    served, coming = models / "qwen" / "Qwen2-7B-Instruct", models / "qwen" / "Qwen2-0.5B"
    with_servers(services, ready("mine", spec=ServerSpec("mine", str(served))))
    with_downloads(services, dataclasses.replace(STATE, folder=coming))
    async with room(services) as (app, pilot):
        for path in (served, coming):
            await go_to(app, pilot, f"qwen/{path.name}")
            await pilot.press("d")
            await wait_until(pilot, lambda: isinstance(app.screen, ErrorDialog))
            assert f"qwen/{path.name} is in use" in shown(app)
            assert path.is_dir()
            await pilot.press("escape")


async def test_a_model_is_moved_and_found_again(services: Services, models: Path, tmp_path: Path) -> None:
    async with room(services) as (app, pilot):
        await go_to(app, pilot, "qwen/Qwen2-7B-Instruct")
        await pilot.press("M")
        await wait_until(pilot, lambda: isinstance(app.screen, AskFolder))
        app.screen.query_one(Input).value = "relative"
        await pilot.press("enter")
        assert "the whole path" in shown(app)
        app.screen.query_one(Input).value = str(tmp_path / "big disk")
        await pilot.press("enter")
        target = tmp_path / "big disk" / "qwen" / "Qwen2-7B-Instruct" / "config.json"
        await wait_until(pilot, lambda: target.exists() and len(services.shelf.models) == 2)
        assert services.settings.model_folders == [str(tmp_path / "big disk")]


async def test_verifying_names_the_bad_file_and_falls_back_without_a_hub(
    services: Services, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    gate = asyncio.Event()

    async def verify(_paths: object, target: str, tell: OnProgress, *, offline: bool = False) -> Verification:
        asked.append(offline)
        tell(Progress("Checking", 3, 10, "bytes", 2.0, 4.0, "model.safetensors"))
        if len(asked) == 1:
            await gate.wait()  # until it is stopped
        if not offline:
            raise ModelError("The hub does not answer")
        bad = FileVerdict("model.safetensors", 5, "damaged", "its hash is another")
        return Verification(Path(target), "m", "record", (bad, FileVerdict("config.json", 2, "good")))

    monkeypatch.setattr("qwen_tui.models.verify.verify_model", verify)
    async with room(services) as (app, pilot):
        await pilot.press("V")
        await wait_until(pilot, lambda: "3 B / 10 B · 2 B/s · 4 s to go" in about(app))
        assert "x stop this" in shown(app)
        await pilot.press("x")
        await wait_until(pilot, lambda: "Checking" not in about(app))
        await pilot.press("V")
        await wait_until(pilot, lambda: "1 of 2 files are wrong" in about(app))
        assert "model.safetensors  its hash is another" in about(app)
        assert asked == [False, False, True]
        await pilot.press("n")
        await wait_until(pilot, lambda: isinstance(app.screen, DownloadForm))
        assert app.screen.query_one("#field-model", Input).value == "qwen/Qwen2-0.5B"


async def test_the_card_is_drawn_as_markdown(services: Services, models: Path) -> None:
    card = "---\nlicense: apache-2.0\n---\n# Title\n\nText [red]not markup[/] \x1b[31m\n\n- one\n"
    (models / "qwen" / "Qwen2-0.5B" / "README.md").write_text(card)
    async with room(services) as (app, pilot):
        await go_to(app, pilot, "qwen/Qwen2-0.5B")
        await pilot.press("o")
        await wait_until(pilot, lambda: isinstance(app.screen, CardScreen))
        view = app.screen.query_one(CardView)
        await wait_until(pilot, lambda: "• one" in view.text)
        assert "Text [red]not markup[/]" in view.text
        assert "\x1b" not in view.text
        assert "license apache-2.0" in shown(app)
        await pilot.press("escape")
        assert isinstance(app.screen, ModelsScreen)


async def test_the_palette_finds_a_model(services: Services, models: Path) -> None:
    async with room(services) as (app, pilot):
        await pilot.press("s", "ctrl+p", *"Qwen2-Short")
        await wait_until(pilot, lambda: "Model: qwen/Qwen2-Short" in shown(app))
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, ModelsScreen) and "! not whole" in about(app))


# Coming


def lines(state: DownloadState) -> str:
    return download_lines(state, FILES, QueueOptions(), 80, 40).plain


def test_a_download_shows_bars_rate_and_eta() -> None:
    text = lines(STATE)
    assert "62 %" in text
    assert "6.2 GB / 10 GB · 50 MB/s · 1 min 16 s to go" in text
    assert "1 of 4 files" in text
    active, whole, waiting = (next(line for line in text.splitlines() if f"model-{n}." in line) for n in (2, 1, 3))
    assert active.startswith("↓")
    assert "███████" in active
    assert whole.startswith("✓")
    assert "█" not in whole
    assert waiting.startswith(" ")
    assert "█" not in waiting
    assert text.index("model-2") < text.index("model-3") < text.index("model-1")
    assert [len(download_row(STATE, width).plain) for width in (30, 40, 60, 80)] == [30, 40, 60, 80]


async def test_the_second_line_names_downloads_in_every_room(services: Services) -> None:
    with_downloads(services, STATE)
    async with running(services) as (app, pilot):
        await wait_until(pilot, lambda: app.coming == "↓ 1 download 62 %")
        await pilot.pause()
        assert "↓ 1 download 62 %" in str(app.screen.query_one(RoomTabs).render())


def test_a_stall_and_a_failure_say_why() -> None:
    stalled = dataclasses.replace(STATE, stall=Stall(17, "the hub answers 503", 4), rate=0.0)
    assert "Nothing arrives for 17 s: the hub answers 503\nnext try in 4 s" in lines(stalled)
    assert "to go" not in lines(stalled)
    assert "stalled" in download_row(stalled, 60).plain
    assert summary_line([stalled]) == "↓ 1 download 62 % stalled"
    problem = DownloadProblem("model-1 stays corrupt", "its hash is another", "Try another hub")
    failed = dataclasses.replace(STATE, status=DownloadStatus.FAILED, problem=problem, active=(), rate=None)
    assert "model-1 stays corrupt\nits hash is another\nTry another hub" in lines(failed)
    assert summary_line([failed]) == ""


async def do(pilot: Pilot[None], fake: FakeDownloads, key: str, *calls: tuple[str, object]) -> None:
    """Press `key`, and wait for these calls and no others."""
    fake.calls.clear()
    await pilot.press(key)
    await wait_until(pilot, lambda: fake.calls == list(calls))


async def test_downloads_are_paused_resumed_and_reordered(services: Services, models: Path) -> None:
    other = dataclasses.replace(STATE, id="other", status=DownloadStatus.QUEUED, position=1)
    fake = with_downloads(services, STATE, other)
    async with room(services) as (app, pilot):
        await pilot.press("tab")
        await wait_until(pilot, lambda: "6.2 GB / 10 GB" in about(app))
        await do(pilot, fake, "enter", ("pause", "qwen2-7b"))
        await wait_until(pilot, lambda: "‖ paused" in about(app))
        await do(pilot, fake, "enter", ("resume", "qwen2-7b"))
        await do(pilot, fake, "J", ("move", ("qwen2-7b", 1)))
        await wait_until(pilot, lambda: list(fake.states) == ["other", "qwen2-7b"])
        await pilot.press("plus")
        await wait_until(pilot, lambda: fake.options.connections == 5)


async def test_cancelling_asks_what_happens_to_the_files(services: Services, models: Path) -> None:
    fake = with_downloads(services, STATE, dataclasses.replace(STATE, id="other", position=1))
    async with room(services) as (app, pilot):
        await pilot.press("tab")
        await wait_until(pilot, lambda: "6.2 GB / 10 GB" in about(app))
        for answer, call, id in (("y", "cancel", "qwen2-7b"), ("a", "cancel all", "other")):
            await pilot.press("d")
            await wait_until(pilot, lambda: isinstance(app.screen, Choice))
            await do(pilot, fake, answer, (call, id), ("remove", id))
            await wait_until(pilot, lambda id=id: all(state.id != id for state in coming(app).states))  # type: ignore[misc]
        await wait_until(pilot, lambda: "Nothing is being downloaded" in about(app))


async def test_what_was_downloaded_is_served(services: Services, models: Path) -> None:
    folder = models / "qwen" / "Qwen2-7B-Instruct"
    done = dataclasses.replace(STATE, status=DownloadStatus.DONE, done=10, total=10, folder=folder)
    with_downloads(services, done)
    async with room(services) as (app, pilot):
        await pilot.press("tab")
        await wait_until(pilot, lambda: "enter serve" in shown(app))
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, ServerForm))
        assert app.screen.query_one("#field-model", Input).value == str(folder)


# A new download


async def fill(pilot: Pilot[None], app: QwenApp, model: str) -> None:
    await pilot.press("n")
    await wait_until(pilot, lambda: isinstance(app.screen, DownloadForm))
    app.screen.query_one("#field-model", Input).value = model


async def test_the_plan_is_shown_before_the_first_byte(services: Services, models: Path) -> None:
    fake = with_downloads(services)
    async with room(services, (80, 24)) as (app, pilot):
        await fill(pilot, app, "qwen/Qwen2-7B-Instruct")
        app.screen.query_one("#field-include", Input).value = "*.json *.safetensors"
        await pilot.press("ctrl+s")
        await wait_until(pilot, lambda: "2 files, 9 GB" in shown(app))
        text = shown(app)
        assert "(2 left out)" in text
        assert "1 GB of it are here already, 8 GB to fetch" in text
        assert "100 GB are free" in text
        assert fake.calls == []
        await pilot.press("ctrl+s")
        wanted = dataclasses.replace(REQUEST, include=("*.json", "*.safetensors"))
        await wait_until(pilot, lambda: fake.calls == [("start", wanted)])
        await wait_until(pilot, lambda: "asks the hub" in about(app))


async def test_a_full_disk_is_seen_before_the_start(services: Services, models: Path) -> None:
    fake = with_downloads(services)
    fake.free = 2_000 * 1_000_000
    async with room(services) as (app, pilot):
        await fill(pilot, app, "qwen/Qwen2-7B-Instruct")
        await pilot.press("ctrl+s")
        await wait_until(pilot, lambda: "Not enough disk space" in shown(app))
        assert "7 GB more are needed" in shown(app)
        await pilot.press("ctrl+s")
        assert fake.calls == []


async def test_a_token_is_asked_for_not_shown_and_kept_for_its_host(services: Services, models: Path) -> None:
    fake = with_downloads(services)
    fake.plan_error = TokenNeeded("The hub wants a token", "", "Give it below")
    async with room(services) as (app, pilot):
        await fill(pilot, app, "qwen/Private")
        await pilot.press("ctrl+s")
        token = app.screen.query_one("#field-token", Input)
        await wait_until(pilot, lambda: "The hub wants a token" in shown(app) and token.has_focus)
        fake.plan_error = None
        await pilot.press(*"s3cret", "enter")
        await wait_until(pilot, lambda: "2 files, 9 GB" in shown(app))
        assert "s3cret" not in shown(app)
        hub = fake.planned[-1].hub_facts
        file = Tokens(services.paths).file(hub)
        assert file.read_text().strip() == "s3cret"
        assert file.stat().st_mode & 0o777 == 0o600


# The hub


def found(id: str, **fields: Any) -> HubModel:
    return HubModel(id, "modelscope", **{"downloads": 1_200_000, "licence": "apache-2.0", **fields})


async def test_searching_the_hub_reading_a_card_and_choosing_a_download(
    services: Services, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str, str, str]] = []

    async def search(text: str, hub: str, *, family: str, sort: str, token: str) -> list[HubModel]:
        asked.append((text, hub, family, sort))
        if len(asked) == 1:
            raise ModelError("The hub can't be reached", "no route", "Set MODELSCOPE_ENDPOINT [red]")
        return [found("qwen/Qwen2-7B-Instruct"), found("qwen/New", task="text-generation", size=15_000_000_000)]

    async def card(model: str, hub: str, *, token: str) -> Card:
        return Card(f"# About {model}\n\nIt is *new*.")

    monkeypatch.setattr("qwen_tui.models.hub_search.search_hub", search)
    monkeypatch.setattr("qwen_tui.ui.screens.models_card.hub_card", card)
    async with room(services, (80, 24)) as (app, pilot):
        await pilot.press("shift+tab", "enter", *"qwen", "enter")
        await wait_until(pilot, lambda: "The hub can't be reached" in about(app))
        assert "Set MODELSCOPE_ENDPOINT [red]" in shown(app)
        await pilot.press("r")
        await wait_until(pilot, lambda: "✓ qwen/Qwen2-7B-Instruct" in shown(app))
        assert "on this machine" in about(app)
        await pilot.press("F", "S")
        await wait_until(pilot, lambda: asked[-1] == ("qwen", "modelscope", "Qwen2", "likes"))
        await pilot.press("down")
        await wait_until(pilot, lambda: "text-generation" in about(app))
        assert "15 GB" in about(app)
        await pilot.press("o")
        await wait_until(pilot, lambda: isinstance(app.screen, CardScreen) and "It is new." in card_text(app))
        await pilot.press("escape", "enter")
        await wait_until(pilot, lambda: isinstance(app.screen, DownloadForm))
        assert app.screen.query_one("#field-model", Input).value == "qwen/New"


async def test_a_hubs_card_is_read(services: Services, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def search(*_words: object, **_options: object) -> list[HubModel]:
        return [found("qwen/New")]

    async def card(model: str, hub: str, *, token: str) -> Card:
        return Card(f"# About {model}\n\nIt is *new*.")

    monkeypatch.setattr("qwen_tui.models.hub_search.search_hub", search)
    monkeypatch.setattr("qwen_tui.ui.screens.models_card.hub_card", card)
    async with room(services) as (app, pilot):
        await pilot.press("shift+tab", "r")
        await wait_until(pilot, lambda: "qwen/New" in about(app))
        await pilot.press("o")
        await wait_until(
            pilot, lambda: isinstance(app.screen, CardScreen) and "It is new." in app.screen.query_one(CardView).text
        )
