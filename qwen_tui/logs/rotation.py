"""Keep the log of a server that never ends from filling the disk, without losing a line of it.

vLLM holds its log open and appends to it, so the file can neither be renamed away (vLLM would go on in the old
one) nor truncated (what is written between the copy and the cut would be lost). Instead the front of the file is
compressed into an archive beside it (see archive), and then its blocks are given back to the file system: the file
keeps its length and every line its offset, so the writer does not notice. What is given back reads as zeros; readers
take it from the archives instead (see `Snapshot.read`).

Standard library only: the keeper, which has nothing else, calls this.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from qwen_tui.logs.archive import Archive, ArchiveReader, archives, write_archive
from qwen_tui.logs.holes import first_byte, given_back

CHUNK = 1 << 20
#: Bytes; less than this is not worth an archive.
SMALLEST_PART = 1 << 20
_KEEP_SIZE, _PUNCH_HOLE = 1, 2


class Rotated(NamedTuple):
    """What a rotation did. archive: what was taken out of the log; None where there was nothing to take out.

    freed: bytes of disk that the log gave back.
    """

    archive: Archive | None
    freed: int


def rotate(path: Path | str, keep_bytes: int, is_stopped: Callable[[], bool] | None = None) -> Rotated:
    """Take all but about the last `keep_bytes` bytes of the log at `path` out into an archive beside it.

    Cuts between two lines. Safe while the log is written and read, and at any crash: a part is given back only
    once its archive is on the disk. Raises Stopped if asked to, and OSError: EOPNOTSUPP where the file system can't
    give back a part of a file, EEXIST where the archives are of what the log held before it was truncated (nothing
    has changed then), EAGAIN while another rotation of this log goes on.
    """
    log = Path(path)
    descriptor = os.open(log, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        found = archives(log)
        if found and _is_there(descriptor, found[-1]):
            # A rotation was interrupted after its archive was complete.
            return _give_back(descriptor, found[-1])
        start = found[-1].end if found else first_byte(descriptor)
        size = os.fstat(descriptor).st_size
        cut = _line_start(descriptor, max(start, size - keep_bytes), size)
        if cut - start < SMALLEST_PART:
            return Rotated(None, 0)
        _check_support(log.parent)
        archive = Archive(log.with_name(f"{log.name}.{start:015}-{cut:015}.gz"), start, cut)
        write_archive(descriptor, archive, is_stopped)
        return _give_back(descriptor, archive)
    finally:
        os.close(descriptor)


def prune(log: Path, keep_bytes: int) -> list[Archive]:
    """Delete the oldest archives of `log` until the rest takes no more than that on the disk; which they were.

    The newest one stays in any case. Raises OSError.
    """
    found = archives(log)
    sizes = [archive.path.stat().st_size for archive in found]
    deleted = []
    while len(found) > 1 and sum(sizes) > keep_bytes:
        found[0].path.unlink(missing_ok=True)
        deleted.append(found.pop(0))
        del sizes[0]
    return deleted


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


def _is_there(descriptor: int, archive: Archive) -> bool:
    """Whether the log still holds what is in the archive. Raises OSError if it holds something else there."""
    if os.pread(descriptor, 1, archive.end - 1) == b"\0":
        return False
    with closing(ArchiveReader([archive])) as reader:
        for at in range(archive.start, archive.end, CHUNK):
            data = os.pread(descriptor, min(CHUNK, archive.end - at), at)
            if len(data) < min(CHUNK, archive.end - at) or data != reader.over(at, data):
                raise OSError(errno.EEXIST, f"{archive.path.name} is of what the log held before it was truncated")
    return True


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
        os.write(descriptor, b"x" * 2 * CHUNK)
        _punch(descriptor, CHUNK)
        if given_back(descriptor) == 0:
            raise OSError(errno.EOPNOTSUPP, "this file system does not tell what has been given back")
    finally:
        os.close(descriptor)
        trial.unlink(missing_ok=True)
