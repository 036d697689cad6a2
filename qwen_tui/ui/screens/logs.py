"""The Logs room: the log of the server that the app is about."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from textual.app import ComposeResult

from qwen_tui.server.status import ServerStatus
from qwen_tui.ui.screens.room import RoomScreen
from qwen_tui.ui.widgets.log_panel import LogPanel


class LogsScreen(RoomScreen):
    """Full width, newest at the bottom, following until a key moves up."""

    ROOM = "logs"
    CSS_PATH = "logs.tcss"
    AUTO_FOCUS = "LogView"

    def compose_room(self) -> ComposeResult:
        yield LogPanel(self._log)

    def servers_changed(self, statuses: Sequence[ServerStatus]) -> None:
        self.query_one(LogPanel).show(self._log)

    @property
    def _log(self) -> Path | None:
        target = self.qwen.target
        return target.log if target else None
