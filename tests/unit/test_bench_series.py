"""The server's and the GPUs' figures beside a run: one axis, counters apart from gauges, kept and read again."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from qwen_tui.bench.series import Series, Watcher, gained, throttle_texts
from qwen_tui.hardware.gpus import Gpu
from tests.conftest import until

CARD = Gpu(0, "GPU-1", "H200", 140, 40, 100, utilization=50, power=300.0, clock_sm=1980, throttle=0x04)


class Card:
    """A machine with one card, busier at each look."""

    def __init__(self) -> None:
        self.looks = 0

    async def read(self) -> Any:
        self.looks += 1
        return SimpleNamespace(gpus=[replace(CARD, utilization=10 * self.looks, throttle=0x04 * (self.looks == 2))])


async def test_a_watcher_looks_before_during_and_after(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qwen_tui.bench.series._EVERY", 0.02)
    told = 0

    async def observe() -> dict[str, float]:
        nonlocal told
        told += 1
        return {"running": 2.0, "kv_usage": 0.1, "generation_tokens": 100.0 * told, "preemptions": float(told),
                "prefix_queries": 10.0 * told, "prefix_hits": 5.0 * told}  # fmt: skip

    card = Card()
    watcher = Watcher(observe, card)  # type: ignore[arg-type]
    async with watcher.watching():
        await until(lambda: told >= 4)
    values = watcher.series.values
    assert len(watcher.series.at) == told == card.looks
    assert values["server.preemptions"] == [float(number) for number in range(told)], "since the run began"
    assert values["server.prefix_hit_rate"][1:] == [0.5] * (told - 1)
    assert values["server.prefix_hit_rate"][0] is None
    assert all(rate > 0 for rate in values["server.generation_rate"][1:])  # type: ignore[operator]
    assert values["gpu0.utilization"][:3] == [0.1, 0.2, 0.3]
    assert values["gpu0.throttled"][:3] == [0.0, 1.0, 0.0]
    assert watcher.series.reasons == {"gpu0": 4}
    difference = gained(watcher.before, watcher.after)
    assert difference["generation_tokens"] == 100.0 * (told - 1)
    assert "running" not in difference, "a gauge has no difference"


def test_a_server_that_was_started_anew_has_no_difference() -> None:
    assert gained({"a": 5.0}, {"a": 1.0}) == {}
    assert gained(None, {"a": 1.0}) == {}


def test_a_series_is_put_on_the_axis_of_the_run_and_summed_up() -> None:
    series = Series(reasons={"gpu0": 0x24})
    for second in range(10):
        series.add(100.0 + second, {"gpu0.throttled": float(second > 7), "late": 1.0} if second > 4 else {"x": 2.0})
    shifted = series.shifted(105.0)
    assert shifted.at == [-2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0]
    assert shifted.values["late"] == [None, None, 1.0, 1.0, 1.0, 1.0, 1.0]
    summary = shifted.summary(3.5)
    assert summary["gpu0.throttled"] == {"mean": 0.25, "min": 0.0, "max": 1.0, "reasons": 0x24}
    assert "x" not in summary
    (text,) = throttle_texts(summary)
    assert "25%" in text
    assert "power limit, temperature" in text
    assert Series.from_json(shifted.to_json()) == shifted
    with pytest.raises(ValueError, match="length"):
        Series.from_json({"at": [1.0], "values": {"a": []}})


def test_a_long_run_does_not_fill_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qwen_tui.bench.series._MOST", 10)
    series = Series()
    for second in range(100):
        series.add(second, {"a": second})
    assert len(series.at) <= 10
    assert series.at[0] == 0.0
    assert series.values["a"] == series.at


async def test_nothing_to_watch_costs_nothing() -> None:
    watcher = Watcher(None, None)
    async with watcher.watching():
        await asyncio.sleep(0)
    assert watcher.series == Series()
