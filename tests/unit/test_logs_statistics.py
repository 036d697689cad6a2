"""The engine's statistics are read in the wordings of several versions, and stand in columns."""

from __future__ import annotations

import pytest

from qwen_tui.logs.parse import LogLine, parse
from qwen_tui.logs.reader import RawLine
from qwen_tui.logs.statistics import figures_of


def line(text: str) -> LogLine:
    data = text.encode()
    return parse(RawLine(0, len(data) + 1, data, 0, True))


NEW = (
    "(APIServer pid=9) INFO 11-22 16:24:49 [loggers.py:271] Engine 000: Avg prompt throughput: {prompt} tokens/s, "
    "Avg generation throughput: 364.5 tokens/s, Running: {running} reqs, Waiting: 0 reqs, "
    "GPU KV cache usage: 1.2%, Prefix cache hit rate: 45.6%"
)


def test_the_figures_of_a_line() -> None:
    found = figures_of(line(NEW.format(prompt="1498.9", running="231")))
    assert found is not None
    assert (found.engine, found.time) == ("Engine 000", "16:24:49")
    assert [(figure.label, figure.value, figure.unit) for figure in found.figures] == [
        ("prompt", 1498.9, "tokens/s"),
        ("gen", 364.5, "tokens/s"),
        ("running", 231, "reqs"),
        ("waiting", 0, "reqs"),
        ("KV", 1.2, "%"),
        ("prefix hit", 45.6, "%"),
    ]
    assert "prompt   1,498.9 tok/s" in found.columns
    assert "running   231  waiting     0" in found.columns


def test_columns_stand_below_each_other() -> None:
    one = figures_of(line(NEW.format(prompt="0.0", running="0")))
    two = figures_of(line(NEW.format(prompt="12844.6", running="1024")))
    assert one is not None
    assert two is not None
    assert len(one.columns) == len(two.columns)
    assert one.columns.index("gen") == two.columns.index("gen")


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        (
            "INFO 01-02 03:04:05 metrics.py:455] Avg prompt throughput: 1.5 tokens/s, Avg generation throughput: 2.0 "
            "tokens/s, Running: 1 reqs, Swapped: 0 reqs, Pending: 3 reqs, GPU KV cache usage: 0.1%, "
            "CPU KV cache usage: 0.0%.",
            ["prompt", "gen", "running", "swapped", "waiting", "KV", "CPU KV"],
        ),
        (
            "INFO 11-22 16:24:49 [loggers.py:1] Engine 001: Avg prompt throughput: 6.8 tokens/s, Running: 0 reqs, "
            "Preemptions: 2, CPU KV cache usage: 0.0%, External prefix cache hit rate: 1.0%, MM cache hit rate: 2.0%, "
            "Something new: 7 widgets",
            ["prompt", "running", "preempted", "KV", "ext hit", "mm hit", "Something new"],
        ),
    ],
)
def test_other_versions_say_it_otherwise(text: str, labels: list[str]) -> None:
    found = figures_of(line(text))
    assert found is not None
    assert [figure.label for figure in found.figures] == labels


@pytest.mark.parametrize(
    "text",
    [
        "INFO Running: 1 reqs, Waiting: 2 reqs",
        "INFO SpecDecoding metrics: Mean acceptance length: 2.0, Accepted throughput: 1.0 tokens/s",
        "(EngineCore pid=1) ERROR broke while running with low throughput",
        "",
    ],
)
def test_other_lines_are_no_statistics(text: str) -> None:
    assert figures_of(line(text)) is None
