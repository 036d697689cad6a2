"""A file to fetch, a piece of one, and what can go wrong. Standard library only."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qwen_tui.workers import hub_http, hub_parts
else:
    import hub_http
    import hub_parts

_EMPTY = hashlib.sha256().hexdigest()
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


class Failure(Exception):
    """The download can't go on. code and details are put into words by whoever shows them."""

    def __init__(self, code: str, **details: Any) -> None:
        super().__init__(f"{code} {details}")
        self.code = code
        self.details = details


class WrongSizeError(Exception):
    """The hub sends another number of bytes than it lists."""

    def __init__(self, sent: int) -> None:
        super().__init__(str(sent))
        self.sent = sent


class ObsoleteError(Exception):
    """The part is no longer wanted: the file was begun anew."""


@dataclass
class File:
    """A file to fetch. target: where it goes. identity: its hash, "sha256:…" or "git:…", or empty.

    done: bytes on the disk. checked: the hash holds. got: this run fetched bytes of it. has_clients_part: the hub's own
    client left some of it.
    """

    name: str
    url: str
    target: Path
    size: int
    identity: str = ""
    done: int = 0
    checked: bool = False
    got: bool = False
    damaged: int = 0
    generation: int = 0
    has_ranges: bool = True
    has_clients_part: bool = False
    parts: hub_parts.PartFile | None = None
    changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def content(self) -> str:
        """What its unfinished bytes belong to."""
        return self.identity or self.url

    @property
    def is_size_unknown(self) -> bool:
        """Whether the listed size, 0, means that the hub does not know it."""
        return self.size == 0 and self.identity not in ("", f"sha256:{_EMPTY}")

    def has_come(self) -> bool:
        """Whether there is a file of its size where it goes."""
        try:
            return self.target.stat().st_size == self.size and not self.is_size_unknown
        except OSError:
            return False

    def digest(self) -> Any:
        """A new hash of the kind that the hub tells for it; None where it tells none."""
        if self.identity.startswith("git:"):
            return hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)
        return hashlib.sha256() if self.identity else None

    def holds(self, digest: Any) -> bool:
        """Whether the digest is the right one."""
        return digest is None or self.identity.partition(":")[2] == digest.hexdigest()

    def now_done(self) -> int:
        """Bytes on the disk, now."""
        parts = self.parts
        return min(self.size, parts.done) if parts is not None else self.done


@dataclass(order=True)
class Unit:
    """Something to fetch: a whole file, or (index >= 0) a part of it. Ordered by when it is due."""

    due: float
    number: int
    file: File = field(compare=False)
    index: int = field(compare=False, default=-1)
    generation: int = field(compare=False, default=0)
    failures: int = field(compare=False, default=0)


class Folders:
    """What is in the folders, each read once: with a thousand files, looking for each costs more than fetching some."""

    def __init__(self) -> None:
        self._names: dict[Path, set[str]] = {}

    def has(self, file: Path, suffix: str = "") -> bool:
        """Whether `file` is there, with `suffix` after its name."""
        folder = file.parent
        names = self._names.get(folder)
        if names is None:
            try:
                names = {entry.name for entry in os.scandir(folder)}
            except OSError:
                names = set()
            self._names[folder] = names
        return file.name + suffix in names


def write_whole(target: Path, data: memoryview) -> None:
    """Write a small file in one go, under its unfinished name first.

    Raises OSError, and BlockingIOError where another process writes it.
    """
    unfinished = f"{target}{hub_parts.SUFFIX}"
    descriptor = hub_parts.open_alone(unfinished)
    try:
        if os.fstat(descriptor).st_size:  # only then: ext4 writes a file that was cut to the disk when it is closed
            os.ftruncate(descriptor, 0)
        while data:
            data = data[os.write(descriptor, data) :]
        os.replace(unfinished, target)  # noqa: PTH105 - a thousand Paths take longer than the files
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(unfinished)  # noqa: PTH108
        raise
    finally:
        os.close(descriptor)


def make_link(link: Path, target: Path) -> None:
    """Make `link` point to `target`, relatively, as Hugging Face's client does; a copy where links can't be."""
    link.parent.mkdir(parents=True, exist_ok=True)
    words = os.path.relpath(target, link.parent)
    if link.is_symlink() and os.readlink(link) == words:  # noqa: PTH115 - Path.readlink gives a path, not the words
        return
    temporary = link.with_name(f".{link.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        temporary.symlink_to(words)
    except OSError:
        import shutil

        shutil.copyfile(target, temporary)
    temporary.replace(link)


def check_range(response: hub_http.Response, first: int, last: int, size: int) -> None:
    """Raises where the answer is another range than the one asked for."""
    span, _slash, total = response.headers.get("content-range", "").removeprefix("bytes").strip().partition("/")
    if total.isdecimal() and int(total) != size:
        raise WrongSizeError(int(total))
    if span != f"{first}-{last}":
        raise hub_http.Trouble("protocol", "another range than asked for")


def disk_failure(error: OSError, target: Path) -> Failure:
    code = "disk_full" if error.errno in _DISK_FULL else "disk"
    return Failure(code, why=error.strerror or str(error), path=str(target))


def once_each(files: list[File]) -> list[File]:
    """The files without those that have the same content as an earlier one; these follow the earlier one's progress."""
    first: dict[Path, File] = {}
    for index, file in enumerate(files):
        files[index] = first.setdefault(file.target, file)
    return list(first.values())


def free_bytes(folder: Path) -> int:
    """Free bytes of its disk."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize
