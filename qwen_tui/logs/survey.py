"""How many lines pass a sieve in each part of a log, counted bit by bit: the minimap, and "3 of 214".

What is kept does not grow with the log: the parts do, each time there are too many of them.
"""

from __future__ import annotations

import time

from qwen_tui.logs.filters import Sieve
from qwen_tui.logs.parse import Level, parse
from qwen_tui.logs.reader import FileState, LogReader, Snapshot
from qwen_tui.logs.search import WINDOW, Finder, Turns, candidates, settled_end

FIRST_PART = 4096
MOST_PARTS = 4096


class Survey:
    """Counts the lines of the log behind `reader` that pass `sieve`. Not for use by two threads at once.

    Only complete lines count. position: bytes looked through. size: of the file at the last look, bytes.
    """

    def __init__(self, reader: LogReader, sieve: Sieve) -> None:
        self.sieve = sieve
        self._reader = reader
        self._state = FileState(0, None)
        self._turns = Turns()
        self._clear()

    def _clear(self) -> None:
        self.position = 0
        self.size = 0
        self._part = FIRST_PART
        self._counts: list[int] = []
        self._levels: list[Level] = []

    @property
    def total(self) -> int:
        """Lines counted so far."""
        return sum(self._counts)

    def advance(self, seconds: float) -> bool:
        """Go on for about this long; whether there is more to look through. A file that is another starts anew.

        Raises LogError.
        """
        state = self._reader.state()
        if not self._state.is_continued_by(state):
            self._clear()
        elif state == self._state and self.position >= self.size:
            return False
        deadline = time.monotonic() + seconds
        with self._reader.snapshot() as snapshot:
            self._state, self.size = snapshot.state, snapshot.size
            end = settled_end(snapshot)
            self.position = max(self.position, min(snapshot.start, end))
            while self.position < end and time.monotonic() < deadline:
                self._take(snapshot, end)
                self._turns.between()
            if self.position >= end:
                self.position = end
                self.size = end
                return False
            return True

    def _take(self, snapshot: Snapshot, end: int) -> None:
        stop = min(end, snapshot.line_start(min(self.position + WINDOW, end)))
        if stop <= self.position:
            stop = snapshot.line_end(self.position)
        for raw in candidates(self.sieve, snapshot, self.position, stop):
            line = parse(raw)
            if self.sieve.accepts(line):
                self._count(line.offset, line.level)
        self.position = stop

    def _count(self, offset: int, level: Level) -> None:
        while offset // self._part >= MOST_PARTS:
            self._part *= 2
            pairs = range(0, len(self._counts), 2)
            self._counts = [sum(self._counts[at : at + 2]) for at in pairs]
            self._levels = [max(self._levels[at : at + 2]) for at in pairs]
        missing = offset // self._part + 1 - len(self._counts)
        if missing > 0:
            self._counts += [0] * missing
            self._levels += [Level.NONE] * missing
        self._counts[offset // self._part] += 1
        self._levels[offset // self._part] = max(self._levels[offset // self._part], level)

    def levels(self, rows: int, size: int) -> list[Level]:
        """The highest level among the lines counted in each of `rows` equal parts of a file of `size` bytes."""
        marks = [Level.NONE] * rows
        if size <= 0 or rows <= 0:
            return marks
        for number, level in enumerate(self._levels[: size // self._part + 1]):
            if level:
                row = min(rows - 1, number * self._part * rows // size)
                marks[row] = max(marks[row], level)
        return marks

    def number_of(self, offset: int) -> int | None:
        """Which of the counted lines, from 1, starts at `offset`; None if it was not reached yet. Raises LogError."""
        if offset >= self.position:
            return None
        part = offset // self._part
        with self._reader.snapshot() as snapshot:
            number = sum(self._counts[:part])
            for line in Finder(self.sieve).after(snapshot, part * self._part):
                if line.offset > offset:
                    break
                number += line.offset >= part * self._part
            return number
