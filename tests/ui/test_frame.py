"""The frame: header, target, languages, themes, the palette, and what happens when something fails."""

from __future__ import annotations

import dataclasses
from typing import Any

from textual.widgets import Input, OptionList

from qwen_tui import i18n
from qwen_tui.errors import ServerError
from qwen_tui.settings import load
from qwen_tui.ui.app import QwenApp
from qwen_tui.ui.screens.help import HelpScreen
from qwen_tui.ui.screens.room import RoomScreen
from qwen_tui.ui.screens.server_form import ServerForm
from qwen_tui.ui.screens.themes import ThemePicker
from qwen_tui.ui.services import Services
from qwen_tui.ui.widgets.room_tabs import RoomTabs
from qwen_tui.ui.widgets.server_list import ServerList
from qwen_tui.ui.widgets.status_header import StatusHeader

from .conftest import drawn, notices, ready, running, starting, stopped, wait_until, with_servers

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
