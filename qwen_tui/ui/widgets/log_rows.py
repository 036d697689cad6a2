"""Rows of a log as strips of styled text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from qwen_tui.i18n import _
from qwen_tui.logs.page import Page, Row
from qwen_tui.logs.parse import Level
from qwen_tui.progress import format_bytes

#: Cells before the text: the level's letter, and the cursor or a space.
GUTTER = 2
#: Cells behind it: the position in the file.
SCROLLBAR = 1

MARKS = {Level.DEBUG: "D", Level.WARNING: "W", Level.ERROR: "E", Level.CRITICAL: "C"}
STYLES = {
    Level.NONE: "log-view--text",
    Level.DEBUG: "log-view--debug",
    Level.INFO: "log-view--text",
    Level.WARNING: "log-view--warning",
    Level.ERROR: "log-view--error",
    Level.CRITICAL: "log-view--error",
}
NAMES = frozenset(STYLES.values()) | {"log-view--muted", "log-view--cursor", "log-view--status", "log-view--thumb"}
NAMES |= {"log-view--match"}


class DrawnRow(NamedTuple):
    """All that decides what one row of the screen looks like: equal ones need not be drawn again.

    column: the first cell of the text that shows. wrapped: whether long lines are wrapped.
    match: what is searched for and marked in the text. mark: the worst level in this row's part of the file.
    """

    row: Row | None
    is_cursor: bool
    is_thumb: bool
    column: int
    wrapped: bool
    match: re.Pattern[str] | None = None
    mark: Level = Level.NONE


def draw_rows(
    page: Page,
    height: int,
    column: int,
    wrapped: bool,
    match: re.Pattern[str] | None = None,
    marks: Sequence[Level] = (),
) -> list[DrawnRow]:
    """The `height` rows that show `page`. marks: one for each row, or none."""
    thumb = _thumb(page, height)
    rows: list[Row | None] = [*page.rows[:height], *[None] * (height - len(page.rows))]
    return [
        DrawnRow(
            row,
            row is not None and row.line.offset == page.cursor,
            y in thumb,
            column,
            wrapped,
            match if row is not None else None,
            marks[y] if y < len(marks) else Level.NONE,
        )
        for y, row in enumerate(rows)
    ]


def shown_text(drawn: DrawnRow) -> str:
    """The text of a row from the first cell that shows on."""
    if drawn.row is None:
        return ""
    text = drawn.row.text
    return Strip([Segment(text)]).crop(drawn.column, cell_len(text)).text if drawn.column else text


def _thumb(page: Page, height: int) -> range:
    """The rows of the scroll bar that stand for what is on the screen; none where everything is."""
    if not page.size or page.end - page.start >= page.size:
        return range(0)
    length = max(1, round(height * (page.end - page.start) / page.size))
    if page.end >= page.size:
        return range(height - length, height)
    start = min(height - length, int(height * page.start / page.size))
    return range(start, start + length)


class RowPainter:
    """Turns rows into strips `width` cells wide. styles: by the names in NAMES."""

    def __init__(self, width: int, styles: Mapping[str, Style], selection: Style) -> None:
        self._width = width
        self._styles = styles
        self._selection = selection

    def strip(self, drawn: DrawnRow, y: int, selected: tuple[int, int] | None = None) -> Strip:
        """One row. selected: the characters of it that the mouse has marked; an end of -1 means to its end."""
        style = self._styles
        base = style["log-view--text"]
        width = max(0, self._width - GUTTER - SCROLLBAR)
        thumb = Segment("▐" if drawn.is_thumb else " ", style["log-view--thumb"])
        if drawn.mark:
            # A letter as in the gutter; the thumb shows as its background.
            is_error = drawn.mark >= Level.ERROR
            letter = style["log-view--error" if is_error else "log-view--warning"] + Style(reverse=drawn.is_thumb)
            thumb = Segment("E" if is_error else "w", letter)
        if drawn.row is None:
            return Strip([Segment(" " * (GUTTER + width), base), thumb], self._width)
        line = drawn.row.line
        background = style["log-view--cursor"] if drawn.is_cursor else Style.null()
        level = style[STYLES[line.level]] + background
        mark = MARKS.get(line.level, " ") if drawn.row.part == 0 else " "
        gutter = Segment(f"{mark}{'›' if drawn.is_cursor else ' '}", level + Style(bold=True))
        segments = self._text(drawn, level, style["log-view--muted"] + background)
        text = Strip(segments).crop(drawn.column, drawn.column + width)
        if not drawn.wrapped and sum(cell_len(segment.text) for segment in segments) > drawn.column + width > 0:
            text = Strip.join([text.crop(0, width - 1), Strip([Segment("›", style["log-view--muted"] + background)])])
        text = self._select(text.extend_cell_length(width, level), selected).simplify().apply_offsets(0, y)
        return Strip.join([Strip([gutter], GUTTER), text, Strip([thumb], SCROLLBAR)])

    def _text(self, drawn: DrawnRow, level: Style, muted: Style) -> list[Segment]:
        row = drawn.row
        assert row is not None
        line = row.line
        prefix = line.prefix if row.part == 0 and line.text.startswith(row.text[: line.prefix]) else 0
        body = level
        if line.is_access:
            body = muted
        # No need to measure the part of a very long line that is out of sight.
        text = row.text if drawn.wrapped else row.text[: 4 * (drawn.column + self._width)]
        segments = [Segment(text[:prefix], muted), Segment(text[prefix:], body)]
        if drawn.match is not None:
            segments = list(_marked(segments, _matches(drawn.match, text), self._styles["log-view--match"]))
        if line.hidden and len(text) == len(row.text) and line.text.endswith(row.text):
            more = _("… {size} more in this line").format(size=format_bytes(line.hidden))
            segments.append(Segment(f" {more}", muted + Style(italic=True)))
        return [segment for segment in segments if segment.text]

    def _select(self, text: Strip, selected: tuple[int, int] | None) -> Strip:
        if selected is None:
            return text
        start, end = selected
        plain = text.text
        start_cell = cell_len(plain[:start])
        end_cell = text.cell_length if end == -1 else cell_len(plain[:end])
        before, inside, after = (
            text.crop(0, start_cell),
            text.crop(start_cell, end_cell),
            text.crop(end_cell, text.cell_length),
        )
        return Strip.join([before, inside.apply_style(self._selection), after])

    def status(self, left: str = "", *right: str) -> Strip:
        """The line at the bottom; where it is too narrow, the parts at the right go, the first one first."""
        parts = list(right)
        while parts and cell_len(left) + cell_len("".join(parts)) > self._width:
            parts.pop(0)
        tail = "".join(parts)
        text = set_cell_size(left, max(0, self._width - cell_len(tail))) + tail
        return Strip([Segment(text, self._styles["log-view--status"])], self._width)


def _matches(regex: re.Pattern[str], text: str) -> list[tuple[int, int]]:
    return [match.span() for match in regex.finditer(text) if match.end() > match.start()]


def _marked(segments: list[Segment], spans: list[tuple[int, int]], style: Style) -> Iterator[Segment]:
    """The segments with the characters in `spans` in another style."""
    start = 0
    for segment in segments:
        end = start + len(segment.text)
        at = start
        for first, last in spans:
            first, last = max(first, at), min(last, end)
            if first < last:
                yield Segment(segment.text[at - start : first - start], segment.style)
                yield Segment(segment.text[first - start : last - start], style)
                at = last
        yield Segment(segment.text[at - start :], segment.style)
        start = end
