"""The parts of a log that can tell why it ended, as numbered lines: all of a small one, head and tail of a large "
"one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from qwen_tui.logs.plain_text import plain_text

#: A log up to this size is read whole. Bytes.
WHOLE = 3 << 20
#: What is read of a larger one, at its ends and before the first word of an engine's death. Bytes.
HEAD = 1 << 19
TAIL = 3 << 20
BEFORE_DEATH, AFTER_DEATH = 1 << 20, 1 << 18
#: How far from the end that word is looked for: a busy server's last words may be a traceback per request.
_REACH = 64 << 20
_DEATH_WORDS = (b"EngineDeadError", b"fatal error", b"background task failed", b"died unexpectedly", b"engine dead")
#: Characters of one line that are looked at, and lines made of one by carriage returns.
LONGEST = 16_000
_REDRAWN = 50
_CHUNK = 1 << 20
#: Bytes beyond which lines are not counted here.
_MANY = 128 << 20


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
        """The beginning; None for a log that `tail` gives as a whole."""
        return None if self.size <= WHOLE else Part(0, self._read(0, HEAD))

    def tail(self) -> Part:
        """The end; all of a small log."""
        if self.size <= WHOLE:
            return Part(0, self._read(0, self.size))
        return self._from_line(self.size - TAIL, self.size)

    def death(self) -> Part | None:
        """Around the first word of an engine's death; None for a small log, or where there is none."""
        if self.size <= WHOLE:
            return None
        position = start = max(0, self.size - _REACH)
        rest = b""
        with self._log.open("rb", buffering=0) as file:
            file.seek(start)
            while chunk := file.read(_CHUNK):
                data = rest + chunk
                found = [at for word in _DEATH_WORDS if (at := data.find(word)) >= 0]
                if found:
                    at = position - len(rest) + min(found)
                    return self._from_line(max(0, at - BEFORE_DEATH), at + AFTER_DEATH)
                position += len(chunk)
                rest = chunk[-64:]
        return None

    def lines_before(self, offset: int) -> int:
        """How many lines end before the byte `offset`."""
        if offset > _MANY:
            counted = self._counted_outside(offset)
            if counted is not None:
                return counted
        return self._count(0, offset)

    def _counted_outside(self, offset: int) -> int | None:
        """The same by `wc`, which counts several times as fast; None where it can't, or the log grew meanwhile."""
        try:
            with self._log.open("rb", buffering=0) as file:
                size = os.fstat(file.fileno()).st_size
                done = subprocess.run(["wc", "-l"], stdin=file, capture_output=True, check=True, timeout=60)
                behind = self._count(offset, size)
                return int(done.stdout) - behind if os.fstat(file.fileno()).st_size == size else None
        except (OSError, ValueError, subprocess.SubprocessError):
            return None

    def _count(self, start: int, end: int) -> int:
        count = 0
        buffer = bytearray(_CHUNK)
        view = memoryview(buffer)
        with self._log.open("rb", buffering=0) as file:
            file.seek(start)
            while start < end:
                got = file.readinto(view[: min(_CHUNK, end - start)])
                if not got:
                    break
                count += buffer.count(b"\n", 0, got)
                start += got
        return count

    def _from_line(self, start: int, end: int) -> Part:
        """From the first line that begins at `start` or after it."""
        data = self._read(start, end)
        if start:
            newline = data.find(b"\n") + 1
            start, data = start + newline, data[newline:]
        return Part(start, data)

    def _read(self, start: int, end: int) -> bytes:
        with self._log.open("rb") as file:
            file.seek(start, os.SEEK_SET)
            return file.read(max(0, end - start))
