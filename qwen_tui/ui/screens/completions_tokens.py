"""The tokens of a reply: how likely each was, and what else could have stood there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from qwen_tui.chat.logprobs import TokenChance
from qwen_tui.errors import QwenTuiError
from qwen_tui.i18n import N_, _
from qwen_tui.ui.rooms import DO
from qwen_tui.ui.text import plain
from qwen_tui.ui.widgets.key_bar import KeyBar
from qwen_tui.ui.widgets.prose import Prose
from qwen_tui.ui.widgets.token_detail import summary, token_content
from qwen_tui.ui.widgets.token_text import TokenText

_LEGEND = (
    ("≥ 90 %", "$text-success"),
    ("50–90 %", "underline $text-accent"),
    ("10–50 %", "bold underline $text-warning"),
    ("< 10 %", "bold reverse $text-error"),
)


class TokenScreen(ModalScreen[None], inherit_bindings=False):
    """Shows `chances`; without any, says so, and `ask` gets them from the server when somebody wants it."""

    CSS_PATH = "completions_tokens.tcss"
    AUTO_FOCUS = "TokenText"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012 - Textual declares its type
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "ask", N_("ask the server"), id="tokens.ask", group=DO),
        Binding("y", "copy", N_("copy as a table"), id="tokens.copy", group=DO),
        Binding("escape,q,v", "close", N_("close"), id="tokens.close", group=DO),
    ]

    def __init__(self, chances: Sequence[TokenChance], ask: Callable[[], Awaitable[Sequence[TokenChance]]]) -> None:
        super().__init__()
        self._chances = chances
        self._ask = ask
        self._asking = False
        self._trouble = ""

    def compose(self) -> ComposeResult:
        self.set_class(self.app.size.width < 100, "-narrow", update=False)
        self.set_class(not self._chances, "-without", update=False)
        with Vertical(id="dialog"):
            yield Static(id="summary")
            with Horizontal(id="parts"):
                yield TokenText(id="tokens")
                yield Static(id="detail")
                yield Prose(id="note")
            legend = [Content.styled(f" {text} ", style) for text, style in _LEGEND]
            yield Static(Content(" ").join(legend), id="legend")
            yield KeyBar()

    async def on_mount(self) -> None:
        await self._show()

    async def _show(self) -> None:
        self.set_class(not self._chances, "-without")
        self.refresh_bindings()
        line = summary(self._chances) if self._chances else _("Tokens")
        self.query_one("#summary", Static).update(Content(line))
        if self._chances:
            tokens = self.query_one(TokenText)
            tokens.focus()
            self.run_worker(tokens.show(self._chances), group="show tokens", exclusive=True)
            return
        if self._asking:
            text = _("asking the server…")
        else:
            text = _(
                "This text came without logprobs. r asks the server how likely each of its tokens is, as it stands: "
                "nothing is drawn anew.\n\nTo have them with every reply, set logprobs in the sampling (the comma key)."
            )
        if self._trouble:
            text = f"{self._trouble}\n\n{text}"
        self.query_one("#note", Prose).update(Content(plain(text)))

    def on_token_text_moved(self, event: TokenText.Moved) -> None:
        self._show_detail()
        if event.others:
            self.refresh_bindings()

    def on_resize(self) -> None:
        self.call_after_refresh(self._show_detail)

    def _show_detail(self) -> None:
        tokens, detail = self.query_one(TokenText), self.query_one("#detail", Static)
        if tokens.chances:
            width = max(30, detail.content_size.width)
            detail.update(token_content(tokens.chances, tokens.texts, tokens.cursor, width), layout=False)

    def binding_text(self, binding: Binding) -> str:
        """What the footer says for `binding`, as a msgid."""
        if binding.id == "tokens.ask":
            return "" if self._chances or self._asking else binding.description
        return binding.description if self._chances or binding.id == "tokens.close" else ""

    async def action_ask(self) -> None:
        if not self._chances and not self._asking:
            self._asking, self._trouble = True, ""
            await self._show()
            self.run_worker(self._get(), group="ask")

    async def _get(self) -> None:
        try:
            self._chances = await self._ask()
        except QwenTuiError as error:
            self._trouble = "\n".join(filter(None, (f"✗ {error.title}", error.why, error.hint)))
        finally:
            self._asking = False
        if self.is_attached:
            await self._show()

    async def action_copy(self) -> None:
        tokens = self.query_one(TokenText)
        if not tokens.chances:
            return
        rows = (
            "\t".join((str(place), repr(text), "" if chance.share is None else f"{chance.share:.6f}"))
            for place, (text, chance) in enumerate(zip(tokens.texts, tokens.chances, strict=True), 1)
        )
        from qwen_tui.ui.copying import copy_text

        note = await copy_text(self.app, "\n".join(rows))
        told = _("Copied, one line per token: place, token, probability")
        self.notify("\n".join(filter(None, (told, note))), markup=False)

    def action_close(self) -> None:
        self.dismiss(None)
