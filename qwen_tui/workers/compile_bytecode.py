"""Compile the Python files of a site-packages folder on all cores; what is compiled already is skipped.

Runs under the engine's interpreter. pip does this on one core, while it installs. Request: {"folder"}.
Result: {"files"}; a file that can't be compiled (a template, another Python's syntax) is left as it is.
"""

from __future__ import annotations

import compileall
import os
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qwen_tui.workers import protocol
else:
    import protocol

#: Bytes of source given to a process at a time.
_SHARE = 500_000


def shares(folder: str) -> list[list[str]]:
    """The .py files below `folder`, in groups of about _SHARE bytes."""
    groups: list[list[str]] = []
    room = 0
    for place, _folders, names in os.walk(folder):
        for name in names:
            if name.endswith(".py"):
                file = os.path.join(place, name)  # noqa: PTH118 - tens of thousands
                if room <= 0:
                    groups.append([])
                    room = _SHARE
                groups[-1].append(file)
                room -= os.stat(file).st_size  # noqa: PTH116
    return groups


def compile_share(files: list[str]) -> int:
    """Compile `files`; the bytes of their sources."""
    for file in files:
        compileall.compile_file(file, quiet=2)
    return sum(os.stat(file).st_size for file in files)  # noqa: PTH116


def main(request: dict[str, Any]) -> dict[str, Any]:
    groups = shares(request["folder"])
    total = sum(os.stat(file).st_size for group in groups for file in group)  # noqa: PTH116
    done = 0
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for size in pool.map(compile_share, groups):
            done += size
            protocol.emit("progress", step="compile", done=done, total=total, unit="bytes", detail="")
    return {"files": sum(map(len, groups))}


if __name__ == "__main__":
    protocol.run(main)
