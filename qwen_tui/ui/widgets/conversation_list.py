"""The conversations that were kept: a list with a search over everything that was said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.cells import cell_len, set_cell_size
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.timer import Timer
from textual.widgets import Input, OptionList

from qwen_tui.chat.store import Entry
from qwen_tui.i18n import N_, _
from qwen_tui.ui.rooms import KEPT
from qwen_tui.ui.text import one_line
from qwen_tui.ui.widgets.keyed_list import KeyedList

#: Seconds without a key until the search begins.
_PAUSE = 0.15


class ConversationRows(KeyedList):
    """The rows; what is to be done with the one under the cursor is told as a message."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "want('open')", N_("open"), id="conversations.open", group=KEPT),
        Binding("e", "want('rename')", N_("rename"), id="conversations.rename", group=KEPT),
        Binding("d", "want('delete')", N_("delete"), id="conversations.delete", group=KEPT),
        Binding("u", "want('undo')", N_("undo"), id="conversations.undo", group=KEPT),
        Binding("plus", "want('duplicate')", N_("duplicate"), id="conversations.duplicate", group=KEPT),
        Binding("o", "want('export')", N_("export"), id="conversations.export", group=KEPT),
    ]

    class Wanted(Message):
        """action: "open", "rename", "delete", "undo", "duplicate" or "export". key: the conversation's id, or empty."""

        def __init__(self, action: str, key: str) -> None:
            super().__init__()
            self.action = action
            self.key = key

    def action_want(self, action: str) -> None:
        if self.key or action == "undo":
            self.post_message(self.Wanted(action, self.key or ""))

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()  # a click
        self.action_want("open")


class ConversationList(Vertical):
    """A field to search with, and the rows."""

    DEFAULT_CSS = """
    ConversationList {
        & Input { border: none; height: 1; padding: 0 1; background: $surface; margin-bottom: 1; }
        & ConversationRows { height: 1fr; border: none; background: $background; padding: 0; }
    }
    """

    class Searched(Message):
        """Somebody typed; text: what to look for, empty for all."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._entries: Sequence[Entry] = ()
        self._open = ""
        self._pause: Timer | None = None

    def compose(self) -> ComposeResult:
        yield Input(placeholder=_("search"), id="find", compact=True)
        yield ConversationRows(id="rows")

    def on_mount(self) -> None:
        self.query_one(Input).cursor_blink = False

    def retranslate(self) -> None:
        self.query_one(Input).placeholder = _("search")

    @property
    def searched(self) -> str:
        """What is searched for."""
        return self.query_one(Input).value

    @property
    def entries(self) -> Sequence[Entry]:
        return self._entries

    def show(self, entries: Sequence[Entry], open_id: str) -> None:
        """Show these; the one of `open_id` is marked."""
        self._entries, self._open = entries, open_id
        self.query_one(ConversationRows).show([entry.id for entry in entries], self._draw)

    def _draw(self, width: int) -> Sequence[Content]:
        rows = []
        for entry in self._entries:
            mark = "● " if entry.id == self._open else "  "
            text = one_line(entry.found or entry.name) or _("(nothing said)")
            room = width - len(mark)
            shown = text if cell_len(text) <= room else set_cell_size(text, room - 1).rstrip() + "…"
            rows.append(Content.assemble((mark, "$text-success"), shown))
        return rows

    def search(self) -> None:
        """Put the cursor into the search field."""
        self.query_one(Input).focus()

    def clear(self) -> None:
        """Search for nothing any more."""
        self.query_one(Input).value = ""

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        if self._pause is not None:
            self._pause.stop()
        self._pause = self.set_timer(_PAUSE, lambda: self.post_message(self.Searched(self.searched)))

    @on(Input.Submitted)
    def _to_the_rows(self, event: Input.Submitted) -> None:
        event.stop()
        self.query_one(ConversationRows).focus()
