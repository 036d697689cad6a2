"""The log view on a screen: what shows, what keys do, and that nothing hostile gets through."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from textual import events
from textual.app import App, ComposeResult
from textual.geometry import Offset
from textual.pilot import Pilot
from textual.screen import Screen
from textual.selection import Selection

from qwen_tui import i18n
from qwen_tui.ui.screens.logs import LogsScreen
from qwen_tui.ui.services import Services
from qwen_tui.ui.widgets.log_view import LogView
from tests.ui.conftest import ready, running, wait_until, with_servers


class Host(App[None]):
    """Nothing but the view."""

    def __init__(self, path: Path | None) -> None:
        super().__init__()
        self.path = path

    def compose(self) -> ComposeResult:
        yield LogView(self.path)

    def on_mount(self) -> None:
        self.query_one(LogView).focus()

    @property
    def view(self) -> LogView:
        return self.screen_stack[0].query_one(LogView)

    @property
    def shown(self) -> list[str]:
        """The rows of the view as text, the status line last."""
        return [self.view.render_line(y).text.rstrip() for y in range(self.view.size.height)]

    @property
    def lines(self) -> list[str]:
        """The text of the rows without the gutter and the scroll bar."""
        return [row[2:].rstrip(" ▐") for row in self.shown[:-1]]


def write(path: Path, count: int, start: int = 0) -> Path:
    with path.open("ab") as file:
        file.writelines(b"line %d\n" % number for number in range(start, start + count))
    return path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return write(tmp_path / "server.log", 1000)


def numbers(first: int, last: int) -> list[str]:
    return [f"line {number}" for number in range(first, last + 1)]


async def shows(pilot: Pilot[Any], lines: list[str]) -> None:
    host = pilot.app
    assert isinstance(host, Host)
    await wait_until(pilot, lambda: host.lines[: len(lines)] == lines)


async def test_it_opens_at_the_end_and_shows_what_is_appended(log: Path) -> None:
    host = Host(log)
    async with host.run_test(size=(60, 11)) as pilot:
        await shows(pilot, numbers(990, 999))
        assert "following" in host.shown[-1]
        assert "server.log" in host.shown[-1]
        assert "100 %" in host.shown[-1]
        write(log, 100, 1000)
        await shows(pilot, numbers(1090, 1099))


async def test_keys_move_and_pause_and_follow(log: Path) -> None:
    host = Host(log)
    async with host.run_test(size=(60, 11)) as pilot:
        await shows(pilot, numbers(990, 999))
        for key, first in [("pageup", 981), ("pagedown", 990), ("g", 0), ("pagedown", 9), ("home", 0), ("G", 990)]:
            await pilot.press(key)
            await shows(pilot, numbers(first, first + 9))
        await pilot.press("k", "up")
        await wait_until(pilot, lambda: "paused" in host.shown[-1] and host.shown[7][1] == "›")
        write(log, 3, 1000)
        await wait_until(pilot, lambda: "below" in host.shown[-1])
        assert host.lines == numbers(990, 999)
        await pilot.press("f")
        await shows(pilot, numbers(993, 1002))
        await pilot.press("f")
        await wait_until(pilot, lambda: "paused" in host.shown[-1])
        await pilot.press("end")
        await wait_until(pilot, lambda: "following" in host.shown[-1])


async def test_long_lines_are_cut_wrapped_and_moved_to_the_side(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_text("".join(f"{number:04}" for number in range(10)) + "\n")
    host = Host(log)
    async with host.run_test(size=(23, 6)) as pilot:
        await wait_until(pilot, lambda: host.shown[0] == "  0000000100020003000›")
        await pilot.press("right")
        await wait_until(pilot, lambda: host.shown[0] == "  0004000500060007000›")
        assert "column 17" in host.shown[-1]
        await pilot.press("right")
        await wait_until(pilot, lambda: host.lines[0] == "00080009")
        await pilot.press("left", "left", "left")
        await wait_until(pilot, lambda: host.lines[0].startswith("0000"))
        await pilot.press("W")
        await shows(pilot, ["00000001000200030004", "00050006000700080009"])


async def test_levels_have_a_letter_and_not_only_a_colour(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_text("ERROR broke\nWARNING careful\nINFO fine\nDEBUG detail\nCRITICAL over\n")
    host = Host(log)
    async with host.run_test(size=(40, 8)) as pilot:
        await shows(pilot, ["ERROR broke"])
        assert [row[0] for row in host.shown[:5]] == ["E", "W", " ", "D", "C"]
        colours = [[segment.style.color for segment in host.view.render_line(y)][1] for y in range(3)]
        assert len(set(colours)) == 3


async def test_nothing_in_a_log_is_markup_or_reaches_the_terminal(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_bytes(b"[bold]not[/] markup [/oops\n\x1b]52;c;cm0=\x07\x1b[2Jhidden\x1b]0;title\x07\n\x9b31m\x00\n")
    host = Host(log)
    async with host.run_test(size=(50, 8)) as pilot:
        await shows(pilot, ["[bold]not[/] markup [/oops", "hidden", "�31m␀"])
        for y in range(8):
            assert all(character.isprintable() for character in host.view.render_line(y).text)
        await pilot.press("g", "y")
        await wait_until(pilot, lambda: host.clipboard == "[bold]not[/] markup [/oops")
        await pilot.pause()


async def test_copying_takes_the_current_line_or_all_that_show(log: Path) -> None:
    host = Host(log)
    async with host.run_test(size=(60, 11)) as pilot:
        await shows(pilot, numbers(990, 999))
        await pilot.press("y")
        assert host.clipboard == "line 999"
        await pilot.press("up", "up")
        await wait_until(pilot, lambda: host.shown[7][1] == "›")
        await pilot.press("y")
        assert host.clipboard == "line 997"
        await pilot.press("Y")
        assert host.clipboard == "\n".join(numbers(990, 999))
        assert [toast.message for toast in host._notifications][-1] == "Copied 10 lines"
        host.screen.selections = {host.view: Selection(Offset(5, 1), Offset(6, 2))}
        await pilot.press("y")
        assert host.clipboard == "991\nline 9"


async def test_the_wheel_and_the_mouse(log: Path) -> None:
    host = Host(log)
    async with host.run_test(size=(60, 11)) as pilot:
        await shows(pilot, numbers(990, 999))
        host.view.post_message(events.MouseScrollUp(host.view, 5, 5, 0, 0, 0, False, False, False))
        await shows(pilot, numbers(987, 996))
        await pilot.click(LogView, offset=(5, 2))
        await wait_until(pilot, lambda: host.shown[2][1] == "›")
        await pilot.click(LogView, offset=(59, 0))
        await wait_until(pilot, lambda: host.view.page.start < 1000)


async def test_empty_states_say_what_is_missing_and_what_to_press(tmp_path: Path) -> None:
    host = Host(None)
    async with host.run_test(size=(80, 8)) as pilot:
        await wait_until(pilot, lambda: "Press s" in "\n".join(host.shown))
        log = tmp_path / "server.log"
        host.view.show(log)
        await wait_until(pilot, lambda: "There is no log at" in "\n".join(host.shown))
        log.touch()
        await wait_until(pilot, lambda: "Nothing has been written" in "\n".join(host.shown))
        write(log, 3)
        await shows(pilot, numbers(0, 2))
        os.truncate(log, 0)
        await wait_until(pilot, lambda: "Nothing has been written" in "\n".join(host.shown))
        host.view.show(Path("/"))  # short: what does not fit is cut
        await wait_until(pilot, lambda: "is not a file" in "\n".join(host.shown))
        host.view.show(None)
        await wait_until(pilot, lambda: "Press s" in "\n".join(host.shown))


async def test_jumps_and_resizing_keep_the_line_in_sight(log: Path) -> None:
    host = Host(log)
    async with host.run_test(size=(60, 11)) as pilot:
        host.view.jump_to_line(501)
        await wait_until(pilot, lambda: host.lines[3] == "line 500" and host.shown[3][1] == "›")
        await pilot.resize_terminal(40, 6)
        await wait_until(pilot, lambda: len(host.shown) == 6 and "line 500" in host.lines)
        host.view.jump_to_offset(0)
        await shows(pilot, numbers(0, 4))


class Other(Screen[None]):
    """A second view, in front of the first."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def compose(self) -> ComposeResult:
        yield LogView(self.path)


async def test_behind_another_screen_it_does_not_look_at_the_file(log: Path) -> None:
    host = Host(log)
    async with host.run_test(size=(60, 11)) as pilot:
        await shows(pilot, numbers(990, 999))
        other = Other(log)
        await host.push_screen(other)
        await wait_until(pilot, lambda: not host.view._is_watching)
        front = other.query_one(LogView)
        for first in (1000, 1010, 1020):
            write(log, 10, first)
            await wait_until(pilot, lambda last=f"line {first + 9}": last in [row.text for row in front.page.rows])
        assert host.view.page.rows[-1].text in ("line 999", "line 1009")  # a look may have been under way
        await host.pop_screen()
        await shows(pilot, numbers(1020, 1029))


async def test_only_rows_that_changed_are_drawn_again(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(log)
    async with host.run_test(size=(60, 11)) as pilot:
        await shows(pilot, numbers(990, 999))
        await pilot.press("up")
        await wait_until(pilot, lambda: host.shown[8][1] == "›")
        drawn: list[int] = []
        monkeypatch.setattr(host.view, "refresh", lambda *regions: drawn.extend(region.y for region in regions))
        await pilot.press("up")
        await wait_until(pilot, lambda: host.view.page.cursor == host.view.page.rows[7].line.offset)
        assert sorted(drawn) == [7, 8]
        looks = host.view._looks_in_vain
        await wait_until(pilot, lambda: host.view._looks_in_vain >= looks + 3)
        assert sorted(drawn) == [7, 8]  # looks at a file that rests draw nothing


async def test_marked_text_is_what_ctrl_c_copies(log: Path) -> None:
    host = Host(log)
    async with host.run_test(size=(60, 11)) as pilot:
        await shows(pilot, numbers(990, 999))
        await pilot.mouse_down(LogView, offset=(2, 3))
        await wait_until(pilot, lambda: "paused" in host.shown[-1])
        await pilot.hover(LogView, offset=(7, 4))
        await pilot.mouse_up(LogView, offset=(7, 4))
        await wait_until(pilot, lambda: (host.screen.get_selected_text() or "").startswith("line 993\nline "))


async def test_the_room_shows_the_log_of_the_chosen_server(services: Services, tmp_path: Path) -> None:
    one, two = ready("one", log=write(tmp_path / "one.log", 3)), ready("two", log=write(tmp_path / "two.log", 9))
    with_servers(services, one, two)
    async with running(services, "logs") as (app, pilot):
        screen = app.screen
        assert isinstance(screen, LogsScreen)
        view = screen.query_one(LogView)
        await wait_until(pilot, lambda: view.path == one.log and len(view.page.rows) == 3)
        assert app.focused is view
        app.choose("two")
        await wait_until(pilot, lambda: view.path == two.log and len(view.page.rows) == 9)
        i18n.use("zh_CN")
        screen.language_changed()
        await pilot.pause()
        assert view.render_line(view.size.height - 1).text.count("two.log") == 1
