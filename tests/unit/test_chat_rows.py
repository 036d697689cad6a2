"""Markdown in pieces, and drawn as rows: nothing lost, nothing dangerous, nothing too wide."""

from __future__ import annotations

import itertools
import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from qwen_tui.chat.harmless import harmless
from qwen_tui.ui.widgets.block_list import Block, BlockList
from qwen_tui.ui.widgets.code_cuts import cut_line
from qwen_tui.ui.widgets.markdown_blocks import OPEN_CHARACTERS, MarkdownSplitter, Piece, PlainSplitter
from qwen_tui.ui.widgets.markdown_rows import Look, RowRenderer
from qwen_tui.ui.widgets.wrapping import break_offsets

RENDERER = RowRenderer(Look())


def split(text: str, step: int = 7) -> tuple[list[Piece], int]:
    """The pieces, and the longest tail there was."""
    splitter, pieces, longest = MarkdownSplitter(), [], 0
    for start in range(0, len(text), step):
        pieces += splitter.feed(text[start : start + step])
        longest = max(longest, len(splitter.tail.source) if splitter.tail else 0)
    return pieces + splitter.finish(), longest


def rows(text: str, width: int = 60) -> list[str]:
    return [strip.text.rstrip() for strip in RENDERER.markdown(Piece(text), width)]


def drawn(pieces: list[Piece], width: int = 60) -> list[str]:
    return [strip.text.rstrip() for piece in pieces for strip in RENDERER.markdown(piece, width)]


LONG = {
    "code": "```python\n"
    + "".join(f'def f{n}():\n    """a\n\n    b{n}"""\n    return {n}\n\n' for n in range(300))
    + "```\n",
    "list": "".join(f"- item {n}\n  more\n" for n in range(500)),
    "numbers": "".join(f"{n}. item\n" for n in range(1, 500)),
    "nested list": "1. top\n" + "".join(f"   - inner {n}\n     more\n" for n in range(500)) + "2. last\n",
    "one item": "- head\n" + "".join(f"  line {n} of it\n" for n in range(500)),
    "table": "| a | b |\n|---|--:|\n" + "".join(f"| {n} | x |\n" for n in range(500)),
    "quote": "".join(f"> line {n}\n" for n in range(500)),
    "lines": "".join(f"line {n} of a paragraph\n" for n in range(800)),
    "one line": "".join(f"word{n} " for n in range(8000)),
    "one Chinese line": "你好，世界。" * 5000,
    "one line of code": "```\n" + "x" * 60_000 + "\n```",
}


@pytest.mark.parametrize("kind", LONG)
def test_a_block_without_end_stays_cheap_and_loses_nothing(kind: str) -> None:
    text = LONG[kind]
    pieces, longest = split(text)
    assert longest < 4 * OPEN_CHARACTERS
    assert len(pieces) > 3
    assert max(len(piece.source) for piece in pieces) < 4 * OPEN_CHARACTERS
    words = re.findall(r"\w+", "\n".join(drawn(pieces, 200)))
    for word in re.findall(r"(?:item|inner|line|b|f|word)\s?\d+", text):
        assert word.split()[-1] in words or word.replace(" ", "") in words
    if kind == "numbers":
        numbers = [int(row.split(".")[0]) for row in drawn(pieces) if row.strip()]
        assert numbers == list(range(1, 500))
    if kind == "one line of code":
        assert "".join(drawn(pieces, 200)).replace(" ", "") == "x" * 60_000


def test_pieces_drawn_apart_look_like_the_whole() -> None:
    text = (
        "# Title\n\nA *para*\nover lines.\n\n- a\n  - b\n\n    more\n- c\n\n```py\nx = 1\n\ny = 2\n```\n\n"
        "> q\n\n| a | b |\n|--|--|\n| 1 | 2 |\n\n1. x\n2. y\n\nSetext\n===\n\nend"
    )
    for step in (1, 3, 1000):
        pieces, _longest = split(text, step)
        apart = "\n\n".join("\n".join(drawn([piece])) for piece in pieces)
        assert apart == "\n".join(rows(text))


def test_code_is_never_cut_inside_a_string() -> None:
    lines = ['s = """', *["text"] * 50, '"""', "x = 1", "y = 2", *["z = 3"] * 10]
    assert cut_line(lines, "python", 40, 1000) == 0
    assert cut_line(lines, "python", 58, 1000) == 58
    assert cut_line(lines, "python", 40, 60) == 40
    assert cut_line(lines, "no such language", 40, 1000) == 40


def test_what_it_looks_like() -> None:
    assert rows("Some **bold** `code`\n[link](http://x.y) <b>html</b> ![pic](a.png)", 40) == [
        "Some bold code link (http://x.y)",
        "<b>html</b> ▣ pic (a.png)",
    ]
    assert rows("- a\n- b\n  1. c\n     more\n\n> q") == ["• a", "• b", "  1. c more", "", "▌ q"]
    assert rows("| 名称 | n |\n|---|--:|\n| 你好 | 10 |", 30) == ["名称    n", "─────────", "你好   10"]
    assert rows("中文\n换行 and\nEnglish") == ["中文换行 and English"]


@pytest.mark.parametrize("width", [10, 11, 20])
def test_chinese_breaks_anywhere_but_not_before_its_punctuation(width: int) -> None:
    text = "这是一个（很长的）句子，vLLM 支持“高吞吐量”的推理。它说：好的！"
    lines = [strip.text.rstrip() for strip in RENDERER.plain(text, width)]
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    for line in lines:
        assert cell_len(line) <= width
        assert line[0] not in "，。）”：！"
        assert line[-1] not in "（“"
    assert len(lines) <= -(-cell_len(text) // (width - 5))


TEXT = st.one_of(
    st.text(max_size=200),
    st.lists(
        st.sampled_from(
            ["# h", "- a", "  - b", "1. c", "> q", "```py", "```", "| a | b |", "|---|---|", "", "text", "    code",
             "***", "[l](u)", "`c", "**b", "\x1b[31m",
             "&#x202e;", "<p>", "你好", "👨‍👩‍👧", "\t", "---", "===", "~~~", "![", "\\"]
        ),
        max_size=30,
    ).map("\n".join),
)  # fmt: skip


@given(TEXT, st.integers(1, 30), st.sampled_from([2, 9, 40]))
@settings(max_examples=300, deadline=None)
def test_any_text_can_be_drawn_and_nothing_in_it_reaches_the_terminal(text: str, step: int, width: int) -> None:
    pieces, _longest = split(text, step)
    for piece in pieces:
        for strip in RENDERER.markdown(piece, width):
            assert strip.cell_length == width
            for character in strip.text:
                assert unicodedata.category(character) not in ("Cc", "Cs"), repr(strip.text)
                assert character not in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029"
    for strip in RENDERER.plain(text, width):
        assert strip.cell_length == width
        assert "\x1b" not in strip.text


@given(TEXT, st.integers(1, 30))
@settings(max_examples=200, deadline=None)
def test_plain_text_in_pieces_is_the_same_text(text: str, step: int) -> None:
    splitter, pieces = PlainSplitter(), []
    for start in range(0, len(text), step):
        pieces += splitter.feed(text[start : start + step])
    pieces += splitter.finish()
    assert "".join(piece.source for piece in pieces).replace("\n", "") == text.replace("\n", "")


@given(st.text(), st.integers(2, 30))
@settings(deadline=None)
def test_no_line_is_wider_than_asked(text: str, width: int) -> None:
    line = harmless(text).replace("\n", " ").replace("\t", " ")
    cuts = [0, *break_offsets(line, width), len(line)]
    assert cuts == sorted(cuts)
    for begin, end in itertools.pairwise(cuts):
        assert cell_len(line[begin:end].rstrip()) <= width


def test_harmless() -> None:
    assert harmless("a\r\nb\tc\x1b[1m\x07\x9b\x7f\u202e\ud800\U000e0041\u2028") == "a\nb\tc␛[1m␇\ufffd␡‹U+202E›\ufffd\n"


def test_block_list_finds_its_rows_and_keeps_few() -> None:
    blocks = BlockList(RENDERER, width=20, kept_rows=50)
    for number in range(100):
        blocks.append(Block(lambda renderer, width, n=number: renderer.plain(f"{n}a\n{n}b", width), gap=1, indent=2))
    assert blocks.height == 300
    assert [blocks.row(row).text.rstrip() for row in (0, 1, 2, 3, 298, 299, 300)] == [
        "", "  0a", "  0b", "", "  99a", "  99b", "",
    ]  # fmt: skip
    assert sum(block.rows is not None for block in blocks.blocks) <= 25
    blocks.truncate(10)
    assert blocks.height == 30
    blocks.reset(RENDERER, 5)
    while (index := blocks.next_unmeasured()) is not None:
        blocks.measure(index)
    assert blocks.height == 30
    blocks.append(Block(lambda renderer, width: renderer.plain("abcd", width), indent=2))
    assert [blocks.row(row).text for row in (30, 31)] == ["  ab ", "  cd "]
