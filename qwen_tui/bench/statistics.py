"""What the records of a run amount to. Definitions: as `vllm bench serve`, percentiles with linear interpolation."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

from qwen_tui.workers.bench_record import Record

#: The latencies that limits can be set on, in the order they are shown.
LATENCIES = ("ttft", "tpot", "itl", "e2el")


@dataclass(frozen=True)
class Distribution:
    """Of many values; all zero where there are none. std: with ddof 0."""

    count: int = 0
    mean: float = 0.0
    std: float = 0.0
    median: float = 0.0
    p90: float = 0.0
    p95: float = 0.0
    p99: float = 0.0
    max: float = 0.0

    @classmethod
    def of(cls, values: Iterable[float]) -> Distribution:
        ordered = sorted(values)
        if not ordered:
            return cls()
        mean = math.fsum(ordered) / len(ordered)
        variance = math.fsum((value - mean) ** 2 for value in ordered) / len(ordered)
        median, p90, p95, p99 = (quantile(ordered, share) for share in (0.5, 0.9, 0.95, 0.99))
        return cls(len(ordered), mean, math.sqrt(variance), median, p90, p95, p99, ordered[-1])

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Distribution:
        return cls(**data)


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value that `share` (0..1) of the ascending values lie below, interpolated linearly as numpy does."""
    rank = share * (len(ordered) - 1)
    below = math.floor(rank)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (rank - below)


@dataclass(frozen=True)
class Limits:
    """What a request must meet to count as good, in seconds; None for no limit."""

    ttft: float | None = None
    tpot: float | None = None
    e2el: float | None = None

    def __bool__(self) -> bool:
        return any(limit is not None for limit in (self.ttft, self.tpot, self.e2el))

    def are_met(self, record: Record) -> bool:
        """Whether an answered request met every limit; one of a single token meets any TPOT."""
        time_per_token = tpot(record)
        return (
            record.is_ok
            and (self.ttft is None or record.ttft <= self.ttft)
            and (self.tpot is None or time_per_token is None or time_per_token <= self.tpot)
            and (self.e2el is None or record.e2el <= self.e2el)
        )

    def to_json(self) -> dict[str, float | None]:
        return asdict(self)


@dataclass(frozen=True)
class Figures:
    """The figures of one run; latencies in seconds, throughputs per second.

    failures: kind → how many; messages: kind → one thing that a server said. goodput: None without limits; good_share:
    of all requests that were not stopped. tokens_from: "usage", "tokenizer" or "chunks", whichever told output tokens.
    tokens_per_chunk: above 1, ITL is no time per token. queue: sent − due.
    """

    duration: float = 0.0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    failures: Mapping[str, int] = field(default_factory=dict)
    messages: Mapping[str, str] = field(default_factory=dict)
    total_input_tokens: int = 0
    total_output_tokens: int = 0
    tokens_from: str = "usage"
    request_throughput: float = 0.0
    output_throughput: float = 0.0
    total_token_throughput: float = 0.0
    goodput: float | None = None
    good_share: float | None = None
    max_output_tokens_per_s: float = 0.0
    max_concurrent_requests: int = 0
    tokens_per_chunk: float = 0.0
    ttft: Distribution = field(default_factory=Distribution)
    ttft_text: Distribution = field(default_factory=Distribution)
    tpot: Distribution = field(default_factory=Distribution)
    itl: Distribution = field(default_factory=Distribution)
    e2el: Distribution = field(default_factory=Distribution)
    queue: Distribution = field(default_factory=Distribution)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Figures:
        """Raises TypeError for fields that are none."""
        known: dict[str, Any] = {
            key: Distribution.from_json(value) if key in (*LATENCIES, "ttft_text", "queue") else value
            for key, value in data.items()
        }
        return cls(**known)


def output_tokens(record: Record) -> int:
    """Tokens of the answer: as the server told, or as many as chunks where it told none."""
    return record.completion_tokens if record.completion_tokens >= 0 else len(record.stamps)


def tpot(record: Record) -> float | None:
    """Seconds per output token after the first; None for an answer of one token."""
    tokens = output_tokens(record)
    return (record.e2el - record.ttft) / (tokens - 1) if tokens > 1 else None


def gaps(record: Record) -> list[float]:
    """Seconds between the chunks of an answer."""
    stamps = record.stamps
    return [later - earlier for earlier, later in pairwise(stamps)]


def figures_of(records: Sequence[Record], limits: Limits | None = None, tokens_from: str = "") -> Figures:
    """The figures of a run. CPU work, about 1 s for a million chunks: for a thread.

    tokens_from: "tokenizer" when the records' missing counts were filled in by one.
    """
    good = [record for record in records if record.is_ok]
    kinds = Counter(record.kind for record in records if record.kind not in ("ok", "cancelled"))
    cancelled = sum(record.kind == "cancelled" for record in records)
    failed = sum(kinds.values())
    common = {
        "failed": failed,
        "cancelled": cancelled,
        "failures": dict(kinds.most_common()),
        "messages": {
            record.kind: record.message for record in reversed(records) if record.message and record.kind in kinds
        },
    }
    if not good:
        share = {"goodput": 0.0, "good_share": 0.0} if limits and failed else {}
        return Figures(**common, **share)  # type: ignore[arg-type]
    duration = max(record.end for record in good) - min(record.sent for record in good)
    prompt = sum(max(0, record.prompt_tokens) for record in good)
    output = sum(map(output_tokens, good))
    met = sum(map(limits.are_met, good)) if limits else 0
    chunks = sum(len(record.stamps) for record in good)
    is_told = all(record.completion_tokens >= 0 for record in good)
    per_second = 1.0 / duration if duration > 0 else 0.0
    return Figures(
        duration=duration,
        completed=len(good),
        total_input_tokens=prompt,
        total_output_tokens=output,
        tokens_from=tokens_from or ("usage" if is_told else "chunks"),
        request_throughput=len(good) * per_second,
        output_throughput=output * per_second,
        total_token_throughput=(prompt + output) * per_second,
        goodput=met * per_second if limits else None,
        good_share=met / (len(good) + failed) if limits else None,
        max_output_tokens_per_s=_busiest_second(good),
        max_concurrent_requests=_most_at_once(good),
        tokens_per_chunk=output / chunks if chunks else 0.0,
        ttft=Distribution.of(record.ttft for record in good),
        ttft_text=Distribution.of(r.first_text - r.sent for r in good if not math.isnan(r.first_text)),
        tpot=Distribution.of(value for value in map(tpot, good) if value is not None),
        itl=Distribution.of(gap for record in good for gap in gaps(record)),
        e2el=Distribution.of(record.e2el for record in good),
        queue=Distribution.of(record.sent - record.due for record in good),
        **common,  # type: ignore[arg-type]
    )


def _busiest_second(records: Sequence[Record]) -> float:
    """The most output tokens in one second after another from the first request on."""
    began = min(record.sent for record in records)
    seconds: Counter[int] = Counter()
    for record in records:
        chunks = Counter(int(stamp - began) for stamp in record.stamps)
        per_chunk = output_tokens(record) / len(record.stamps)
        for second, count in chunks.items():
            seconds[second] += count * per_chunk  # type: ignore[assignment]
    return float(max(seconds.values(), default=0.0))


def _most_at_once(records: Sequence[Record]) -> int:
    """The most requests that were under way at one moment."""
    changes = [(record.sent, 1) for record in records] + [(record.end, -1) for record in records]
    most = now = 0
    for _at, change in sorted(changes):
        now += change
        most = max(most, now)
    return most
