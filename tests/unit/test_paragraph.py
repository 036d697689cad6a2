"""Lines of a card on the command line: no wider than asked, in cells, in English and in Chinese."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from qwen_tui.headless.paragraph import filled

ENGLISH = "Start with a smaller --max-model-len, or give the engine more memory (--gpu-memory-utilization)."
CHINESE = (
    "结束占用 GPU 的其他进程（用 `nvidia-smi` 查看；崩溃的服务可能留下 VLLM:: 进程），"
    "或调小 --gpu-memory-utilization 再启动。"
)


@pytest.mark.parametrize("text", [ENGLISH, CHINESE])
@pytest.mark.parametrize("width", [40, 41, 60, 100])
def test_no_line_is_wider(text: str, width: int) -> None:
    lines = filled(text, width, "处理", 8).split("\n")
    assert all(cell_len(line) <= width for line in lines)
    assert lines[0].startswith("处理    ")
    assert all(line.startswith(" " * 8) for line in lines[1:])
    assert "".join("".join(lines).removeprefix("处理").split()) == "".join(text.split())


def test_a_line_never_begins_with_what_ends_a_clause() -> None:
    for width in range(20, 80):
        lines = filled(CHINESE, width).split("\n")
        assert not any(line[0] in "，。、；：）" for line in lines if line)


def test_a_path_stays_whole() -> None:
    path = "/root/autodl-tmp/" + "x" * 60
    assert filled(f"There is no {path} here", 40).split("\n") == ["There is no", path, "here"]


def test_nothing() -> None:
    assert filled("", 40, "Do", 8) == "Do"
