"""Read any part of a log file of any size, by byte offset.

There is no index of lines: a position is the byte offset at which a line starts, and its neighbours are found by
searching for newlines around it, in chunks. So a file of 1 GB opens as fast as one of 1 kB, and nothing is kept
of it but what was asked for.

So that a file without newlines (a progress bar that ran for days, a binary) costs no more, lines are also broken
at every multiple of BLOCK bytes whose preceding block holds no newline at all. The rule looks at no more than two
blocks, so every start of a line is found from anywhere, and stays where it is while the file grows.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from qwen_tui.errors import QwenTuiError
from qwen_tui.i18n import _
from qwen_tui.logs.archive import ArchiveReader, archives, reaching
from qwen_tui.logs.holes import LARGEST_ZEROED, first_byte, given_back

#: Bytes; a line is broken where a whole block of this size holds no newline. No line is as long as two of them.
BLOCK = 1 << 20
#: Bytes of one line that are kept for drawing; the rest is counted.
LIMIT = 16 * 1024
#: Bytes read at a time.
CHUNK = 64 * 1024


class LogError(QwenTuiError):
    """A log can't be read."""


class FileState(NamedTuple):
    """What tells whether a file is the one seen before, and whether it grew.

    size: bytes; 0 where there is no file. identity: device and inode; None where there is no file.
    """

    size: int
    identity: tuple[int, int] | None

    @classmethod
    def of(cls, status: os.stat_result) -> FileState:
        return cls(status.st_size, (status.st_dev, status.st_ino))

    def is_continued_by(self, newer: FileState) -> bool:
        """Whether `newer` is the same file, at most longer: offsets into the old one still hold."""
        return self.identity == newer.identity and newer.size >= self.size


class RawLine(NamedTuple):
    """One line as it lies in the file.

    offset: where it starts. next_offset: where the next one starts.
    data: its bytes without the newline, at most LIMIT. For a line redrawn with carriage returns that is longer,
    the end of it: what came before has been overwritten.
    hidden: bytes of it that `data` leaves out although a terminal would show them.
    complete: whether a newline ends it; false for the last line of a file still being written.
    """

    offset: int
    next_offset: int
    data: bytes
    hidden: int
    complete: bool


class Snapshot:
    """One open file at one moment: what is appended later is not seen. Not for use by two threads at once.

    log: where the file lies; what rotation has taken out of it is read from the archives there. To be closed.
    """

    def __init__(
        self, descriptor: int, state: FileState, log: Path | None = None, block: int = BLOCK, limit: int = LIMIT
    ) -> None:
        self._descriptor = descriptor
        self._log = log
        self.state = state
        self.size = state.size
        self._block = block
        self._limit = limit
        self._chunk_start = 0
        self._chunk = b""
        self._start: int | None = None
        self._given_back = 0
        self._archives: ArchiveReader | None = None

    def close(self) -> None:
        """Let go of the archives; the file itself belongs to whoever opened it."""
        if self._archives is not None:
            self._archives.close()
            self._archives = None
        self._given_back = 0

    @property
    def start(self) -> int:
        """Where the first line starts that is still to be had, in the archives or in the file."""
        if self._start is None:
            self._start = self._first_byte() if self.size else 0
        return self._start

    def _first_byte(self) -> int:
        archives = self._look_for_archives()
        if archives is None:
            return 0
        first = min(self.size, self._given_back)
        if archives.found and archives.found[-1].end >= first:
            return archives.found[0].start
        return min(self.size, first_byte(self._descriptor))

    def _look_for_archives(self) -> ArchiveReader | None:
        """The archives that what has been given back by now is in; None where nothing has been."""
        up_to = given_back(self._descriptor) if self._log is not None else 0
        if up_to != self._given_back and self._log is not None:
            self.close()
            self._given_back = up_to
            self._archives = ArchiveReader(reaching(archives(self._log), up_to))
        return self._archives

    def read(self, start: int, end: int) -> bytes:
        """The bytes start..end; fewer if the file was truncated meanwhile. Raises LogError."""
        offset = start - self._chunk_start
        if offset >= 0 and end <= self._chunk_start + len(self._chunk):
            return self._chunk[offset : offset + end - start]
        try:
            data = self._read_file(start, end)
            # Asked afterwards: what was given back while it was read has been in an archive before.
            archives = self._look_for_archives()
            if archives is not None and start < self._given_back + LARGEST_ZEROED:
                return archives.over(start, data)
        except OSError as error:
            raise LogError(_("Can't read the log"), error.strerror or str(error)) from None
        return data

    def _read_file(self, start: int, end: int) -> bytes:
        parts = []
        while start < end:
            part = os.pread(self._descriptor, end - start, start)
            if not part:
                break
            parts.append(part)
            start += len(part)
        return b"".join(parts)

    def counted(self, start: int) -> tuple[int, int] | None:
        """Where an archived piece of the log ends that starts at `start`, and the newlines in it, without reading it.

        None where there is none. Raises LogError.
        """
        try:
            archives = self._look_for_archives()
            return None if archives is None else archives.counted(start)
        except OSError as error:
            raise LogError(_("Can't read the log"), error.strerror or str(error)) from None

    def _chunk_at(self, position: int) -> tuple[int, bytes]:
        """The aligned chunk that holds the byte at `position`, and where it starts; the last one is kept."""
        start = position - position % CHUNK
        if start != self._chunk_start or position >= start + len(self._chunk):
            self._chunk = self.read(start, min(start + CHUNK, self.size))
            self._chunk_start = start
        return start, self._chunk

    def _find(self, start: int, end: int) -> int:
        """The first newline within start..end, or -1."""
        while start < end:
            base, chunk = self._chunk_at(start)
            found = chunk.find(b"\n", start - base, end - base)
            if found >= 0:
                return base + found
            start = base + CHUNK
        return -1

    def _rfind(self, start: int, end: int) -> int:
        """The last newline within start..end, or -1."""
        while end > start:
            base, chunk = self._chunk_at(end - 1)
            found = chunk.rfind(b"\n", max(0, start - base), end - base)
            if found >= 0:
                return base + found
            end = base
        return -1

    def line_start(self, position: int) -> int:
        """Where the line starts that holds the byte at `position`; the size for a position past the end."""
        if position >= self.size:
            return self.size
        return max(self.start, self._line_start(position))

    def _line_start(self, position: int) -> int:
        block = max(0, position) - max(0, position) % self._block
        found = self._rfind(block, position)
        if found >= 0:
            return found + 1
        if block == 0:
            return 0
        found = self._rfind(block - self._block, block)
        return found + 1 if found >= 0 else block

    def line_end(self, start: int) -> int:
        """Where the line ends that starts at `start`: the offset of the next line."""
        block = start - start % self._block
        boundary = block + self._block
        found = self._find(start, min(boundary, self.size))
        if found >= 0:
            return found + 1
        if start > block and boundary < self.size:
            # The block this line starts in holds the newline before it; only the next one can be without any.
            boundary += self._block
            found = self._find(boundary - self._block, min(boundary, self.size))
            if found >= 0:
                return found + 1
        return min(boundary, self.size)

    def line(self, start: int, end: int) -> RawLine:
        """The line that starts at `start` and whose next one starts at `end`."""
        complete = self.read(end - 1, end) == b"\n"
        content = end - start - complete
        if content <= self._limit:
            return RawLine(start, end, self.read(start, end - complete), 0, complete)
        tail = self.read(end - complete - self._limit, end - complete).rstrip(b"\r")
        redrawn = tail.find(b"\r")
        if redrawn >= 0:
            return RawLine(start, end, tail[redrawn + 1 :], 0, complete)
        head = self.read(start, start + self._limit)
        return RawLine(start, end, head, content - len(head), complete)

    def before(self, position: int) -> Iterator[RawLine]:
        """The lines before the one that holds `position`, the nearest first."""
        end = self.line_start(position)
        while end > self.start:
            start = self.line_start(end - 1)
            yield self.line(start, end)
            end = start

    def after(self, position: int) -> Iterator[RawLine]:
        """The lines from the one that holds `position` on."""
        start = self.line_start(position)
        while start < self.size:
            end = start
            for line in self._short_lines(start):
                yield line
                end = line.next_offset
            if end == start:
                end = self.line_end(start)
                yield self.line(start, end)
            start = end

    def _short_lines(self, start: int) -> Iterator[RawLine]:
        """The lines from `start` on that end within the next chunk, as far as none is over the limit.

        No block fits between two newlines of one chunk (CHUNK <= BLOCK), so a newline is all that ends a line here.
        """
        window = self.read(start, min(start + min(CHUNK, self._block), self.size))
        at = 0
        while True:
            newline = window.find(b"\n", at)
            if newline < 0 or newline - at > self._limit:
                return
            yield RawLine(start + at, start + newline + 1, window[at:newline], 0, True)
            at = newline + 1


class LogReader:
    """The file at `path`, which need not exist yet, and may grow, be truncated or be replaced at any time.

    Every call opens the file anew and sees one moment of it; a missing file reads as an empty one.
    All calls raise LogError where the file can't be read. They block on the disk: not for the event loop.
    block, limit: see BLOCK and LIMIT; given for tests.
    """

    def __init__(self, path: Path | str, block: int = BLOCK, limit: int = LIMIT) -> None:
        self.path = Path(path)
        self._block = block
        self._limit = limit

    def state(self) -> FileState:
        """The file's size and identity now."""
        try:
            status = self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return FileState(0, None)
        except OSError as error:
            raise self._unreadable(error) from None
        return FileState.of(status)

    def size(self) -> int:
        """Bytes in the file now; 0 where there is none."""
        return self.state().size

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """The file as it is now, for several reads that must agree with each other."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError):
            yield Snapshot(-1, FileState(0, None), None, self._block, self._limit)
            return
        except OSError as error:
            raise self._unreadable(error) from None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise LogError(_("{file} is not a file").format(file=self.path))
            with closing(Snapshot(descriptor, FileState.of(status), self.path, self._block, self._limit)) as snapshot:
                yield snapshot
        finally:
            os.close(descriptor)

    def last_page(self, rows: int) -> list[RawLine]:
        """The last `rows` lines, in the file's order; fewer where there are not so many."""
        with self.snapshot() as snapshot:
            return list(islice(snapshot.before(snapshot.size), rows))[::-1]

    def page_before(self, offset: int, rows: int) -> list[RawLine]:
        """Up to `rows` lines before the one that holds `offset` (the file's size: before its end)."""
        with self.snapshot() as snapshot:
            return list(islice(snapshot.before(offset), rows))[::-1]

    def page_after(self, offset: int, rows: int) -> list[RawLine]:
        """Up to `rows` lines from the one that holds `offset` on, that one included."""
        with self.snapshot() as snapshot:
            return list(islice(snapshot.after(offset), rows))

    def line_at(self, offset: int) -> RawLine | None:
        """The line that holds the byte at `offset`; None past the end."""
        return next(iter(self.page_after(offset, 1)), None)

    def offset_of_line(self, number: int) -> int:
        """Where line `number` starts, counted in newlines from 1; the start of the last line if there are fewer.

        Reads the file up to there, about 1 GB in half a second.
        """
        missing = number - 1
        with self.snapshot() as snapshot:
            position = snapshot.start
            while missing > 0 and position < snapshot.size:
                counted = snapshot.counted(position)
                if counted is not None and counted[1] < missing:
                    position, missing = counted[0], missing - counted[1]
                    continue
                data = snapshot.read(position, min(position + 16 * CHUNK, snapshot.size))
                if not data:
                    break
                count = data.count(b"\n")
                if count < missing:
                    missing -= count
                    position += len(data)
                    continue
                at = 0
                for _step in range(missing):
                    at = data.index(b"\n", at) + 1
                return min(position + at, snapshot.line_start(snapshot.size - 1))
            return position if missing <= 0 else snapshot.line_start(max(0, snapshot.size - 1))

    def _unreadable(self, error: OSError) -> LogError:
        return LogError(_("Can't read the log {file}").format(file=self.path), error.strerror or str(error))
