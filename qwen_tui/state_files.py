"""The files by which processes tell each other how things stand: JSON objects, and locks."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any


def read_json(file: Path) -> dict[str, Any]:
    """The object in `file`; {} where there is none that can be read."""
    try:
        data = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def is_locked(file: Path) -> bool:
    """Whether a process holds `file`'s lock (flock)."""
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
