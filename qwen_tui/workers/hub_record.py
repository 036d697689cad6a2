"""What was checked: for each file of a model its size, its time of change and its hash. Standard library only.

Kept in qwen-tui's data folder, so that a file is not hashed again while nobody has touched it, and so that a model can
be verified without asking the hub. Until the files are known to be on the disk itself, and not only in the machine's
memory, the record names the boot it was made in: after a power cut they are hashed again.
"""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qwen_tui.workers import hub_queue
else:
    try:
        import hub_queue
    except ImportError:
        from qwen_tui.workers import hub_queue


def record_file(records: Path, folder: Path) -> Path:
    """Where the record of the model in `folder` is, or would be."""
    return records / f"{hashlib.sha256(str(folder).encode()).hexdigest()[:24]}.json"


def boot() -> str:
    """Names the time since the machine was started."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


class Record:
    """The record of the model that `plan` (see hub_list) describes; earlier entries are kept."""

    def __init__(self, records: Path, request: dict[str, Any], plan: dict[str, Any]) -> None:
        self._file = record_file(records, Path(plan["folder"]))
        self._lock = threading.Lock()
        self._data = hub_queue.read_json(self._file)
        self._data |= {
            "folder": plan["folder"],
            "hub": request["hub"],
            "model": request["model"],
            "revision": request.get("revision", ""),
            "endpoint": request.get("endpoint", ""),
            "commit": plan["commit"],
        }
        if not isinstance(self._data.get("files"), dict):
            self._data["files"] = {}
        self._boot = boot()
        self._is_trusted = self._data.get("boot") in (None, self._boot)

    def add(self, name: str, file: Path, identity: str) -> None:
        """The hash of `file` holds."""
        stat = file.stat()
        with self._lock:
            self._data["files"][name] = [stat.st_size, stat.st_mtime_ns, identity]

    def is_good(self, name: str, file: Path, identity: str) -> bool:
        """Whether it was checked against this very hash and has not been changed since, nor lost in a power cut."""
        if not self._is_trusted:
            return False
        entry = self._data["files"].get(name)
        try:
            stat = file.stat()
        except OSError:
            return False
        return bool(entry == [stat.st_size, stat.st_mtime_ns, identity])

    def write(self, *, is_synced: bool = False) -> None:
        """Keep it. is_synced: the files are on the disk."""
        self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._lock:
            self._data["boot"] = self._boot
            if is_synced:
                del self._data["boot"]
            hub_queue.write_json(self._file, self._data)


def sync_disk_of(folder: Path) -> None:
    """Have all that was written to the disk of `folder` be there when it returns: files, names and links.

    One call for all files: for a thousand small ones, one each takes a hundred times as long. Raises OSError.
    """
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
    finally:
        os.close(descriptor)
