"""Dialogs of the Completions room: what goes with the request, and the chat template applied."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Checkbox, Input, Static, TextArea

from qwen_tui.chat.events import Message, Target
from qwen_tui.chat.harmless import harmless
from qwen_tui.chat.template import render_chat
from qwen_tui.chat.tokenize import tokenize_text
from qwen_tui.errors import QwenTuiError
from qwen_tui.i18n import N_, _
from qwen_tui.ui.rooms import DO, MOVE
from qwen_tui.ui.screens.server_form_view import FormSwitch
from qwen_tui.ui.text import plain
from qwen_tui.ui.widgets.key_bar import KeyBar
from qwen_tui.ui.widgets.prose import Prose


@dataclass(frozen=True)
class Options:
    """What goes with a completion beside the sampling; see Completion."""

    suffix: str = ""
    echo: bool = False
    special: bool = True


class CompletionOptions(ModalScreen[Options | None], inherit_bindings=False):
    """Dismissed with what was chosen, or None."""

    CSS_PATH = "completions_dialogs.tcss"
    AUTO_FOCUS = "Input"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s,enter", "keep", N_("use it"), id="completions.options.use", group=DO, priority=True),
        Binding("escape", "cancel", N_("cancel"), id="completions.options.cancel", group=DO),
        Binding("tab,down", "app.focus_next", N_("next field"), id="completions.options.next", group=MOVE),
        Binding(
            "shift+tab,up", "app.focus_previous", N_("previous field"), id="completions.options.previous", group=MOVE,
            show=False,
        ),
    ]  # fmt: skip

    def __init__(self, options: Options) -> None:
        super().__init__()
        self._options = options

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Prose(Content.styled(_("What goes with the request"), "bold"), id="title")
            with Horizontal(classes="row"):
                yield Static(Content("suffix"), classes="label")
                yield Input(
                    _one_line(self._options.suffix),
                    placeholder=_("what comes after; only models that fill in take it (\\n: new line)"),
                    compact=True,
                    select_on_focus=False,
                )
            echo, special = _("echo: the answer begins with the text itself"), _("add the tokenizer's special tokens")
            yield FormSwitch(Content(echo), self._options.echo, compact=True, id="echo")
            yield FormSwitch(Content(special), self._options.special, compact=True, id="special")
            about = _(
                "With echo and logprobs, the token view shows the text's own tokens too. A text that a chat template "
                "made has its special tokens already."
            )
            yield Prose(Content.styled(about, "$text-muted"), id="note")
            yield KeyBar()

    def on_mount(self) -> None:
        self.query_one(Input).cursor_blink = False

    def action_keep(self) -> None:
        suffix = self.query_one(Input).value.replace("\\n", "\n").replace("\\t", "\t")
        echo, special = (self.query_one(f"#{name}", Checkbox).value for name in ("echo", "special"))
        self.dismiss(Options(suffix, echo, special))

    def action_cancel(self) -> None:
        self.dismiss(None)


def _one_line(text: str) -> str:
    return plain(text.replace("\n", "\\n").replace("\t", "\\t"))


@dataclass(frozen=True)
class Applied:
    """A prompt that a chat template made. special: whether the server would put special tokens before it once more."""

    text: str
    tokens: int
    doubled: bool


class TemplateForm(ModalScreen[Applied | None], inherit_bindings=False):
    """Asks for a system prompt and a message, and the server for what its chat template makes of them."""

    CSS_PATH = "completions_dialogs.tcss"
    AUTO_FOCUS = "#user"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "apply", N_("apply the chat template"), id="completions.template.use", group=DO,
                priority=True),
        Binding("escape", "cancel", N_("cancel"), id="completions.template.cancel", group=DO, priority=True),
        Binding("tab", "app.focus_next", N_("the other field"), id="completions.template.next", group=MOVE,
                priority=True),
    ]  # fmt: skip

    def __init__(self, target: Target, system: str = "", user: str = "") -> None:
        super().__init__()
        self._target = target
        self._texts = {"system": system, "user": user}

    def compose(self) -> ComposeResult:
        title = _("What the model really gets: the chat template put around these")
        with Vertical(id="dialog"):
            yield Prose(Content.styled(title, "bold"), id="title")
            for name, label in (("system", _("System prompt; empty for none")), ("user", _("Message"))):
                yield Static(Content(label), classes="label")
                text = harmless(self._texts[name])
                yield TextArea(text, soft_wrap=True, show_line_numbers=False, tab_behavior="focus", id=name)
            yield Prose(id="note")
            yield KeyBar()

    def on_mount(self) -> None:
        for area in self.query(TextArea):
            area.cursor_blink = False
            area.move_cursor(area.document.end)

    def _say(self, text: str, colour: str = "$text-error") -> None:
        self.query_one("#note", Prose).update(Content.styled(plain(text), colour))

    def action_apply(self) -> None:
        self._say(_("asking the server…"), "$text-muted")
        self.run_worker(self._apply(), group="template", exclusive=True)

    async def _apply(self) -> None:
        system, user = (self.query_one(f"#{name}", TextArea).text for name in ("system", "user"))
        messages = [Message("system", system)] if system.strip() else []
        messages.append(Message("user", user))
        try:
            rendered = await render_chat(self._target, messages)
            again = await tokenize_text(self._target, rendered.text)
        except QwenTuiError as error:
            if self.is_attached:
                self._say("\n".join(filter(None, (error.title, error.why, error.hint))))
            return
        if self.is_attached:
            doubled = again.ids[1:] == rendered.tokens.ids
            self.dismiss(Applied(harmless(rendered.text), len(rendered.tokens), doubled))

    def action_cancel(self) -> None:
        self.dismiss(None)
