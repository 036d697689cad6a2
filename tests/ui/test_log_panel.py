"""What can be done to a log on the screen: search, filters, errors, earlier runs, figures, export."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
from textual.app import App, ComposeResult
from textual.geometry import Size
from textual.pilot import Pilot
from textual.widgets import Input, Static

from qwen_tui.logs.filters import Filter, Pattern
from qwen_tui.logs.parse import Level
from qwen_tui.ui.services import Services
from qwen_tui.ui.widgets.log_panel import LogPanel
from qwen_tui.ui.widgets.log_view import LogView
from tests.conftest import until
from tests.ui.conftest import ready, running, wait_until, with_servers

FIGURES = (
    "INFO 11-22 16:24:49 [loggers.py:271] Engine 000: Avg prompt throughput: 92.5 tokens/s, Avg generation "
    "throughput: 364.5 tokens/s, Running: 231 reqs, Waiting: 0 reqs, GPU KV cache usage: 1.2%"
)


class Host(App[None]):
    def __init__(self, path: Path | None) -> None:
        super().__init__()
        self.path = path

    def compose(self) -> ComposeResult:
        yield LogPanel(self.path)

    def on_mount(self) -> None:
        self.view.focus()

    @property
    def view(self) -> LogView:
        return self.query_one(LogView)

    @property
    def lines(self) -> list[str]:
        height = self.view.size.height - 1
        return [self.view.render_line(y).text[2:-1].rstrip() for y in range(height)]

    @property
    def status(self) -> str:
        return self.view.render_line(self.view.size.height - 1).text

    @property
    def bar(self) -> str:
        bar = self.query_one("#log-bar", Static)
        return str(bar.render()) if bar.display else ""

    @property
    def current(self) -> str:
        line = self.view.page.current
        return line.text if line else ""

    @property
    def told(self) -> list[str]:
        return [toast.message for toast in self._notifications]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A thousand lines; an error of two lines in each hundred."""
    path = tmp_path / "20261122-160000.log"
    lines = [f"INFO {number}" for number in range(1000)]
    for number in range(50, 1000, 100):
        lines[number : number + 2] = [f"(EngineCore pid=1) ERROR {number}", f"(EngineCore pid=1) ERROR {number + 1}"]
    path.write_text("\n".join(lines) + "\n")
    return path


async def opened(pilot: Pilot[Any]) -> Host:
    host = pilot.app
    assert isinstance(host, Host)
    await wait_until(pilot, lambda: bool(host.view.page.rows))
    return host


async def answer(pilot: Pilot[Any], key: str, text: str) -> None:
    await pilot.press(key)
    await wait_until(pilot, lambda: isinstance(pilot.app.focused, Input))
    pilot.app.query_one(Input).value = text
    await pilot.press("enter")
    await wait_until(pilot, lambda: isinstance(pilot.app.focused, LogView))


async def test_search_marks_counts_and_goes_on(log: Path) -> None:
    async with Host(log).run_test(size=(80, 12)) as pilot:
        host = await opened(pilot)
        await answer(pilot, "/", "error .*0$")
        await wait_until(pilot, lambda: host.current.endswith("ERROR 950") and "  match 10 of 10" in host.status)
        row = host.lines.index("(EngineCore pid=1) ERROR 950")
        backgrounds = {segment.text: segment.style.bgcolor for segment in host.view.render_line(row) if segment.style}
        assert backgrounds["ERROR 950"] != backgrounds["(EngineCore pid=1) "]
        await pilot.press("N")
        await wait_until(pilot, lambda: host.current.endswith("ERROR 850") and "  match 9 of 10" in host.status)
        await pilot.press("j")
        await wait_until(pilot, lambda: host.current.endswith("ERROR 851") and "  10 matches" in host.status)
        await pilot.press("n")
        await wait_until(pilot, lambda: host.current.endswith("ERROR 950") and "  match 10 of 10" in host.status)
        await pilot.press("n")
        await wait_until(pilot, lambda: "No match further down" in host.told)
        await pilot.press("escape")
        await wait_until(pilot, lambda: "match" not in host.status and not host.bar)
        await pilot.press("n")
        await wait_until(pilot, lambda: "Press / and type what to look for" in host.told)


async def test_what_is_no_regular_expression_is_said_and_searched_as_it_is(log: Path) -> None:
    with log.open("a") as file:
        file.write("a [/bold] (b\nend\n")
    async with Host(log).run_test(size=(80, 12)) as pilot:
        host = await opened(pilot)
        await answer(pilot, "/", "[/bold] (b")
        await wait_until(pilot, lambda: host.current == "a [/bold] (b")
        assert any("letter by letter" in text for text in host.told)
        assert "/[/bold] (b" in host.status
        await answer(pilot, "/", "nowhere at all")
        await wait_until(pilot, lambda: any("No line matches" in text for text in host.told))


async def test_filters_show_what_passes_and_follow(log: Path) -> None:
    async with Host(log).run_test(size=(80, 12)) as pilot:
        host = await opened(pilot)
        await pilot.press("L", "L")
        await wait_until(pilot, lambda: host.lines[-1].endswith("ERROR 951") and "ERROR 851" in host.lines[-3])
        assert "errors only" in host.bar
        with log.open("a") as file:
            file.write("INFO x\nERROR new\nINFO y\n")
        await wait_until(pilot, lambda: host.lines[-1] == "ERROR new")
        await pilot.press("P", "P")
        await wait_until(pilot, lambda: host.lines[-1] == "(EngineCore pid=1) ERROR 951")
        await answer(pilot, "&", "nothing like this")
        await wait_until(pilot, lambda: "No line passes the filter." in host.lines[1])
        assert "only “nothing like this”" in host.bar
        await pilot.press("escape")
        await wait_until(pilot, lambda: host.lines[-1] == "INFO y" and not host.bar)
        with log.open("a") as file:
            file.write('INFO:     127.0.0.1:1 - "GET /health HTTP/1.1" 200 OK\n')
        await wait_until(pilot, lambda: "GET" in host.lines[-1])
        await pilot.press("A")
        await wait_until(pilot, lambda: host.lines[-1] == "INFO y" and "no requests" in host.bar)


async def test_keys_go_from_error_to_error_and_to_a_line(log: Path) -> None:
    async with Host(log).run_test(size=(80, 12)) as pilot:
        host = await opened(pilot)
        for key, error in [("[", 950), ("[", 850), ("{", 50), ("]", 150)]:
            await pilot.press(key)
            await wait_until(pilot, lambda error=error: host.current.endswith(f"ERROR {error}"))
        await answer(pilot, ":", "501")
        await wait_until(pilot, lambda: host.current == "INFO 500")
        await answer(pilot, ":", "x")
        await wait_until(pilot, lambda: "x is no line number" in host.told)
        await pilot.press("G", "]")
        await wait_until(pilot, lambda: "No error further down" in host.told)


async def test_the_minimap_shows_where_errors_are(log: Path) -> None:
    async with Host(log).run_test(size=(80, 12)) as pilot:
        host = await opened(pilot)
        await wait_until(pilot, lambda: any(row.mark is Level.ERROR for row in host.view._drawn))
        assert any(host.view.render_line(y).text[-1] == "E" for y in range(11))


async def test_statistics_stand_in_columns(log: Path) -> None:
    with log.open("a") as file:
        file.write(FIGURES + "\n")
    async with Host(log).run_test(size=(120, 12)) as pilot:
        host = await opened(pilot)
        await pilot.press("#")
        await wait_until(pilot, lambda: host.lines[-1].startswith("16:24:49 Engine 000  prompt      92.5 tok/s"))
        assert "running   231" in host.lines[-1]
        await pilot.press("y")
        assert host.clipboard == FIGURES
        await pilot.press("#")
        await wait_until(pilot, lambda: host.lines[-1].startswith("INFO 11-22"))


async def test_earlier_runs(log: Path) -> None:
    older = log.with_name("20261121-150000.log")
    older.write_text("an older run\n")
    async with Host(log).run_test(size=(80, 12)) as pilot:
        host = await opened(pilot)
        await pilot.press("<")
        await wait_until(pilot, lambda: host.lines[0] == "an older run")
        assert "2 of 2: 2026-11-21 15:00:00" in host.bar
        await pilot.press("<")
        await wait_until(pilot, lambda: "There is no earlier run" in host.told)
        await pilot.press(">")
        await wait_until(pilot, lambda: host.view.path == log and not host.bar)


async def test_export_writes_what_passes(log: Path, tmp_path: Path) -> None:
    async with Host(log).run_test(size=(80, 12)) as pilot:
        host = await opened(pilot)
        await pilot.press("L", "L")
        target = tmp_path / "out.txt"
        await answer(pilot, "o", str(target))
        await wait_until(pilot, lambda: any("written to" in text for text in host.told))
        assert len(target.read_text().splitlines()) == 20
        assert stat.S_IMODE(target.stat().st_mode) == 0o600
        await answer(pilot, "o", str(target))
        await wait_until(pilot, lambda: any("nothing is overwritten" in text for text in host.told))


async def test_what_passes_the_filter_is_copied_unless_it_is_too_much(log: Path) -> None:
    async with Host(log).run_test(size=(80, 12)) as pilot:
        host = await opened(pilot)
        await pilot.press("L", "L")
        await wait_until(pilot, lambda: host.lines[-1].endswith("ERROR 951"))
        await pilot.press("Y")
        await wait_until(pilot, lambda: "Copied 20 lines" in host.told)
        assert host.clipboard.splitlines() == [line for line in log.read_text().splitlines() if "ERROR" in line]
        with log.open("a") as file:
            file.writelines(f"ERROR a long line {number} {'x' * 500}\n" for number in range(200))
        await pilot.press("Y")
        await wait_until(pilot, lambda: "too much for the clipboard" in host.told[-1])
        assert "72 kB" in host.told[-1]
        assert len(host.clipboard.splitlines()) == 20
        await answer(pilot, "&", "nothing at all")
        await pilot.press("Y")
        await wait_until(pilot, lambda: host.told[-1] == "There is no line to copy")


async def test_a_long_look_shows_its_progress_and_gives_way_to_keys(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    from qwen_tui.logs.search import Finder

    gate = threading.Event()
    look = Finder._look

    def slow(self: Finder, done: int) -> None:
        look(self, done)
        while self._is_cancelled is not None and not gate.is_set() and not self._is_cancelled():
            gate.wait(0.01)
        look(self, done)

    monkeypatch.setattr(Finder, "_look", slow)
    async with Host(log).run_test(size=(80, 12)) as pilot:
        host = await opened(pilot)
        # The pilot would wait until the look is over.
        host.query_one(LogPanel)._use(Filter().with_pattern("no such thing"))
        await until(lambda: "looking:" in host.status)
        host.simulate_key("escape")
        await until(lambda: host.view.filter.is_all)
        await wait_until(pilot, lambda: host.lines[-1] == "INFO 999" and "looking:" not in host.status)
        gate.set()


async def test_a_long_search_survives_another_size_of_the_screen(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    from qwen_tui.logs.search import Cancelled, Finder

    gate = threading.Event()
    look = Finder._look
    gave_way = threading.Event()

    def slow(self: Finder, done: int) -> None:
        while self._is_cancelled is not None and not gate.is_set() and not self._is_cancelled():
            gate.wait(0.01)
        try:
            look(self, done)
        except Cancelled:
            gave_way.set()
            raise

    monkeypatch.setattr(Finder, "_look", slow)
    async with Host(log).run_test(size=(80, 12)) as pilot:
        host = await opened(pilot)
        host.view.start_search(Pattern.of("info 123$"))
        await until(lambda: host.view._is_busy)
        host.view._size = host.view.size + Size(0, -1)
        host.view.on_resize()
        await until(gave_way.is_set)
        gate.set()
        await wait_until(pilot, lambda: host.current == "INFO 123")


async def test_the_room_keeps_an_earlier_run_until_the_server_changes(services: Services, log: Path) -> None:
    log.with_name("20261121-150000.log").write_text("an older run\n")
    other = log.parent / "other.log"
    other.write_text("another server\n")
    with_servers(services, ready("one", log=log), ready("two", log=other))
    async with running(services, "logs") as (app, pilot):
        view = app.screen.query_one(LogView)
        await wait_until(pilot, lambda: view.path == log and bool(view.page.rows))
        await pilot.press("<")
        await wait_until(pilot, lambda: [line.text for line in view.page.lines] == ["an older run"])
        app.screen.sync()  # type: ignore[attr-defined]
        assert view.path != log
        app.choose("two")
        await wait_until(pilot, lambda: [line.text for line in view.page.lines] == ["another server"])
