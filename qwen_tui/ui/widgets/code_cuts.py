"""Where code that is still being written can be cut, so that each part is highlighted as in the whole."""

from __future__ import annotations

from collections.abc import Sequence

from pygments.lexer import Lexer  # type: ignore[import-untyped,unused-ignore]
from pygments.lexers import get_lexer_by_name  # type: ignore[import-untyped,unused-ignore]
from pygments.token import Comment, Literal, String  # type: ignore[import-untyped,unused-ignore]
from pygments.util import ClassNotFound  # type: ignore[import-untyped,unused-ignore]

#: Token types that a cut must not split: a string or comment over several lines.
_WHOLE = (String, Comment.Multiline, Literal)


def lexer_for(info: str) -> Lexer | None:
    """The lexer of a fence's info string; None if there is none of that name."""
    name = info.strip().partition(" ")[0].strip("{}.").lower()
    if not name:
        return None
    try:
        return get_lexer_by_name(name, stripnl=False, ensurenl=False)
    except ClassNotFound:
        return None


def cut_line(lines: Sequence[str], info: str, at_most: int, hard_limit: int) -> int:
    """How many of `lines` can be given away: up to `at_most`, 0 if no place is good.

    hard_limit: with more lines than this a bad place is better than none.
    """
    if at_most <= 0:
        return 0
    lexer = lexer_for(info)
    if lexer is None:
        return at_most
    good = _line_ends_outside(lexer, "\n".join(lines) + "\n")
    candidates = [number for number in range(at_most, 0, -1) if number in good]
    # Code that begins at the margin after the cut is the surest.
    for number in candidates:
        if number < len(lines) and lines[number] and not lines[number][0].isspace():
            return number
    if candidates:
        return candidates[0]
    return at_most if len(lines) > hard_limit else 0


def _line_ends_outside(lexer: Lexer, code: str) -> set[int]:
    """The numbers of lines whose end is in no string or comment."""
    good: set[int] = set()
    number = 0
    for _position, kind, value in lexer.get_tokens_unprocessed(code):
        ends = value.count("\n")
        if not ends:
            continue
        inside = any(kind in whole for whole in _WHOLE)
        for index in range(ends):
            number += 1
            # A single-line comment or string may hold its own line end as its last character.
            if not inside or (index == ends - 1 and value.endswith("\n") and kind in Comment.Single):
                good.add(number)
    return good
