"""What the Bench room draws of figures: seconds in columns, histograms, the curve of a ladder, runs side by side."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from qwen_tui.bench.generator import Tick
from qwen_tui.bench.health import ClientHealth
from qwen_tui.bench.ledger import Run
from qwen_tui.bench.live import LatencyCounts, Live
from qwen_tui.bench.load import Load
from qwen_tui.bench.price import HourlyPrice
from qwen_tui.bench.series import Series
from qwen_tui.bench.statistics import Distribution, Figures, Limits
from qwen_tui.bench.workload import Workload
from qwen_tui.ui.widgets.bench_curve import Dot, picture
from qwen_tui.ui.widgets.bench_ledger import comparison
from qwen_tui.ui.widgets.bench_live import around, per_second, stretched
from qwen_tui.ui.widgets.bench_words import run_text, spread_text, table


def kept(number: int = 1, rate: float = 100.0, **changes: Any) -> Run:
    """A run of 25 requests; `rate` output tokens a second."""
    times = Distribution(25, 0.1, 0.01, 0.1, 0.12, 0.13, 0.15, 0.2)
    figures = Figures(
        duration=10.0, completed=25, total_input_tokens=1600, total_output_tokens=3200, request_throughput=2.5,
        output_throughput=rate, total_token_throughput=rate * 1.5, ttft=times, tpot=times, itl=times, e2el=times,
        tokens_per_chunk=1.0,
    )  # fmt: skip
    run = Run(
        f"20261122-10000{number}-00a{number}", 1_800_000_000.0 + number, "http://127.0.0.1:8000/v1", "qwen2", "chat",
        Workload(), Load(streams=25, count=25), Limits(), 7, figures, ClientHealth(()), tokenizer="server",
        about={"argv": ["vllm"]},
    )  # fmt: skip
    return replace(run, **changes)


def test_a_run_s_seconds_and_what_was_around_it_share_one_axis() -> None:
    live = Live()
    for at in range(4):
        live.take(Tick("running", float(at), at + 1, 10 * at))
    assert live.zero is not None
    series = Series()
    for at, power in ((-1.0, 50.0), (0.4, 300.0), (1.5, 310.0), (2.5, 320.0)):
        found = {"server.kv_usage": 0.5, "gpu0.power": power, "gpu1.power": 1.0, "gpu0.utilization": 0.9}
        series.add(live.zero + at, found)
    seconds = per_second(live, series, 5)
    # The second that is not over yet is not drawn.
    assert seconds["output"] == [0.0, 10.0, 10.0, None, None]
    assert seconds["running"] == [1, 2, 3, None, None]
    assert seconds["gpu.power"] == [301.0, 311.0, 321.0, None, None]
    assert seconds["server.kv_usage"] == [0.5, 0.5, 0.5, None, None]
    lines = around(series, 100).plain
    assert "KV cache 50 %" in lines
    assert "GPU0  90 %  320 W" in lines
    live.take(Tick("finishing"))
    assert per_second(live, series, 4)["output"] == [0.0, 10.0, 10.0, 10.0]


@pytest.mark.parametrize(
    ("width", "drawn"), [(8, [1, 1, 1, 1, 3, 3, None, None]), (4, [1, 1, 3, None]), (2, [1, 3]), (1, [5 / 3])]
)
def test_seconds_are_stretched_and_squeezed(width: int, drawn: list[float | None]) -> None:
    assert stretched([1.0, 1.0, 3.0, None], width) == drawn


def test_a_histogram_has_its_ends_and_its_peak() -> None:
    counts = LatencyCounts()
    counts.add([0.1] * 50 + [0.2] * 5)
    low, _ms, rest = spread_text(counts, 30).partition(" ms ")
    assert float(low) == pytest.approx(100, rel=0.01)
    bars, _blank, high = rest.removesuffix(" ms").rpartition(" ")
    assert float(high) == pytest.approx(200, rel=0.01)
    assert (bars[0], bars[-1]) == ("█", "▁") or (bars[0], bars[-1]) == ("▇", "▁")
    assert spread_text(LatencyCounts(), 30) == ""


def test_the_knee_is_marked_in_the_curve() -> None:
    dots = [Dot(1, 100, 0.5), Dot(2, 200, 0.5), Dot(4, 390, 0.6), Dot(8, 400, 1.9)]
    lines = picture(dots, 4, 60, 10).plain.splitlines()
    assert len(lines) == 9
    drawn = "\n".join(lines[1:])
    assert drawn.count("◆") == 1
    assert drawn.count("●") == 3
    for level in ("1", "2", "8"):
        assert f"●{level}" in drawn or f"{level}●" in drawn
    assert lines[1].startswith("  2.00 s│")
    assert lines[-1].endswith("500")
    assert all(len(line) <= 60 for line in lines[1:])


def test_runs_side_by_side_tell_percent_and_caveats() -> None:
    a, b = kept(1, 100.0), kept(2, 125.0, load=Load(streams=50, count=25), partial=True)
    text = comparison([a, b], [a, b], 120).plain
    row = next(line for line in text.splitlines() if line.startswith("output tokens"))
    assert row.split()[-4:] == ["100.00", "125.00", "+25.0%", "better"]
    assert "! The load was not the same" in text
    assert f"! {b.id} was stopped before its end" in text
    narrow = comparison([a, b, kept(3, 50.0)], [a, b], 70).plain
    assert "+25.0% better" in narrow
    assert "-50.0% worse" in narrow
    assert max(map(len, narrow.splitlines()[:20])) <= 70


def test_repeated_runs_are_compared_with_an_interval() -> None:
    old = [kept(n, rate) for n, rate in ((1, 100.0), (2, 101.0), (3, 99.0))]
    new = [kept(n, rate, about={"argv": ["vllm", "--fast"]}) for n, rate in ((4, 120.0), (5, 121.0), (6, 119.0))]
    text = comparison([old[0], new[0]], [*old, *new], 120).plain
    row = next(line for line in text.splitlines() if line.startswith("output tokens"))
    assert "+20.0% [+" in row
    assert row.endswith("better")
    assert "95 % interval" in text


def test_a_kept_run_is_told_whole_and_harmless() -> None:
    run = kept(1, 100.0, note="\x1b[2J evil", partial=True, tags=("a",), about={"gpus": ["H200"], "driver": "550.1"})
    text = run_text(run, HourlyPrice(3.6, "USD"), 100).plain
    assert "A million output tokens cost 10 USD" in text
    for part in ("random 64 in, 128 out", "25 streams", "H200", "550.1", run.id, "! It was stopped"):
        assert part in text
    assert "\x1b" not in text
    assert next(line for line in text.splitlines() if line.startswith("TTFT")).split()[1:5] == [
        "100",
        "ms",
        "100",
        "ms",
    ]
    offline = replace(run, kind="offline", base_url="", figures=Figures(completed=3))
    assert "qwen2" in run_text(offline, None, 100).plain


def test_a_table_is_never_wider_than_asked() -> None:
    assert table([("模型", "1,234"), ("b", "5")], 8) == ["模型  1…", "b      …"]
