"""The frame: rooms, keys, help, languages, themes, quitting, and what happens when something fails."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from typing import Any, ClassVar

import pytest
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Input, OptionList, Static

from qwen_tui import i18n
from qwen_tui.errors import ServerError
from qwen_tui.settings import load
from qwen_tui.ui.app import QwenApp
from qwen_tui.ui.keys import declared_bindings, help_lines
from qwen_tui.ui.rooms import ROOMS
from qwen_tui.ui.screens.dialogs import Choice
from qwen_tui.ui.screens.help import HelpScreen
from qwen_tui.ui.screens.room import RoomScreen
from qwen_tui.ui.screens.server_form import ServerForm
from qwen_tui.ui.screens.stopping import StopScreen
from qwen_tui.ui.screens.themes import ThemePicker
from qwen_tui.ui.services import Services
from qwen_tui.ui.widgets.key_bar import KeyBar, key_name
from qwen_tui.ui.widgets.room_tabs import RoomTabs
from qwen_tui.ui.widgets.server_list import ServerList
from qwen_tui.ui.widgets.status_header import StatusHeader

from .conftest import ready, running, starting, stopped, wait_until, with_servers


def drawn(app: QwenApp, widget: type[Any]) -> str:
    """The text that a one-line widget of the shown room draws."""
    content = app.screen_stack[0].query_one(widget).render()
    assert isinstance(content, Content)
    return content.plain


def notices(app: QwenApp) -> str:
    return "\n".join(f"{notice.title} {notice.message}" for notice in app._notifications)


# Keys


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


# The header


async def test_the_header_says_which_server_where_and_how(services: Services) -> None:
    with_servers(services, ready("alpha"), starting("beta"), stopped("gamma"))
    async with running(services, size=(120, 30)) as (app, pilot):
        await wait_until(pilot, lambda: "alpha" in drawn(app, StatusHeader))
        text = drawn(app, StatusHeader)
        for part in ("qwen-tui", "● alpha  ready", "127.0.0.1:8000", "vLLM 0.24.0", "+1 more", "zh/en"):
            assert part in text


async def test_the_header_is_drawn_again_only_when_it_changes(services: Services) -> None:
    fake = with_servers(services, ready("alpha"))
    async with running(services) as (app, pilot):
        header = app.screen.query_one(StatusHeader)
        await wait_until(pilot, lambda: "alpha" in drawn(app, StatusHeader))
        draws = 0
        real = header.refresh

        def count(*args: Any, **kwargs: Any) -> Any:
            nonlocal draws
            draws += 1
            return real(*args, **kwargs)

        header.refresh = count  # type: ignore[method-assign]
        before = fake.refreshes
        await app.refresh_servers()
        await app.refresh_servers()
        assert fake.refreshes >= before + 2
        assert draws == 0
        fake.put(ready("alpha", engine_version="0.25.0"))
        await app.refresh_servers()
        assert draws == 1


async def test_a_long_name_is_cut_and_the_state_stays(services: Services) -> None:
    name = "A" * 70
    with_servers(services, ready(name))
    async with running(services) as (app, pilot):
        await wait_until(pilot, lambda: "ready" in drawn(app, StatusHeader))
        text = drawn(app, StatusHeader)
        assert len(text) == 78
        assert "…" in text
        assert text.endswith("zh/en")


async def test_a_job_is_shown_in_every_room_and_goes_away(services: Services) -> None:
    async with running(services) as (app, pilot):
        app.show_job("↓ 1 download 62 %")
        assert drawn(app, RoomTabs).endswith("↓ 1 download 62 %")
        await pilot.press("l")
        await wait_until(pilot, lambda: drawn(app, RoomTabs).endswith("62 %"))
        app.show_job(None)
        assert "%" not in drawn(app, RoomTabs)


# The target


async def test_the_target_is_the_first_ready_server_until_one_is_chosen(services: Services) -> None:
    with_servers(services, stopped("a"), starting("b"), ready("c"))
    async with running(services, "logs") as (app, _pilot):
        assert app.target is not None
        assert app.target.name == "c"
        app.choose("b")
        assert app.target.name == "b"


# Language and themes


async def test_the_language_switches_at_once_and_is_kept(services: Services) -> None:
    with_servers(services, ready())
    async with running(services) as (app, pilot):
        await pilot.press("l")
        await wait_until(pilot, lambda: app.room is not None and app.room.ROOM == "logs")
        await pilot.press("ctrl+g")
        await wait_until(pilot, lambda: i18n.language() == "zh_CN")
        assert load(services.paths).language == "zh_CN"
        await pilot.press("ctrl+g")
        await wait_until(pilot, lambda: i18n.language() == "en")
        assert load(services.paths).language == "en"


async def test_a_picked_theme_is_shown_at_once_and_kept_with_enter(services: Services) -> None:
    async with running(services) as (app, pilot):
        await pilot.press("ctrl+t")
        await wait_until(pilot, lambda: isinstance(app.screen, ThemePicker))
        app.screen.query_one(OptionList).highlighted = sorted(app.available_themes).index("nord")
        await wait_until(pilot, lambda: app.theme == "nord")
        await pilot.press("escape")
        await wait_until(pilot, lambda: app.theme == "textual-dark")
        await pilot.press("ctrl+t")
        await wait_until(pilot, lambda: isinstance(app.screen, ThemePicker))
        app.screen.query_one(OptionList).highlighted = sorted(app.available_themes).index("nord")
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, RoomScreen))
        assert app.theme == "nord"
        assert load(services.paths).theme == "nord"


async def test_a_theme_that_does_not_exist_is_told(services: Services) -> None:
    services.settings.theme = "no-such-theme"
    async with running(services) as (app, pilot):
        await wait_until(pilot, lambda: "no-such-theme" in notices(app))
        assert app.theme == "textual-dark"


# The palette


async def palette(app: QwenApp, pilot: Any, words: str) -> None:
    from textual.command import CommandList, CommandPalette

    await pilot.press("ctrl+p")
    await wait_until(pilot, lambda: CommandPalette.is_open(app))
    app.screen.query_one(Input).value = words
    first = words.split()[0].lower()
    commands = app.screen.query_one(CommandList)

    def found() -> bool:
        return commands.option_count > 0 and first in str(commands.get_option_at_index(0).prompt).lower()

    await wait_until(pilot, found)
    await pilot.press("enter")


async def test_the_palette_finds_a_server_by_name(services: Services) -> None:
    with_servers(services, ready("alpha"), stopped("zulu[bold]".replace("[bold]", "-9")))
    async with running(services, "logs") as (app, pilot):
        await palette(app, pilot, "zulu")
        await wait_until(pilot, lambda: app.target is not None and app.target.name == "zulu-9")
        assert app.room is not None
        assert app.room.ROOM == "servers"
        await wait_until(pilot, lambda: app.screen.query_one(ServerList).chosen is not None)
        chosen = app.screen.query_one(ServerList).chosen
        assert chosen is not None
        assert chosen.name == "zulu-9"


async def test_the_palette_switches_the_language(services: Services) -> None:
    async with running(services) as (app, pilot):
        await palette(app, pilot, "语言")
        await wait_until(pilot, lambda: i18n.language() == "zh_CN")


async def test_the_palette_does_what_the_screen_can(services: Services) -> None:
    async with running(services) as (app, pilot):
        await palette(app, pilot, "New")
        await wait_until(pilot, lambda: isinstance(app.screen, ServerForm))


async def test_the_palette_opens_help_and_quits(services: Services) -> None:
    async with running(services) as (app, pilot):
        await palette(app, pilot, "Help: the keys")
        await wait_until(pilot, lambda: isinstance(app.screen, HelpScreen))
        await pilot.press("escape")
        await wait_until(pilot, lambda: isinstance(app.screen, RoomScreen))
        await palette(app, pilot, "Quit")
        await wait_until(pilot, lambda: app._exit)


# Quitting


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


# Trouble


async def test_a_refresh_that_fails_is_told_once_and_goes_on(services: Services) -> None:
    fake = with_servers(services, ready())
    async with running(services) as (app, pilot):
        fake.refresh_error = ServerError("The state folder can't be read", "Permission denied")
        await app.refresh_servers()
        await app.refresh_servers()
        await wait_until(pilot, lambda: "Permission denied" in notices(app))
        assert notices(app).count("Permission denied") == 1
        fake.refresh_error = None
        fake.put(ready("another"))
        await app.refresh_servers()
        assert [status.name for status in app.statuses] == ["Qwen2-7B-Instruct", "another"]


async def test_an_exception_in_a_worker_is_told_and_logged_and_does_not_end_the_app(services: Services) -> None:
    async def fails() -> None:
        raise ValueError("[bold]not markup[/bold] \x1b[2J")

    async with running(services) as (app, pilot):
        app.screen.run_worker(fails())
        await wait_until(pilot, lambda: "[bold]not markup[/bold] �[2J" in notices(app))
        assert app.is_running
        log = (services.paths.state / "qwen-tui.log").read_text()
        assert "Traceback" in log
        assert "ValueError" in log
        assert [type(failure) for failure in app.failures] == [ValueError]
        app.failures.clear()


async def test_settings_that_cannot_be_written_are_told(services: Services) -> None:
    services.paths.config.parent.mkdir(parents=True, exist_ok=True)
    services.paths.config.write_text("a file where the folder should be")
    services = dataclasses.replace(services)
    async with running(services) as (app, pilot):
        await pilot.press("ctrl+g")
        await wait_until(pilot, lambda: bool(notices(app)))
        assert i18n.language() == "zh_CN"
        app.failures.clear()


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
