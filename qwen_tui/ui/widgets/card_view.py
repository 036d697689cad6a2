"""A long Markdown text for reading: drawn as a transcript is, from its beginning."""

from __future__ import annotations

from textual.strip import Strip

from qwen_tui.ui.widgets.block_list import Block, Draw
from qwen_tui.ui.widgets.markdown_blocks import MarkdownSplitter, Piece
from qwen_tui.ui.widgets.markdown_rows import RowRenderer
from qwen_tui.ui.widgets.transcript import Transcript

#: Characters taken over at a time, so that a long card does not hold up the keys.
_PORTION = 6_000


class CardView(Transcript):
    """Shows one text; give it with `show`."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._text = ""
        self._splitter: MarkdownSplitter | None = None
        self._stick = False

    def show(self, text: str) -> None:
        """Draw `text`, Markdown, from its beginning."""
        self._blocks.truncate(0)
        self._text, self._splitter = text, MarkdownSplitter()
        self.wake()

    def _catch_up(self) -> bool:
        splitter = self._splitter
        if splitter is None:
            return False
        portion, self._text = self._text[:_PORTION], self._text[_PORTION:]
        pieces = splitter.feed(portion)
        if not self._text:
            pieces += splitter.finish()
            self._splitter = None
        for piece in pieces:
            gap = 0 if piece.follows or not self._blocks.blocks else 1
            self._blocks.append(Block(_drawing(piece), gap=gap))
        return self._splitter is not None

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        self._stick = False  # what comes is below; nobody wants to be taken there


def _drawing(piece: Piece) -> Draw:
    def draw(renderer: RowRenderer, width: int) -> list[Strip]:
        return renderer.markdown(piece, width)

    return draw
