"""The app: wiring, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import App

from qwen_tui.server.status import ServerStatus
from qwen_tui.ui.services import Services


class QwenApp(App[None]):
    """qwen-tui on a terminal.

    statuses: the servers as last seen.
    target: the server that Logs and Chat are about: the one chosen in Servers, else the first that lives.
    """

    def __init__(self, services: Services, room: str = "servers") -> None:
        super().__init__()
        self.services = services
        self.statuses: Sequence[ServerStatus] = ()
        self.target: ServerStatus | None = None
