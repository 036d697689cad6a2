"""Rows in columns, for a terminal or a pipe."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def table(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> list[str]:
    """The rows with every column as wide as its widest cell, two spaces between; columns in `right` to the right.

    Chinese letters are two cells wide, so str.ljust would not line up.
    """
    from rich.cells import cell_len

    if not rows:
        return []
    widths = [max(cell_len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = []
        for column, (text, width) in enumerate(zip(row, widths, strict=True)):
            spaces = " " * (width - cell_len(text))
            cells.append(spaces + text if column in right else text + spaces)
        lines.append("  ".join(cells).rstrip())
    return lines
