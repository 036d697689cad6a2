"""The plan before a start: what it shows, and what its keys mend."""

from __future__ import annotations

import dataclasses

import pytest
from textual.widgets import Input

from qwen_tui.server.plan import Change, Plan, PlanLine
from qwen_tui.server.spec import ServerSpec
from qwen_tui.server.status import ServerState
from qwen_tui.ui.screens.dialogs import Confirm
from qwen_tui.ui.screens.plan import PlanScreen
from qwen_tui.ui.screens.server_form import ServerForm
from qwen_tui.ui.services import Services

from .conftest import ready, running, stopped, wait_until, with_servers
from .looking import SMALL, WIDE, Snapshot, open_form, picture, plans, shown, text_of

__all__ = ["plans"]  # a fixture of every test here


def badly(spec: ServerSpec, *_args: object, **_options: object) -> Plan:
    """A plan that finds port 8000 taken, and warns about the rest."""
    lines = [PlanLine("ok", "weights", "whole: 15.2 GB in 4 files"), PlanLine("warn", "files", "up to 1,024 [bold]")]
    if spec.port == 8000:
        change = Change("port 8001", fields={"port": 8001})
        lines.append(PlanLine("stop", "port", "8000 is taken by 77 nginx", "Take another: 8001 is free", change))
    return Plan(spec, tuple(lines), 0.12)


@pytest.mark.parametrize("size", [SMALL, WIDE], ids=["80x24", "140x40"])
def test_plan(
    services: Services, snap_compare: Snapshot, language: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qwen_tui.ui.screens.plan.make_plan", badly)
    given = picture(services, language, (stopped(),), "enter", until=lambda app: isinstance(app.screen, PlanScreen))
    assert snap_compare(**given, terminal_size=size)


async def test_a_digit_mends_the_plan_and_enter_starts(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qwen_tui.ui.screens.plan.make_plan", badly)
    fake = with_servers(services, stopped())
    async with running(services) as (app, pilot):
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, PlanScreen))
        await wait_until(pilot, lambda: "✗ fails" in shown(app) and "up to 1,024 [bold]" in shown(app))
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("escape")
        await wait_until(pilot, lambda: isinstance(app.screen, PlanScreen))
        assert fake.calls == []
        await pilot.press("9", "1")
        await wait_until(pilot, lambda: "it can start, with 1 warning" in shown(app))
        assert "changed: port 8001" in shown(app)
        await pilot.press("enter")
        await wait_until(pilot, lambda: app.statuses[0].state is ServerState.STARTING)
    assert fake.calls[0] == ("start", dataclasses.replace(stopped().spec, port=8001))


async def test_the_plan_leads_to_the_form_with_its_changes(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qwen_tui.ui.screens.plan.make_plan", badly)
    fake = with_servers(services, stopped())
    async with running(services) as (app, pilot):
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, PlanScreen))
        await pilot.press("1")
        await wait_until(pilot, lambda: "changed: port 8001" in shown(app))
        await pilot.press("e")
        await wait_until(pilot, lambda: isinstance(app.screen, ServerForm))
        await wait_until(pilot, lambda: bool(app.screen.query("#field-port")))
        assert app.screen.query_one("#field-port", Input).value == "8001"
        assert fake.calls == []


async def test_the_form_says_beside_itself_what_the_plan_found_and_takes_its_changes(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qwen_tui.ui.screens.plan.make_plan", badly)
    fake = with_servers(services)
    async with running(services) as (app, pilot):
        await open_form(app, pilot)
        app.screen.query_one("#field-model", Input).value = "qwen/Qwen2"
        await wait_until(pilot, lambda: "would fail · Port: 8000 is taken" in text_of(app, "#verdict"))
        await pilot.press("ctrl+s")
        await wait_until(pilot, lambda: isinstance(app.screen, PlanScreen))
        await pilot.press("1")
        await wait_until(pilot, lambda: "changed: port 8001" in shown(app))
        await pilot.press("escape")
        await wait_until(pilot, lambda: isinstance(app.screen, ServerForm))
        await wait_until(pilot, lambda: app.screen.query_one("#field-port", Input).value == "8001")
        assert fake.calls == []


async def test_a_running_server_is_not_stopped_for_an_edit_that_would_fail(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(spec: ServerSpec, *_args: object, **_options: object) -> Plan:
        lines = [PlanLine("stop", "port", "its own"), PlanLine("stop", "memory", "its own")]
        if spec.max_model_len == 8192:
            change = Change("max model len 4096", fields={"max_model_len": 4096})
            lines.append(PlanLine("stop", "context", "longer than the model's", "", change))
        return Plan(spec, tuple(lines), 0.12)

    monkeypatch.setattr("qwen_tui.ui.screens.plan.make_plan", fails)
    spec = ServerSpec("a", "qwen/A", max_model_len=2048)
    fake = with_servers(services, ready("a", spec=spec))
    async with running(services) as (app, pilot):
        await open_form(app, pilot, "e")
        app.screen.query_one("#field-max_model_len", Input).value = "8192"
        await wait_until(pilot, lambda: "Context: longer" in text_of(app, "#verdict"))
        await pilot.press("ctrl+s")
        await wait_until(pilot, lambda: isinstance(app.screen, PlanScreen))
        await wait_until(pilot, lambda: "longer than the model's" in shown(app))
        assert "its own" not in shown(app)
        await pilot.press("1")
        await wait_until(pilot, lambda: "nothing stands in the way" in shown(app))
        assert fake.calls == []
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, Confirm))  # whether to stop it
        await pilot.press("escape")
        await wait_until(pilot, lambda: isinstance(app.screen, ServerForm))
        await wait_until(pilot, lambda: app.screen.query_one("#field-max_model_len", Input).value == "4096")
    assert [name for name, _what in fake.calls] == ["close"]
