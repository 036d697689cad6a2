"""Any text drawn as it streams: nothing but colours reaches the terminal, and how it was cut makes no difference."""

from __future__ import annotations

import io
import itertools
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from qwen_tui.ui.widgets.markdown_blocks import MarkdownSplitter, Piece, PlainSplitter
from qwen_tui.ui.widgets.markdown_rows import Look, RowRenderer
from tests.unit.test_chat_fuzz_stream import FUZZ

RENDERER = RowRenderer(Look())
CONSOLE = Console(file=io.StringIO(), force_terminal=True, color_system="truecolor", legacy_windows=False)
COLOURS = re.compile("\x1b\\[[0-9;]*m")
BIDI = set("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029")

CONTROLS = ["\x1b[31m", "\x1b]52;c;eA==\x07", "\x1b]8;;http://x\x1b\\", "\x9b2J", "\x90q", "\x00", "\x07", "\r", "\x7f"]
INVISIBLE = ["\u202e", "\u200b", "\u200d", "\ufeff", "\U000e0041", "\u2028", "\u0301" * 5]
MARKUP = ["[bold]", "[/]", "[link=x]y[/link]", "&#27;[0m", "&#x202e;", "&amp;", "<b>"]
FENCES = ["```", "```py\n", "~~~\n", "\n```\n", "`", "    ", "\t"]
BLOCKS = ["| a | b |\n", "|---|--:|\n", "| 1 |", "\n", "\n\n", "# ", "- ", "  - ", "1. ", "> ", "---\n", "===\n"]
INLINE = [
    "***",
    "**",
    "_",
    "[a](",
    "](x)",
    "![",
    "\\",
    "a",
    "word ",
    "https://x.y ",
    "$x$",
    "你好",
    "👨\u200d👩\u200d👧",
]
FRAGMENT = st.sampled_from([*CONTROLS, *INVISIBLE, *MARKUP, *FENCES, *BLOCKS, *INLINE])
TEXT = st.lists(FRAGMENT, max_size=25).map("".join)


def cut_up(splitter: MarkdownSplitter | PlainSplitter, text: str, cuts: list[int]) -> list[Piece]:
    """The pieces of a text that comes in parts; the tail is drawn between them, as on the screen."""
    places = sorted({0, len(text), *(place % (len(text) + 1) for place in cuts)})
    pieces: list[Piece] = []
    for begin, end in itertools.pairwise(places):
        pieces += splitter.feed(text[begin:end])
        if splitter.tail is not None:
            check(RENDERER.markdown(splitter.tail, 30), 30)
    return pieces + splitter.finish()


def check(rows: list, width: int) -> str:  # type: ignore[type-arg]
    """The rows as text, after looking at what a terminal would get of them."""
    lines = []
    for row in rows:
        sent = COLOURS.sub("", row.render(CONSOLE))
        assert row.cell_length == width
        for character in sent:
            assert unicodedata.category(character) not in ("Cc", "Cs"), ascii(sent)
            assert character not in BIDI, ascii(sent)
        lines.append(row.text)
    return "\n".join(lines)


@FUZZ
@given(TEXT, st.lists(st.integers(0, 400), max_size=5), st.sampled_from([9, 40]))
def test_markdown_is_the_same_however_it_comes_and_harms_no_terminal(text: str, cuts: list[int], width: int) -> None:
    def drawn(pieces: list[Piece]) -> str:
        return "\n".join(check(RENDERER.markdown(piece, width), width) for piece in pieces)

    assert drawn(cut_up(MarkdownSplitter(), text, cuts)) == drawn(cut_up(MarkdownSplitter(), text, []))


@FUZZ
@given(TEXT, st.lists(st.integers(0, 400), max_size=5))
def test_plain_text_is_the_same_however_it_comes_and_harms_no_terminal(text: str, cuts: list[int]) -> None:
    whole = check(RENDERER.plain(text, 20), 20)
    pieces = cut_up(PlainSplitter(), text, cuts)
    assert [piece.source for piece in pieces] == ([text] if text else [])
    assert "\n".join(check(RENDERER.plain(piece.source, 20), 20) for piece in pieces) == (whole if text else "")


@pytest.mark.parametrize("unit", ["a", "你", "`", "[", "*a ", "\x1b[1m", "| a ", "> ", "- ", "<"])
def test_a_line_without_end(unit: str) -> None:
    size = 2**20 if unit == "a" else 60_000
    splitter = MarkdownSplitter()
    text = (unit * size)[:size]
    pieces = [piece for start in range(0, size, 999) for piece in splitter.feed(text[start : start + 999])]
    pieces += splitter.finish()
    assert sum(len(piece.source.replace("\n", "")) for piece in pieces) >= size * 0.9
    assert max(len(piece.source) for piece in pieces) < 10_000
    for piece in (pieces[0], pieces[-1]):
        check(RENDERER.markdown(piece, 80), 80)
