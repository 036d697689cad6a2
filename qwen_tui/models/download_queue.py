"""The downloads of this user: a queue of jobs, each a process of its own that outlives whoever asked for it."""

from __future__ import annotations

from qwen_tui.models.download_state import (
    DownloadPlan,
    DownloadRequest,
    DownloadState,
    FileProgress,
    QueueOptions,
)
from qwen_tui.paths import Paths


class Downloads:
    """The queue, as every front end uses it. Keeps nothing in memory: all state is on the disk, shared by all.

    A method that names a download raises ModelError if there is none of that id.
    """

    def __init__(self, paths: Paths) -> None:
        self.folder = paths.state / "downloads"
        self._paths = paths

    def list(self) -> tuple[DownloadState, ...]:
        """All downloads, in the queue's order. Reads a few small files; a few milliseconds."""
        raise NotImplementedError

    def find(self, id: str) -> DownloadState:
        """One download."""
        raise NotImplementedError

    def files(self, id: str) -> tuple[FileProgress, ...]:
        """All files of a download, in the repository's order; empty until the hub was asked."""
        raise NotImplementedError

    async def plan(self, request: DownloadRequest) -> DownloadPlan:
        """Ask the hub what there is to fetch; takes a second or more.

        Raises ModelError, and its subclass tokens.TokenNeeded where a token is missing or refused.
        """
        raise NotImplementedError

    async def start(self, request: DownloadRequest) -> str:
        """Put a download at the end of the queue and start its process; its id.

        A download of the same request that is alive or can go on is used again, and resumed. Raises ModelError.
        """
        raise NotImplementedError

    async def pause(self, id: str) -> None:
        """Stop it so that it can go on; returns when its process has ended."""
        raise NotImplementedError

    async def resume(self, id: str) -> None:
        """Let a download go on that was paused, interrupted or failed; what is on the disk is kept."""
        raise NotImplementedError

    async def cancel(self, id: str, *, delete_files: bool = False) -> int:
        """Stop it for good and delete its unfinished files; the bytes freed.

        delete_files: also those that it had fetched whole (never those that were there before).
        """
        raise NotImplementedError

    async def remove(self, id: str) -> None:
        """Take it off the list. Files stay. Raises ModelError while it is alive."""
        raise NotImplementedError

    def move(self, id: str, by: int) -> None:
        """Move it in the queue by `by` places, up where negative."""
        raise NotImplementedError

    @property
    def options(self) -> QueueOptions:
        """How the queue works now."""
        raise NotImplementedError

    def set_options(self, options: QueueOptions) -> None:
        """Change that; `jobs` holds at once, `connections` for downloads that start or resume from now on."""
        raise NotImplementedError
