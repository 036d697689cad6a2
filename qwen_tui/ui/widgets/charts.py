"""A chart of the last minutes: a title with the newest value, and columns in eighths of a cell below it.

One or two series, the second stacked on the first. Drawn by lines; a line that says the same is not drawn again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from qwen_tui.i18n import _
from qwen_tui.ui.text import cut_middle

#: What stands in a column: seconds ago is counted from the right; None where nothing was seen.
Columns = Sequence[float | None]
#: A run of cells of one look.
Run = tuple[str, str]

_EIGHTHS = " ▁▂▃▄▅▆▇█"
_NICE = (1.0, 2.0, 3.0, 5.0, 8.0, 10.0)
#: Rows from which a chart has a line for its time axis.
_AXIS_FROM = 8


@dataclass(frozen=True)
class Drawing:
    """What a chart shows. title, value: translated. series: one or two, the second is stacked on the first.

    ceiling: the value at the top; None chooses one, not below `least`.
    show_top: writes the value at the top. span: seconds that the width stands for. axis: what stands at its two ends;
    empty: so long ago, and now.
    """

    title: str
    value: str
    series: tuple[Columns, ...]
    ceiling: float | None = None
    least: float = 1.0
    show_top: Callable[[float], str] | None = None
    span: int = 0
    faded: bool = False
    axis: tuple[str, str] = ("", "")


def span_words(seconds: int) -> str:
    """'72 s', '3 min'."""
    if seconds < 120:
        return _("{seconds} s").format(seconds=seconds)
    return _("{minutes} min").format(minutes=round(seconds / 60))


def nice_ceiling(value: float, least: float = 1.0) -> float:
    """The first of 1, 2, 3, 5, 8 × 10ⁿ that is not below `value`, and not below `least`."""
    value = max(value, least)
    if value <= 0 or not math.isfinite(value):
        return least
    power = 10.0 ** math.floor(math.log10(value))
    return next(nice * power for nice in (*_NICE, 20.0) if nice * power >= value * (1 - 1e-9))


def plot(series: Sequence[Columns], rows: int, ceiling: float) -> list[list[Run]]:
    """The columns as `rows` lines of runs, the top first. Looks: "", "first", "second", "both", "zero"."""
    width = len(series[0]) if series else 0
    heights: list[tuple[int, int] | None] = []
    for x in range(width):
        first = series[0][x]
        second = series[1][x] if len(series) > 1 else None
        if first is None and second is None:
            heights.append(None)
            continue
        low = _height(first or 0.0, ceiling, rows)
        heights.append((low, max(low, _height((first or 0.0) + (second or 0.0), ceiling, rows))))
    return [_row(heights, (rows - 1 - y) * 8) for y in range(rows)]


def _height(value: float, ceiling: float, rows: int) -> int:
    """In eighths of a row; what is above nothing is seen."""
    if value <= 0 or ceiling <= 0:
        return 0
    return min(rows * 8, max(1, round(value / ceiling * rows * 8)))


def _row(heights: Sequence[tuple[int, int] | None], base: int) -> list[Run]:
    runs: list[Run] = []
    for height in heights:
        text, look = (" ", "") if height is None else _cell(height[0] - base, height[1] - base, base == 0)
        if runs and runs[-1][1] == look:
            runs[-1] = (runs[-1][0] + text, look)
        else:
            runs.append((text, look))
    return runs


def _cell(first: int, both: int, is_bottom: bool) -> Run:
    """The cell that the first series fills by `first` eighths and both together by `both`."""
    if first >= 8:
        return "█", "first"
    if first > 0:
        if both >= 8:
            return _EIGHTHS[first], "both"
        # Both end in this cell, which has one colour: what stands on top must not go unseen.
        return _EIGHTHS[both], "second" if both > first else "first"
    if both > 0:
        return _EIGHTHS[min(8, both)], "second"
    return ("▁", "zero") if is_bottom else (" ", "")


class Chart(Widget):
    """Shows one Drawing; `columns_wide` says how many columns there is room for."""

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "chart--title", "chart--value", "chart--first", "chart--second", "chart--both", "chart--zero", "chart--faded",
    }  # fmt: skip
    DEFAULT_CSS = """
    Chart { height: 1fr; width: 1fr; padding: 0 1; }
    Chart > .chart--title { color: $foreground-muted; }
    Chart > .chart--value { text-style: bold; }
    Chart > .chart--first { color: $primary; }
    Chart > .chart--second { color: $warning; }
    Chart > .chart--both { color: $primary; background: $warning; }
    Chart > .chart--zero { color: $foreground-muted; }
    Chart > .chart--faded { color: $foreground-muted; }
    """

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._drawing: Drawing | None = None
        self._lines: list[list[Run]] = []

    @property
    def columns_wide(self) -> int:
        """Columns that fit; 0 before there is a size."""
        return self.content_size.width

    @property
    def lines(self) -> list[str]:
        """The text of each line, as drawn."""
        return ["".join(text for text, _look in line) for line in self._lines]

    def show(self, drawing: Drawing) -> None:
        """Draw this; only the lines that differ."""
        self._drawing = drawing
        before, self._lines = self._lines, self._compose_lines(drawing)
        if len(before) != len(self._lines):
            self.refresh()
            return
        width = self.content_size.width
        changed = [Region(0, y, width, 1) for y, line in enumerate(self._lines) if line != before[y]]
        if changed:
            self.refresh(*changed)

    def on_resize(self) -> None:
        if self._drawing is not None:
            self.show(self._drawing)

    def _compose_lines(self, drawing: Drawing) -> list[list[Run]]:
        width, height = self.content_size
        if not width or not height:
            return []
        rows = height - 1 - (height >= _AXIS_FROM)
        totals = [sum(value or 0.0 for value in column) for column in zip(*drawing.series, strict=True)]
        ceiling = drawing.ceiling or nice_ceiling(max(totals, default=0.0), drawing.least)
        lines = [self._title(drawing, ceiling, width), *plot(drawing.series, rows, ceiling)]
        if drawing.faded:
            lines[1:] = [[(text, look and "faded") for text, look in line] for line in lines[1:]]
        if height >= _AXIS_FROM:
            lines.append(self._axis(drawing, width))
        return lines

    @staticmethod
    def _title(drawing: Drawing, ceiling: float, width: int) -> list[Run]:
        top = f"↑{drawing.show_top(ceiling)}" if drawing.show_top is not None else ""
        title = cut_middle(drawing.title, max(0, width - cell_len(drawing.value) - 1))
        room = width - cell_len(title) - 1 - cell_len(drawing.value)
        if cell_len(top) + 1 > room:
            top = ""
        value_look = "faded" if drawing.faded else "value"
        return [
            (title, "title"), (" ", ""), (drawing.value, value_look), (" " * (room - cell_len(top)), ""),
            (top, "title"),
        ]  # fmt: skip

    @staticmethod
    def _axis(drawing: Drawing, width: int) -> list[Run]:
        left = drawing.axis[0] or _("{span} ago").format(span=span_words(drawing.span))
        right = drawing.axis[1] or _("now")
        return [(left + " " * max(1, width - cell_len(left) - cell_len(right)) + right, "title")]

    def render_line(self, y: int) -> Strip:
        width = self.content_size.width
        if y >= len(self._lines):
            return Strip.blank(width, self.rich_style)
        segments = [Segment(text, self._style(look)) for text, look in self._lines[y] if text]
        return Strip(segments).crop_extend(0, width, self.rich_style)

    def _style(self, look: str) -> Style:
        return self.get_component_rich_style(f"chart--{look}") if look else self.rich_style
