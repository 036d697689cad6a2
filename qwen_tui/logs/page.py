"""What of a log is on the screen at one moment."""

from __future__ import annotations

from typing import NamedTuple

from qwen_tui.logs.parse import LogLine
from qwen_tui.logs.reader import LogError


class Row(NamedTuple):
    """One row of the screen: the part number `part` (from 0) of a wrapped line, or all of an unwrapped one."""

    line: LogLine
    part: int
    text: str


class Page(NamedTuple):
    """What the screen shows at one moment.

    rows: from the top; fewer than the screen has where the log is short.
    start, end: bytes, from the first shown line's start to the end of the last one. size: of the file, bytes.
    first: where the first line starts that is left; 0 unless what was rotated out has been deleted.
    following: whether the newest lines are shown as they come. cursor: the offset of the current line, while paused.
    exists: whether there is a file. error: why it can't be read.
    is_partial: whether lines that pass the filter are still being looked for.
    """

    rows: tuple[Row, ...] = ()
    start: int = 0
    end: int = 0
    size: int = 0
    first: int = 0
    following: bool = True
    cursor: int | None = None
    exists: bool = False
    error: LogError | None = None
    is_partial: bool = False

    @property
    def lines(self) -> list[LogLine]:
        """The lines that show, each once."""
        return list({row.line.offset: row.line for row in self.rows}.values())

    @property
    def current(self) -> LogLine | None:
        """The line with the cursor; the last one that shows where there is no cursor."""
        for row in self.rows:
            if row.line.offset == self.cursor:
                return row.line
        return self.rows[-1].line if self.rows else None
