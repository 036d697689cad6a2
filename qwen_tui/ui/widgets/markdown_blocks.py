"""Cut Markdown that is still being written into blocks that will never change, and a short open tail.

Only the tail is ever parsed again, and it stays short: a code fence, list, table or paragraph that grows long is
given away in pieces as well. The cost of the next character therefore does not depend on the length of the answer.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

from markdown_it import MarkdownIt
from markdown_it.token import Token

#: An open block longer than this is cut inside.
OPEN_LINES = 40
OPEN_CHARACTERS = 4_000
#: A single line longer than this gets a line break.
LINE_CHARACTERS = 2_000
#: What is left open when a block is cut inside.
_KEPT_LINES = 6
_SLICE = 2_000
_TAB = 4


@dataclass(frozen=True)
class Piece:
    """A run of Markdown that can be drawn by itself.

    indent: columns that the list around it takes. follows: it continues the piece before, so no gap between them.
    """

    source: str
    indent: int = 0
    follows: bool = False


def markdown_parser() -> MarkdownIt:
    """CommonMark with tables and strike-through; HTML is text, as nothing here could draw it."""
    return MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])


class PlainSplitter:
    """Text that is no Markdown: given away by lines."""

    def __init__(self) -> None:
        self._text = ""
        self._follows = False

    def feed(self, text: str) -> list[Piece]:
        """Add text; returns the pieces that are finished now."""
        self._text += text
        pieces: list[Piece] = []
        while True:
            lines = self._text.split("\n", OPEN_LINES)
            if len(lines) > OPEN_LINES:
                cut = len(self._text) - len(lines[-1])
            elif len(self._text) > OPEN_CHARACTERS:
                cut = self._text.rfind("\n", 0, OPEN_CHARACTERS) + 1 or _good_break(self._text, OPEN_CHARACTERS)
            else:
                return pieces
            pieces.append(Piece(self._text[:cut].removesuffix("\n"), 0, self._follows))
            self._text = self._text[cut:]
            self._follows = True

    @property
    def tail(self) -> Piece | None:
        """What is not finished yet."""
        return Piece(self._text, 0, self._follows) if self._text else None

    def finish(self) -> list[Piece]:
        """No more text comes."""
        rest = self.tail
        self._text = ""
        return [rest] if rest else []


class MarkdownSplitter:
    """The same for Markdown."""

    def __init__(self) -> None:
        self._parser = markdown_parser()
        # The block structure is all that is needed here.
        self._parser.core.ruler.enableOnly(["normalize", "block"])
        self._tail = ""
        self._raw = ""  # not yet dedented: the unfinished line while inside a list item that was cut
        self._indents: list[int] = []
        self._follows = False

    @property
    def tail(self) -> Piece | None:
        """What is not finished yet: at most one open block, and short."""
        text = self._tail + self._raw.lstrip(" ") if self._indents else self._tail
        return Piece(text, sum(self._indents), self._follows) if text.strip() else None

    def feed(self, text: str) -> list[Piece]:
        """Add text; returns the pieces that are finished now."""
        pieces: list[Piece] = []
        text = text.replace("\r", "")  # a parser would take it for a line end, and lines are counted here
        for start in range(0, len(text), _SLICE):
            self._take(text[start : start + _SLICE], pieces)
        return pieces

    def finish(self) -> list[Piece]:
        """No more text comes."""
        pieces: list[Piece] = []
        if self._raw:
            self._take("\n", pieces)
        if rest := self.tail:
            pieces.append(rest)
        self._tail = ""
        self._follows = False
        return pieces

    def _take(self, text: str, pieces: list[Piece]) -> None:
        if not self._indents:
            self._tail += text
        else:
            self._raw += text
            *lines, self._raw = self._raw.split("\n")
            for line in lines:
                self._take_indented(line, pieces)
            self._leave_item()
        ends_line = "\n" in text
        last_line = self._tail.rfind("\n") + 1
        while len(self._tail) - last_line > LINE_CHARACTERS:
            cut = last_line + _good_break(self._tail[last_line:], LINE_CHARACTERS)
            self._tail = self._tail[:cut] + "\n" + self._tail[cut:]
            last_line = cut + 1
            ends_line = True
        if ends_line:
            self._advance(pieces)

    def _take_indented(self, line: str, pieces: list[Piece]) -> None:
        """A whole line while inside a list item whose beginning is given away already."""
        line = line.expandtabs(_TAB)
        if line.strip():
            depth = len(line) - len(line.lstrip(" "))
            if depth < sum(self._indents):
                self._advance(pieces)
                apart = self._tail.endswith("\n\n") and not re.match(r" *([-+*]|\d{1,9}[.)]) ", line)
                if self._tail.strip():
                    self._give(self._tail, pieces)
                self._tail = ""
                while self._indents and depth < sum(self._indents):
                    self._indents.pop()
                self._follows = not apart
        self._tail += line[sum(self._indents) :] + "\n"

    def _leave_item(self) -> None:
        if not self._indents:
            self._tail += self._raw
            self._raw = ""

    def _give(self, source: str, pieces: list[Piece], follows: bool = False) -> None:
        pieces.append(Piece(source.strip("\n"), sum(self._indents), self._follows))
        self._follows = follows

    def _advance(self, pieces: list[Piece]) -> None:
        while self._advance_once(pieces):
            pass

    def _advance_once(self, pieces: list[Piece]) -> bool:
        """Give away what is finished of the tail; True if the rest may hold more that can be given away."""
        whole = self._tail[: self._tail.rfind("\n") + 1]
        if not whole.strip():
            return False
        tokens = self._parser.parse(whole)
        starts = [token for token in tokens if token.level == 0 and token.nesting >= 0 and token.map]
        if not starts:
            return False
        lines = whole.split("\n")
        first = _first_line(starts[-1])
        for token, after in itertools.pairwise(starts):
            self._give("\n".join(lines[_first_line(token) : _first_line(after)]), pieces)
        if first:
            self._tail = self._tail[_offset(lines, first) :]
            lines = lines[first:]
        if len(lines) <= OPEN_LINES and len(self._tail) <= OPEN_CHARACTERS:
            return False
        return self._cut_inside(starts[-1], tokens, first, lines, pieces)

    def _cut_inside(self, block: Token, tokens: list[Token], base: int, lines: list[str], pieces: list[Piece]) -> bool:
        """The open block is long: give its beginning away."""
        if block.type == "fence":
            return self._cut_fence(block, lines, pieces)
        if block.type == "table_open":
            return self._cut_table(lines, pieces)
        if block.type in ("bullet_list_open", "ordered_list_open"):
            return self._cut_list(block, tokens, base, lines, pieces)
        return self._cut_lines(lines, pieces)

    def _cut_lines(self, lines: list[str], pieces: list[Piece]) -> bool:
        """A paragraph, a quote: cut before a line that can't be taken for the beginning of something else."""
        cut = max(1, len(lines) - 1 - _KEPT_LINES)
        quiet = next((n for n in range(cut, cut // 2, -1) if re.match(r"[^\W\d_]|>", lines[n])), 0)
        cut = quiet or cut
        if cut >= len(lines) - 1:
            return False
        self._give("\n".join(lines[:cut]), pieces, follows=True)
        self._tail = self._tail[_offset(lines, cut) :]
        return False

    def _cut_fence(self, block: Token, lines: list[str], pieces: list[Piece]) -> bool:
        from qwen_tui.ui.widgets.code_cuts import cut_line

        code = lines[1:-1]
        cut = cut_line(code, block.info, len(code) - _KEPT_LINES, OPEN_LINES * 5)
        if not cut:
            return False
        self._give("\n".join([lines[0], *code[:cut], block.markup]), pieces, follows=True)
        self._tail = lines[0] + "\n" + self._tail[_offset(lines, cut + 1) :]
        return False

    def _cut_table(self, lines: list[str], pieces: list[Piece]) -> bool:
        cut = len(lines) - 1 - 2
        if cut < 4:
            return False
        self._give("\n".join(lines[:cut]), pieces, follows=True)
        self._tail = "\n".join(lines[:2]) + "\n" + self._tail[_offset(lines, cut) :]
        return False

    def _cut_list(self, block: Token, tokens: list[Token], base: int, lines: list[str], pieces: list[Piece]) -> bool:
        own = tokens[tokens.index(block) :]
        items = [token for token in own if token.type == "list_item_open" and token.level == 1]
        last = _first_line(items[-1]) - base
        if len(items) > 1:
            self._give("\n".join(lines[:last]), pieces, follows=True)
            self._tail = self._tail[_offset(lines, last) :]
            if block.type == "ordered_list_open":
                # Readers count on from the first number, whatever the others say.
                number = int(block.attrs.get("start", 1)) + len(items) - 1
                self._tail = re.sub(r"^(\s*)\d+", rf"\g<1>{number}", self._tail, count=1)
            return True
        children = [token for token in own if token.level == 2 and token.nesting >= 0 and token.map]
        cut = _first_line(children[-1]) - base if len(children) > 1 else len(lines) - 1 - _KEPT_LINES
        if cut < 1 or cut >= len(lines) - 1:
            return False
        return self._enter_item(lines, cut, pieces)

    def _enter_item(self, lines: list[str], cut: int, pieces: list[Piece]) -> bool:
        """Give the head of a list item away and go on inside it, with its indentation taken off."""
        match = re.match(r" *(?:[-+*]|\d{1,9}[.)]) {1,4}", lines[0].expandtabs(_TAB))
        indent = len(match.group()) if match else 2
        self._give("\n".join(lines[:cut]), pieces, follows=True)
        rest = self._tail[_offset(lines, cut) :]
        self._tail = ""
        if not self._indents:
            self._raw = ""
        outer = sum(self._indents)
        self._indents.append(indent)
        # What was taken in so far has lost the outer indentation; give it back, the lines go through the same gate.
        *whole, unfinished = rest.split("\n")
        self._raw = " " * outer + unfinished if outer and unfinished else unfinished or self._raw
        for line in whole:
            self._take_indented(" " * outer + line if line.strip() else line, pieces)
        return False


def _first_line(token: Token) -> int:
    return token.map[0] if token.map else 0


def _offset(lines: list[str], number: int) -> int:
    """Where line `number` begins in the joined text."""
    return sum(len(line) + 1 for line in lines[:number])


def _good_break(text: str, limit: int) -> int:
    """Where to cut a long line: after a sentence or a word, before something that reads as plain text."""
    best = 0
    for match in re.finditer(r"(?:[。！？；，]|[.!?;,]? )(?=[^\W\d_])", text[limit // 2 : limit]):
        best = limit // 2 + match.end()
    return best or limit
