"""The keys of the screen below, all of them."""

from __future__ import annotations

from typing import Any, ClassVar

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from qwen_tui.i18n import N_, _
from qwen_tui.ui.keys import HelpLine, help_lines


class HelpScreen(ModalScreen[None], inherit_bindings=False):
    """Lists what can be pressed on `screen`, grouped."""

    CSS_PATH = "help.tcss"
    AUTO_FOCUS = "#lines"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q,f1", "dismiss", N_("close"), id="help.close"),
    ]

    def __init__(self, screen: Screen[Any], keymap: dict[str, str]) -> None:
        super().__init__()
        self._lines = help_lines(screen, keymap)

    def compose(self) -> ComposeResult:
        with Vertical(id="help"):
            yield Static(Content.styled(_("Keys"), "bold"), id="title")
            with VerticalScroll(id="lines"):
                yield Static(self._text())
            yield Static(Content.styled(_("↑ ↓ scroll   esc close"), "$foreground-muted"), id="keys")

    def _text(self) -> Content:
        rows: list[Content] = []
        keys = {line: "  ".join(line.keys) for line in self._lines}
        width = max(map(cell_len, keys.values()), default=0)
        group = ""
        for line in self._lines:
            if line.group != group:
                group = line.group
                rows += [Content("")] * bool(rows) + [Content.styled(_(group), "bold $text-primary")]
            rows.append(self._row(line, keys[line], width))
        return Content("\n").join(rows)

    def _row(self, line: HelpLine, keys: str, width: int) -> Content:
        return Content.assemble(
            "  ", (keys + " " * (width - cell_len(keys)), "bold $text-accent"), "  ", _(line.description)
        )
