"""Text for reading: broken between words, and between Chinese characters as Chinese breaks."""

from __future__ import annotations

from textual.app import RenderResult
from textual.content import Content
from textual.geometry import Size
from textual.widgets import Static

from qwen_tui.ui.widgets.wrapping import break_offsets


class Prose(Static):
    """A Static whose Content is broken as `break_offsets` does it; Textual itself breaks at spaces only."""

    def render(self) -> RenderResult:
        content = self.content
        return broken(content, self.content_size.width) if isinstance(content, Content) else self.visual

    def get_content_width(self, container: Size, viewport: Size) -> int:
        content = self.content
        if isinstance(content, Content):
            return min(max(line.cell_length for line in content.split("\n", allow_blank=True)), container.width)
        return super().get_content_width(container, viewport)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        content = self.content
        if width and isinstance(content, Content):
            return broken(content, width).plain.count("\n") + 1
        return super().get_content_height(container, viewport, width)


def broken(content: Content, width: int) -> Content:
    """`content` with newlines in it wherever a line would be wider than `width` cells; spaces there are dropped."""
    if width < 2:
        return content
    lines: list[Content] = []
    for line in content.split("\n", allow_blank=True):
        breaks = break_offsets(line.plain, width)
        lines += [part.rstrip() for part in line.divide(breaks)] if breaks else [line]
    return Content("\n").join(lines)
