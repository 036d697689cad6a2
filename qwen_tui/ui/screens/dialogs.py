"""Questions and errors, asked over whatever is on the screen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen

from qwen_tui.errors import QwenTuiError
from qwen_tui.i18n import _
from qwen_tui.ui.text import plain
from qwen_tui.ui.widgets.key_bar import key_name
from qwen_tui.ui.widgets.prose import Prose


@dataclass(frozen=True)
class Answer:
    """One answer of a Choice: the keys that give it (Textual's names, the first one shown), its id and its text."""

    keys: tuple[str, ...]
    id: str
    text: str


_SCROLL: dict[str, Callable[[VerticalScroll], None]] = {
    "up": lambda body: body.scroll_up(animate=False),
    "down": lambda body: body.scroll_down(animate=False),
    "pageup": lambda body: body.scroll_page_up(animate=False),
    "pagedown": lambda body: body.scroll_page_down(animate=False),
}


class Dialog(ModalScreen[str | None]):
    """A box in the middle: a title, a text, and lines of keys. Dismissed with an answer's id, None for esc."""

    CSS_PATH = "dialogs.tcss"
    AUTO_FOCUS = None

    def __init__(self, title: str, body: str, answers: Sequence[Answer], *, default: str | None = None) -> None:
        """title, body, and the answers' texts: translated, drawn without markup. default: what enter answers."""
        super().__init__()
        self._title = title
        self._body = body
        self._answers = answers
        self._default = default

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Prose(Content(plain(self._title)), id="title")
            if self._body:
                with VerticalScroll(id="body", can_focus=False):
                    yield Prose(Content(plain(self._body)))
            yield Prose(self._keys(), id="keys")

    def _keys(self) -> Content:
        lines = []
        names = [", ".join(key_name(key) for key in self._shown_keys(answer)) for answer in self._answers]
        names.append("esc")
        width = max(len(name) for name in names)
        texts = [plain(answer.text) for answer in self._answers] + [self.cancel_text()]
        for name, text in zip(names, texts, strict=True):
            lines.append(Content.assemble((f"{name:<{width}}", "bold $text-accent"), "  ", text))
        return Content("\n").join(lines)

    def _shown_keys(self, answer: Answer) -> tuple[str, ...]:
        return (*answer.keys[:1], "enter") if answer.id == self._default else answer.keys[:1]

    def cancel_text(self) -> str:
        return _("cancel")

    #: Keys that close without an answer.
    CLOSING_KEYS: ClassVar[tuple[str, ...]] = ("escape",)

    # One handler for all dialogs: Textual calls an `on_key` of every class in the MRO.
    def on_key(self, event: events.Key) -> None:
        event.stop()
        for answer in self._answers:
            if event.key in answer.keys or (event.key == "enter" and answer.id == self._default):
                self.dismiss(answer.id)
                return
        if event.key in self.CLOSING_KEYS:
            self.dismiss(None)
        elif event.key in _SCROLL:
            for body in self.query("#body").results(VerticalScroll):
                _SCROLL[event.key](body)


class Choice(Dialog):
    """A question with several answers."""


class Confirm(Dialog):
    """A question about something that can't be taken back; answers "yes" or None. Enter means no."""

    CLOSING_KEYS = ("escape", "enter", "n")

    def __init__(self, title: str, lost: str, yes: str) -> None:
        """lost: what is lost by saying yes. yes: what yes does, such as "delete it"."""
        super().__init__(title, lost, (Answer(("y",), "yes", yes),))

    def cancel_text(self) -> str:
        return _("no")


class ErrorDialog(Dialog):
    """What happened, why, and what to do."""

    CLOSING_KEYS = ("escape", "enter", "q")

    def __init__(self, error: QwenTuiError) -> None:
        body = "\n\n".join(part for part in (error.why, error.hint) if part)
        super().__init__(error.title, body, (), default=None)

    def on_mount(self) -> None:
        self.query_one("#dialog").add_class("error")

    def cancel_text(self) -> str:
        return _("close")
