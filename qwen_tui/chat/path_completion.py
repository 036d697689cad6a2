"""A path as it is typed: what it may become, and how far all of that is the same."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from qwen_tui.chat.harmless import harmless

#: How many are offered, and how many names of a folder are looked at.
LIMIT = 100
_LOOKED_AT = 20_000


def completions(typed: str, limit: int = LIMIT) -> Sequence[str]:
    """The paths that begin as `typed` does, folders with a slash and first; hidden ones only where a dot was typed.

    Names with control characters, or none of UTF-8, are left out. What was typed stays as it was (~, relative to this
    folder). Blocks. Empty where there is nothing, or no right.
    """
    folder, name = os.path.split(typed)
    place = Path(folder or ".").expanduser()
    found: list[tuple[bool, str]] = []
    try:
        with os.scandir(place) as entries:
            for number, entry in enumerate(entries):
                if number >= _LOOKED_AT:
                    break
                hidden = entry.name.startswith(".") and not name.startswith(".")
                if entry.name.startswith(name) and not hidden and _can_be_drawn(entry.name):
                    found.append((not _is_folder(entry), entry.name))
    except (OSError, ValueError, RuntimeError):
        return ()
    before = typed[: len(typed) - len(name)]
    return [f"{before}{name}{'' if is_file else '/'}" for is_file, name in sorted(found)[:limit]]


def _can_be_drawn(name: str) -> bool:
    """Whether a field can hold the name: it draws what stands in it, escape sequences too."""
    return harmless(name) == name and "\n" not in name and "\t" not in name


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def common(found: Sequence[str]) -> str:
    """The beginning that all of them share."""
    if not found:
        return ""
    first, last = min(found), max(found)
    same = next((place for place, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), None)
    return min(first, last, key=len) if same is None else first[:same]
