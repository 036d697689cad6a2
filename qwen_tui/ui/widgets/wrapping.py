"""Break lines for a terminal: between words, and between Chinese characters, but not before their punctuation."""

from __future__ import annotations

import functools
import re

from rich.cells import cell_len, chop_cells
from rich.text import Text

_WIDE = (
    "\u2e80-\u2fff\u3040-\u30ff\u3105-\u312f\u31a0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003fffd"
)
_OPENING = "（《〈「『【〔“‘［｛([{"
_CLOSING = "，。、；：？！）》〉」』】〕”’％…—·］｝,.;:?!)\\]}"


@functools.cache
def _unit() -> re.Pattern[str]:
    """What is not broken. Compiled when a line is first too long: the first paint need not wait for it."""
    opening = re.escape(_OPENING)
    return re.compile(rf"[{opening}]*(?:[{_WIDE}]|[^\s{_WIDE}{opening}]+)[{_CLOSING}]*\s*|\S\s*|\s+")


def break_offsets(line: str, width: int) -> list[int]:
    """Where to break a line without newlines, as offsets into it, so that no part is wider than `width` cells."""
    if cell_len(line) <= width:
        return []
    breaks: list[int] = []
    used = 0
    for match in _unit().finditer(line):
        unit = match.group()
        solid = cell_len(unit.rstrip())
        if used + solid > width:
            if used:
                breaks.append(match.start())
                used = 0
            if solid > width:
                offset = match.start()
                *whole, rest = chop_cells(unit.rstrip(), width)
                for part in whole:
                    offset += len(part)
                    breaks.append(offset)
                used = cell_len(rest) + len(unit) - len(unit.rstrip())
                continue
        used += solid + cell_len(unit[len(unit.rstrip()) :])
    return breaks


def wrap(text: Text, width: int) -> list[Text]:
    """`text`, broken into lines no wider than `width` cells; spaces at a break are dropped."""
    width = max(2, width)
    if "\t" in text.plain:
        text.expand_tabs(4)
    lines: list[Text] = []
    for line in text.split("\n", allow_blank=True):
        breaks = break_offsets(line.plain, width)
        if not breaks:
            line.rstrip()
            lines.append(line)
            continue
        for part in line.divide(breaks):
            part.rstrip()
            lines.append(part)
    return lines


def chop(text: Text, width: int) -> list[Text]:
    """`text`, cut wherever a line is full: for code, where spaces count."""
    width = max(2, width)
    if "\t" in text.plain:
        text.expand_tabs(4)
    lines: list[Text] = []
    for line in text.split("\n", allow_blank=True):
        if cell_len(line.plain) <= width:
            lines.append(line)
            continue
        offsets, offset = [], 0
        for part in chop_cells(line.plain, width)[:-1]:
            offset += len(part)
            offsets.append(offset)
        lines.extend(line.divide(offsets))
    return lines
