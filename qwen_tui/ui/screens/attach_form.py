"""Asks for files and images that go with the next message; paths complete themselves with tab."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from qwen_tui.chat.attachments import Attachment, read_attachment
from qwen_tui.chat.harmless import encodable
from qwen_tui.chat.path_completion import common, completions
from qwen_tui.errors import QwenTuiError
from qwen_tui.i18n import N_, _
from qwen_tui.progress import format_bytes
from qwen_tui.ui.rooms import DO, MOVE
from qwen_tui.ui.text import one_line, plain
from qwen_tui.ui.widgets.key_bar import KeyBar
from qwen_tui.ui.widgets.prose import Prose


class AttachForm(ModalScreen[Sequence[Attachment] | None], inherit_bindings=False):
    """Dismissed with everything that goes with the message, or None."""

    CSS_PATH = "attach_form.tcss"
    AUTO_FOCUS = "#path"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "add", N_("add; empty: done"), id="attach.add", group=DO, priority=True),
        Binding("tab", "complete", N_("complete"), id="attach.complete", group=DO, priority=True),
        Binding("ctrl+d", "drop", N_("take the last out"), id="attach.drop", group=DO, priority=True),
        Binding("escape", "cancel", N_("cancel"), id="attach.cancel", group=DO, priority=True),
        Binding("down", "move(1)", N_("down"), id="attach.down", show=False, group=MOVE, priority=True),
        Binding("up", "move(-1)", N_("up"), id="attach.up", show=False, group=MOVE, priority=True),
    ]

    def __init__(self, attached: Sequence[Attachment]) -> None:
        super().__init__()
        self._attached = list(attached)
        self._found: Sequence[str] = ()

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Static(Content.styled(_("Files and images to go with the message"), "bold"), id="title")
            yield Prose(id="attached")
            yield Input("", placeholder=_("a path, such as ~/notes.txt"), id="path", compact=True)
            found = OptionList(id="found", markup=False, compact=True)
            found.can_focus = False
            yield found
            yield Prose(id="note")
            yield KeyBar()

    def on_mount(self) -> None:
        self.query_one(Input).cursor_blink = False
        self._show()
        self._look()

    def _show(self) -> None:
        text = _("text")
        lines = [f"{item.name} · {format_bytes(item.size)} · {item.media_type or text}" for item in self._attached]
        self.query_one("#attached", Prose).update(Content(plain("\n".join(lines) or _("Nothing yet"))))

    def _say(self, text: str, colour: str = "$text-error") -> None:
        self.query_one("#note", Prose).update(Content.styled(plain(text), colour))

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self._say("")
        self._look()

    def _look(self) -> None:
        """Look for what the path may become, in a thread: the folder may be on a slow disk."""
        self.run_worker(self._find(self.query_one(Input).value), group="completions", exclusive=True)

    async def _find(self, typed: str) -> None:
        found = await asyncio.to_thread(completions, typed)
        if not self.is_attached or self.query_one(Input).value != typed:
            return
        self._found = found
        shown = self.query_one("#found", OptionList)
        shown.clear_options()
        shown.add_options([Option(Content(one_line(path))) for path in found])
        shown.highlighted = None

    def action_move(self, direction: int) -> None:
        shown = self.query_one("#found", OptionList)
        if direction > 0:
            shown.action_cursor_down()
        else:
            shown.action_cursor_up()

    def _write(self, path: str) -> None:
        field = self.query_one(Input)
        field.value = encodable(path)
        field.cursor_position = len(field.value)

    def _under_cursor(self) -> str:
        index = self.query_one("#found", OptionList).highlighted
        return self._found[index] if index is not None and index < len(self._found) else ""

    async def action_complete(self) -> None:
        """The path under the cursor; else as much as all have in common, of what is typed now."""
        typed = self.query_one(Input).value
        if self._under_cursor():
            self._write(self._under_cursor())
            return
        longest = common(await asyncio.to_thread(completions, typed))
        if len(longest) > len(typed) and self.query_one(Input).value == typed:
            self._write(longest)

    def action_add(self) -> None:
        path = self._under_cursor() or self.query_one(Input).value.strip()
        if not path:
            self.dismiss(self._attached)
        elif path.endswith("/") and self._under_cursor():
            self._write(path)
        else:
            self.run_worker(self._add(path), group="attach")

    async def _add(self, path: str) -> None:
        try:
            attachment = await asyncio.to_thread(read_attachment, path)
        except QwenTuiError as error:
            self._say(str(error))
            return
        if attachment not in self._attached:
            self._attached.append(attachment)
        self._write("")
        self._show()
        self._say(_("Added; enter once more when that is all"), "$text-success")

    def action_drop(self) -> None:
        if self._attached:
            self._attached.pop()
            self._show()

    def action_cancel(self) -> None:
        self.dismiss(None)
