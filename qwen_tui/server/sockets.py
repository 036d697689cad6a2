"""A folder for the sockets of one start of a server. Standard library only: the keeper makes it and removes it.

vLLM's processes talk through sockets that it leaves behind in the folder for temporary files when it is killed. In a
folder of their own they go with it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

#: Where vLLM puts its sockets.
VARIABLE = "VLLM_RPC_BASE_PATH"
#: A socket's path has 107 bytes at most (unix(7)); vLLM adds a slash and a UUID, with room left for a suffix.
_LONGEST = 107 - 1 - 36 - 16


def make_folder(run: str, number: int, environment: Mapping[str, str]) -> str:
    """Make the folder for start `number` of `run`, mode 0700; its path, empty where it can't or need not be.

    environment: the server's. One that says itself where the sockets go is left alone.
    """
    if environment.get(VARIABLE):
        return ""
    for parent in _parents(environment):
        path = f"{parent}/{_prefix(run)}{number}"
        if len(os.fsencode(path)) > _LONGEST:
            continue
        try:
            Path(path).mkdir(mode=0o700)
        except OSError:
            continue  # also where it is there already: it may be anybody's
        return path
    return ""


def remove_folders(run: str, environment: Mapping[str, str]) -> None:
    """Remove the folders of every start of `run`, with the sockets in them; what else is there stays."""
    for parent in _parents(environment):
        with contextlib.suppress(OSError):
            for entry in os.scandir(parent):
                if entry.name.startswith(_prefix(run)) and entry.is_dir(follow_symlinks=False):
                    _remove(entry.path)


def _prefix(run: str) -> str:
    return f"qwen-tui-{run[:12]}-"


def _parents(environment: Mapping[str, str]) -> list[str]:
    named = environment.get("TMPDIR", "").rstrip("/")
    return list(dict.fromkeys([*([named] if named.startswith("/") else []), "/tmp"]))


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        for entry in os.scandir(path):
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.path)  # noqa: PTH108
        Path(path).rmdir()
