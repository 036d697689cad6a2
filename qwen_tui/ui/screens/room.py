"""A room: a screen inside the frame (header, tabs, footer), reached by a letter from anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import Screen

from qwen_tui.i18n import N_, _
from qwen_tui.server.status import ServerStatus
from qwen_tui.ui.rooms import EVERYWHERE
from qwen_tui.ui.widgets.key_bar import KeyBar
from qwen_tui.ui.widgets.room_tabs import RoomTabs
from qwen_tui.ui.widgets.status_header import StatusHeader

if TYPE_CHECKING:
    from qwen_tui.ui.app import QwenApp


class RoomScreen(Screen[None], inherit_bindings=False):
    """The base of Servers, Logs, Chat and the rooms to come.

    A subclass gives ROOM (its id: "servers", "logs", "chat"), `compose_room`, and overrides the hooks it needs.
    It may set HORIZONTAL_BREAKPOINTS of its own; the class "-narrow" is there below 100 columns, else "-wide".
    """

    ROOM: ClassVar[str] = ""
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012 - Textual declares its type
    AUTO_FOCUS: ClassVar[str | None] = "#room *"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave_field", N_("leave the field"), id="room.leave_field", show=False, group=EVERYWHERE),
        Binding("tab", "app.focus_next", N_("next field"), id="room.focus_next", show=False, group=EVERYWHERE),
        Binding(
            "shift+tab",
            "app.focus_previous",
            N_("previous field"),
            id="room.focus_previous",
            show=False,
            group=EVERYWHERE,
        ),
        Binding(
            "ctrl+c,super+c",
            "copy_selection",
            N_("copy what the mouse marked"),
            id="room.copy",
            show=False,
            group=EVERYWHERE,
        ),
    ]

    DEFAULT_CSS = """
    RoomScreen > #room { height: 1fr; }
    """

    @property
    def qwen(self) -> QwenApp:
        """The app, typed: `self.qwen.services`, `self.qwen.statuses`, `self.qwen.target`."""
        return cast("QwenApp", self.app)

    def compose(self) -> ComposeResult:
        # Before anything is mounted: setting the class at the first resize would style every widget again.
        self.set_class(self.app.size.width < 100, "-narrow", update=False)
        self.set_class(self.app.size.width >= 100, "-wide", update=False)
        yield StatusHeader()
        yield RoomTabs(self.ROOM, self.qwen.room_keys)
        with Vertical(id="room"):
            yield from self.compose_room()
        yield KeyBar()

    def compose_room(self) -> ComposeResult:
        """The widgets between the tabs and the footer."""
        raise NotImplementedError

    def servers_changed(self, statuses: Sequence[ServerStatus]) -> None:
        """Called at most once a second, only while something changed; also when the room is shown."""

    def retranslate(self) -> None:
        """Called after the language changed: set again every text that a widget holds as a string.

        Widgets with a method `retranslate` of their own (TranslatedLabel, the frame) are called by the room.
        """

    def binding_text(self, binding: Binding) -> str:
        """What the footer says for `binding`, as a msgid; empty leaves it out while it means nothing."""
        return binding.description

    def leave_field(self) -> None:
        """Where the focus goes when `esc` takes it out of a text field."""
        self.set_focus(None)

    # The frame: called by the app, and when the room comes to the front.

    def on_screen_resume(self) -> None:
        self.sync()

    def sync(self) -> None:
        """Draw what the app knows now."""
        if not self.is_mounted:
            return
        app = self.qwen
        place = app.endpoint or app.target
        living = [status for status in app.statuses if status.state.is_alive and status is not place]
        self.query_one(StatusHeader).show(place, len(living), app.gpus)
        self.query_one(RoomTabs).show_job(app.job or app.coming)
        if app.looked:
            self.servers_changed(app.statuses)

    def language_changed(self) -> None:
        """Draw every text again."""
        if not self.is_mounted:
            return
        for widget in self.walk_children():
            translate = getattr(widget, "retranslate", None)
            if translate is not None:
                translate()
        self.retranslate()
        if self.qwen.looked:
            self.servers_changed(self.qwen.statuses)

    def action_leave_field(self) -> None:
        self.leave_field()

    def action_copy_selection(self) -> None:
        selected = self.get_selected_text()
        if selected:
            self.app.copy_to_clipboard(selected)
            self.notify(_("Copied"), markup=False)
        else:
            self.notify(_("q quits; in a text field press esc first"), markup=False)
