"""Asks what of a conversation is to be copied: the reply, one of its code blocks, all that was said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from qwen_tui.chat.conversation import Conversation, Turn
from qwen_tui.chat.export import to_markdown
from qwen_tui.chat.tools import pretty_arguments
from qwen_tui.i18n import N_, _, ngettext
from qwen_tui.ui.rooms import DO, MOVE
from qwen_tui.ui.text import one_line, plain
from qwen_tui.ui.widgets.key_bar import KeyBar
from qwen_tui.ui.widgets.markdown_blocks import markdown_parser


@dataclass(frozen=True)
class Copied:
    """Something that can be copied. title: translated. ending: of a file's name, for what it is."""

    title: str
    text: str
    ending: str = "txt"


#: The endings of files in the languages that are met most; any other gets txt.
_ENDINGS = {
    "python": "py", "py": "py", "bash": "sh", "sh": "sh", "shell": "sh", "json": "json", "javascript": "js", "js": "js",
    "typescript": "ts", "html": "html", "css": "css", "c": "c", "cpp": "cpp", "rust": "rs", "go": "go", "java": "java",
    "sql": "sql", "yaml": "yaml", "toml": "toml", "markdown": "md", "diff": "diff", "latex": "tex",
}  # fmt: skip


def offered(conversation: Conversation, turn: Turn) -> Sequence[Copied]:
    """What of `turn`, and of the whole, can be copied."""
    found = [Copied(_("This turn"), turn.text, "md")] if turn.text else []
    found += [_code(content, info) for content, info in code_blocks(turn.text)]
    found += [
        Copied(
            _("Arguments of {name}").format(name=call.name), pretty_arguments(call.arguments) or call.arguments, "json"
        )
        for call in turn.tool_calls
    ]
    if turn.reasoning:
        found.append(Copied(_("The thinking"), turn.reasoning))
    found.append(Copied(_("The whole conversation, as Markdown"), to_markdown(conversation), "md"))
    return found


def code_blocks(text: str) -> Sequence[tuple[str, str]]:
    """The code blocks of a Markdown text, also those in lists and quotes: the code, and its language."""
    parser = markdown_parser()
    parser.core.ruler.enableOnly(["normalize", "block"])
    tokens = parser.parse(text) if "```" in text or "~~~" in text or "    " in text else []
    return [(token.content, token.info.strip()) for token in tokens if token.type in ("fence", "code_block")]


def _code(content: str, info: str) -> Copied:
    language = info.split()[0].lower() if info else ""
    lines = content.count("\n") or 1
    size = ngettext("{count} line", "{count} lines", lines).format(count=f"{lines:,}")
    title = _("Code: {language}, {size}").format(language=language or _("no language"), size=size)
    return Copied(f"{title} · {content.strip()[:200]}", content, _ENDINGS.get(language, "txt"))


class CopyChoices(OptionList, inherit_bindings=False):
    """What can be copied: enter copies it, o writes it to a file."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "cursor_down", N_("down"), id="copying.down", show=False, group=MOVE),
        Binding("up,k", "cursor_up", N_("up"), id="copying.up", show=False, group=MOVE),
        Binding("enter,y", "select", N_("copy"), id="copying.copy", group=DO),
        Binding("o", "screen.to_file", N_("to a file"), id="copying.file", group=DO),
    ]


class CopyForm(ModalScreen[tuple[Copied, bool] | None], inherit_bindings=False):
    """Dismissed with what was chosen, and whether it is to go to a file; or None."""

    CSS_PATH = "copy_form.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "cancel", N_("cancel"), id="copying.cancel", group=DO),
    ]

    def __init__(self, choices: Sequence[Copied]) -> None:
        super().__init__()
        self._choices = choices

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Static(Content.styled(_("Copy"), "bold"), id="title")
            yield CopyChoices(
                *(Option(Content(plain(one_line(choice.title)))) for choice in self._choices),
                markup=False,
                compact=True,
            )
            yield KeyBar()

    def on_mount(self) -> None:
        self.query_one(CopyChoices).highlighted = 0

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self._choose(to_file=False)

    def action_to_file(self) -> None:
        self._choose(to_file=True)

    def _choose(self, *, to_file: bool) -> None:
        index = self.query_one(CopyChoices).highlighted
        if index is not None:
            self.dismiss((self._choices[index], to_file))

    def action_cancel(self) -> None:
        self.dismiss(None)
