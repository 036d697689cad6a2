"""A file on its way: its bytes where they belong, and after its end a note of which are there.

The note is in the file itself, so that the two can't part, and is brought up to date after every write: a process
that is killed loses what it had in memory and nothing else. Layout: the file's `size` bytes, then `NOTE`: magic, a
key of what is being fetched, the size of a part, and for each part how many bytes from its start are there (64 bit,
little endian). When all is there the note is cut off and the file gets its name. Standard library only.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import struct
from pathlib import Path

SUFFIX = ".parts.incomplete"
CLIENTS_SUFFIX = ".incomplete"
_MAGIC = b"qwen-tui parts 1"
_HEAD = struct.Struct("<16s32sQ")
#: The smallest part, in bytes, and the most parts of one file.
PART = 16 * 1024 * 1024
_MOST_PARTS = 1024
#: What flock says on file systems that have none.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def part_size(size: int) -> int:
    """Bytes of a part of a file of `size` bytes."""
    smallest = -(-size // _MOST_PARTS)
    return max(PART, -(-smallest // 1_048_576) * 1_048_576)


def key_of(identity: str, size: int) -> bytes:
    """Names a content: bytes of another content are never taken for it. identity: its hash, or its address."""
    return hashlib.sha256(f"{size} {identity}".encode()).digest()


def path_for(target: Path) -> Path:
    """Where the unfinished `target` is."""
    return target.with_name(target.name + SUFFIX)


def present(target: Path, identity: str, size: int) -> int:
    """Bytes of the unfinished `target` that are there; 0 if it is none, or of another content."""
    try:
        with path_for(target).open("rb") as file:
            counts = _read_note(file.fileno(), key_of(identity, size), size)
    except FileNotFoundError:
        return _left_by_client(target, identity, size)
    except OSError:
        return 0
    return sum(counts[1]) if counts is not None else 0


def _left_by_client(target: Path, identity: str, size: int) -> int:
    """Bytes of `target`, from its start, that the hub's client left; only where a hash will tell if they are right."""
    if not identity.startswith(("sha256:", "git:")):
        return 0
    try:
        count = target.with_name(target.name + CLIENTS_SUFFIX).stat().st_size
    except OSError:
        return 0
    return count if count <= size else 0


def adopt(target: Path, identity: str, size: int) -> None:
    """Go on with what the hub's own client left of `target`, if it did. Raises OSError."""
    own, theirs = path_for(target), target.with_name(target.name + CLIENTS_SUFFIX)
    count = 0 if own.exists() else _left_by_client(target, identity, size)
    if not count:
        return
    part = part_size(size)
    counts = [min(max(0, count - start), part, size - start) for start in range(0, size, part)]
    note = _HEAD.pack(_MAGIC, key_of(identity, size), part) + struct.pack(f"<{len(counts)}Q", *counts)
    with theirs.open("r+b") as file:
        os.truncate(file.fileno(), size)
        os.pwrite(file.fileno(), note, size)
    theirs.replace(own)


def _read_note(descriptor: int, key: bytes, size: int) -> tuple[int, list[int]] | None:
    """The part size and the counts; None if there is no note, or one of another content."""
    if size and os.fstat(descriptor).st_size == size:
        # Killed between cutting the note off and giving the name: all was there. The hash is taken again anyway.
        part = part_size(size)
        return part, [min(part, size - start) for start in range(0, size, part)]
    head = os.pread(descriptor, _HEAD.size, size)
    if len(head) != _HEAD.size:
        return None
    magic, found, part = _HEAD.unpack(head)
    if magic != _MAGIC or found != key or part <= 0:
        return None
    number = -(-size // part)
    raw = os.pread(descriptor, 8 * number, size + _HEAD.size)
    if len(raw) != 8 * number:
        return None
    counts = list(struct.unpack(f"<{number}Q", raw))
    if any(count > min(part, size - index * part) for index, count in enumerate(counts)):
        return None
    return part, counts


def forget_clients(target: Path) -> None:
    """Delete what the hub's own client left of `target`, which is whole by now."""
    with contextlib.suppress(OSError):
        os.unlink(f"{target}{CLIENTS_SUFFIX}")  # noqa: PTH108


def open_alone(path: str | os.PathLike[str]) -> int:
    """A descriptor of the unfinished file `path`, which is made if it is not there, and which nobody else writes.

    Raises OSError, and BlockingIOError where another process writes it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        opened = os.fstat(descriptor)
        try:
            there = os.stat(path)  # noqa: PTH116
        except FileNotFoundError:
            there = None
        if there is None or (there.st_dev, there.st_ino) != (opened.st_dev, opened.st_ino):
            # Between the two steps it was finished, and has another name now.
            raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


class PartFile:
    """The unfinished file of `target`. Each part is written by one thread at a time. Raises OSError.

    Raises BlockingIOError where another process writes it. counts: bytes of each part that are there.
    """

    def __init__(self, target: Path, identity: str, size: int) -> None:
        self.target = target
        self.path = path_for(target)
        self.size = size
        self._key = key_of(identity, size)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = open_alone(self.path)
        try:
            found = _read_note(self._descriptor, self._key, size)
            if found is not None:
                self.part, self.counts = found
            else:
                self.restart(part_size(size))
        except BaseException:
            self.close()
            raise

    def restart(self, part: int) -> None:
        """Forget what is there; parts of `part` bytes from now on."""
        self.part = part
        self.counts = [0] * -(-self.size // part)
        os.ftruncate(self._descriptor, 0)
        note = _HEAD.pack(_MAGIC, self._key, part) + b"\0" * (8 * len(self.counts))
        os.ftruncate(self._descriptor, self.size + len(note))
        os.pwrite(self._descriptor, note, self.size)

    def length(self, index: int) -> int:
        """Bytes of the part `index`."""
        return min(self.part, self.size - index * self.part)

    @property
    def done(self) -> int:
        """Bytes that are there."""
        return sum(self.counts)

    def write(self, index: int, view: memoryview) -> None:
        """Add to the part `index`, and note it."""
        offset = index * self.part + self.counts[index]
        rest = view
        while rest:
            written = os.pwrite(self._descriptor, rest, offset)
            rest, offset = rest[written:], offset + written
        count = self.counts[index] + len(view)
        os.pwrite(self._descriptor, struct.pack("<Q", count), self.size + _HEAD.size + 8 * index)
        self.counts[index] = count

    def prefix(self, known: int = 0) -> int:
        """Bytes from the file's start that are there without a gap. known: a value it had before."""
        index = known // self.part
        while index < len(self.counts) and self.counts[index] == self.length(index):
            index += 1
        return min(self.size, index * self.part + (self.counts[index] if index < len(self.counts) else 0))

    def read_into(self, view: memoryview, offset: int) -> int:
        """Read bytes that are there; their number."""
        return os.preadv(self._descriptor, [view], offset)

    def keep(self) -> None:
        """All is there and right: cut the note off and give the file its name."""
        os.ftruncate(self._descriptor, self.size)
        self.path.replace(self.target)
        self.close()

    def drop(self) -> None:
        """Delete it."""
        self.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Leave it as it is."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1
