"""Keep the log of a server that never ends from filling the disk, without losing a line of it.

vLLM holds its log open and appends to it, so the file can neither be renamed away (vLLM would go on in the old
one) nor truncated (what is written between the copy and the cut would be lost). Instead the front of the file is
compressed into an archive beside it, and then its blocks are given back to the file system: the file keeps its
length and every line its offset, so neither the writer nor a reader notices. What is given back reads as zeros;
readers skip it (see `Snapshot.start`).

Standard library only: the keeper, which has nothing else, calls this.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import gzip
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

CHUNK = 1 << 20
#: Bytes; less than this is not worth an archive.
SMALLEST_PART = 1 << 20
_KEEP_SIZE, _PUNCH_HOLE = 1, 2
_ARCHIVE = re.compile(r"\.(?P<start>\d+)-(?P<end>\d+)\.gz$")


class Archive(NamedTuple):
    """A compressed part of a log. start, end: bytes, where it lay in the log."""

    path: Path
    start: int
    end: int


class Rotated(NamedTuple):
    """What a rotation did. archive: what was taken out of the log; None where there was nothing to take out.

    freed: bytes of disk that the log gave back.
    """

    archive: Archive | None
    freed: int


def archives(log: Path) -> list[Archive]:
    """The parts that have been taken out of `log`, the oldest first."""
    found = []
    for path in log.parent.glob(f"{_escaped(log.name)}.*.gz"):
        match = _ARCHIVE.search(path.name)
        if match and path.name[: match.start()] == log.name:
            found.append(Archive(path, int(match["start"]), int(match["end"])))
    return sorted(found, key=lambda archive: archive.start)


def archived_chunks(log: Path) -> Iterator[bytes]:
    """What has been taken out of `log`, in order, decompressed, about a MB at a time. Raises OSError, EOFError."""
    for archive in archives(log):
        with gzip.open(archive.path) as file:
            while chunk := file.read(CHUNK):
                yield chunk


def rotate(path: Path | str, keep_bytes: int) -> Rotated:
    """Take all but about the last `keep_bytes` bytes of the log at `path` out into an archive beside it.

    Cuts between two lines. Safe while the log is written and read, and at any crash: a part is given back only
    once its archive is on the disk. Raises OSError: EOPNOTSUPP where the file system can't give back a part of a
    file (nothing has changed then), EAGAIN while another rotation of this log goes on.
    """
    log = Path(path)
    descriptor = os.open(log, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        start = first_byte(descriptor)
        known = [archive for archive in archives(log) if archive.start <= start < archive.end]
        if known:
            # A rotation was interrupted after its archive was complete.
            return _give_back(descriptor, known[-1])
        size = os.fstat(descriptor).st_size
        cut = _line_start(descriptor, max(start, size - keep_bytes), size)
        if cut - start < SMALLEST_PART:
            return Rotated(None, 0)
        _check_support(log.parent)
        archive = Archive(log.with_name(f"{log.name}.{start:015}-{cut:015}.gz"), start, cut)
        _compress(descriptor, archive)
        return _give_back(descriptor, archive)
    finally:
        os.close(descriptor)


def first_byte(descriptor: int) -> int:
    """Where the file's content starts: behind what has been given back."""
    try:
        start = os.lseek(descriptor, 0, os.SEEK_DATA)
    except OSError as error:
        return os.fstat(descriptor).st_size if error.errno == errno.ENXIO else 0
    # Blocks are given back as a whole; the rest of the first one that is left has been zeroed.
    while start and (chunk := os.pread(descriptor, CHUNK, start)):
        text = chunk.lstrip(b"\0")
        start += len(chunk) - len(text)
        if text:
            break
    return start


def _line_start(descriptor: int, position: int, size: int) -> int:
    """The first start of a line at or behind `position`, or the last one before; `position` where there is neither."""
    at = max(0, position - 1)
    while at < size:
        chunk = os.pread(descriptor, min(CHUNK, size - at), at)
        newline = chunk.find(b"\n")
        if newline >= 0:
            return at + newline + 1
        if not chunk:
            break
        at += len(chunk)
    before = max(0, position - CHUNK)
    newline = os.pread(descriptor, position - before, before).rfind(b"\n")
    return before + newline + 1 if newline >= 0 else position


def _compress(descriptor: int, archive: Archive) -> None:
    """Write the archive and see that it is on the disk."""
    partial = archive.path.with_name(f"{archive.path.name}.part")
    partial.unlink(missing_ok=True)
    target = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(target, "wb") as raw:
            with gzip.GzipFile(filename="", mode="wb", compresslevel=3, fileobj=raw, mtime=0) as file:
                at = archive.start
                while at < archive.end:
                    chunk = os.pread(descriptor, min(CHUNK, archive.end - at), at)
                    if not chunk:
                        raise OSError(errno.EIO, "the log became shorter while it was archived")
                    file.write(chunk)
                    at += len(chunk)
            raw.flush()
            os.fsync(raw.fileno())
        partial.replace(archive.path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    folder = os.open(archive.path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _give_back(descriptor: int, archive: Archive) -> Rotated:
    before = os.fstat(descriptor).st_blocks
    _punch(descriptor, archive.end)
    return Rotated(archive, max(0, before - os.fstat(descriptor).st_blocks) * 512)


def _punch(descriptor: int, end: int) -> None:
    """Zero the bytes 0..end of a file and give their blocks back; its size stays."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_longlong, ctypes.c_longlong)
    libc.fallocate.restype = ctypes.c_int
    while libc.fallocate(descriptor, _KEEP_SIZE | _PUNCH_HOLE, 0, end) != 0:
        code = ctypes.get_errno()
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code))


def _check_support(folder: Path) -> None:
    """Raises OSError where files in `folder` can't be punched: before an archive is made in vain."""
    trial = folder / f".rotation.{os.getpid()}.tmp"
    descriptor = os.open(trial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, b"x" * 8192)
        _punch(descriptor, 4096)
    finally:
        os.close(descriptor)
        trial.unlink(missing_ok=True)


def _escaped(name: str) -> str:
    """`name` for a glob, letter by letter."""
    return re.sub(r"([*?[])", r"[\1]", name)
