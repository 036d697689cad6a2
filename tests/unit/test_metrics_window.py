"""Rates, shares and percentiles from samples a second apart."""

from __future__ import annotations

import math

import pytest

from qwen_tui.server.metrics import Histogram, MetricsSample, Quantile
from qwen_tui.server.metrics_window import MetricsWindow, figures_since_start
from qwen_tui.server.metrics_words import (
    finished_words,
    format_latency,
    format_per_second,
    format_quantile,
    format_share,
    format_whole,
)


def sample(second: int, **changes: object) -> MetricsSample:
    """A server that makes 100 tokens a second, and ends a request a second after 0.15 s to its first token."""
    values = {
        "running": 2.0,
        "waiting": 0.0,
        "prompt_tokens": 50.0 * second,
        "generation_tokens": 100.0 * second,
        "prefix_queries": 50.0 * second,
        "prefix_hits": 20.0 * second,
        "preemptions": 0.0,
        "finished": {"stop": float(second)},
        "ttft": Histogram((0.1, 0.2, math.inf), (0.0, float(second), float(second)), 0.15 * second),
        "started": 1000.0,
    }
    return MetricsSample(**{**values, **changes})  # type: ignore[arg-type]


def filled(seconds: int) -> MetricsWindow:
    window = MetricsWindow()
    for second in range(seconds + 1):
        window.add(500.0 + second, sample(second))
    return window


def test_one_sample_gives_what_needs_no_second_one() -> None:
    window = filled(0)
    figures = window.figures()
    assert (figures.running, figures.waiting) == (2, 0)
    assert figures.generation_rate is None
    assert figures.latencies == {}
    assert window.rate("generation_tokens", 5) is None


def test_rates_hit_rate_and_percentiles() -> None:
    figures = filled(30).figures()
    assert figures.generation_rate == pytest.approx(100)
    assert figures.prompt_rate == pytest.approx(50)
    assert figures.request_rate == pytest.approx(1)
    assert figures.hit_rate == pytest.approx(0.4)
    assert figures.finished == {"stop": 30}
    assert figures.seconds == 30
    ttft = figures.latencies["ttft"]
    assert (ttft.count, ttft.mean) == (30, pytest.approx(0.15))
    assert ttft.p50 == Quantile(pytest.approx(0.15))
    assert "e2e" not in figures.latencies


def test_the_window_is_a_rolling_minute() -> None:
    window = filled(200)
    figures = window.figures()
    assert figures.seconds == 60
    assert figures.finished == {"stop": 60}
    assert window.rate("generation_tokens", 1) == pytest.approx(100)


def test_a_gap_is_averaged_over_its_true_length() -> None:
    window = filled(10)
    window.add(530.0, sample(10, generation_tokens=2000.0))
    assert window.rate("generation_tokens", 1) == pytest.approx(1000 / 20)


def test_a_restart_begins_anew_instead_of_counting_backwards() -> None:
    window = filled(10)
    window.add(520.0, sample(1, started=2000.0))
    assert window.figures().generation_rate is None
    window.add(521.0, sample(3, started=2000.0))
    figures = window.figures()
    assert figures.generation_rate == pytest.approx(200)
    assert figures.seconds == 1


def test_nothing_looked_up_has_no_hit_rate() -> None:
    window = MetricsWindow()
    window.add(0.0, sample(5))
    window.add(1.0, sample(5))
    figures = window.figures()
    assert figures.hit_rate is None
    assert figures.generation_rate == 0
    assert figures.latencies == {}


def test_an_old_server_tells_its_hit_rate_itself() -> None:
    window = MetricsWindow()
    for second in range(3):
        window.add(second, MetricsSample(running=1.0, prefix_hit_rate=0.75))
    assert window.figures().hit_rate == 0.75
    assert window.figures().generation_rate is None


def test_json_says_what_lies_beyond_the_last_bucket() -> None:
    window = MetricsWindow()
    window.add(0.0, sample(0))
    window.add(1.0, sample(1, ttft=Histogram((0.1, 0.2, math.inf), (0.0, 0.0, 1.0), 9.0)))
    told = window.figures().to_json()
    assert told["latency_seconds"]["ttft"] == {
        "count": 1, "mean": 9.0, "p50": {"above": 0.2}, "p95": {"above": 0.2}, "p99": {"above": 0.2},
    }  # fmt: skip
    assert told["latency_seconds"]["itl"] is None
    assert told["generation_tokens_per_second"] == 100


def test_the_whole_life_of_a_server_from_one_sample() -> None:
    told = figures_since_start(sample(20))
    assert told["generation_tokens"] == 2000
    assert told["prefix_cache_hit_rate"] == 0.4
    assert told["latency_seconds"]["ttft"]["count"] == 20
    assert told["latency_seconds"]["e2e"] is None


def test_words() -> None:
    assert [format_latency(value) for value in (0.00041, 0.0417, 0.713, 2.333, 12.44, 125.2, None)] == [
        "0.41 ms", "41.7 ms", "713 ms", "2.33 s", "12.4 s", "125 s", "–",
    ]  # fmt: skip
    assert format_quantile(Quantile(2560.0, is_above=True)) == "> 2,560 s"
    assert [format_per_second(rate) for rate in (4952.4, 57.17, 0.0, None)] == ["4,952", "57.2", "0", "–"]
    assert [format_share(share) for share in (0.374, 0.011, 0.0, 1.0, None)] == ["37 %", "1.1 %", "0 %", "100 %", "–"]
    assert format_whole(12345) == "12,345"
    assert finished_words({"stop": 3, "length": 1200, "abort": 0, "new one": 1}) == "length 1,200 · stop 3 · new one 1"
