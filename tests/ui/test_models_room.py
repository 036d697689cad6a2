"""The Models room: what it draws, and what its keys do."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any, cast

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from qwen_tui.errors import ModelError
from qwen_tui.models.verify import FileVerdict, Verification
from qwen_tui.progress import OnProgress, Progress
from qwen_tui.server.plan import Plan, PlanLine
from qwen_tui.server.spec import ServerSpec
from qwen_tui.ui.app import QwenApp
from qwen_tui.ui.keys import help_lines
from qwen_tui.ui.screens.dialogs import Confirm, ErrorDialog
from qwen_tui.ui.screens.download_form import DownloadForm
from qwen_tui.ui.screens.models import ModelsScreen
from qwen_tui.ui.screens.models_card import CardScreen
from qwen_tui.ui.screens.models_folder import AskFolder
from qwen_tui.ui.screens.server_form import ServerForm
from qwen_tui.ui.screens.servers import ServersScreen
from qwen_tui.ui.services import Services
from qwen_tui.ui.widgets.card_view import CardView
from qwen_tui.ui.widgets.model_coming import ComingPart
from tests.ui.conftest import ready, wait_until, with_servers
from tests.ui.models_room import (
    STATE,
    about,
    coming,
    go_to,
    room,
    shown,
    three_models,
    with_downloads,
    with_models,
    with_still_models,
)
from tests.unit.test_catalogue import make_model


@pytest.fixture
def models(services: Services, tmp_path: Path) -> Path:
    """Three models in a folder."""
    folder = three_models(tmp_path / "ms")
    with_models(services, folder)
    with_downloads(services)
    return folder


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
        assert "nothing; n downloads a model" in text


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
        english = services.shelf.fits[model.path].why
        await pilot.press("ctrl+g")
        await wait_until(pilot, lambda: services.shelf.fits[model.path].why != english)
        await wait_until(pilot, lambda: services.shelf.fits[model.path].why in about(app))
        await pilot.press("ctrl+g")
        await wait_until(pilot, lambda: english in about(app))
        await go_to(app, pilot, "qwen/Qwen2-Short")
        assert "! not whole" in about(app)
        assert services.shelf.models[2].problems[0] in about(app)
        assert "With a download" in {line.group for line in help_lines(app.screen, {})}


async def test_the_server_of_a_model_is_named_and_chatted_with(services: Services, models: Path) -> None:
    spec = ServerSpec("mine", str(models / "qwen" / "Qwen2-7B-Instruct"))
    with_servers(services, ready("another"), ready("mine", spec=spec))
    async with room(services) as (app, pilot):
        await go_to(app, pilot, "qwen/Qwen2-7B-Instruct")
        assert "served by mine  ready" in about(app)
        assert "c chat with it" in about(app)
        assert app.target is not None
        assert app.target.name == "mine"  # what `c` talks to


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
        await pilot.press("slash", "S", "h")
        assert "1 shown" in shown(app)
        await pilot.press("enter")
        assert "! not whole" in about(app)
        await pilot.press("slash", "escape")
        assert "shown" not in shown(app)
        small, large, _short = services.shelf.models
        used = dataclasses.replace(small, size=5000, last_used=1.0), dataclasses.replace(large, last_used=2.0)
        services.shelf.models = used
        for first, words in (("Qwen2-0.5B", "largest first"), ("Qwen2-7B-Instruct", "last used first")):
            await pilot.press("S", "home")
            assert words in shown(app)
            assert about(app).startswith(f"qwen/{first}")


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
        await pilot.press("s", "ctrl+p", *"Short")
        await wait_until(pilot, lambda: "Model: qwen/Qwen2-Short" in shown(app))
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, ModelsScreen) and "! not whole" in about(app))
