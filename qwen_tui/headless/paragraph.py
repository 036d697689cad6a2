"""Text broken into lines for a terminal: by cells, between words, and between Chinese characters."""

from __future__ import annotations

import re

#: What stays together: a word with what clings to it, or one wide character with the punctuation that ends it.
_WIDE = "\u2e80-\u2fff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_OPENS, _CLOSES = "（《「『【“‘", "，。、；：？！）》」』】”’％…"
_UNIT = re.compile(rf"[{_OPENS}]*(?:[{_WIDE}]|[^\s{_WIDE}{_OPENS}]+)[{_CLOSES}]*\s*|\S\s*")


def filled(text: str, width: int, label: str = "", indent: int = 0) -> str:
    """`text` in lines of at most `width` cells, `indent` spaces before each; `label` stands in those of the first.

    A word that is wider than a line stands on its own, unbroken: it may be a path or a command to copy.
    """
    from rich.cells import cell_len

    lines = [""]
    for unit in _UNIT.findall(" ".join(text.split())):
        if lines[-1] and cell_len(lines[-1] + unit.rstrip()) > width - indent:
            lines.append("")
        lines[-1] += unit
    first = label + " " * max(1 if label else 0, indent - cell_len(label))
    return "\n".join(((" " * indent if number else first) + line).rstrip() for number, line in enumerate(lines))
