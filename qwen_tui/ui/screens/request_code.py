"""A request as code, to copy: curl, Python with openai, Python with httpx; or sent, and its raw answer shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static, TextArea

from qwen_tui.chat.figures import duration
from qwen_tui.chat.request_answer import RawAnswer, send
from qwen_tui.chat.request_code import Request, as_curl, as_httpx, as_openai
from qwen_tui.errors import QwenTuiError
from qwen_tui.i18n import N_, _
from qwen_tui.ui.copying import copy_and_tell
from qwen_tui.ui.rooms import DO, MOVE
from qwen_tui.ui.text import plain
from qwen_tui.ui.widgets.key_bar import KeyBar
from qwen_tui.ui.widgets.prose import Prose

#: The forms: their name (a msgid), and what writes them; None: the raw answer.
_FORMS: tuple[tuple[str, Callable[[Request], str] | None], ...] = (
    ("curl", as_curl),
    ("Python: openai", as_openai),
    ("Python: httpx", as_httpx),
    (N_("raw answer"), None),
)


class RequestCodeScreen(ModalScreen[None], inherit_bindings=False):
    """Shows `request`; it is sent, with `api_key`, only when somebody asks for the raw answer."""

    CSS_PATH = "request_code.tcss"
    AUTO_FOCUS = "#code"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "form(1)", N_("next form"), id="request.next", group=MOVE, priority=True),
        Binding(
            "shift+tab", "form(-1)", N_("previous form"), id="request.previous", group=MOVE, show=False, priority=True
        ),
        Binding("y", "copy", N_("copy"), id="request.copy", group=DO),
        Binding("r", "send", N_("send it: raw answer"), id="request.send", group=DO),
        Binding("escape,q,o", "close", N_("close"), id="request.close", group=DO),
    ]

    def __init__(self, request: Request, api_key: str | None) -> None:
        super().__init__()
        self._request = request
        self._api_key = api_key
        self._form = 0
        self._answer = ""
        self._sending = False

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Static(id="forms")
            yield TextArea("", read_only=True, show_line_numbers=False, highlight_cursor_line=False, id="code")
            yield Prose(id="note")
            yield KeyBar()

    def on_mount(self) -> None:
        self.query_one(TextArea).cursor_blink = False
        self._show()

    def _show(self) -> None:
        names = [
            Content.styled(f" {_(name)} ", "reverse bold" if number == self._form else "$text-muted")
            for number, (name, _write) in enumerate(_FORMS)
        ]
        self.query_one("#forms", Static).update(Content(" ").join(names))
        code = self.query_one(TextArea)
        code.load_text(plain(self._text()))
        note = ""
        if self._request.key_variable and _FORMS[self._form][1] is not None:
            note = _("The key is not in it: it is read from ${name}").format(name=self._request.key_variable)
        self.query_one("#note", Prose).update(Content(note))

    def _text(self) -> str:
        write = _FORMS[self._form][1]
        if write is not None:
            return write(self._request)
        if self._sending:
            return _("waiting for the answer…")
        return self._answer or _("r sends the request, and shows everything that comes back.")

    def action_form(self, direction: int) -> None:
        self._form = (self._form + direction) % len(_FORMS)
        self._show()

    def action_copy(self) -> None:
        self.run_worker(copy_and_tell(self.app, self._text()), group="copy")

    def action_send(self) -> None:
        if not self._sending:
            self._sending = True
            self._form = len(_FORMS) - 1
            self._show()
            self.run_worker(self._send(), group="send")

    async def _send(self) -> None:
        try:
            self._answer = answer_text(await send(self._request, self._api_key))
        except QwenTuiError as error:
            self._answer = str(error)
        finally:
            self._sending = False
        if self.is_attached:
            self._show()

    def action_close(self) -> None:
        self.dismiss(None)


def answer_text(answer: RawAnswer) -> str:
    """Status, times, what the server counted, headers, and the body."""
    times = _("headers after {first}, the whole answer after {whole}")
    lines = [
        f"{answer.http_version} {answer.status} {answer.reason}",
        times.format(first=duration(answer.headers_s), whole=duration(answer.total_s)),
        "",
        *(f"{name}: {value}" for name, value in answer.headers),
        "",
        answer.body_text(),
    ]
    if not answer.whole:
        lines.append(_("The rest is left out: it is too long"))
    return "\n".join(lines)
