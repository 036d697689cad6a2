"""Follow a log as it is written, for front ends without a screen."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from qwen_tui.logs.parse import LogLine, parse
from qwen_tui.logs.reader import CHUNK, FileState, LogReader, RawLine, Snapshot

#: Lines, or bytes, handed over at once at most: memory stays bounded whatever has piled up.
BATCH_LINES = 2000
BATCH_BYTES = 16 * CHUNK

T = TypeVar("T")


class Tail:
    """What is appended to the file at `path`, read bit by bit from the offset `start` on.

    A file that is not there yet is waited for. What rotation takes out of it before it was read here comes from the
    archives. After a truncation it goes on from the start; after a replacement
    it finishes the old file, which it holds open, and goes on with the new one. Calls block on the disk, so each
    may be made in another thread; `close` waits for the one that runs. All raise LogError as LogReader does.
    """

    def __init__(self, path: Path | str, start: int = 0) -> None:
        self._reader = LogReader(path)
        self._position = start
        self._descriptor = -1
        self._identity: tuple[int, int] | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Tail:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._close()

    def lines(self) -> list[RawLine]:
        """The next complete lines, at most BATCH_LINES; none if nothing was completed since.

        The end of a file that has been replaced counts as complete.
        """
        with self._lock:
            return self._next(self._take_lines)

    def chunk(self) -> bytes:
        """The next bytes as they are, at most BATCH_BYTES; none if nothing was appended since."""
        with self._lock:
            return self._next(self._take_bytes)

    def _next(self, take: Callable[[Snapshot, bool], T]) -> T:
        state = self._reader.state()
        if self._descriptor < 0:
            self._open(state)
        elif state.identity != self._identity:
            # Replaced, or gone. What is left of the old file comes first, then the new one from its start.
            taken = self._taken(take, True)
            if taken or state.identity is None:
                return taken
            self._close()
            self._position = 0
            self._open(state)
        return self._taken(take, False)

    def _taken(self, take: Callable[[Snapshot, bool], T], to_the_end: bool) -> T:
        with closing(self._snapshot()) as snapshot:
            return take(snapshot, to_the_end)

    def _open(self, state: FileState) -> None:
        if state.identity is None:
            return
        with self._reader.snapshot():
            pass  # refuses what is no file or can't be read, in words
        with suppress(FileNotFoundError):
            self._descriptor = os.open(self._reader.path, os.O_RDONLY | os.O_CLOEXEC)
            self._identity = FileState.of(os.fstat(self._descriptor)).identity

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor, self._identity = -1, None

    def _snapshot(self) -> Snapshot:
        if self._descriptor < 0:
            return Snapshot(-1, FileState(0, None))
        state = FileState.of(os.fstat(self._descriptor))
        if state.size < self._position:
            self._position = 0
        return Snapshot(self._descriptor, state, self._reader.path)

    def _take_lines(self, snapshot: Snapshot, to_the_end: bool) -> list[RawLine]:
        found = list(islice(snapshot.after(self._position), BATCH_LINES))
        if found and found[-1].next_offset == snapshot.size and not (found[-1].complete or to_the_end):
            found.pop()
        if found:
            self._position = found[-1].next_offset
        return found

    def _take_bytes(self, snapshot: Snapshot, _to_the_end: bool) -> bytes:
        start = max(self._position, min(snapshot.start, snapshot.size))
        data = snapshot.read(start, min(snapshot.size, start + BATCH_BYTES))
        self._position = start + len(data)
        return data


async def follow(path: Path | str, start: int | None = None, interval: float = 0.1) -> AsyncIterator[list[LogLine]]:
    """The lines of the log at `path` from the offset `start` on, in batches, as they are completed; never ends.

    start: bytes; None for what is written from now on. interval: seconds between looks at a file that rests.
    Truncation and replacement are survived (see Tail). Raises LogError where the file can't be read.
    """

    def next_lines() -> list[LogLine]:
        return [parse(line) for line in tail.lines()]

    if start is None:
        start = await asyncio.to_thread(end_of_lines, path)
    with Tail(path, start) as tail:
        while True:
            lines = await asyncio.to_thread(next_lines)
            if lines:
                yield lines
            else:
                await asyncio.sleep(interval)


def end_of_lines(path: Path | str) -> int:
    """The offset behind the last complete line of the log at `path`; 0 where there is none."""
    with LogReader(path).snapshot() as snapshot:
        last = next(snapshot.before(snapshot.size), None)
        if last is None or last.complete:
            return snapshot.size
        return last.offset
