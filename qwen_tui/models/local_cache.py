"""What the headers of weight files said, kept until a file changes: the second listing reads none of them."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from qwen_tui.models.local_gguf import GgufHeader
from qwen_tui.models.local_weights import WeightTally
from qwen_tui.paths import write_private

#: Changes when what is kept changes its meaning.
_VERSION = 1
_MOST = 2_000


class TallyCache:
    """One small JSON file; losing it costs a second.

    Only what was whole is kept, so that no problem is shown longer than it exists, or in another language.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._entries: dict[str, dict[str, Any]] = {}
        self._touched: set[str] = set()
        self._is_changed = False
        with contextlib.suppress(OSError, ValueError, RecursionError):
            data = json.loads(file.read_bytes())
            if isinstance(data, dict) and data.get("version") == _VERSION and isinstance(data.get("models"), dict):
                self._entries = data["models"]

    @staticmethod
    def stamp(files: Mapping[str, os.stat_result]) -> list[list[Any]]:
        """What says that nothing changed: names, sizes, times, inodes."""
        return [[name, status.st_size, status.st_mtime_ns, status.st_ino] for name, status in sorted(files.items())]

    def get(self, path: Path, stamp: list[list[Any]]) -> WeightTally | None:
        """What is known of the weights in `path`, if they are still those."""
        data = self._look(path, stamp)
        try:
            return (
                WeightTally(**{**data, "dtypes": tuple((str(a), int(b)) for a, b in data["dtypes"])}) if data else None
            )
        except (TypeError, KeyError, ValueError):
            return None

    def put(self, path: Path, stamp: list[list[Any]], tally: WeightTally) -> None:
        self._keep(path, stamp, asdict(tally))

    def gguf(self, file: Path, files: Mapping[str, os.stat_result], read: Callable[[Path], GgufHeader]) -> GgufHeader:
        """The header of a .gguf file, read unless it is known. Raises what `read` raises."""
        stamp = self.stamp(files)
        data = self._look(file, stamp)
        with contextlib.suppress(TypeError):
            if data:
                return GgufHeader(**data)
        header = read(file)
        self._keep(file, stamp, asdict(header))
        return header

    def save(self) -> None:
        """Write what was learnt; a disk that is full is no problem of the catalogue's."""
        if not self._is_changed:
            return
        recent = [name for name in self._entries if name in self._touched]
        others = [name for name in self._entries if name not in self._touched]
        kept = {name: self._entries[name] for name in (others + recent)[-_MOST:]}
        with contextlib.suppress(OSError):
            write_private(self._file, json.dumps({"version": _VERSION, "models": kept}))
            self._is_changed = False

    def _look(self, path: Path, stamp: list[list[Any]]) -> dict[str, Any] | None:
        entry = self._entries.get(str(path))
        if not isinstance(entry, dict) or entry.get("stamp") != stamp or not isinstance(entry.get("data"), dict):
            return None
        self._touched.add(str(path))
        data: dict[str, Any] = entry["data"]
        return data

    def _keep(self, path: Path, stamp: list[list[Any]], data: dict[str, Any]) -> None:
        self._entries[str(path)] = {"stamp": stamp, "data": data}
        self._touched.add(str(path))
        self._is_changed = True
