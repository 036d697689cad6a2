"""Text for reading is broken where its language breaks, and keeps its colours."""

from __future__ import annotations

from rich.cells import cell_len
from textual.content import Content

from qwen_tui.ui.widgets.prose import broken

CHINESE = "这个模型需要的显存比这张卡上空闲的多，请降低 --gpu-memory-utilization 或者换一张卡。"


def test_chinese_is_broken_between_its_characters_and_not_before_its_punctuation() -> None:
    for width in range(24, 60):
        lines = broken(Content(CHINESE), width).plain.split("\n")
        assert max(map(cell_len, lines)) <= width
        assert not [line for line in lines if line[:1] in "，。"]
        assert "".join(lines).replace(" ", "") == CHINESE.replace(" ", "")
        # A line ends early only where the next word is one that is not broken.
        assert all(cell_len(line) >= width - len("--gpu-memory-utilization") - 3 for line in lines[:-1])


def test_colours_stay_on_their_words_and_blank_lines_stay() -> None:
    text = broken(Content.assemble("one ", ("two", "bold"), " three\n\nfour"), 8)
    assert text.plain == "one two\nthree\n\nfour"
    (span,) = text.spans
    assert (text.plain[span.start : span.end], str(span.style)) == ("two", "bold")


def test_no_width_breaks_nothing() -> None:
    assert broken(Content(CHINESE), 0).plain == CHINESE
