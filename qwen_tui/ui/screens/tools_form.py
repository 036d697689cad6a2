"""Asks for the tools that a model may call in this conversation, and for the results of its calls."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static, TextArea

from qwen_tui.chat.events import ToolCall
from qwen_tui.chat.harmless import harmless, harmless_json
from qwen_tui.chat.tools import CHOICES, pretty_arguments, read_choice, read_tools, read_tools_file, tool_names
from qwen_tui.errors import QwenTuiError
from qwen_tui.i18n import N_, _, ngettext
from qwen_tui.ui.rooms import DO, MOVE
from qwen_tui.ui.text import plain
from qwen_tui.ui.widgets.key_bar import KeyBar
from qwen_tui.ui.widgets.prose import Prose

#: Rows of a call's arguments that are shown above the field for its result.
_ARGUMENT_ROWS = 8


class ToolsForm(ModalScreen[tuple[Sequence[dict[str, Any]], str] | None], inherit_bindings=False):
    """Dismissed with the tools and tool_choice; or None."""

    CSS_PATH = "tools_form.tcss"
    AUTO_FOCUS = "TextArea"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "keep", N_("use them"), id="tools.use", group=DO, priority=True),
        Binding("ctrl+d", "clear", N_("take all out"), id="tools.clear", group=DO, priority=True),
        Binding("escape", "cancel", N_("cancel"), id="tools.cancel", group=DO, priority=True),
        Binding("tab", "app.focus_next", N_("next field"), id="tools.next", group=MOVE, priority=True),
    ]

    def __init__(self, tools: Sequence[dict[str, Any]], choice: str) -> None:
        super().__init__()
        self._tools = tools
        self._choice = choice

    def compose(self) -> ComposeResult:
        text = harmless_json(list(self._tools), indent=2) if self._tools else ""
        with Vertical(id="dialog"):
            yield Static(
                Content.styled(_("Tools that the model may call: JSON, or @ and a file's path"), "bold"), id="title"
            )
            yield TextArea(harmless(text), soft_wrap=True, show_line_numbers=False, tab_behavior="focus")
            with Horizontal(classes="row"):
                yield Static(Content("tool_choice"), classes="label")
                yield Input(
                    plain(self._choice),
                    placeholder=_("{words}, or a tool's name").format(words=", ".join(CHOICES)),
                    compact=True,
                )
            yield Prose(id="note")
            yield KeyBar()

    def on_mount(self) -> None:
        self.query_one(TextArea).cursor_blink = False
        self.query_one(Input).cursor_blink = False

    def on_text_area_changed(self) -> None:
        self._look()

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self._look()

    def _entered(self) -> tuple[Sequence[dict[str, Any]], str]:
        """Raises UsageError."""
        text = self.query_one(TextArea).text.strip()
        tools = read_tools_file(Path(text[1:])) if text.startswith("@") else read_tools(text)
        return tools, read_choice(self.query_one(Input).value, tools) if tools else ""

    def _look(self) -> None:
        """Say what was entered, or what is wrong with it."""
        try:
            tools, _choice = self._entered()
        except QwenTuiError as error:
            self._say(str(error), "$text-error")
            return
        names = ", ".join(tool_names(tools))
        text = ngettext("{count} tool: {names}", "{count} tools: {names}", len(tools))
        self._say(text.format(count=len(tools), names=names) if tools else _("No tools"), "$text-success")

    def _say(self, text: str, colour: str) -> None:
        self.query_one("#note", Prose).update(Content.styled(plain(text), colour))

    def action_keep(self) -> None:
        try:
            self.dismiss(self._entered())
        except QwenTuiError as error:
            self._say(str(error), "$text-error")

    def action_clear(self) -> None:
        self.query_one(TextArea).text = ""
        self.query_one(Input).value = ""

    def action_cancel(self) -> None:
        self.dismiss(None)


class AnswerForm(ModalScreen[Sequence[str] | None], inherit_bindings=False):
    """Dismissed with a result for each call, in their order; or None."""

    CSS_PATH = "tools_form.tcss"
    AUTO_FOCUS = "TextArea"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "keep", N_("send the results"), id="answers.send", group=DO, priority=True),
        Binding("escape", "cancel", N_("cancel"), id="answers.cancel", group=DO, priority=True),
        Binding("tab", "app.focus_next", N_("next call"), id="answers.next", group=MOVE, priority=True),
        Binding("shift+tab", "app.focus_previous", N_("call before"), id="answers.previous", show=False, group=MOVE,
                priority=True),
    ]  # fmt: skip

    def __init__(self, calls: Sequence[ToolCall], results: Sequence[str] = ()) -> None:
        """results: what was answered before."""
        super().__init__()
        self._calls = calls
        self._results = results
        self.typed: Sequence[str] = results  # what stood in the fields when it was cancelled

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Static(Content.styled(_("What the called functions return"), "bold"), id="title")
            with VerticalScroll(id="calls", can_focus=False):
                for number, call in enumerate(self._calls):
                    yield Prose(Content(plain(_shown(call))), classes="call")
                    result = self._results[number] if number < len(self._results) else ""
                    yield TextArea(harmless(result), soft_wrap=True, show_line_numbers=False, tab_behavior="focus")
            yield Prose(id="note")
            yield KeyBar()

    def on_mount(self) -> None:
        for area in self.query(TextArea):
            area.cursor_blink = False
            area.move_cursor(area.document.end)

    def action_keep(self) -> None:
        results = [area.text for area in self.query(TextArea)]
        for area, result in zip(self.query(TextArea), results, strict=True):
            if not result.strip():
                area.focus()
                self.query_one("#note", Prose).update(
                    Content.styled(_("Each call needs a result; a model takes any text"), "$text-error")
                )
                return
        self.dismiss(results)

    def action_cancel(self) -> None:
        self.typed = [area.text for area in self.query(TextArea)]
        self.dismiss(None)


def _shown(call: ToolCall) -> str:
    """The function's name and its arguments, cut where they are long."""
    arguments = pretty_arguments(call.arguments) or call.arguments
    rows = arguments[:4_000].split("\n")
    if len(rows) > _ARGUMENT_ROWS or len(arguments) > 4_000:
        rows = [*rows[:_ARGUMENT_ROWS], "…"]
    return "\n".join([f"{call.name}:", *rows])
