"""A label that keeps its English text and draws the translation, so that a new language only means drawing again."""

from __future__ import annotations

from textual.content import Content
from textual.widget import Widget

from qwen_tui.i18n import _


class TranslatedLabel(Widget):
    """One fixed text of the program, given as the msgid marked with N_()."""

    DEFAULT_CSS = """
    TranslatedLabel { width: auto; height: auto; }
    """

    def __init__(self, msgid: str, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._msgid = msgid

    def render(self) -> Content:
        return Content(_(self._msgid))

    def retranslate(self) -> None:
        self.refresh(layout=True)
