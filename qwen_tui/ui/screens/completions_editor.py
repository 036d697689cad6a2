"""The text of the Completions room: written by a person and by a model, each told apart from the other."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.widgets import TextArea
from textual.widgets.text_area import Edit, EditResult

from qwen_tui.chat.completions_session import Draft, joined, shifted
from qwen_tui.chat.harmless import pasted
from qwen_tui.i18n import N_
from qwen_tui.ui.rooms import DO


class CompletionEditor(TextArea):
    """What the model wrote is in another colour and underlined; what is typed into it is the person's."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"completion-editor--written"}
    DEFAULT_CSS = """
    CompletionEditor {
        height: 1fr; padding: 0 1;
        border: round $panel-lighten-2; background: $background; color: $foreground;
        border-title-color: $text-muted; border-subtitle-color: $text-muted;
        scrollbar-size-vertical: 1;
        &:focus { border: round $primary; }
        & .text-area--cursor-line { background: $background; }
        & .completion-editor--written { color: $text-primary; text-style: underline; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+r,ctrl+enter", "screen.proceed", N_("continue"), id="completions.proceed.typing", group=DO),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(
            id=id, soft_wrap=True, show_line_numbers=False, highlight_cursor_line=False, tab_behavior="focus"
        )
        self.cursor_blink = False  # each blink would cross the SSH connection
        self._known = ""
        self._written: tuple[tuple[int, int], ...] = ()
        self._by_line: dict[int, list[tuple[int, int]]] | None = None

    @property
    def draft(self) -> Draft:
        """What stands in it, and which parts of it the model wrote."""
        return Draft(self._known, self._written)

    def show(self, draft: Draft) -> None:
        """Another text; the cursor goes to its end."""
        self._known, self._written, self._by_line = draft.text, draft.written, None
        self.load_text(draft.text)
        self._known = self.text
        self.move_cursor(self.document.end)

    def append(self, draft: Draft) -> None:
        """`draft` goes on where the text that stands here ends: add what is new. The end stays in view if it was."""
        new = draft.text[len(self._known) :]
        at_end = self.scroll_offset.y >= self.max_scroll_y
        if new:
            self.insert(new, self.document.end, maintain_selection_offset=True)
        self._written, self._by_line = draft.written, None
        if at_end:
            self.move_cursor(self.document.end)
            self.scroll_end(animate=False, immediate=True, x_axis=False)

    # While a continuation streams it takes nothing, and still lets no letter through: each would be a key of the room.

    def check_consume_key(self, key: str, character: str | None = None) -> bool:
        return super().check_consume_key(key, character) or (character is not None and character.isprintable())

    async def on_key(self, event: events.Key) -> None:
        if self.read_only and event.is_printable:
            event.prevent_default()
            event.stop()

    # Following every change

    def edit(self, edit: Edit) -> EditResult:
        result = super().edit(edit)
        self._follow()
        return result

    def undo(self) -> None:
        super().undo()
        self._follow()

    def redo(self) -> None:
        super().redo()
        self._follow()

    def _follow(self) -> None:
        text = self.text
        if text != self._known:
            self._written = shifted(self._written, self._known, text)
            self._known, self._by_line = text, None

    async def on_paste(self, event: events.Paste) -> None:
        event.prevent_default()
        event.stop()
        if not self.read_only:
            result = self.replace(pasted(event.text), *self.selection, maintain_selection_offset=False)
            self.move_cursor(result.end_location)

    # Drawing

    def get_line(self, line_index: int) -> Text:
        line = super().get_line(line_index)
        spans = self._spans_by_line().get(line_index)
        if spans:
            style = self.get_component_rich_style("completion-editor--written", partial=True)
            for start, end in spans:
                line.stylize(style, start, end)
        return line

    def _spans_by_line(self) -> dict[int, list[tuple[int, int]]]:
        """Line → which columns of it the model wrote."""
        if self._by_line is None:
            found: dict[int, list[tuple[int, int]]] = {}
            self._by_line = found
            spans = list(joined(self._written))
            offset = 0
            for number, line in enumerate(self.document.lines):
                end = offset + len(line)
                while spans and spans[0][1] <= offset:
                    spans.pop(0)
                for first, last in spans:
                    if first >= end:
                        break
                    found.setdefault(number, []).append((max(first, offset) - offset, min(last, end) - offset))
                if not spans:
                    break
                offset = end + 1
        return self._by_line
