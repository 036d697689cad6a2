"""Foreign text made safe to draw, and fitted to a number of terminal cells."""

from __future__ import annotations

import re

from rich.cells import cell_len, set_cell_size

# C0 and C1 control characters (tab and newline are handled apart), and what turns the writing direction round.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def plain(text: str) -> str:
    """`text` with every control character replaced by '�' and tabs by spaces; newlines stay."""
    return _CONTROL.sub("�", text.replace("\r\n", "\n").replace("\t", "    "))


def one_line(text: str) -> str:
    """`text` made safe, with its newlines drawn as spaces."""
    return plain(text).replace("\n", " ")


def cut_middle(text: str, width: int) -> str:
    """`text` in at most `width` cells: what is too much is taken out of the middle, where '…' stands."""
    if cell_len(text) <= width:
        return text
    if width <= 1:
        return "…"[:width]
    tail_width = (width - 1) // 2
    head = set_cell_size(text, width - 1 - tail_width).rstrip()
    tail = ""
    for character in reversed(text):
        if cell_len(character + tail) > tail_width:
            break
        tail = character + tail
    return f"{head}…{tail}"


def fit(text: str, width: int) -> str:
    """`text` cut in the middle or padded to exactly `width` cells."""
    text = cut_middle(text, width)
    return text + " " * (width - cell_len(text))
