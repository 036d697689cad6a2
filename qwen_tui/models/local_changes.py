"""Delete and move models on this machine: asked first what would happen, done so that a crash loses nothing."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from qwen_tui.models.local_model import LocalModel
from qwen_tui.progress import OnProgress


@dataclass(frozen=True)
class Deletion:
    """What deleting a model would do.

    paths: what would be removed. freed: bytes the disk gains. kept: bytes of the model that stay, because another
    revision, or a link elsewhere, needs them.
    """

    model: LocalModel
    paths: tuple[Path, ...]
    freed: int
    kept: int = 0


def plan_deletion(model: LocalModel, in_use: Collection[Path] = ()) -> Deletion:
    """What deleting `model` would remove; blocking. in_use: folders that servers run on or downloads go into.

    Raises ModelError if one of those is in the model's folder, or the folder can't be written."""
    raise NotImplementedError


def delete_model(deletion: Deletion, in_use: Collection[Path] = ()) -> int:
    """Do it; the bytes freed. Blocking. What goes is first renamed aside: half a model is never found.

    No link is followed out of the cache. Raises ModelError."""
    raise NotImplementedError


async def move_model(model: LocalModel, target: Path, on_progress: OnProgress, in_use: Collection[Path] = ()) -> Path:
    """Move `model` into the folder `target`, under its name (a hub's repository keeps its cache layout); its new path.

    On another disk it is copied and compared byte by byte, and only then removed here; cancelled or crashed before
    that, the source is untouched. Raises ModelError."""
    raise NotImplementedError
