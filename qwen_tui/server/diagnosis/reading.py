"""The parts of a log that can tell why it ended, as numbered lines: all of a small one, head and tail of a large "
"one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from qwen_tui.logs.plain_text import plain_text

#: A log up to this size is read whole. Bytes.
WHOLE = 6 << 20
#: What is read of a larger one. Bytes; each step backwards is only taken while no cause was found.
HEAD = 1 << 20
TAILS = (4 << 20, 24 << 20)
#: Characters of one line that are looked at, and lines made of one by carriage returns.
LONGEST = 16_000
_REDRAWN = 50
_CHUNK = 1 << 20


class NumberedLine(NamedTuple):
    """number: from 1, within its part. text: harmless; of a line with carriage returns, one of its pieces."""

    number: int
    text: str


@dataclass(frozen=True)
class Part:
    """A stretch of a log: bytes start..start+len(data), beginning at a line's start."""

    start: int
    data: bytes

    def lines(self) -> Iterator[NumberedLine]:
        # A progress bar is redrawn after \r, and what follows the last one may be the start of a traceback:
        # the pieces are lines of their own here, with the same number.
        for number, raw in enumerate(self.data.split(b"\n"), 1):
            raw = raw[:LONGEST]
            if b"\r" in raw:
                pieces = [piece for piece in raw.split(b"\r") if piece]
                for piece in pieces[:1] + pieces[1:][-_REDRAWN:]:
                    yield NumberedLine(number, plain_text(piece))
            else:
                yield NumberedLine(number, plain_text(raw))


class LogParts:
    """One log at one moment. Raises OSError where it can't be read."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self.size = log.stat().st_size

    def head(self) -> Part | None:
        """The beginning; None for a log that `tails` gives as a whole."""
        return None if self.size <= WHOLE else Part(0, self._read(0, HEAD))

    def tails(self) -> Iterator[Part]:
        """The end, further back with each step; for a small log the whole of it, once."""
        if self.size <= WHOLE:
            yield Part(0, self._read(0, self.size))
            return
        for length in TAILS:
            start = max(0, self.size - length)
            data = self._read(start, self.size)
            if start:
                newline = data.find(b"\n") + 1
                start, data = start + newline, data[newline:]
            yield Part(start, data)
            if start == 0:
                return

    def lines_before(self, offset: int) -> int:
        """How many lines end before the byte `offset`."""
        count = 0
        buffer = bytearray(_CHUNK)
        view = memoryview(buffer)
        with self._log.open("rb", buffering=0) as file:
            while offset > 0:
                got = file.readinto(view[: min(_CHUNK, offset)])
                if not got:
                    break
                count += buffer.count(b"\n", 0, got)
                offset -= got
        return count

    def _read(self, start: int, end: int) -> bytes:
        with self._log.open("rb") as file:
            file.seek(start, os.SEEK_SET)
            return file.read(max(0, end - start))
