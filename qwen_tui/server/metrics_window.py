"""Rates and percentiles out of the samples of the last minute: differences, because a server only counts up."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from qwen_tui.server.metrics import Histogram, MetricsSample, Quantile

#: Seconds that percentiles, the hit rate, preemptions and finished requests are taken over.
WINDOW = 60.0
#: The latencies there are, in the order in which a person reads them.
LATENCIES = ("ttft", "itl", "tpot", "e2e")


@dataclass(frozen=True)
class Latency:
    """How long something took: seconds. count: how many observations that rests on."""

    count: int
    mean: float
    p50: Quantile
    p95: Quantile
    p99: Quantile

    @classmethod
    def of(cls, histogram: Histogram | None) -> Latency | None:
        """What a histogram says; None without an observation."""
        if histogram is None:
            return None
        mean, quantiles = histogram.mean, [histogram.quantile(share) for share in (0.5, 0.95, 0.99)]
        p50, p95, p99 = quantiles
        if mean is None or p50 is None or p95 is None or p99 is None:
            return None
        return cls(int(histogram.count), mean, p50, p95, p99)

    def to_json(self) -> dict[str, Any]:
        """Seconds. A quantile beyond the server's last bucket is {"above": bound}, the others are numbers."""
        values = {name: getattr(self, name) for name in ("p50", "p95", "p99")}
        shown = {name: {"above": one.value} if one.is_above else round(one.value, 6) for name, one in values.items()}
        return {"count": self.count, "mean": round(self.mean, 6), **shown}


@dataclass(frozen=True)
class Figures:
    """A server's numbers at one moment; None for what is not known (yet).

    running, waiting: requests. kv_usage: 0..1; kv_tokens: what the KV cache holds. *_rate: per second, over the last
    seconds. The rest is over `seconds`, at most WINDOW: hit_rate (0..1 of the tokens looked up), preemptions, finished
    (reason → requests) and the latencies that there are observations of.
    """

    running: int | None = None
    waiting: int | None = None
    kv_usage: float | None = None
    kv_tokens: int | None = None
    generation_rate: float | None = None
    prompt_rate: float | None = None
    request_rate: float | None = None
    hit_rate: float | None = None
    preemptions: int | None = None
    finished: Mapping[str, int] = field(default_factory=dict)
    latencies: Mapping[str, Latency] = field(default_factory=dict)
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return {
            "running": self.running,
            "waiting": self.waiting,
            "kv_cache_usage": self.kv_usage,
            "kv_cache_tokens": self.kv_tokens,
            "generation_tokens_per_second": _rounded(self.generation_rate),
            "prompt_tokens_per_second": _rounded(self.prompt_rate),
            "requests_per_second": _rounded(self.request_rate),
            "over_seconds": round(self.seconds, 3),
            "prefix_cache_hit_rate": _rounded(self.hit_rate),
            "preemptions": self.preemptions,
            "finished": dict(self.finished),
            "latency_seconds": {
                name: self.latencies[name].to_json() if name in self.latencies else None for name in LATENCIES
            },
        }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


class MetricsWindow:
    """The samples of the last minute of one server.

    window: seconds that are kept. A sample of another run of the server begins anew.
    """

    def __init__(self, window: float = WINDOW) -> None:
        self._window = window
        self._samples: deque[tuple[float, MetricsSample]] = deque()

    @property
    def latest(self) -> MetricsSample | None:
        return self._samples[-1][1] if self._samples else None

    def clear(self) -> None:
        self._samples.clear()

    def add(self, at: float, sample: MetricsSample) -> None:
        """Take in a sample that came at the monotonic time `at`, seconds."""
        if self._samples and sample.is_of_another_run(self._samples[-1][1]):
            self._samples.clear()
        self._samples.append((at, sample))
        while len(self._samples) > 2 and self._samples[1][0] <= at - self._window:
            self._samples.popleft()

    def since(self, seconds: float) -> tuple[float, MetricsSample, MetricsSample] | None:
        """Seconds between, and the two samples: the newest, and the newest one that is at least `seconds` older.

        Where none is, the oldest; None as long as there is only one.
        """
        if len(self._samples) < 2:
            return None
        at, newest = self._samples[-1]
        earlier = self._samples[0]
        for entry in reversed(self._samples):
            # Samples come by the second, a few milliseconds early or late.
            if at - entry[0] >= seconds - 0.25:
                earlier = entry
                break
        if earlier[0] >= at:
            return None
        return at - earlier[0], earlier[1], newest

    def rate(self, name: str, seconds: float) -> float | None:
        """How fast the counter `name` of MetricsSample rose over the last `seconds`, per second."""
        span = self.since(seconds)
        return None if span is None else _rise(name, *span)

    def latency(self, name: str, seconds: float) -> Latency | None:
        """What was observed of a latency in the last `seconds`."""
        span = self.since(seconds)
        return None if span is None else Latency.of(_observed(name, span[1], span[2]))

    def figures(self, rate_seconds: float = 5.0) -> Figures:
        """The numbers now; rates are over the last `rate_seconds`."""
        now = self.latest
        if now is None:
            return Figures()
        known = Figures(
            running=_whole(now.running),
            waiting=_whole(now.waiting),
            kv_usage=now.kv_usage,
            kv_tokens=now.kv_tokens,
            hit_rate=now.prefix_hit_rate,
        )
        span = self.since(self._window)
        if span is None:
            return known
        seconds, before, _newest = span
        found = {name: Latency.of(_observed(name, before, now)) for name in LATENCIES}
        return dataclasses.replace(
            known,
            generation_rate=self.rate("generation_tokens", rate_seconds),
            prompt_rate=self.rate("prompt_tokens", rate_seconds),
            request_rate=self.request_rate(rate_seconds),
            hit_rate=_hit_rate(before, now),
            preemptions=_whole(_difference("preemptions", before, now)),
            finished={reason: int(count - before.finished.get(reason, 0.0)) for reason, count in now.finished.items()},
            latencies={name: latency for name, latency in found.items() if latency is not None},
            seconds=seconds,
        )

    def request_rate(self, seconds: float) -> float | None:
        """Requests finished per second over the last `seconds`, for whatever reason."""
        span = self.since(seconds)
        if span is None or not span[2].finished:
            return None
        return max(0.0, sum(span[2].finished.values()) - sum(span[1].finished.values())) / span[0]


def figures_since_start(sample: MetricsSample) -> dict[str, Any]:
    """For JSON: what one sample tells by itself, over the server's whole life."""
    found = {name: Latency.of(getattr(sample, name)) for name in LATENCIES}
    return {
        "prompt_tokens": _whole(sample.prompt_tokens),
        "generation_tokens": _whole(sample.generation_tokens),
        "preemptions": _whole(sample.preemptions),
        "prefix_cache_hit_rate": _rounded(_hit_rate(MetricsSample(prefix_queries=0.0, prefix_hits=0.0), sample)),
        "finished": {reason: int(count) for reason, count in sample.finished.items()},
        "latency_seconds": {name: latency.to_json() if latency else None for name, latency in found.items()},
    }


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def _difference(name: str, before: MetricsSample, now: MetricsSample) -> float | None:
    later, earlier = getattr(now, name), getattr(before, name)
    return None if later is None or earlier is None else max(0.0, later - earlier)


def _rise(name: str, seconds: float, before: MetricsSample, now: MetricsSample) -> float | None:
    rise = _difference(name, before, now)
    return None if rise is None else rise / seconds


def _observed(name: str, before: MetricsSample, now: MetricsSample) -> Histogram | None:
    histogram: Histogram | None = getattr(now, name)
    return None if histogram is None else histogram.since(getattr(before, name))


def _hit_rate(before: MetricsSample, now: MetricsSample) -> float | None:
    """0..1; None where nothing was looked up."""
    queries = _difference("prefix_queries", before, now)
    hits = _difference("prefix_hits", before, now)
    if queries is None or hits is None:
        return now.prefix_hit_rate
    return min(1.0, hits / queries) if queries > 0 else None
