"""The Models room: what is coming, a new download, and the hub."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from qwen_tui.errors import ModelError
from qwen_tui.models.card import Card
from qwen_tui.models.download_state import DownloadProblem, DownloadState, DownloadStatus, QueueOptions, Stall
from qwen_tui.models.hub_search import HubModel
from qwen_tui.models.tokens import TokenNeeded, Tokens
from qwen_tui.ui.app import QwenApp
from qwen_tui.ui.screens.dialogs import Choice
from qwen_tui.ui.screens.download_form import DownloadForm
from qwen_tui.ui.screens.models_card import CardScreen
from qwen_tui.ui.screens.server_form import ServerForm
from qwen_tui.ui.services import Services
from qwen_tui.ui.widgets.download_detail import download_lines, summary_line
from qwen_tui.ui.widgets.model_rows import download_row
from qwen_tui.ui.widgets.room_tabs import RoomTabs
from tests.ui.conftest import running, wait_until
from tests.ui.models_room import (
    FILES,
    REQUEST,
    STATE,
    FakeDownloads,
    about,
    card_text,
    coming,
    room,
    shown,
    three_models,
    with_downloads,
    with_models,
)


@pytest.fixture
def models(services: Services, tmp_path: Path) -> Path:
    """Three models in a folder."""
    folder = three_models(tmp_path / "ms")
    with_models(services, folder)
    with_downloads(services)
    return folder


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
    async with running(services, size=(120, 24)) as (app, pilot):
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
        await pilot.press("right_square_bracket")
        await wait_until(pilot, lambda: fake.options.jobs == 2 and "2 downloads ([ ])" in about(app))


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
        assert "Coming  1 done" in shown(app)
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
        fake.calls.clear()
        fake.free = 2_000 * 1_000_000
        await fill(pilot, app, "qwen/Another")
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
        assert token.placeholder.startswith("only for private")
        fake.plan_error = None
        token.value = "s3cret"
        await pilot.press("enter")
        await wait_until(pilot, lambda: "2 files, 9 GB" in shown(app))
        assert "s3cret" not in shown(app)
        hub = fake.planned[-1].hub_facts
        file = Tokens(services.paths).file(hub)
        assert file.read_text().strip() == "s3cret"
        assert file.stat().st_mode & 0o777 == 0o600
        Tokens(services.paths).set_refused(hub, is_refused=True)
        await pilot.press("escape")
        await fill(pilot, app, "qwen/Other")
        assert "was refused" in app.screen.query_one("#field-token", Input).placeholder


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
