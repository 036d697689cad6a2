"""Go from one line to the next that passes a sieve, in the view of a pager: search, and the errors of a log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from qwen_tui.logs.filters import Sieve
from qwen_tui.logs.pager import Pager
from qwen_tui.logs.parse import LogLine
from qwen_tui.logs.reader import FileState, Snapshot
from qwen_tui.logs.search import Finder


class Seeker:
    """Moves the cursor of `pager`. Each move says whether there was such a line, and raises what the pager's do.

    by_block: lines that follow each other without any other between count as one, found at the first of them.
    """

    def __init__(self, pager: Pager, sieve: Sieve, by_block: bool = False) -> None:
        self.pager = pager
        self.sieve = sieve
        self.finder = Finder(sieve, pager.cancelled.is_set)
        self._by_block = by_block
        self._seen = FileState(0, None)

    def nearest(self) -> bool:
        """From the current line on; where nothing follows, or the newest lines are followed, the last one."""
        page = self.pager.page
        if not page.following and page.current is not None and self._go_after(page.current.offset):
            return True
        with self._open() as snapshot:
            line = next(self.finder.before(snapshot, snapshot.size), None)
        return self._go(line)

    def first(self) -> bool:
        """The first one of the log."""
        return self._go_after(0)

    def next(self) -> bool:
        """The next one behind the current line."""
        page = self.pager.page
        if page.following or page.current is None:
            return False
        return self._go_after(page.current.next_offset, page.current)

    def previous(self) -> bool:
        """The last one before the current line; from the newest lines, the last one that shows or was shown."""
        current = self.pager.page.current
        if current is None:
            return False
        with self._open() as snapshot:
            start = current.next_offset if self.pager.page.following else current.offset
            before = self.finder.before(snapshot, start)
            line = next(before, None)
            if self._by_block and line is not None:
                for earlier in before:
                    if earlier.next_offset != line.offset:
                        break
                    line = earlier
        return self._go(line)

    def _go_after(self, offset: int, from_line: LogLine | None = None) -> bool:
        with self._open() as snapshot:
            end = offset if from_line is not None and self.sieve.accepts(from_line) else -1
            for line in self.finder.after(snapshot, offset):
                if not (self._by_block and line.offset == end):
                    break
                end = line.next_offset
            else:
                line = None
        return self._go(line)

    def _go(self, line: LogLine | None) -> bool:
        if line is not None:
            self.pager.go_to(line)
        return line is not None

    @contextmanager
    def _open(self) -> Iterator[Snapshot]:
        with self.pager.reader.snapshot() as snapshot:
            if not self._seen.is_continued_by(snapshot.state):
                self.finder.gaps.clear()
            self._seen = snapshot.state
            yield snapshot
