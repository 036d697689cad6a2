"""Turn what a program wrote for a terminal into plain text that is safe to show on one.

Escape sequences (colours, cursor moves, window titles, the clipboard, links) are taken out, other control
characters become visible symbols, and what a carriage return or backspace overwrote is gone, as on a screen.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

TAB = 8
#: Beyond these columns, cursor movements write nowhere: a line can't be made arbitrarily wide by a few bytes.
WIDEST = 1 << 12

# Strings (OSC, DCS, SOS, PM, APC) are taken out only where they end within the line; else just their
# introducer goes, so that an unfinished one can't hide the text behind it. Their bodies exclude every
# introducer, which keeps the search linear.
_ESCAPE = re.compile(
    r"""
    (?:\x1b[\]PX^_] | [\x90\x98\x9d\x9e\x9f]) [^\x07\x1b\x80-\x9f]* (?: \x07 | \x1b\\ | \x9c )
  | (?:\x1b\[ | \x9b) (?P<parameters>[0-?]*) [ -/]* (?P<final>[@-~])
  | \x1b [ -/]* [0-~]
    """,
    re.VERBOSE,
)
_MOVES = re.compile(r"[\r\b]|\x1b\[[0-9;]*[KGCD]|\x9b[0-9;]*[KGCD]")


def harmless(text: str) -> str:
    """Others' words, such as names of files and a server's errors, as `plain_text` would show them."""
    return plain_text(text.encode("utf-8", "replace"))


def printable(text: str) -> str:
    """`text` with a '�' for each letter that does not print; the others stay where they are."""
    return "".join(letter if letter.isprintable() else "�" for letter in text)


def plain_text(data: bytes) -> str:
    """One line of a log as a terminal would show it in the end, without anything that acts on a terminal.

    The text holds no control characters and no bidirectional overrides; bytes that are not UTF-8 become '�'.
    """
    text = data.decode("utf-8", "replace")
    if text.isprintable():
        return text
    text = text.rstrip("\r")
    if text.isprintable():
        return text
    text = _overwritten(text) if _MOVES.search(text) else _ESCAPE.sub("", text)
    if "\t" in text:
        text = _expand_tabs(text)
    if text.isprintable():
        return text
    return "".join([character if character.isprintable() else _visible(character) for character in text])


@lru_cache(maxsize=4096)
def _visible(character: str) -> str:
    """What to show for a character that does not print by itself; may be nothing."""
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    category = unicodedata.category(character)
    if category == "Cc" or character in "\u2028\u2029":
        return "\ufffd"
    if category == "Cs":
        return "\ufffd"
    if category == "Cf":
        return character if character == "\u200d" else ""  # the joiner within emoji; no direction overrides
    return character


@lru_cache(maxsize=4096)
def _width(character: str) -> int:
    """Cells that a character takes."""
    if unicodedata.east_asian_width(character) in "WF":
        return 2
    return 0 if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf") else 1


def _expand_tabs(text: str) -> str:
    if text.isascii():
        return text.expandtabs(TAB)
    parts = text.split("\t")
    column = 0
    for number, part in enumerate(parts[:-1]):
        column += sum(map(_width, part))
        spaces = TAB - column % TAB
        parts[number] = part + " " * spaces
        column += spaces
    return "".join(parts)


def _overwritten(text: str) -> str:
    """What stays on a line after carriage returns, backspaces and moves within the line; escapes taken out."""
    line = _Line()
    position = 0
    for match in _ESCAPE.finditer(text):
        line.write(text[position : match.start()])
        line.control(match["final"], match["parameters"])
        position = match.end()
    line.write(text[position:])
    return line.text()


class _Line:
    """The cells of one line of a terminal; the second cell of a wide character holds an empty text."""

    def __init__(self) -> None:
        self._cells: list[str] = []
        self._column = 0

    def text(self) -> str:
        return "".join(self._cells).rstrip(" ")

    def write(self, text: str) -> None:
        for run in re.split(r"([\r\b\t])", text):
            if run == "\r":
                self._column = 0
            elif run == "\b":
                self._column = max(0, self._column - 1)
            elif run == "\t":
                self._column = max(self._column, min(WIDEST, self._column - self._column % TAB + TAB))
            elif run:
                self._put(run)

    def control(self, final: str | None, parameters: str | None) -> None:
        """Do what a CSI sequence with this final byte does within the line; others do nothing."""
        if final is None or final not in "KGCD":
            return
        first = (parameters or "").split(";")[0][:9]
        number = min(int(first), WIDEST) if first.isdigit() else 0
        if final == "K" and number == 0:
            del self._cells[self._column :]
        elif final == "K" and number == 2:
            self._cells.clear()
        elif final == "G":
            self._column = max(0, number - 1)
        elif final == "C":
            self._column = max(self._column, min(WIDEST, self._column + max(1, number)))
        elif final == "D":
            self._column = max(0, self._column - max(1, number))

    def _put(self, text: str) -> None:
        self._fill()
        if text.isascii():
            self._place(list(text))
            return
        for character in text:
            width = _width(character)
            if width:
                self._place([character, ""] if width == 2 else [character])
            elif self._column:
                # A combining mark belongs to the cell before; to its first half if that is a wide one.
                at = self._column - (2 if self._cells[self._column - 1] == "" and self._column > 1 else 1)
                self._cells[at] += character

    def _fill(self) -> None:
        missing = self._column - len(self._cells)
        if missing > 0:
            self._cells += [" "] * missing

    def _place(self, cells: list[str]) -> None:
        """Put cells at the cursor; half of a wide character that is left over becomes a space."""
        start, end = self._column, self._column + len(cells)
        if start < len(self._cells) and self._cells[start] == "" and start:
            self._cells[start - 1] = " "
        if end < len(self._cells) and self._cells[end] == "":
            self._cells[end] = " "
        self._cells[start:end] = cells
        self._column = end
