"""Which part of a log is on the screen, and how keys move it: the view without its drawing.

Positions are byte offsets (see reader). What is kept is one screenful; each move reads what it needs anew, so it
costs the same in a log of 1 kB and of 1 GB, at the start and at the end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from rich.cells import cell_len, chop_cells

from qwen_tui.logs.filters import Filter, Sieve
from qwen_tui.logs.page import Page, Row
from qwen_tui.logs.parse import LogLine, parse
from qwen_tui.logs.reader import FileState, LogError, LogReader, Snapshot
from qwen_tui.logs.search import Finder
from qwen_tui.logs.statistics import figures_of

#: Seconds between two looks at what a long search for lines that pass the filter has found so far.
PUBLISH_INTERVAL = 0.15


class Pager:
    """A window of `height` rows × `width` cells on the log at `path`.

    Each method leaves the new state in `page`; a page never changes. Every call blocks on the disk and may raise
    LogError: then call `fail`. Not for use by two threads at once.

    With a filter, only lines that pass it have rows, and a call may have to look through the whole file: it raises
    Cancelled soon after another thread has set `cancelled`.
    """

    def __init__(self, path: Path | str | LogReader, width: int = 80, height: int = 24, wrap: bool = False) -> None:
        self.reader = path if isinstance(path, LogReader) else LogReader(path)
        self._width = max(1, width)
        self._height = max(1, height)
        self._wrap = wrap
        self._state = FileState(0, None)
        self._seen = FileState(0, None)
        self._filter = Filter()
        self._finder: Finder | None = None
        self._is_due = False
        self.shows_figures = False
        self.cancelled = threading.Event()
        self.page = Page()

    @property
    def wrap(self) -> bool:
        return self._wrap

    @property
    def filter(self) -> Filter:
        """What lines must be to be shown."""
        return self._filter

    @property
    def progress(self) -> tuple[int, int]:
        """Bytes that the look for lines that pass the filter has gone through, and has to at most."""
        return (self._finder.done, self._finder.total) if self._finder else (0, 0)

    def passing_text(self, most: int) -> tuple[str, int] | None:
        """The text of all lines that pass the filter, and how many they are; None where it has more than `most` bytes.

        most: bytes in UTF-8, newlines between the lines included.
        """
        lines: list[str] = []
        size = -1
        with self._open() as snapshot:
            for line in self._lines_after(snapshot, 0):
                lines.append(line.text)
                size += len(line.text.encode("utf-8", "replace")) + 1
                if size > most:
                    return None
        return "\n".join(lines), len(lines)

    # What happens by itself

    def refresh(self) -> None:
        """Look at the file again: show what is new if following, else only note its size."""
        state = self.reader.state()
        if self._is_due:
            self._keep_place()
        elif state == self._state and self.page.error is None:
            return
        elif self.page.following or not self._state.is_continued_by(state):
            self.follow()
        elif len(self.page.rows) < self._height or not self.page.rows[-1].line.complete:
            self._show_from(self._top())
        else:
            self._state = state
            self.page = self.page._replace(size=state.size)

    def fail(self, error: LogError) -> None:
        """The file can't be read: show that, and try anew at the next refresh."""
        self._state = FileState(0, None)
        self.page = Page(error=error)

    def resize(self, width: int, height: int) -> None:
        """The screen has another size; the current line, or the newest, stays on it."""
        width, height = max(1, width), max(1, height)
        if (width, height) != (self._width, self._height):
            self._width, self._height = width, height
            self._keep_place()

    # What a person does

    def toggle_wrap(self) -> None:
        """Wrap long lines, or cut them; the current line stays on the screen."""
        self._wrap = not self._wrap
        self._keep_place()

    def use_filter(self, wanted: Filter) -> None:
        """Show only lines that pass; the current line, or the nearest behind it, stays on the screen."""
        if wanted == self._filter:
            return
        self._filter = wanted
        self._finder = None if wanted.is_all else Finder(Sieve(wanted), self.cancelled.is_set)
        self._is_due = True
        self._keep_place()

    def show_figures(self, wanted: bool) -> None:
        """Draw the engine's lines of statistics as columns, or as they are."""
        self.shows_figures = wanted
        self._keep_place()

    def follow(self) -> None:
        """Show the end, and go on with what comes; with a filter, rows show as they are found."""
        with self._open() as snapshot:
            rows: list[Row] = []
            published = time.monotonic()

            def publish() -> None:
                nonlocal published
                if time.monotonic() - published > PUBLISH_INTERVAL:
                    published = time.monotonic()
                    self._set(rows[::-1], snapshot, following=True, is_partial=True)

            if self._finder is not None:
                self._finder.on_look = publish
            try:
                for row in islice(self._rows_before(snapshot, (snapshot.size, 0)), self._height):
                    rows.append(row)
            finally:
                if self._finder is not None:
                    self._finder.on_look = None
            self._set(rows[::-1], snapshot, following=True)

    def pause(self) -> None:
        """Stay here; the cursor is on the last line that shows."""
        if self.page.following and self.page.rows:
            self.page = self.page._replace(following=False, cursor=self.page.rows[-1].line.offset)

    def toggle_follow(self) -> None:
        """Pause, or follow."""
        if self.page.following:
            self.pause()
        else:
            self.follow()

    def cursor_up(self) -> None:
        """One line up; pauses. A line higher than the screen moves by rows."""
        self.pause()
        if not self.page.rows:
            return
        row = self._first_row_of_cursor()
        if row > 0:
            self._put_cursor(row - 1)
        else:
            # The part of the current line that is above the screen comes first, then the line before.
            was_whole = self.page.rows[0].part == 0
            if self._scroll(-1) and was_whole:
                self._put_cursor(0)

    def cursor_down(self) -> None:
        """One line down; at the very end, follow again."""
        if self.page.following:
            return
        lines = self.page.lines
        below = [line.offset for line in lines if self.page.cursor is not None and line.offset > self.page.cursor]
        if below:
            self.page = self.page._replace(cursor=below[0])
        elif self._scroll(1):
            self._put_cursor(self._height)
        else:
            self.follow()

    def page_up(self) -> None:
        """A screenful up, one row kept; the cursor stays on its row of the screen. Pauses."""
        self.pause()
        row = self._first_row_of_cursor()
        self._put_cursor(row if self._scroll(-max(1, self._height - 1)) else 0)

    def page_down(self) -> None:
        """A screenful down, one row kept; at the end, follow again."""
        if self.page.following:
            return
        row = self._first_row_of_cursor()
        if self._scroll(max(1, self._height - 1)):
            self._put_cursor(row)
        elif self.page.rows and self.page.cursor != self.page.rows[-1].line.offset:
            self._put_cursor(self._height)
        else:
            self.follow()

    def home(self) -> None:
        """The start of the log. Pauses."""
        self._show_from((0, 0))
        self._put_cursor(0)

    def scroll(self, rows: int) -> None:
        """Move the window by `rows`, up if negative (which pauses), as far as there is something.

        The cursor stays on its line while that is on the screen. Past the end it follows again.
        """
        if rows > 0 and self.page.following:
            return
        self.pause()
        if not self._scroll(rows) and rows > 0:
            self.follow()

    def jump_to(self, offset: int, row: int | None = None) -> None:
        """Pause at the line that holds the byte at `offset`, shown on `row` of the screen (a third down)."""
        with self._open() as snapshot:
            start = snapshot.line_start(max(0, min(offset, snapshot.size - 1)))
        self._show_from((start, 0), self._height // 3 if row is None else row)
        if not self.page.following:
            behind = [line.offset for line in self.page.lines if line.offset >= start]
            self.page = self.page._replace(cursor=behind[0] if behind else self.page.rows[-1].line.offset)

    def go_to(self, line: LogLine) -> None:
        """Pause at this line; the window moves only if it is not on the screen."""
        if any(row.line.offset == line.offset for row in self.page.rows):
            self.page = self.page._replace(following=False, cursor=line.offset)
        else:
            self.jump_to(line.offset)

    def jump_to_line(self, number: int) -> None:
        """Pause at line `number`, counted from 1. Reads the file up to there."""
        self.jump_to(self.reader.offset_of_line(number))

    def jump_to_fraction(self, fraction: float) -> None:
        """Pause at this part, 0..1, of the file's bytes."""
        self.jump_to(int(self._state.size * fraction), row=0)

    def move_cursor_to_row(self, row: int) -> None:
        """Pause, with the cursor on the line that shows on this row of the screen."""
        self.pause()
        self._put_cursor(row)

    # How it is done

    @contextmanager
    def _open(self) -> Iterator[Snapshot]:
        with self.reader.snapshot() as snapshot:
            if self._finder is not None and not self._seen.is_continued_by(snapshot.state):
                self._finder.gaps.clear()
            self._seen = snapshot.state
            yield snapshot

    def _set(self, rows: list[Row], snapshot: Snapshot, following: bool, is_partial: bool = False) -> None:
        self._state = snapshot.state
        self._is_due = is_partial
        following = following or not rows
        self.page = Page(
            rows=tuple(rows),
            start=rows[0].line.offset if rows else 0,
            end=rows[-1].line.next_offset if rows else 0,
            size=snapshot.size,
            first=snapshot.start,
            following=following,
            cursor=None if following else self.page.cursor,
            exists=snapshot.state.identity is not None,
            is_partial=is_partial,
        )

    def _keep_place(self) -> None:
        if self.page.following or self.page.cursor is None:
            self.follow()
        else:
            self.jump_to(self.page.cursor, min(self._first_row_of_cursor(), self._height - 1))

    def _show_from(self, place: tuple[int, int], rows_above: int = 0) -> None:
        """Show the screenful that starts `rows_above` rows above `place`; the last one if that is not full."""
        with self._open() as snapshot:
            for row in islice(self._rows_before(snapshot, place), rows_above):
                place = _place(row)
            rows = list(islice(self._rows_from(snapshot, place), self._height))
            if len(rows) < self._height:
                rows = self._last_rows(snapshot)
            self._set(rows, snapshot, following=False)

    def _scroll(self, count: int) -> bool:
        """Move the window; the cursor stays on its line, or at the edge where that left. Whether it moved."""
        top = self._top()
        if count < 0:
            self._show_from(top, -count)
        else:
            with self._open() as snapshot:
                rows = list(islice(self._rows_from(snapshot, top), count, count + self._height))
                if len(rows) < self._height:
                    rows = self._last_rows(snapshot)
                if rows and _place(rows[0]) > top:
                    self._set(rows, snapshot, following=False)
        if self.page.rows and not self.page.following:
            first, last = self.page.rows[0].line.offset, self.page.rows[-1].line.offset
            cursor = last if self.page.cursor is None else min(max(self.page.cursor, first), last)
            self.page = self.page._replace(cursor=cursor)
        return self._top() != top

    def _rows_of(self, line: LogLine) -> list[Row]:
        text = line.text
        if self.shows_figures and (figures := figures_of(line)):
            text = figures.columns
        if not self._wrap or cell_len(text) <= self._width:
            return [Row(line, 0, text)]
        return [Row(line, part, piece) for part, piece in enumerate(chop_cells(text, self._width))]

    def _lines_after(self, snapshot: Snapshot, offset: int) -> Iterator[LogLine]:
        if self._finder is not None:
            return self._finder.after(snapshot, offset)
        return map(parse, snapshot.after(offset))

    def _lines_before(self, snapshot: Snapshot, offset: int) -> Iterator[LogLine]:
        if self._finder is not None:
            return self._finder.before(snapshot, offset)
        return map(parse, snapshot.before(offset))

    def _rows_from(self, snapshot: Snapshot, place: tuple[int, int]) -> Iterator[Row]:
        """The rows from `place` on."""
        offset, part = place
        for line in self._lines_after(snapshot, offset):
            rows = self._rows_of(line)
            yield from rows[part:] if line.offset == offset else rows

    def _rows_before(self, snapshot: Snapshot, place: tuple[int, int]) -> Iterator[Row]:
        """The rows above `place`, the nearest first."""
        offset, part = place
        if part:
            for raw in islice(snapshot.after(offset), 1):
                yield from reversed(self._rows_of(parse(raw))[:part])
        for line in self._lines_before(snapshot, offset):
            yield from reversed(self._rows_of(line))

    def _last_rows(self, snapshot: Snapshot) -> list[Row]:
        return list(islice(self._rows_before(snapshot, (snapshot.size, 0)), self._height))[::-1]

    def _top(self) -> tuple[int, int]:
        return _place(self.page.rows[0]) if self.page.rows else (0, 0)

    def _first_row_of_cursor(self) -> int:
        """The row of the screen on which the current line starts; the last one where there is no cursor."""
        for number, row in enumerate(self.page.rows):
            if row.line.offset == self.page.cursor:
                return number
        return max(0, len(self.page.rows) - 1)

    def _put_cursor(self, row: int) -> None:
        if self.page.rows and not self.page.following:
            line = self.page.rows[min(max(0, row), len(self.page.rows) - 1)].line
            self.page = self.page._replace(cursor=line.offset)


def _place(row: Row) -> tuple[int, int]:
    """A position in the log by rows: the line's offset and the part of it."""
    return row.line.offset, row.part
