"""A room: a screen inside the frame (header, tabs, footer), reached by a letter from anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.screen import Screen

from qwen_tui.server.status import ServerStatus

if TYPE_CHECKING:
    from qwen_tui.ui.app import QwenApp


class RoomScreen(Screen[None]):
    """The base of Servers, Logs, Chat and the rooms to come.

    A subclass gives ROOM (its id: "servers", "logs", "chat"), `compose_room`, and overrides the two hooks.
    """

    ROOM: ClassVar[str] = ""

    @property
    def qwen(self) -> QwenApp:
        """The app, typed: `self.qwen.services`, `self.qwen.statuses`, `self.qwen.target`."""
        return cast("QwenApp", self.app)

    def compose(self) -> ComposeResult:
        yield from self.compose_room()

    def compose_room(self) -> ComposeResult:
        """The widgets between the tabs and the footer."""
        raise NotImplementedError

    def servers_changed(self, statuses: Sequence[ServerStatus]) -> None:
        """Called at most once a second, only while something changed; also when the room is shown."""

    def retranslate(self) -> None:
        """Called after the language changed: set again every text that a widget holds as a string."""
