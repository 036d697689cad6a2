"""What a vLLM server says of itself at /metrics: the Prometheus text read into one sample, whatever vLLM's version.

Names changed from 0.4 to 0.32, and some versions give a figure under its old and its new name at once: the first name
known is taken. Several engines (data parallel), or several labels, are summed; fractions are averaged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_PREFIX = "vllm:"

#: Field of MetricsSample → the names it has had, the newest first.
_SUMS: Mapping[str, tuple[str, ...]] = {
    "running": ("num_requests_running",),
    "waiting": ("num_requests_waiting",),
    "prompt_tokens": ("prompt_tokens_total",),
    "generation_tokens": ("generation_tokens_total",),
    "prefix_queries": ("prefix_cache_queries_total", "gpu_prefix_cache_queries_total"),
    "prefix_hits": ("prefix_cache_hits_total", "gpu_prefix_cache_hits_total"),
    "preemptions": ("num_preemptions_total",),
}
_MEANS: Mapping[str, tuple[str, ...]] = {
    "kv_usage": ("kv_cache_usage_perc", "gpu_cache_usage_perc"),
    "prefix_hit_rate": ("gpu_prefix_cache_hit_rate",),
}
_HISTOGRAMS: Mapping[str, tuple[str, ...]] = {
    "ttft": ("time_to_first_token_seconds",),
    # Up to 0.10 the gaps between tokens were called by the name of what a request's mean is called.
    "itl": ("inter_token_latency_seconds", "time_per_output_token_seconds"),
    "tpot": ("request_time_per_output_token_seconds",),
    "e2e": ("e2e_request_latency_seconds",),
    "queue": ("request_queue_time_seconds",),
}
_FINISHED = "request_success_total"
_CACHE_INFO = "cache_config_info"
_PLAIN_NAMES = frozenset(name for names in (*_SUMS.values(), *_MEANS.values()) for name in names)
_HISTOGRAM_NAMES = frozenset(name for names in _HISTOGRAMS.values() for name in names)
#: The counters that never fall while a server runs.
_COUNTERS = ("prompt_tokens", "generation_tokens", "prefix_queries", "prefix_hits", "preemptions")


@dataclass(frozen=True)
class Quantile:
    """A quantile in seconds. is_above: it lies beyond the last bound that the server counts by, which `value` is."""

    value: float
    is_above: bool = False


@dataclass(frozen=True)
class Histogram:
    """Observations counted by upper bounds, cumulative as Prometheus has them.

    bounds: seconds, ascending; the last is infinite. counts: as many, ascending. total: the sum of the observations.
    """

    bounds: tuple[float, ...]
    counts: tuple[float, ...]
    total: float = 0.0

    @property
    def count(self) -> float:
        return self.counts[-1] if self.counts else 0.0

    @property
    def mean(self) -> float | None:
        """Seconds; None without an observation."""
        return self.total / self.count if self.count > 0 else None

    def since(self, earlier: Histogram | None) -> Histogram:
        """What was observed after `earlier`; all of it if that is None or has other bounds."""
        if earlier is None or earlier.bounds != self.bounds:
            return self
        counts, highest = [], 0.0
        for now, before in zip(self.counts, earlier.counts, strict=True):
            highest = max(highest, now - before)  # scraped while it was being counted up: never descending
            counts.append(highest)
        return Histogram(self.bounds, tuple(counts), max(0.0, self.total - earlier.total))

    def quantile(self, share: float) -> Quantile | None:
        """The value that `share` (0..1) of the observations do not exceed, linear within a bucket; None without any."""
        if self.count <= 0:
            return None
        rank = share * self.count
        below, lower = 0.0, 0.0
        for bound, count in zip(self.bounds, self.counts, strict=True):
            if count >= rank and count > below:
                if math.isinf(bound):
                    return Quantile(lower, is_above=True)
                return Quantile(lower + (bound - lower) * (rank - below) / (count - below))
            below, lower = count, bound if not math.isinf(bound) else lower
        return Quantile(lower, is_above=True)


@dataclass(frozen=True)
class MetricsSample:
    """One answer of /metrics; None stands for what the server does not tell.

    running, waiting: requests now. kv_usage: share of the KV cache in use, 0..1. kv_tokens: what it holds in all.
    prompt_tokens, generation_tokens, preemptions: since the server started; so are finished (reason → requests) and the
    histograms (seconds). prefix_queries, prefix_hits: tokens looked up in the prefix cache, and found.
    prefix_hit_rate: 0..1, from servers that only tell the rate. started: Unix time of the server's start.
    """

    running: float | None = None
    waiting: float | None = None
    kv_usage: float | None = None
    kv_tokens: int | None = None
    prompt_tokens: float | None = None
    generation_tokens: float | None = None
    prefix_queries: float | None = None
    prefix_hits: float | None = None
    prefix_hit_rate: float | None = None
    preemptions: float | None = None
    finished: Mapping[str, float] = field(default_factory=dict)
    ttft: Histogram | None = None
    itl: Histogram | None = None
    tpot: Histogram | None = None
    e2e: Histogram | None = None
    queue: Histogram | None = None
    started: float | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing of vLLM's was in it: statistics are switched off, or it is another kind of server."""
        return self.running is None and self.generation_tokens is None and self.kv_usage is None

    def is_of_another_run(self, earlier: MetricsSample) -> bool:
        """Whether the server was started anew since `earlier`: a difference of the two would mean nothing."""
        if self.started is not None and earlier.started is not None and self.started != earlier.started:
            return True
        for name in _COUNTERS:
            now, before = getattr(self, name), getattr(earlier, name)
            if now is not None and before is not None and now < before:
                return True
        return any(count < earlier.finished.get(reason, 0.0) for reason, count in self.finished.items())


def parse_metrics(text: str) -> MetricsSample:
    """The sample in an answer of /metrics. Lines that can't be read are skipped; about 1 ms for 50 kB."""
    values: dict[str, list[float]] = {}
    buckets: dict[str, dict[float, float]] = {}
    finished: dict[str, float] = {}
    kv_tokens = 0
    started: float | None = None
    for line in text.split("\n"):
        if not line.startswith(_PREFIX):
            if line.startswith("process_start_time_seconds"):
                started = _number(line.rpartition(" ")[2])
            continue
        brace = line.find("{")
        end = brace if brace >= 0 else line.find(" ")
        name = line[len(_PREFIX) : end]
        is_bucket = name.endswith("_bucket")
        stem = name[:-7] if is_bucket else name[:-4] if name.endswith("_sum") else name
        if not (stem in _HISTOGRAM_NAMES or name in _PLAIN_NAMES or name in (_FINISHED, _CACHE_INFO)):
            continue
        # The value is the first word after the labels; a time stamp may follow.
        value = _number((line[line.rfind("}") + 1 :] if brace >= 0 else line[end:]).split(None, 1)[:1])
        if value is None:
            continue
        if is_bucket:
            bound = _number(_label(line, "le"), finite=False)
            if bound is not None:
                counts = buckets.setdefault(stem, {})
                counts[bound] = counts.get(bound, 0.0) + value
        elif name == _FINISHED:
            reason = _label(line, "finished_reason") or "?"
            finished[reason] = finished.get(reason, 0.0) + value
        elif name == _CACHE_INFO:
            kv_tokens += _cache_tokens(line)
        else:
            values.setdefault(name, []).append(value)
    known: dict[str, Any] = {key: _sum(_first(values, names)) for key, names in _SUMS.items()}
    known |= {key: _mean(_first(values, names)) for key, names in _MEANS.items()}
    known |= {key: _histogram(names, buckets, values) for key, names in _HISTOGRAMS.items()}
    return MetricsSample(**known, kv_tokens=kv_tokens or None, finished=finished, started=started)


def _number(text: str | Sequence[str], *, finite: bool = True) -> float | None:
    """The number in `text`, or in its only word; None for none, and for NaN (and infinity, if `finite`)."""
    word = text if isinstance(text, str) else text[0] if text else ""
    try:
        value = float(word)
    except ValueError:
        return None
    return None if math.isnan(value) or (finite and math.isinf(value)) else value


def _label(line: str, name: str) -> str:
    """The value of a label whose values hold no quotes; empty if it is not there."""
    for mark in (f',{name}="', f'{{{name}="'):
        start = line.find(mark)
        if start >= 0:
            start += len(mark)
            return line[start : line.find('"', start)]
    return ""


def _cache_tokens(line: str) -> int:
    """Tokens that the KV cache of one engine holds; 0 where it is not told."""
    told = _label(line, "kv_cache_size_tokens")
    if told.isdecimal():
        return int(told)
    blocks, size = _label(line, "num_gpu_blocks"), _label(line, "block_size")
    return int(blocks) * int(size) if blocks.isdecimal() and size.isdecimal() else 0


def _first(values: Mapping[str, list[float]], names: Sequence[str]) -> Sequence[float]:
    """The values, one of each engine or label, under the first of `names` that there is."""
    return next((values[name] for name in names if name in values), ())


def _sum(values: Sequence[float]) -> float | None:
    return sum(values) if values else None


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _histogram(
    names: Sequence[str], buckets: Mapping[str, dict[float, float]], values: Mapping[str, list[float]]
) -> Histogram | None:
    for name in names:
        if name in buckets:
            bounds = sorted(buckets[name])
            counts = tuple(buckets[name][bound] for bound in bounds)
            return Histogram(tuple(bounds), counts, sum(values.get(f"{name}_sum", ())))
    return None
