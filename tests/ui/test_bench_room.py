"""The Bench room: from the empty ledger to runs side by side, against a server that does what it is told."""

from __future__ import annotations

import time
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Static

from qwen_tui.bench.ledger import Ledger
from qwen_tui.bench.presets import PRESETS
from qwen_tui.ui.app import QwenApp
from qwen_tui.ui.bench_desk import Order
from qwen_tui.ui.bench_places import Place
from qwen_tui.ui.screens.bench import BenchScreen
from qwen_tui.ui.screens.bench_fields import FIRST, read, values_of
from qwen_tui.ui.screens.bench_form import BenchForm
from qwen_tui.ui.screens.bench_result import ImportForm
from qwen_tui.ui.screens.dialogs import Choice, Confirm
from qwen_tui.ui.screens.room import RoomScreen
from qwen_tui.ui.services import Services
from qwen_tui.ui.widgets.bench_ledger import BenchLedger
from qwen_tui.ui.widgets.room_tabs import RoomTabs
from tests.fakes.openai_server import DONE, HANG, FakeOpenAI, finish, usage
from tests.unit.test_bench_pictures import kept

from .conftest import drawn, notices, running, wait_until
from .looking import shown

GOOD = ["a", "b", finish("length"), usage(7, 2), DONE]


async def with_endpoint(services: Services, server: FakeOpenAI) -> None:
    await services.endpoints.add("box", server.base_url, "fake-model", "")
    await services.endpoints.ask()


def said(app: QwenApp, name: str) -> str:
    return str(app.screen_stack[0].query_one(name, Static).content)


async def form_of(app: QwenApp, pilot: Pilot[None]) -> BenchForm:
    await pilot.press("n")
    await wait_until(pilot, lambda: isinstance(app.screen, BenchForm) and bool(app.screen.query("#command")))
    await pilot.pause()
    assert isinstance(app.screen, BenchForm)
    return app.screen


def fill(form: BenchForm, **values: str) -> None:
    for name, value in values.items():
        form.query_one(f"#field-{name}", Input).value = value


async def measured(app: QwenApp, pilot: Pilot[None]) -> None:
    await wait_until(pilot, lambda: (job := app.services.bench.job) is not None and job.is_over)


async def test_from_the_form_to_runs_side_by_side(services: Services) -> None:
    async with FakeOpenAI(GOOD) as server:
        await with_endpoint(services, server)
        async with running(services, "bench", (140, 44)) as (app, pilot):
            await wait_until(pilot, lambda: "Press n" in said(app, "#said"))
            form = await form_of(app, pilot)
            assert "25 requests at once" in str(form.query_one("#note", Static).content)
            fill(form, count="nine")
            await pilot.pause()
            assert "Requests: a whole number" in str(form.query_one("#note", Static).content)
            await pilot.press("ctrl+s")
            assert isinstance(app.screen, BenchForm), "it began with a number that is none"
            fill(form, count="9", streams="3", price="3.6 USD", tags="first")
            await pilot.pause()
            command = str(form.query_one("#command", Static).content)
            assert "qwen-tui bench --endpoint box" in command
            assert "--concurrency 3 --num-prompts 9 --tag first" in " ".join(command.split())
            await pilot.press("ctrl+s")
            await measured(app, pilot)
            job = services.bench.job
            assert job is not None
            assert job.problem is None
            run = job.result
            assert run == Ledger(services.paths).get("last")
            assert run.tags == ("first",)  # type: ignore[union-attr]
            assert (job.live.completed, run.figures.completed) == (9, 9)  # type: ignore[union-attr]
            assert len(server.requests) == 10, "one ahead, nine that count"
            ledger = app.screen.query_one(BenchLedger)
            await wait_until(pilot, lambda: [one.id for one in ledger.runs] == [run.id])  # type: ignore[union-attr]
            picture = shown(app)
            for part in (
                "measured in",
                "A million output tokens cost",
                "TTFT p50",
                "output tok/s",
                "fake-model",
            ):
                assert part in picture
            await pilot.press("r")  # the same once more
            await wait_until(pilot, lambda: len(ledger.runs) == 2)
            await measured(app, pilot)
            await pilot.press("space", "space")
            await wait_until(pilot, lambda: "Nothing was changed between them" in said(app, "#beside-text"))
            assert len(server.requests) == 20
    assert services.settings.hourly_price == "3.6 USD"
    assert "3.6 USD" in services.paths.settings_file.read_text()


async def test_stopping_and_quitting_keep_what_there_is(services: Services) -> None:
    async with FakeOpenAI(GOOD, GOOD, ["a", HANG]) as server:
        await with_endpoint(services, server)
        async with running(services, "bench") as (app, pilot):
            form = await form_of(app, pilot)
            fill(form, count="8", streams="1")
            await pilot.press("enter")  # on a preset: measure it
            await wait_until(pilot, lambda: len(server.requests) == 3)
            job = services.bench.job
            assert job is not None
            # One is answered; of the other, which hangs, the first token counts already.
            await wait_until(pilot, lambda: (job.live.completed, job.live.latency("ttft").count) == (1, 2))
            await pilot.press("l")
            await wait_until(pilot, lambda: "bench 1" in drawn(app, RoomTabs))
            await pilot.press("q")
            await wait_until(pilot, lambda: isinstance(app.screen, Confirm) and "Quit while a benchmark" in shown(app))
            await pilot.press("escape")
            await wait_until(pilot, lambda: isinstance(app.screen, RoomScreen))
            await pilot.press("b", "x")
            await measured(app, pilot)
            await wait_until(pilot, lambda: "kept and marked as partial" in said(app, "#state"))
    run = Ledger(services.paths).get("last")
    assert run.partial
    assert (run.figures.completed, run.figures.cancelled) == (1, 1)


def order(server: FakeOpenAI, **changes: str) -> Order:
    """What the form makes of the tutorial's preset with these changes."""
    place = Place("endpoint:box", "box", server.base_url, "fake-model", ("--endpoint", "box"))
    values = {**FIRST, **values_of(PRESETS["tutorial"]), "target": place.key, **changes}
    found = read(values, [place], lambda: None).order
    assert found is not None
    return found


async def test_a_ladder_and_a_server_that_is_gone(services: Services) -> None:
    async with running(services, "bench", (120, 50)) as (app, pilot):
        room = app.room
        assert isinstance(room, BenchScreen)
        async with FakeOpenAI(["a", 0.02, "b", finish("length"), usage(7, 2), DONE]) as server:
            room.begin(order(server, kind="sweep", levels="1 2", count="4"))
            await measured(app, pilot)
        job = services.bench.job
        assert job is not None
        assert [run.load.streams for run in job.runs] == [1, 2]
        await wait_until(pilot, lambda: "2 at once" in said(app, "#levels"))
        assert "●2" in said(app, "#curve") or "2●" in said(app, "#curve")
        assert "knee" in said(app, "#said")
        room.begin(order(server))
        await measured(app, pilot)
        await wait_until(pilot, lambda: "It could not be measured" in said(app, "#state"))
        assert "no connection" in said(app, "#said")
        assert len(Ledger(services.paths).list()) == 2


async def test_the_ledger_is_searched_noted_exported_and_deleted(services: Services) -> None:
    ledger = Ledger(services.paths)
    for number in (1, 2, 3):
        ledger.save(kept(number, 100.0 * number, model=f"model-{number}"), ())
    async with running(services, "bench", (140, 40)) as (app, pilot):
        panel = app.screen.query_one(BenchLedger)
        await wait_until(pilot, lambda: len(panel.runs) == 3)
        assert "No server is ready" in said(app, "#said")
        await pilot.press("slash", *"model-2")
        await wait_until(pilot, lambda: [run.model for run in panel.runs] == ["model-2"])
        await pilot.press("enter", "e", *"good fast", "tab", *"note [b]", "enter")
        await wait_until(pilot, lambda: ledger.list()[1].tags == ("good", "fast"))
        assert ledger.list()[1].note == "note [b]"
        await pilot.press("escape")
        await wait_until(pilot, lambda: len(panel.runs) == 3)
        await pilot.press("home", "y")
        await wait_until(pilot, lambda: "--base-url http://127.0.0.1:8000/v1" in app.clipboard)
        await pilot.press("o")
        await wait_until(pilot, lambda: isinstance(app.screen, Choice))
        await pilot.press("j")
        await wait_until(pilot, lambda: "Written to" in notices(app))
        [file] = (services.paths.data / "exports").iterdir()
        assert "model-3" in file.read_text()
        await pilot.press("enter")
        await wait_until(pilot, lambda: "kept as" in shown(app))
        await pilot.press("escape", "d")
        await wait_until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("y")
        await wait_until(pilot, lambda: len(panel.runs) == 2)
        assert [run.model for run in ledger.list()] == ["model-2", "model-1"]
        await pilot.press("i")
        await wait_until(pilot, lambda: isinstance(app.screen, ImportForm))
        app.screen.query_one("#file", Input).value = str(file)
        await pilot.press("enter")
        await wait_until(pilot, lambda: "1 result is imported" in notices(app))
        await wait_until(pilot, lambda: "model-3" in [run.model for run in panel.runs])
        assert "imported" in shown(app)


@pytest.mark.parametrize("size", [(80, 24), (140, 40)], ids=["80x24", "140x40"])
def test_the_room_with_kept_runs(
    services: Services, snap_compare: Any, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    ledger = Ledger(services.paths)
    for number in (1, 2):
        ledger.save(kept(number, 1000.0 * number, note="中文"), ())

    async def ready(pilot: Pilot[None]) -> None:
        await wait_until(pilot, lambda: len(pilot.app.screen.query_one(BenchLedger).runs) == 2)
        await pilot.press("space")

    assert snap_compare(QwenApp(services, "bench"), terminal_size=size, run_before=ready)


async def test_a_server_that_says_nothing_keeps_nobody(services: Services) -> None:
    async with FakeOpenAI([HANG]) as server, running(services, "bench") as (app, pilot):
        room = app.room
        assert isinstance(room, BenchScreen)
        room.begin(order(server))
        await wait_until(pilot, lambda: "asking once" in said(app, "#state") and bool(server.requests))
        await pilot.press("x")
        await measured(app, pilot)
        await wait_until(pilot, lambda: said(app, "#state") == "stopped")
        assert services.bench.job is not None
        assert services.bench.job.problem is None
    assert not Ledger(services.paths).list()
