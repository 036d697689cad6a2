"""What was checked: for each file of a model its size, its time of change and its hash. Standard library only.

Kept in qwen-tui's data folder, so that a file is not hashed again while nobody has touched it, and so that a model can
be verified without asking the hub.
"""

from __future__ import annotations

import hashlib
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

    def add(self, name: str, file: Path, identity: str) -> None:
        """The hash of `file` holds."""
        stat = file.stat()
        with self._lock:
            self._data["files"][name] = [stat.st_size, stat.st_mtime_ns, identity]

    def is_good(self, name: str, file: Path, identity: str) -> bool:
        """Whether it was checked against this very hash and has not been changed since."""
        entry = self._data["files"].get(name)
        try:
            stat = file.stat()
        except OSError:
            return False
        return bool(entry == [stat.st_size, stat.st_mtime_ns, identity])

    def write(self) -> None:
        """Keep it."""
        self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._lock:
            hub_queue.write_json(self._file, self._data)
