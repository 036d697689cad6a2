"""Messages that cross screens."""

from __future__ import annotations

from collections.abc import Sequence

from textual.message import Message

from qwen_tui.server.status import ServerStatus


class ServersChanged(Message):
    """The list of servers, or something in it, is not what it was."""

    def __init__(self, statuses: Sequence[ServerStatus]) -> None:
        super().__init__()
        self.statuses = statuses


class LanguageChanged(Message):
    """Every text is to be drawn again."""
