"""What is in an input, before anything is answered: the first prompts, and what is wrong with which rows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from qwen_tui.batch.words import input_error
from qwen_tui.workers.batch_rows import BadRow, InputError, kind_of, read_rows

#: Rows that are looked at, at most.
LOOKED_AT = 20_000


@dataclass(frozen=True)
class Preview:
    """first: the first prompts (of a conversation its last message). looked_at: rows that were read; is_whole: all.

    bad: why rows are none → how many. first_bad: why → the first line.
    """

    first: tuple[str, ...]
    looked_at: int
    is_whole: bool
    bad: dict[str, int]
    first_bad: dict[str, int]


def preview(name: str, column: str = "", shown: int = 3) -> Preview:
    """Look into the input; up to a second, so for a thread. Raises UsageError."""
    path = Path(name).expanduser()
    first: list[str] = []
    bad: Counter[str] = Counter()
    first_bad: dict[str, int] = {}
    looked_at, is_whole = 0, True
    try:
        for row in read_rows(str(path), kind_of(str(path)), column):
            if looked_at == LOOKED_AT:
                is_whole = False
                break
            looked_at += 1
            if isinstance(row, BadRow):
                bad[row.code] += 1
                first_bad.setdefault(row.code, row.line)
            elif len(first) < shown:
                first.append(row.prompt if row.prompt is not None else str((row.messages or [{}])[-1].get("content")))
    except InputError as error:
        raise input_error(error.code, error.detail, path) from None
    return Preview(tuple(first), looked_at, is_whole, dict(bad), first_bad)
