"""The rooms there are, and where the code of each is: imported when it is first shown, not before."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, cast

from textual.binding import Binding

from qwen_tui.i18n import N_

if TYPE_CHECKING:
    from qwen_tui.ui.screens.room import RoomScreen

# The headings of the help screen; a binding names its group with `group=`.
GO = Binding.Group(N_("Go to"))
DO = Binding.Group(N_("Do here"))
HERE = Binding.Group(N_("With a model that is here"))
COMING = Binding.Group(N_("With a download"))
KEPT = Binding.Group(N_("In the list of conversations"))
HUB = Binding.Group(N_("With a model of the hub"))
MOVE = Binding.Group(N_("Move"))
EVERYWHERE = Binding.Group(N_("Everywhere"))


@dataclass(frozen=True)
class Room:
    """A room's id, the letter that opens it, its name (translate when drawn) and the class of its screen."""

    id: str
    key: str
    title: str
    module: str
    screen: str

    @property
    def styles(self) -> Path:
        """The style sheet of its screen."""
        return Path(__file__).parent / "screens" / f"{self.id}.tcss"

    def make(self) -> RoomScreen:
        """A new screen of this room."""
        return cast("RoomScreen", getattr(import_module(self.module), self.screen)())


ROOMS: tuple[Room, ...] = (
    Room("servers", "s", N_("Servers"), "qwen_tui.ui.screens.servers", "ServersScreen"),
    Room("logs", "l", N_("Logs"), "qwen_tui.ui.screens.logs", "LogsScreen"),
    Room("watch", "w", N_("Watch"), "qwen_tui.ui.screens.watch", "WatchScreen"),
    Room("models", "m", N_("Models"), "qwen_tui.ui.screens.models", "ModelsScreen"),
    Room("chat", "c", N_("Chat"), "qwen_tui.ui.screens.chat", "ChatScreen"),
    Room("completions", "p", N_("Completions"), "qwen_tui.ui.screens.completions", "CompletionsScreen"),
    Room("bench", "b", N_("Bench"), "qwen_tui.ui.screens.bench", "BenchScreen"),
    Room("batch", "t", N_("Batch"), "qwen_tui.ui.screens.batch", "BatchScreen"),
)
