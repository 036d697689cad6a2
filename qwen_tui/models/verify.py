"""Check a model's files: sizes and hashes against the hub's list, or offline against what is known here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qwen_tui.paths import Paths
from qwen_tui.progress import OnProgress


@dataclass(frozen=True)
class FileVerdict:
    """One file. verdict: "good" (its hash holds), "size" (only its size could be checked, and holds), "damaged",
    "missing". why: what is wrong, in words (translated); empty where nothing is."""

    name: str
    size: int
    verdict: str
    why: str = ""


@dataclass(frozen=True)
class Verification:
    """The outcome. against: "hub" or "record" (the hashes kept when it was downloaded) or "headers" (safetensors
    headers and index only). extra: files that the list does not have."""

    folder: Path
    model: str
    against: str
    files: tuple[FileVerdict, ...]
    extra: tuple[str, ...] = ()

    @property
    def is_good(self) -> bool:
        """Whether no file is damaged or missing."""
        return not self.bad

    @property
    def bad(self) -> tuple[FileVerdict, ...]:
        """The files that are damaged or missing."""
        return tuple(file for file in self.files if file.verdict in ("damaged", "missing"))


async def verify_model(
    paths: Paths,
    target: str,
    on_progress: OnProgress,
    *,
    hub: str = "",
    revision: str = "",
    cache_dir: str = "",
    endpoint: str = "",
    offline: bool = False,
) -> Verification:
    """Check every file of `target`: a folder, or owner/name in the hub's cache. Cancelling stops within a second.

    hub: where to ask; empty takes the one that the folder's layout or record names. offline: ask nobody.
    Raises ModelError where there is no such model, or the hub does not answer.
    """
    raise NotImplementedError
