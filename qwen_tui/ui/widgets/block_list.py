"""The rows of a transcript: blocks under each other, each drawn once per width and kept while it is near.

Only heights are kept for all blocks; rows beyond a limit are dropped and drawn again when they come into view.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable

from rich.segment import Segment
from textual.strip import Strip

from qwen_tui.ui.widgets.markdown_rows import RowRenderer, merged

#: Empty columns at the right of every row, where a scroll bar can be laid over.
RIGHT_MARGIN = 1
#: Draws a block as rows of exactly the given width.
Draw = Callable[[RowRenderer, int], list[Strip]]


class Block:
    """Something that is drawn as a run of rows.

    gap: empty rows before it. indent: empty columns left of it. height: rows, an estimate until `width` is current.
    unfolded: its gap and height while it is folded away, else None.
    """

    __slots__ = ("draw", "gap", "height", "indent", "rows", "unfolded", "width")

    def __init__(self, draw: Draw, gap: int = 0, indent: int = 0) -> None:
        self.draw = draw
        self.gap = gap
        self.indent = indent
        self.height = 1
        self.width = -1
        self.rows: list[Strip] | None = None
        self.unfolded: tuple[int, int] | None = None


class BlockList:
    """Blocks from top to bottom, and which row belongs to which."""

    def __init__(self, renderer: RowRenderer, width: int = 80, kept_rows: int = 2_000) -> None:
        self.blocks: list[Block] = []
        self.renderer = renderer
        self.width = width
        self._kept_limit = kept_rows
        self._kept: OrderedDict[Block, int] = OrderedDict()
        self._kept_rows = 0
        self._tops: list[int] = []  # first row of each block, valid for as many as there are
        self._unmeasured = 0  # every block before this index is measured
        self._unchanged = 0  # every block before this index is as it was at the last `changed_from`

    def append(self, block: Block) -> None:
        """Add at the end and measure it."""
        self.blocks.append(block)
        self._measure(block)

    def truncate(self, count: int) -> None:
        """Keep the first `count` blocks only."""
        for block in self.blocks[count:]:
            self._forget(block)
        del self.blocks[count:]
        del self._tops[count:]
        self._unchanged = min(self._unchanged, count)
        self._unmeasured = min(self._unmeasured, count)

    def fold(self, first: int, last: int, folded: bool) -> None:
        """Fold the blocks from `first` to before `last` away, or unfold them; their heights are then estimates."""
        for block in self.blocks[first:last]:
            if folded and block.unfolded is None:
                block.unfolded = (block.gap, block.height)
                block.gap = block.height = 0
                block.width = self.width
                self._forget(block)
            elif not folded and block.unfolded is not None:
                block.gap, block.height = block.unfolded
                block.unfolded = None
                block.width = -1
        self._changed_at(first)

    def redraw(self, index: int) -> None:
        """Draw one block anew: what it tells has changed."""
        self._forget(self.blocks[index])
        self._measure(self.blocks[index])
        self._changed_at(index)

    def _changed_at(self, index: int) -> None:
        del self._tops[index:]
        self._unchanged = min(self._unchanged, index)
        self._unmeasured = min(self._unmeasured, index)

    def reset(self, renderer: RowRenderer, width: int) -> None:
        """From now on another width or look: all rows are void, heights become estimates."""
        for block in self.blocks:
            block.rows = None
            if width != self.width and block.height > 1:
                block.height = max(1, round(block.height * self.width / max(1, width)))
            block.width = -1
        self._kept.clear()
        self._kept_rows = 0
        self._tops.clear()
        self._unmeasured = self._unchanged = 0
        self.renderer, self.width = renderer, width

    @property
    def height(self) -> int:
        """Rows in all."""
        self._fill_tops(len(self.blocks))
        return self._tops[-1] + self.blocks[-1].height if self.blocks else 0

    def changed_from(self) -> int:
        """The first row that may differ from what it was when this was last asked."""
        index = self._unchanged
        self._unchanged = len(self.blocks)
        return self.top(index) - self.blocks[index].gap if index < len(self.blocks) else self.height

    def top(self, index: int) -> int:
        """The first row of a block, below its gap."""
        self._fill_tops(index + 1)
        return self._tops[index]

    def index_at(self, row: int) -> int:
        """The block that `row` is in, or in the gap before it; -1 below the end."""
        self._fill_tops(len(self.blocks))
        index = bisect_right(self._tops, row) - 1
        if index < 0 or row >= self._tops[index] + self.blocks[index].height:
            index += 1  # a gap belongs to the block after it
        return index if index < len(self.blocks) else -1

    def row(self, number: int) -> Strip:
        """One row, drawn if it is not at hand."""
        index = self.index_at(number)
        if index < 0:
            return Strip.blank(self.width, self.renderer.look.base)
        block = self.blocks[index]
        offset = number - self.top(index)
        rows = self._rows(block)
        if 0 <= offset < len(rows):
            return rows[offset]
        return Strip.blank(self.width, self.renderer.look.base)

    def measure_range(self, first_row: int, last_row: int) -> None:
        """Make sure that the heights of the blocks that these rows show are true, from the top one down."""
        index = self.index_at(first_row)
        if index < 0:
            return
        row = self.top(index)
        while index < len(self.blocks) and row <= last_row + (last_row - first_row):
            self.measure(index)
            row = self.top(index) + self.blocks[index].height
            index += 1

    def measure(self, index: int) -> None:
        """Draw a block whose height is an estimate; the ones after it move."""
        block = self.blocks[index]
        if block.width != self.width:
            before = block.height
            self._measure(block)
            if block.height != before:
                del self._tops[index + 1 :]

    def next_unmeasured(self) -> int | None:
        """The first block whose height is an estimate, or None."""
        while self._unmeasured < len(self.blocks) and self.blocks[self._unmeasured].width == self.width:
            self._unmeasured += 1
        return self._unmeasured if self._unmeasured < len(self.blocks) else None

    def _fill_tops(self, count: int) -> None:
        tops, blocks = self._tops, self.blocks
        while len(tops) < count:
            index = len(tops)
            end = tops[-1] + blocks[index - 1].height if tops else 0
            tops.append(end + blocks[index].gap)

    def _measure(self, block: Block) -> None:
        block.height = len(self._rows(block))
        block.width = self.width

    def _rows(self, block: Block) -> list[Strip]:
        if block.unfolded is not None:
            return []
        if block.rows is None:
            base = self.renderer.look.base
            left = [Segment(" " * block.indent, base)] if block.indent else []
            right = Segment(" " * RIGHT_MARGIN, base)
            width = max(2, self.width - block.indent - RIGHT_MARGIN)
            rows = [
                Strip(merged([*left, *row, right]), row.cell_length + block.indent + RIGHT_MARGIN)
                for row in block.draw(self.renderer, width)
            ]
            block.rows = rows
            self._kept[block] = len(rows)
            self._kept_rows += len(rows)
            while self._kept_rows > self._kept_limit and len(self._kept) > 1:
                old, count = self._kept.popitem(last=False)
                old.rows = None
                self._kept_rows -= count
        return block.rows

    def _forget(self, block: Block) -> None:
        self._kept_rows -= self._kept.pop(block, 0)
        block.rows = None
