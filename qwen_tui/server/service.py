"""The servers of this user: start, look, wait, stop. Both front ends call this and nothing below it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qwen_tui.engine.find import Engine
from qwen_tui.paths import Paths
from qwen_tui.server.spec import ServerSpec
from qwen_tui.server.status import ServerStatus, StartProgress


@dataclass(frozen=True)
class StopStep:
    """One thing that happened while a server was being stopped.

    text: translated, one line. at: seconds since the stop was asked for.
    """

    text: str
    at: float


class Servers:
    """All servers of one user."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths

    def list(self) -> Sequence[ServerStatus]:
        """Every known server from the state files and /proc, sorted by name; no network, a few milliseconds."""
        raise NotImplementedError

    async def refresh(self) -> Sequence[ServerStatus]:
        """Like `list`, with each living server asked for /health and /v1/models; at most a second or two."""
        raise NotImplementedError

    def get(self, name: str) -> ServerStatus:
        """The server `name`, as `list` sees it. Raises ServerNotFound."""
        raise NotImplementedError

    async def start(self, spec: ServerSpec, engine: Engine) -> ServerStatus:
        """Start a server detached, under its keeper; returns once its process runs.

        Raises ServerError if the name is in use by a living server, the port is taken, or it can't be started.
        """
        raise NotImplementedError

    async def wait_ready(self, name: str, on_progress: Callable[[StartProgress], None] | None = None) -> ServerStatus:
        """Wait until the server answers. Raises StartFailed with the cause if it ends first."""
        raise NotImplementedError

    async def stop(self, name: str, on_step: Callable[[StopStep], None] | None = None, grace: float = 15.0) -> None:
        """Stop the server and every process of its session; returns when none is left.

        grace: seconds between SIGTERM and SIGKILL. Raises ServerNotFound, or ServerError if a process remains.
        """
        raise NotImplementedError

    def forget(self, name: str) -> None:
        """Delete the record and the logs of a server that does not run. Raises ServerError if it does."""
        raise NotImplementedError
