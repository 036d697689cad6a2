"""The figures of a run, against values worked out by hand; the arrivals of a load; the client's health in words."""

from __future__ import annotations

import itertools
import math
import random
import statistics
from array import array

import pytest

from qwen_tui.bench.generator import ProcessHealth, Tick
from qwen_tui.bench.health import ClientHealth
from qwen_tui.bench.live import LatencyCounts, Live
from qwen_tui.bench.load import Load
from qwen_tui.bench.processes import processes_for, seconds_per_chunk
from qwen_tui.bench.statistics import Distribution, Figures, Limits, figures_of, quantile
from qwen_tui.errors import UsageError
from qwen_tui.workers.bench_record import Record, unpack_all


def answered(index: int, sent: float, *stamps: float, tokens: int = -1, prompt: int = 10) -> Record:
    return Record(
        index,
        "ok",
        sent,
        sent,
        stamps[-1] + 0.001,
        stamps[0],
        200,
        prompt,
        tokens,
        array("d", [sent + s for s in stamps]),
    )


def test_percentiles_are_interpolated_as_numpy_does() -> None:
    assert quantile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.5
    assert quantile([1.0, 2.0, 3.0, 4.0], 0.9) == pytest.approx(3.7)
    assert quantile([5.0], 0.99) == 5.0
    found = Distribution.of([4.0, 1.0, 3.0, 2.0])
    assert (found.mean, found.median, found.max) == (2.5, 2.5, 4.0)
    assert found.std == pytest.approx(statistics.pstdev([1, 2, 3, 4]))
    assert Distribution.of([]) == Distribution()


def test_the_figures_of_two_requests() -> None:
    one = Record(0, "ok", 0.0, 0.0, 1.0, 0.1, 200, 10, 4, array("d", [0.1, 0.2, 0.4, 1.0]))
    two = Record(1, "ok", 0.4, 0.5, 2.0, 0.8, 200, 20, 1, array("d", [0.8]))
    figures = figures_of([one, two])
    assert figures.duration == 2.0
    assert figures.request_throughput == 1.0
    assert figures.output_throughput == 2.5
    assert figures.total_token_throughput == 17.5
    assert figures.ttft.mean == pytest.approx(0.2)
    assert figures.tpot.count == 1, "an answer of one token has no time per token"
    assert figures.tpot.mean == pytest.approx(0.3)
    assert figures.itl.count == 3
    assert figures.itl.max == pytest.approx(0.6)
    assert figures.e2el.mean == pytest.approx((1.0 + 0.3) / 2)
    assert figures.queue.max == pytest.approx(0.1)
    assert figures.max_concurrent_requests == 2
    assert figures.max_output_tokens_per_s == 4
    assert figures.tokens_from == "usage"
    assert figures.goodput is None


def test_what_failed_enters_no_latency() -> None:
    bad = Record(1, "broken", 0.0, 0.0, 9.0, stamps=array("d", [5.0, 9.0]), message="gone")
    stopped = Record(2, "cancelled", 0.0, 0.0, 9.0)
    figures = figures_of([answered(0, 0.0, 0.5, 1.0), bad, stopped])
    assert (figures.completed, figures.failed, figures.cancelled) == (1, 1, 1)
    assert figures.failures == {"broken": 1}
    assert figures.messages == {"broken": "gone"}
    assert figures.ttft.max == 0.5
    assert figures.duration == pytest.approx(1.001)
    assert figures_of([bad]).completed == 0


def test_goodput_counts_those_that_met_every_limit() -> None:
    fast, slow = answered(0, 0.0, 0.1, 0.2, tokens=2), answered(1, 0.0, 0.1, 0.9, tokens=2)
    single = answered(2, 0.0, 0.1, tokens=1)
    failed = Record(3, "status", 0.0, 0.0, 0.5)
    figures = figures_of([fast, slow, single, failed], Limits(ttft=0.15, tpot=0.2))
    assert figures.good_share == 0.5
    assert figures.goodput == pytest.approx(2 / figures.duration)


def test_without_usage_chunks_count_and_that_is_said() -> None:
    figures = figures_of([answered(0, 0.0, 0.1, 0.2, 0.3)])
    assert figures.total_output_tokens == 3
    assert figures.tokens_from == "chunks"


def test_more_tokens_than_chunks_are_noticed() -> None:
    assert figures_of([answered(0, 0.0, 0.1, 0.2, tokens=6)]).tokens_per_chunk == 3


def test_figures_survive_json() -> None:
    figures = figures_of([answered(0, 0.0, 0.1, 0.2, tokens=2)], Limits(ttft=1))
    assert Figures.from_json(figures.to_json()) == figures


def test_records_survive_their_file_even_when_it_was_cut() -> None:
    records = [
        Record(3, "ok", 1.0, 1.5, 2.0, 1.6, 200, 7, 2, array("d", [1.6, 2.0]), text="你"),
        Record(4, "status", 1.0, status=503, message="busy"),
    ]
    data = b"".join(record.pack() for record in records)
    found, size = unpack_all(data, zero=1.0)
    assert size == len(data)
    assert list(found[0].stamps) == pytest.approx([0.6, 1.0])
    assert (found[0].text, found[0].ttft, found[0].e2el) == ("你", pytest.approx(0.1), pytest.approx(0.5))
    assert (found[1].status, found[1].message, math.isnan(found[1].sent)) == (503, "busy", True)
    for cut in range(len(data)):
        less, size = unpack_all(data[:cut])
        assert len(less) == (cut >= len(records[0].pack()))
        assert size in (0, len(records[0].pack()))


@pytest.mark.parametrize("burstiness", [0.5, 1.0, 4.0])
def test_arrivals_have_the_mean_and_variance_that_were_asked(burstiness: float) -> None:
    due = Load(rate=200.0, burstiness=burstiness, count=20000).arrivals(random.Random(1))
    gaps = [later - earlier for earlier, later in itertools.pairwise(due)]
    assert due[0] == 0.0
    assert statistics.fmean(gaps) == pytest.approx(1 / 200, rel=0.05)
    assert statistics.pvariance(gaps) == pytest.approx(1 / 200**2 / burstiness, rel=0.1)


def test_arrivals_without_chance_and_all_at_once() -> None:
    assert list(Load(rate=4, burstiness=math.inf, count=3).arrivals(random.Random(1))) == [0, 0.25, 0.5]
    assert list(Load(rate=math.inf, count=3).arrivals(random.Random(1))) == [0, 0, 0]
    by_time = Load(rate=10, burstiness=math.inf, seconds=2).arrivals(random.Random(1))
    assert 20 <= len(by_time) <= 21  # the last falls on the end, give or take the rounding of 0.1


@pytest.mark.parametrize("ramp", ["linear", "exponential"])
def test_a_ramp_gets_to_its_rate(ramp: str) -> None:
    due = Load(rate=100, burstiness=math.inf, count=200, ramp=ramp, ramp_from=10).arrivals(random.Random(1))
    assert due[1] - due[0] == pytest.approx(1 / 10, rel=0.1)
    assert due[-1] - due[-2] == pytest.approx(1 / 100, rel=0.1)
    middle = due[101] - due[100]
    assert middle == pytest.approx(1 / 55 if ramp == "linear" else 1 / math.sqrt(1000), rel=0.05)


@pytest.mark.parametrize(
    "fields",
    [
        {"count": 1}, {"streams": 1, "rate": 1.0, "count": 1}, {"streams": 1}, {"streams": 1, "count": 1, "seconds": 1},
        {"rate": math.inf, "seconds": 1.0}, {"rate": 1.0, "count": 1, "ramp": "linear"}, {"streams": -1, "count": 1},
        {"rate": 1.0, "count": 1, "burstiness": 0.0}, {"rate": math.nan, "count": 1},
    ],
)  # fmt: skip
def test_loads_that_are_none(fields: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Load(**fields)  # type: ignore[arg-type]


def test_a_load_survives_json() -> None:
    load = Load(rate=math.inf, burstiness=math.inf, count=5, most_at_once=2)
    assert Load.from_json(load.to_json()) == load


def test_a_client_in_trouble_says_so() -> None:
    fine = ProcessHealth(cpu=1.0, wall=10.0, waited=0.1, lag_p99=0.001)
    assert ClientHealth([fine], 0.001).doubts() == []
    for bad in (
        ProcessHealth(cpu=9.5, wall=10.0),
        ProcessHealth(cpu=1.0, wall=10.0, waited=5.0),
        ProcessHealth(cpu=1.0, wall=10.0, lag_p99=0.05),
        ProcessHealth(died=True),
    ):
        health = ClientHealth([fine, bad])
        assert len(health.doubts()) == 1
        assert health.is_bottleneck
        assert ClientHealth.from_json(health.to_json()).doubts() == health.doubts()
    assert ClientHealth([fine], 0.02).is_bottleneck


def test_streams_are_spread_by_what_a_chunk_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: set(range(16)))
    assert processes_for(1000, 10e-6, 100) == 1
    assert processes_for(200_000, 10e-6, 100) == 5
    assert processes_for(1e9, 10e-6, 100) == 8
    assert processes_for(math.inf, 10e-6, 3) == 3
    assert 0 < seconds_per_chunk(100) < 0.01


def test_a_run_under_way_has_figures_too() -> None:
    live = Live()
    live.take(Tick("warmup", records=[answered(0, 0.0, 9.0)]))
    live.take(Tick("running", at=0.0))
    for second in range(1, 11):
        bad = [Record(9, "broken", 0.0), Record(9, "cancelled", 0.0)] if second == 1 else []
        tick = Tick("running", float(second), 3, 100 * second, 0.0, [answered(second, 0.0, 0.1, 0.2, tokens=2), *bad])
        live.take(tick)
    assert (live.phase, live.running, live.completed, live.failed) == ("running", 3, 10, 1)
    assert live.chunks_per_second == pytest.approx(100)
    assert live.requests_per_second == pytest.approx(1)
    assert live.latencies["ttft"].count == 10
    assert live.latencies["tpot"].quantiles(0.9) == pytest.approx([0.1], rel=0.006)
    assert [second.completed for second in live.seconds] == [0, *[1] * 10]
    assert [second.chunks for second in live.seconds] == [0, *[100] * 10]
    assert live.seconds[1].failed == 1
    assert live.zero is not None


def test_counted_latencies_are_within_a_percent_of_the_exact_ones() -> None:
    chance = random.Random(4)
    values = [chance.lognormvariate(-3, 0.8) for _number in range(5000)]
    counts = LatencyCounts()
    for start in range(0, 5000, 500):
        counts.add(values[start : start + 500])
    exact = Distribution.of(values)
    assert counts.mean == pytest.approx(exact.mean)
    assert counts.quantiles(0.5, 0.9, 0.99) == pytest.approx([exact.median, exact.p90, exact.p99], rel=0.01)
    bars, low, high = counts.bars(10)
    assert low == pytest.approx(min(values), rel=0.01)
    assert high == pytest.approx(exact.p99, rel=0.01)
    assert 0.98 * 5000 <= sum(bars) <= 5000
    assert bars.index(max(bars)) < 3
    assert LatencyCounts().quantiles(0.5, 0.9) == [0.0, 0.0]
    assert LatencyCounts().bars(3) == ([0, 0, 0], 0.0, 0.0)
    one = LatencyCounts()
    one.add([0.05])
    assert sum(one.bars(4)[0]) == 1


def test_answers_under_way_count_until_they_are_whole() -> None:
    live = Live()
    live.take(Tick("running", 1.0, 2, 12, begun=[(0.5, 0.01), (0.7, 0.0)]))
    assert live.latency("ttft").count == 2
    assert live.latency("ttft").quantiles(0.5, 1.0) == pytest.approx([0.5, 0.7], rel=0.006)
    assert live.latency("tpot").quantiles(0.5) == pytest.approx([0.01], rel=0.006)
    assert live.latency("e2el").count == live.latencies["ttft"].count == 0
    live.take(Tick("finishing"))
    assert live.latency("ttft").count == 0
    assert live.at == 1.0


def test_a_long_run_keeps_fewer_steps_not_fewer_counts() -> None:
    live = Live()
    for at in range(2500):
        live.take(Tick("running", float(at), 1, at))
    assert live.step == 4
    assert len(live.seconds) == 625
    assert sum(second.chunks for second in live.seconds) == 2499
