"""Find lines in a log of any size from any place, forwards and backwards, and stop whenever asked.

Only the stretches without any such line are remembered: what is rare is found again at once, and what is not
rare needs no memory to be found.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator

from qwen_tui.logs.filters import Sieve
from qwen_tui.logs.parse import LogLine, parse
from qwen_tui.logs.reader import BLOCK, LIMIT, RawLine, Snapshot

#: Bytes looked through at a time. Python's lock is free in between, so keys wait no longer than for one of these.
WINDOW = 128 * 1024
#: Bytes; shorter stretches without such a line are not worth remembering.
SHORTEST_GAP = 16 * 1024


#: Seconds of work after which other threads get a turn, and what is left to them. Python itself makes them wait five
#: times as long, at each of the several turns that it takes to answer a key.
TURN = 0.001
PAUSE = 0.00005


class Cancelled(Exception):
    """A search was told to stop."""


class Turns:
    """Lets the other threads of this process run between two pieces of work in this one."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    def between(self) -> None:
        """To be called between two pieces."""
        if time.perf_counter() - self._began > TURN:
            if threading.active_count() > 1:
                time.sleep(PAUSE)
            self._began = time.perf_counter()


class Gaps:
    """Stretches of a file, in bytes, in which nothing is to be found; sorted, apart from each other."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def __len__(self) -> int:
        return len(self._starts)

    def clear(self) -> None:
        """Know nothing any more."""
        self._starts.clear()
        self._ends.clear()

    def add(self, start: int, end: int) -> None:
        """There is nothing in start..end."""
        first = bisect_left(self._ends, start)
        last = bisect_right(self._starts, end)
        if first < last:
            start, end = min(start, self._starts[first]), max(end, self._ends[last - 1])
        elif end - start < SHORTEST_GAP:
            return
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]

    def around(self, position: int) -> tuple[int, int] | None:
        """The stretch that holds the byte at `position`."""
        at = bisect_right(self._starts, position) - 1
        return (self._starts[at], self._ends[at]) if at >= 0 and position < self._ends[at] else None

    def next_start(self, position: int) -> int | None:
        """Where the first stretch behind `position` starts."""
        at = bisect_right(self._starts, position)
        return self._starts[at] if at < len(self._starts) else None

    def last_end(self, position: int) -> int | None:
        """Where the last stretch that ends at or before `position` ends."""
        at = bisect_right(self._ends, position) - 1
        return self._ends[at] if at >= 0 else None


class Finder:
    """Finds the lines that pass a sieve. Not for use by two threads at once.

    is_cancelled: asked between two windows; then Cancelled is raised, and what was learned is kept.
    done, total: bytes that the search under way has looked through, and has to at most.
    on_look: called between two windows.
    """

    def __init__(self, sieve: Sieve, is_cancelled: Callable[[], bool] | None = None) -> None:
        self.sieve = sieve
        self.gaps = Gaps()
        self.done = 0
        self.total = 0
        self.on_look: Callable[[], None] | None = None
        self._is_cancelled = is_cancelled
        self._turns = Turns()

    def before(self, snapshot: Snapshot, position: int) -> Iterator[LogLine]:
        """The lines that pass before the one that holds `position`, the nearest first. Raises Cancelled."""
        end = first = snapshot.line_start(position)
        settled = settled_end(snapshot)
        self.total = end - snapshot.start
        while end > snapshot.start:
            self._look(first - end)
            gap = self.gaps.around(end - 1)
            if gap is not None:
                end = gap[0]
                continue
            start = max(snapshot.line_start(max(snapshot.start, end - WINDOW)), self.gaps.last_end(end) or 0)
            empty_from = end
            for raw in reversed(candidates(self.sieve, snapshot, start, end)):
                line = parse(raw)
                if self.sieve.accepts(line):
                    self.gaps.add(line.next_offset, max(line.next_offset, min(empty_from, settled)))
                    empty_from = line.offset
                    yield line
            self.gaps.add(start, max(start, min(empty_from, settled)))
            end = start
        self.done = self.total

    def after(self, snapshot: Snapshot, position: int) -> Iterator[LogLine]:
        """The lines that pass from the one that holds `position` on. Raises Cancelled."""
        start = first = snapshot.line_start(position)
        settled = settled_end(snapshot)
        self.total = snapshot.size - start
        while start < snapshot.size:
            self._look(start - first)
            gap = self.gaps.around(start)
            if gap is not None:
                start = gap[1]
                continue
            end = snapshot.line_start(start + WINDOW)
            if end <= start:
                end = snapshot.line_end(start)
            end = min(end, self.gaps.next_start(start) or end)
            empty_from = start
            for raw in candidates(self.sieve, snapshot, start, end):
                line = parse(raw)
                if self.sieve.accepts(line):
                    self.gaps.add(empty_from, max(empty_from, min(line.offset, settled)))
                    empty_from = line.next_offset
                    yield line
            self.gaps.add(empty_from, max(empty_from, min(end, settled)))
            start = end
        self.done = self.total

    def _look(self, done: int) -> None:
        self.done = done
        self._turns.between()
        if self.on_look is not None:
            self.on_look()
        if self._is_cancelled is not None and self._is_cancelled():
            raise Cancelled


def candidates(sieve: Sieve, snapshot: Snapshot, start: int, end: int) -> list[RawLine]:
    """The lines within start..end, both starts of lines, that may pass `sieve`."""
    if end - start >= BLOCK:
        # Only a line of about that length makes a window that long; it may have to be broken.
        lines = []
        for raw in snapshot.after(start):
            if raw.offset >= end:
                break
            lines.append(raw)
        return lines
    data = snapshot.read(start, end)
    found = []
    for first, last in sieve.candidates(data):
        complete = data[last - 1 : last] == b"\n"
        if last - first > LIMIT:
            found.append(snapshot.line(start + first, start + last))
        else:
            found.append(RawLine(start + first, start + last, data[first : last - complete], 0, complete))
    return found


def settled_end(snapshot: Snapshot) -> int:
    """Up to where the lines are complete: what may still grow is never known to hold nothing."""
    if not snapshot.size or snapshot.read(snapshot.size - 1, snapshot.size) == b"\n":
        return snapshot.size
    return snapshot.line_start(snapshot.size - 1)
