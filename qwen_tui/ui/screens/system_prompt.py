"""Asks for the system prompt of a conversation; a library of them beside it."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static, TextArea
from textual.widgets.option_list import Option

from qwen_tui.chat.harmless import harmless
from qwen_tui.chat.system_prompts import SystemPrompts
from qwen_tui.errors import QwenTuiError
from qwen_tui.i18n import N_, _
from qwen_tui.paths import Paths
from qwen_tui.ui.rooms import DO, MOVE
from qwen_tui.ui.screens.profile_dialogs import AskName
from qwen_tui.ui.text import plain
from qwen_tui.ui.widgets.key_bar import KeyBar
from qwen_tui.ui.widgets.prose import Prose


class PromptNames(OptionList, inherit_bindings=False):
    """The library: enter takes one over, d deletes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "cursor_down", N_("down"), id="system.down", show=False, group=MOVE),
        Binding("up,k", "cursor_up", N_("up"), id="system.up", show=False, group=MOVE),
        Binding("enter", "select", N_("take over"), id="system.take", group=DO),
        Binding("d", "screen.delete", N_("delete"), id="system.delete", group=DO),
    ]

    @property
    def name_here(self) -> str:
        """The name under the cursor; empty if there is none."""
        index = self.highlighted
        return self.get_option_at_index(index).id or "" if index is not None else ""


class SystemPromptForm(ModalScreen[str | None], inherit_bindings=False):
    """Dismissed with the text, empty for none; or None."""

    CSS_PATH = "system_prompt.tcss"
    AUTO_FOCUS = "TextArea"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "keep", N_("use it"), id="system.use", group=DO, priority=True),
        Binding("ctrl+k", "save", N_("keep in the library"), id="system.keep", group=DO, priority=True),
        Binding("escape", "cancel", N_("cancel"), id="system.cancel", group=DO, priority=True),
        Binding("tab", "app.focus_next", N_("to the library"), id="system.next", group=MOVE, priority=True),
    ]

    def __init__(self, text: str, paths: Paths) -> None:
        super().__init__()
        self._text = text
        self._prompts = SystemPrompts(paths)

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Static(Content.styled(_("System prompt: who the model is, in this conversation"), "bold"), id="title")
            with Horizontal(id="parts"):
                yield TextArea(harmless(self._text), soft_wrap=True, show_line_numbers=False, tab_behavior="focus")
                yield PromptNames(markup=False, compact=True)
            yield Prose(id="note")
            yield KeyBar()

    def on_mount(self) -> None:
        area = self.query_one(TextArea)
        area.cursor_blink = False
        area.move_cursor(area.document.end)
        self._show()

    def _show(self) -> None:
        names = self.query_one(PromptNames)
        names.clear_options()
        try:
            names.add_options([Option(Content(plain(name)), id=name) for name in self._prompts.all()])
        except QwenTuiError as error:
            self._say(str(error))
        names.display = names.option_count > 0
        names.highlighted = 0 if names.option_count else None

    def _say(self, text: str, colour: str = "$text-error") -> None:
        self.query_one("#note", Prose).update(Content.styled(plain(text), colour))

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        try:
            text = self._prompts.all().get(event.option.id or "", "")
        except QwenTuiError as error:
            self._say(str(error))
            return
        area = self.query_one(TextArea)
        area.text = harmless(text)
        area.focus()

    def action_delete(self) -> None:
        name = self.query_one(PromptNames).name_here
        if not name:
            return
        try:
            self._prompts.delete(name)
        except QwenTuiError as error:
            self._say(str(error))
            return
        self._say(_("Deleted {name} from the library").format(name=name), "$text-success")
        self.query_one(TextArea).focus()
        self._show()

    def action_keep(self) -> None:
        self.dismiss(self.query_one(TextArea).text.strip())

    def action_save(self) -> None:
        text = self.query_one(TextArea).text.strip()

        def named(name: str | None) -> None:
            if name is None:
                return
            try:
                self._prompts.save(name, text)
            except QwenTuiError as error:
                self._say(str(error))
                return
            self._show()
            self._say(_("Kept as {name}").format(name=name), "$text-success")

        self.app.push_screen(AskName(_("Keep in the library"), "", lambda _name: ""), named)

    def action_cancel(self) -> None:
        self.dismiss(None)
