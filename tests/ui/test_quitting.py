"""Quitting: what is asked, what is stopped, and what is left running."""

from __future__ import annotations

import asyncio

import pytest
from textual.widgets import Static

from qwen_tui.errors import ServerError
from qwen_tui.ui.screens.dialogs import Choice
from qwen_tui.ui.screens.room import RoomScreen
from qwen_tui.ui.screens.stopping import StopScreen
from qwen_tui.ui.services import Services

from .conftest import ready, running, starting, stopped, wait_until, with_servers


async def test_quit_without_a_living_server_asks_nothing(services: Services) -> None:
    fake = with_servers(services, stopped())
    async with running(services) as (app, pilot):
        await pilot.press("q")
        await wait_until(pilot, lambda: app._exit)
    assert fake.calls == [("close", None)]


@pytest.mark.parametrize("key", ["enter", "l"])
async def test_quit_can_leave_the_server_running(services: Services, key: str) -> None:
    fake = with_servers(services, ready())
    async with running(services) as (app, pilot):
        await pilot.press("q")
        await wait_until(pilot, lambda: isinstance(app.screen, Choice))
        await pilot.press(key)
        await wait_until(pilot, lambda: app._exit)
    assert fake.calls == [("close", None)]


async def test_quit_can_be_called_off(services: Services) -> None:
    with_servers(services, ready())
    async with running(services) as (app, pilot):
        await pilot.press("q")
        await wait_until(pilot, lambda: isinstance(app.screen, Choice))
        await pilot.press("escape")
        await wait_until(pilot, lambda: isinstance(app.screen, RoomScreen))
        assert not app._exit


async def test_quit_can_stop_every_living_server_and_shows_the_steps(services: Services) -> None:
    fake = with_servers(services, ready("one"), starting("two"), stopped("three"))
    fake.stop_gate = asyncio.Event()
    async with running(services) as (app, pilot):
        await pilot.press("q")
        await wait_until(pilot, lambda: isinstance(app.screen, Choice))
        await pilot.press("s")
        await wait_until(pilot, lambda: isinstance(app.screen, StopScreen))
        await wait_until(pilot, lambda: "one: SIGTERM" in str(app.screen.query_one("#steps", Static).content))
        assert not app._exit
        fake.stop_gate.set()
        await wait_until(pilot, lambda: app._exit)
    assert [call for call in fake.calls if call[0] == "stop"] == [("stop", "one"), ("stop", "two")]


async def test_a_stop_that_fails_keeps_the_app_and_says_why(services: Services) -> None:
    fake = with_servers(services, ready())
    fake.stop_error = ServerError("A process is left", "pid 12 does not end [bold]", "try again")
    async with running(services) as (app, pilot):
        await pilot.press("q")
        await wait_until(pilot, lambda: isinstance(app.screen, Choice))
        await pilot.press("s")
        await wait_until(
            pilot,
            lambda: (
                isinstance(app.screen, StopScreen)
                and "pid 12 does not end [bold]" in str(app.screen.query_one("#steps", Static).content)
            ),
        )
        await pilot.press("escape")
        await wait_until(pilot, lambda: isinstance(app.screen, RoomScreen))
        assert not app._exit
