"""The field in which a message is written: enter sends, ctrl+j begins a new line, up and down recall earlier ones."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import TextArea

from qwen_tui.chat.harmless import harmless, pasted
from qwen_tui.chat.history import PromptHistory
from qwen_tui.i18n import N_
from qwen_tui.ui.rooms import DO


class Prompt(TextArea):
    """Grows with what is written, up to eight lines."""

    DEFAULT_CSS = """
    Prompt {
        height: auto; min-height: 3; max-height: 10; padding: 0 1;
        border: round $panel-lighten-2; background: $background; color: $foreground;
        border-title-color: $text-muted; border-subtitle-color: $text-muted;
        scrollbar-size-vertical: 1;
        &:focus { border: round $primary; }
        & .text-area--cursor-line { background: $background; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "send", N_("send"), id="chat.send", group=DO),
        Binding("ctrl+j,shift+enter,alt+enter", "new_line", N_("new line"), id="chat.new_line", group=DO),
    ]

    class Sent(Message):
        """Enter was pressed. text: what stands in the field; it stays there until somebody takes it."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    def __init__(self, history: PromptHistory, *, id: str | None = None) -> None:
        super().__init__(
            id=id, soft_wrap=True, show_line_numbers=False, highlight_cursor_line=False, tab_behavior="focus"
        )
        self._history = history
        self.cursor_blink = False  # nothing moves that means nothing, and every blink crosses the SSH connection

    def keep_draft(self) -> None:
        """The program ends: what was not sent can be recalled in the next run."""
        if self.text.strip():
            self._history.add(self.text)

    def on_unmount(self) -> None:
        self.keep_draft()

    def write(self, text: str) -> None:
        """Put a text into the field, with the cursor after it; what stood there can be recalled."""
        if self.text.strip():
            self._history.add(self.text)
        self._show(text, at_start=False)

    def take(self) -> str:
        """Empty the field; what stood in it is remembered in the history."""
        text = self.text
        self._history.add(text)
        self.text = ""
        return text

    async def on_key(self, event: events.Key) -> None:
        # The text area would take enter for a new line, before any binding is looked at. A binding with priority
        # is no way out: it overtakes the letters typed just before it, which wait in this widget's queue.
        if event.is_printable:
            return
        active = self.screen.active_bindings.get(event.key)
        if active is not None and active.node is self and active.binding.id in ("chat.send", "chat.new_line"):
            event.prevent_default()
            event.stop()
            await self.run_action(active.binding.action)

    def action_send(self) -> None:
        self.post_message(self.Sent(self.text))

    def action_new_line(self) -> None:
        self._put("\n")

    def _put(self, text: str) -> None:
        result = self.replace(text, *self.selection, maintain_selection_offset=False)
        self.move_cursor(result.end_location)

    async def on_paste(self, event: events.Paste) -> None:
        event.prevent_default()
        event.stop()
        self._put(pasted(event.text))

    def action_cursor_up(self, select: bool = False) -> None:
        if select or not self.cursor_at_first_line:
            super().action_cursor_up(select)
        else:
            self._show(self._history.back(self.text), at_start=True)

    def action_cursor_down(self, select: bool = False) -> None:
        if select or not self.cursor_at_last_line:
            super().action_cursor_down(select)
        else:
            self._show(self._history.forward(), at_start=False)

    def _show(self, text: str | None, at_start: bool) -> None:
        if text is None:
            return
        self.text = harmless(text)
        lines = self.document.lines
        # Going up goes on from the first line, going down from the last.
        self.move_cursor((0, len(lines[0])) if at_start else (len(lines) - 1, len(lines[-1])))
