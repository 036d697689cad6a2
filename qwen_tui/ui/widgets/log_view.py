"""A view of a log file of any size that is being written: only what is on the screen is read and drawn."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from pathlib import Path
from typing import ClassVar

from rich.segment import Segment
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region
from textual.selection import Selection
from textual.strip import Strip

from qwen_tui.i18n import N_
from qwen_tui.logs.page import Page
from qwen_tui.logs.pager import Pager
from qwen_tui.logs.reader import LogError
from qwen_tui.logs.search import Cancelled
from qwen_tui.ui.rooms import DO, MOVE
from qwen_tui.ui.widgets.log_copying import LogCopying
from qwen_tui.ui.widgets.log_rows import GUTTER, NAMES, SCROLLBAR, DrawnRow, RowPainter, draw_rows, shown_text
from qwen_tui.ui.widgets.log_seeking import Operation
from qwen_tui.ui.widgets.log_status import empty_text, search_text, status

#: Seconds between two looks at the file while it is on the screen.
INTERVAL = 0.1
#: Seconds after which what is being done counts as long, and gives way to the next key.
PATIENCE = 0.04
#: The same while every look finds a whole new screenful: nobody reads that, and each costs bytes on the line.
FLOOD_INTERVAL = 0.25
#: And once nothing has changed for REST_LOOKS looks.
REST_INTERVAL = 0.3
REST_LOOKS = 20
#: Rows per step of a mouse wheel, cells per step to the side.
WHEEL_ROWS = 3
SIDE_STEP = 16


class LogView(LogCopying, can_focus=True):
    """The log at a path, or what to press where there is none.

    Files are read in a thread, one operation after the other; the event loop only draws.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = set(NAMES)
    DEFAULT_CSS = """
    LogView {
        height: 1fr;
        background: $background;
        color: $foreground;
        & > .log-view--text { color: $foreground; }
        & > .log-view--debug { color: $text-muted; }
        & > .log-view--muted { color: $text-muted; }
        & > .log-view--warning { color: $text-warning; }
        & > .log-view--error { color: $text-error; }
        & > .log-view--cursor { background: $surface-lighten-2; }
        & > .log-view--thumb { color: $text-muted; }
        & > .log-view--match { color: $background; background: $warning; }
        & > .log-view--status { color: $foreground; background: $panel; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f", "follow", N_("follow/pause"), id="logs.follow", group=DO),
        Binding("W", "wrap", N_("wrap"), id="logs.wrap", group=DO),
        Binding("y", "copy_line", N_("copy line"), id="logs.copy_line", group=DO),
        Binding("Y", "copy_page", N_("copy what shows, or all that passes"), id="logs.copy_page", group=DO, show=False),
        Binding("up,k", "cursor_up", N_("line up"), id="logs.up", group=MOVE, show=False),
        Binding("down,j", "cursor_down", N_("line down"), id="logs.down", group=MOVE, show=False),
        Binding("pageup", "page_up", N_("page up"), id="logs.page_up", group=MOVE, show=False),
        Binding("pagedown", "page_down", N_("page down"), id="logs.page_down", group=MOVE, show=False),
        Binding("home,g", "home", N_("start of the log"), id="logs.home", group=MOVE, show=False),
        Binding("end,G", "end", N_("newest line"), id="logs.end", group=MOVE),
        Binding("left", "side(-1)", N_("to the left"), id="logs.left", group=MOVE, show=False),
        Binding("right", "side(1)", N_("to the right"), id="logs.right", group=MOVE, show=False),
    ]

    def __init__(self, path: Path | None = None, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._path = path
        self._pager: Pager | None = None if path is None else Pager(path)
        self._page = Page()
        self._column = 0
        self._drawn: list[DrawnRow] = []
        self._status_text: tuple[str, ...] = ()
        self._painter: RowPainter | None = None
        self._operations: deque[Operation] = deque()
        self._wake = asyncio.Event()
        self._interval = INTERVAL
        self._looks_in_vain = 0
        self._looked_at = 0.0
        self._is_read = False
        self._is_busy = False
        self._resizing: Operation | None = None
        self._start_surveys()

    # For whoever holds the view

    @property
    def path(self) -> Path | None:
        """The log that is shown."""
        return self._path

    @property
    def page(self) -> Page:
        """What is on the screen now."""
        return self._page

    def show(self, path: Path | None) -> None:
        """Show this log from now on, following it; the same one stays as it is."""
        if path == self._path:
            return
        old = self._pager
        self._path = path
        self._pager = None if path is None else Pager(path, *self._text_size, wrap=bool(old and old.wrap))
        if old is not None:
            old.cancelled.set()
        self._operations.clear()
        self._start_surveys()
        self._seek_again()
        self._column = 0
        self._looked_at = 0.0
        self._is_read = False
        self._wake.set()

    def jump_to_offset(self, offset: int) -> None:
        """Pause at the line that holds the byte at `offset`."""
        self._do(lambda pager: pager.jump_to(offset))

    def jump_to_line(self, number: int) -> None:
        """Pause at line `number`, counted from 1."""
        self._do(lambda pager: pager.jump_to_line(number))

    def retranslate(self) -> None:
        """Draw every text again, in the language of now."""
        self._draw(self._page)
        self.refresh()

    # Reading: one task, one operation at a time

    def on_mount(self) -> None:
        # Set whenever this screen comes to the front or leaves it.
        self.watch(self.screen, "stack_updates", self._wake.set, init=False)
        self.run_worker(self._serve(), name="log view", exit_on_error=True)
        self.run_worker(self._look_through(), name="log survey", exit_on_error=True)

    def on_show(self) -> None:
        self._wake.set()

    def on_resize(self) -> None:
        self._painter = None
        width, height = self._text_size
        self._resizing = lambda pager: pager.resize(width, height)
        self._do(self._resizing)
        self._draw(self._page)

    @property
    def _text_size(self) -> tuple[int, int]:
        return max(1, self.size.width - GUTTER - SCROLLBAR), max(1, self.size.height - 1)

    @property
    def _is_watching(self) -> bool:
        if self._pager is None or not self.size or not self.display:
            return False
        # A dialog lets this screen shine through; Textual also calls a screen under an opaque one current.
        screen = self.screen
        return screen.is_active or (screen.is_current and self.app.screen.styles.background.a < 1)

    def _do(self, operation: Operation) -> None:
        self._operations.append(operation)
        if self._is_busy and self._pager is not None:
            self._pager.cancelled.set()
        self._wake.set()

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            look = loop.call_later(self._interval, self._wake.set) if self._is_watching else None
            await self._wake.wait()
            self._wake.clear()
            if look is not None:
                look.cancel()
            pager = self._pager
            operations, self._operations = list(self._operations), deque()
            if pager is None:
                self._draw(Page())
                continue
            if not self._is_watching and not operations:
                continue
            now = time.monotonic()
            if not operations and now - self._looked_at >= self._interval * 0.9:
                self._looked_at = now
                operations.append(Pager.refresh)
            interrupted = await self._perform(pager, operations)
            if pager is self._pager:
                if list(self._operations) == [self._resizing]:
                    self._operations.extend(interrupted)  # nobody wanted anything else
                self._is_read = True
                self._draw(pager.page)
            for text in self._news:
                self.notify(text, severity="warning", markup=False)
            self._news.clear()
            self.put_on_clipboard()

    async def _perform(self, pager: Pager, operations: list[Operation]) -> list[Operation]:
        """Do them in a thread; what a long one has found so far is drawn meanwhile. Those that gave way to others."""
        pager.cancelled.clear()
        work = asyncio.ensure_future(asyncio.to_thread(_perform, pager, operations))
        try:
            while not (await asyncio.wait((work,), timeout=INTERVAL if self._is_busy else PATIENCE))[0]:
                self._is_busy = True
                if self._operations or pager is not self._pager:
                    pager.cancelled.set()
                if pager is self._pager:
                    self._draw(pager.page)
            return await work
        finally:
            self._is_busy = False
            pager.cancelled.set()  # if the view went away, so does the work

    # Drawing

    def _draw(self, page: Page) -> None:
        """Show `page`: only the rows that differ are drawn again."""
        old = self._page
        self._page = page
        if self._matches is not None and page is not old:
            self._moved.set()
        self._set_interval(old, page)
        width, height = self.size.width, max(0, self.size.height - 1)
        wrapped = self._pager is not None and self._pager.wrap
        if self._survey is not None and page.size > page.end - page.start:
            self._marks = self._survey.levels(height, page.size)
        match = None if self._search is None else self._search.regex
        drawn = draw_rows(page, height, 0 if wrapped else self._column, wrapped, match, self._marks)
        status = self._status(page, wrapped)
        if page.rows and old.rows and len(drawn) == len(self._drawn):
            changed = [Region(0, y, width, 1) for y, row in enumerate(drawn) if row != self._drawn[y]]
        elif page is not old:
            changed = [Region(0, 0, width, height + 1)]
        else:
            changed = []
        if changed and self.text_selection is not None:
            self.screen.clear_selection()  # the marked text is not where it was
        if status != self._status_text:
            changed.append(Region(0, height, width, 1))
        self._drawn, self._status_text = drawn, status
        if changed:
            self.refresh(*changed)

    def _set_interval(self, old: Page, page: Page) -> None:
        self._looks_in_vain = self._looks_in_vain + 1 if page is old else 0
        if self._looks_in_vain > REST_LOOKS:
            self._interval = REST_INTERVAL
        elif page is not old and page.following and page.start >= old.end > 0:
            self._interval = FLOOD_INTERVAL
        else:
            self._interval = INTERVAL

    def _status(self, page: Page, wrapped: bool) -> tuple[str, ...]:
        if self._path is None or self._pager is None:
            return ()
        searched = ""
        if self._search is not None and self._matches is not None:
            searched = search_text(self._search, self._matches, self._is_busy, self.match_number)
        column = None if wrapped else self._column
        return status(page, self._path, column, searched, self._pager.progress if self._is_busy else None)

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._painter = None

    def render_line(self, y: int) -> Strip:
        painter = self._painter
        if painter is None:
            styles = {name: self.get_component_rich_style(name) for name in NAMES - {"log-view--cursor"}}
            styles["log-view--cursor"] = self.get_component_rich_style("log-view--cursor", partial=True)
            marked = self.screen.get_component_rich_style("screen--selection")
            painter = self._painter = RowPainter(self.size.width, styles, marked)
        if y >= self.size.height - 1:
            return painter.status(*self._status_text)
        if not self._page.rows:
            texts = self._empty_text()
            text = texts[y - 1] if 0 < y <= len(texts) else ""
            return Strip([Segment(f"  {text}", self.rich_style)]).crop_extend(0, self.size.width, self.rich_style)
        if y >= len(self._drawn):
            return Strip.blank(self.size.width, self.rich_style)
        selection = self.text_selection
        return painter.strip(self._drawn[y], y, None if selection is None else selection.get_span(y))

    def _empty_text(self) -> list[str]:
        if self._path is not None and not self._is_read:
            return []
        filtered = not self._filter.is_all
        return empty_text(self._page, self._path, filtered)

    # Marking with the mouse

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        text = "\n".join(map(shown_text, self._drawn))
        return selection.extract(text), "\n"

    def selection_updated(self, selection: Selection | None) -> None:
        self.refresh()

    def on_mouse_down(self, event: events.MouseDown) -> None:
        # What is being marked or pointed at must not run away.
        if event.button == 1 and event.y < self._text_size[1]:
            if event.x >= self.size.width - SCROLLBAR:
                fraction = (event.y + 0.5) / self._text_size[1]
                self._do(lambda pager: pager.jump_to_fraction(fraction))
            else:
                row = event.y
                self._do(lambda pager: pager.move_cursor_to_row(row))

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self._do(lambda pager: pager.scroll(-WHEEL_ROWS))

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self._do(lambda pager: pager.scroll(WHEEL_ROWS))

    # Keys

    def action_follow(self) -> None:
        self._do(Pager.toggle_follow)

    def action_end(self) -> None:
        self._do(Pager.follow)

    def action_home(self) -> None:
        self._do(Pager.home)

    def action_cursor_up(self) -> None:
        self._do(Pager.cursor_up)

    def action_cursor_down(self) -> None:
        self._do(Pager.cursor_down)

    def action_page_up(self) -> None:
        self._do(Pager.page_up)

    def action_page_down(self) -> None:
        self._do(Pager.page_down)

    def action_wrap(self) -> None:
        self._column = 0
        self._do(Pager.toggle_wrap)

    def action_side(self, direction: int) -> None:
        if self._pager is None or self._pager.wrap:
            return
        longest = max((len(row.text) for row in self._page.rows), default=0)
        self._column = min(max(0, self._column + direction * SIDE_STEP), 2 * longest)
        self._draw(self._page)


def _perform(pager: Pager, operations: list[Operation]) -> list[Operation]:
    interrupted = []
    for operation in operations:
        try:
            operation(pager)
        except Cancelled:
            interrupted.append(operation)  # the rest is still to be known, such as another filter
        except LogError as error:
            pager.fail(error)
    return interrupted
