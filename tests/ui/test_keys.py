"""The keys of rooms and app: which there are, what they open, and that help and footer tell them."""

from __future__ import annotations

import time
from typing import Any, ClassVar

import pytest
from textual.binding import Binding, BindingType
from textual.widgets import Input

from qwen_tui.ui.app import QwenApp
from qwen_tui.ui.keys import declared_bindings, help_lines
from qwen_tui.ui.rooms import ROOMS
from qwen_tui.ui.screens.help import HelpScreen
from qwen_tui.ui.screens.room import RoomScreen
from qwen_tui.ui.screens.server_form import ServerForm
from qwen_tui.ui.screens.themes import ThemePicker
from qwen_tui.ui.services import Services
from qwen_tui.ui.widgets.key_bar import KeyBar, key_name
from qwen_tui.ui.widgets.room_tabs import RoomTabs
from qwen_tui.ui.widgets.server_list import ServerList

from .conftest import drawn, notices, ready, running, wait_until, with_servers


def room_classes() -> list[type[RoomScreen]]:
    return [type(room.make()) for room in ROOMS]


@pytest.mark.parametrize("screen", room_classes(), ids=lambda screen: screen.__name__)
def test_no_two_bindings_of_a_room_and_the_app_share_a_key(screen: type[RoomScreen]) -> None:
    keys = [binding.key for node in (screen, QwenApp) for binding in declared_bindings(node)]
    assert len(keys) > 10
    assert sorted(keys) == sorted(set(keys))


@pytest.mark.parametrize("node", [*room_classes(), QwenApp, ServerForm, HelpScreen, ThemePicker, ServerList])
def test_every_binding_has_an_id_and_a_description(node: type[Any]) -> None:
    bindings = declared_bindings(node)
    assert bindings
    assert [binding for binding in bindings if not binding.id or not binding.description] == []


def test_an_id_names_one_action_only() -> None:
    actions: dict[str, set[str]] = {}
    for node in [*room_classes(), QwenApp, ServerForm, HelpScreen, ThemePicker, ServerList]:
        for binding in declared_bindings(node):
            actions.setdefault(str(binding.id), set()).add(binding.action)
    assert {name: found for name, found in actions.items() if len(found) > 1} == {}


@pytest.mark.parametrize("room", [room.id for room in ROOMS])
async def test_help_lists_every_binding_of_the_room_and_the_app(services: Services, room: str) -> None:
    with_servers(services, ready())
    async with running(services, room) as (app, _pilot):
        lines = help_lines(app.screen, {})
        for node in (type(app.screen), QwenApp):
            for binding in declared_bindings(node):
                assert any(
                    key_name(binding.key) in line.keys and line.description == binding.description for line in lines
                ), binding


async def test_help_opens_with_its_key_and_closes_with_it(services: Services) -> None:
    async with running(services) as (app, pilot):
        for key in ("question_mark", "escape", "q"):
            await pilot.press("question_mark")
            await wait_until(pilot, lambda: isinstance(app.screen, HelpScreen))
            await pilot.press(key)
            await wait_until(pilot, lambda: isinstance(app.screen, RoomScreen))
        assert app.is_running


async def test_letters_and_numbers_open_rooms_and_each_keeps_its_screen(services: Services) -> None:
    with_servers(services, ready())
    async with running(services) as (app, pilot):
        servers = app.screen
        for key, room in (("l", "logs"), ("s", "servers"), ("alt+3", "watch"), ("alt+1", "servers")):
            await pilot.press(key)
            await wait_until(pilot, lambda room=room: app.room is not None and room == app.room.ROOM)
        assert app.screen is servers


async def test_rooms_are_made_when_they_are_first_shown(services: Services) -> None:
    async with running(services) as (app, pilot):
        assert set(app.rooms) == {"servers"}
        await pilot.press("l")
        await wait_until(pilot, lambda: set(app.rooms) == {"servers", "logs"})


async def test_the_app_opens_in_the_room_it_was_asked_for(services: Services) -> None:
    with_servers(services, ready())
    async with running(services, "chat") as (app, _pilot):
        assert app.room is not None
        assert app.room.ROOM == "chat"
        assert set(app.rooms) == {"chat"}


async def test_letters_typed_into_a_field_are_text(services: Services) -> None:
    with_servers(services, ready())
    async with running(services) as (app, pilot):
        field = Input(id="typed")
        await app.screen.query_one("#room").mount(field)
        field.focus()
        await pilot.press("s", "l", "c", "q", "n", "x", "question_mark")
        assert field.value == "slcqnx?"
        assert app.room is app.screen
        assert set(app.rooms) == {"servers"}
        await pilot.press("escape")
        assert app.focused is not field
        await pilot.press("l")
        await wait_until(pilot, lambda: app.room is not None and app.room.ROOM == "logs")


async def test_a_changed_key_works_and_is_shown(services: Services) -> None:
    services.settings.keys = {"room.logs": "g", "app.palette": "ctrl+o"}
    async with running(services) as (app, pilot):
        assert "[g]" in drawn(app, RoomTabs)
        await pilot.press("l")
        await pilot.press("g")
        await wait_until(pilot, lambda: app.room is not None and app.room.ROOM == "logs")
        assert any("ctrl+o" in line.keys for line in help_lines(app.screen, services.settings.keys))


async def test_an_unknown_binding_in_the_settings_is_told(services: Services) -> None:
    services.settings.keys = {"room.lgos": "g"}
    async with running(services) as (app, pilot):
        await wait_until(pilot, lambda: "room.lgos" in notices(app))


async def test_the_footer_ends_in_help_and_names_the_main_thing_first(services: Services) -> None:
    with_servers(services, ready())
    async with running(services) as (app, pilot):
        await wait_until(pilot, lambda: "enter chat" in drawn(app, KeyBar))
        text = drawn(app, KeyBar)
        assert text.startswith("n new")
        assert text.endswith("? help")
        assert len(text) <= 78


def test_keys_are_written_for_people() -> None:
    written = [key_name(key) for key in ("question_mark", "escape", "ctrl+p", "tab", "space", "x", "slash", "enter")]
    assert written == ["?", "esc", "ctrl+p", "tab", "space", "x", "/", "enter"]


def test_a_binding_of_a_base_is_replaced_by_the_one_below() -> None:
    class Base(RoomScreen):
        __module__ = "qwen_tui.test"
        BINDINGS: ClassVar[list[BindingType]] = [Binding("z", "one", "one", id="one")]

    class Below(Base):
        __module__ = "qwen_tui.test"
        BINDINGS: ClassVar[list[BindingType]] = [Binding("z", "two", "two", id="two")]

    assert [binding.action for binding in declared_bindings(Below) if binding.key == "z"] == ["two"]


def test_alt_and_a_digit_are_read_as_most_terminals_send_them(services: Services) -> None:
    from textual import constants
    from textual._xterm_parser import XTermParser

    QwenApp(services)
    parser = XTermParser(debug=False)
    keys = [event.key for event in parser.feed("\x1b3")]
    deadline = time.monotonic() + 50 * constants.ESCAPE_DELAY
    while not keys and time.monotonic() < deadline:
        keys += [event.key for event in parser.tick()]
    assert keys == ["alt+3"]
    assert [event.key for event in parser.feed("£")] == ["pound_sign"]
