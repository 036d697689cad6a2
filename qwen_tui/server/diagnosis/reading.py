"""The parts of a log that can tell why it ended, as numbered lines: all of a small one, head and tail of a large one.

What rotation has taken out of a log is read from its archives. Where the oldest of those are gone, the log begins
with the first line that is left, and lines are counted from there.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from qwen_tui.logs.plain_text import plain_text
from qwen_tui.logs.reader import LogError, LogReader, Snapshot

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
            raw = _as_written(raw[:LONGEST])
            if b"\r" in raw:
                pieces = [piece for piece in raw.split(b"\r") if piece]
                for piece in pieces[:1] + pieces[1:][-_REDRAWN:]:
                    yield NumberedLine(number, plain_text(piece))
            else:
                yield NumberedLine(number, plain_text(raw))


_JSON = json.JSONDecoder(strict=False)


def _as_written(raw: bytes) -> bytes:
    """The line as the server wrote it: without what syslog, Docker's own log files or a Go program made of it."""
    if b"#033[" in raw:
        raw = raw.replace(b"#033[", b"\x1b[")
    if raw.endswith(b"#015"):
        raw = raw[:-4]
    if raw.startswith(b'time="') and (at := raw.find(b' msg="')) > 0:
        try:
            return str(_JSON.raw_decode(raw[at + 5 :].decode("utf-8", "replace"))[0]).encode("utf-8", "replace")
        except ValueError:
            return raw
    if raw.startswith(b'{"log":'):
        try:
            record = json.loads(raw)
        except ValueError:
            return raw
        text = record.get("log")
        if isinstance(text, str):
            return text.rstrip("\r\n").encode("utf-8", "replace")
    return raw


class LogParts:
    """One log at one moment. Raises OSError where it can't be read."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self.size = log.stat().st_size

    def head(self) -> Part | None:
        """The beginning; None for a log that `tail` gives as a whole."""
        if self.size <= WHOLE:
            return None
        with self._open() as snapshot:
            return Part(snapshot.start, snapshot.read(snapshot.start, min(self.size, snapshot.start + HEAD)))

    def tail(self) -> Part:
        """The end; all of a small log."""
        return self._from_line(max(0, self.size - TAIL) if self.size > WHOLE else 0, self.size)

    def death(self) -> Part | None:
        """Around the first word of an engine's death; None for a small log, or where there is none."""
        if self.size <= WHOLE:
            return None
        rest = b""
        with self._open() as snapshot:
            for position in range(max(0, self.size - _REACH), self.size, _CHUNK):
                data = rest + snapshot.read(position, min(self.size, position + _CHUNK))
                found = [at for word in _DEATH_WORDS if (at := data.find(word)) >= 0]
                if found:
                    at = position - len(rest) + min(found)
                    return self._from_line(max(0, at - BEFORE_DEATH), at + AFTER_DEATH)
                rest = data[-64:]
        return None

    def lines_before(self, offset: int) -> int:
        """How many lines end before the byte `offset`."""
        with self._open() as snapshot:
            at, count = snapshot.start, 0
            while at < offset and (piece := snapshot.counted(at)) is not None and piece[0] <= offset:
                at, count = piece[0], count + piece[1]
            if offset - at > _MANY:
                counted = self._counted_outside(snapshot, offset)
                if counted is not None:
                    return count + counted
            return count + _count(snapshot, at, offset)

    def _counted_outside(self, snapshot: Snapshot, offset: int) -> int | None:
        """The lines in the file itself, archives apart, that end before `offset`, by `wc`: several times as fast.

        None where it can't, or the log grew meanwhile.
        """
        try:
            with self._log.open("rb", buffering=0) as file:
                size = os.fstat(file.fileno()).st_size
                done = subprocess.run(["wc", "-l"], stdin=file, capture_output=True, check=True, timeout=60)
                behind = _count(snapshot, offset, snapshot.size)
                same = os.fstat(file.fileno()).st_size == size == snapshot.size
                return int(done.stdout) - behind if same else None
        except (OSError, ValueError, subprocess.SubprocessError):
            return None

    def _from_line(self, start: int, end: int) -> Part:
        """From the first line that begins at `start` or after it."""
        with self._open() as snapshot:
            first = max(start, snapshot.start)
            data = snapshot.read(first, min(end, snapshot.size))
        if first == start > 0:
            newline = data.find(b"\n") + 1
            first, data = first + newline, data[newline:]
        return Part(first, data)

    @contextmanager
    def _open(self) -> Iterator[Snapshot]:
        try:
            with LogReader(self._log).snapshot() as snapshot:
                yield snapshot
        except LogError as error:
            raise OSError(errno.EIO, error.why) from None


def _count(snapshot: Snapshot, start: int, end: int) -> int:
    return sum(snapshot.read(at, min(end, at + _CHUNK)).count(b"\n") for at in range(start, end, _CHUNK))
