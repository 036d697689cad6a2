"""The figures of a run that is still under way, for whoever shows it."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from qwen_tui.bench.generator import Tick
from qwen_tui.bench.statistics import LATENCIES, gaps, output_tokens, tpot

#: Seconds over which rates are taken.
_WINDOW = 5.0
#: Buckets of a histogram grow by this much: a quantile is off by half of it at most.
_GROWTH = 0.01
_PER_E = 1 / math.log1p(_GROWTH)
#: What is shorter counts as this long, in seconds.
_SHORTEST = 1e-6
#: Seconds of a run that are kept one by one; of a longer one, pairs of them, then fours.
_SECONDS_MOST = 1200


class LatencyCounts:
    """Latencies counted in buckets of 1 %: a few bytes, and quantiles at any time, however many there were."""

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self.count = 0
        self.total = 0.0

    def add(self, values: Sequence[float]) -> None:
        """Count these, in seconds: some tenths of a microsecond each."""
        log = math.log
        found = [math.floor(log(max(value, _SHORTEST)) * _PER_E) for value in values]
        self._buckets.update(found)
        self.count += len(found)
        self.total += math.fsum(values)

    def copy(self) -> LatencyCounts:
        found = LatencyCounts()
        found._buckets, found.count, found.total = self._buckets.copy(), self.count, self.total
        return found

    @property
    def mean(self) -> float:
        return self.total / self.count if self.count else 0.0

    def quantiles(self, *shares: float) -> list[float]:
        """The values, in seconds, that such shares (0..1, ascending) lie below; zeros where there are none."""
        if not self.count:
            return [0.0] * len(shares)
        wanted = [share * (self.count - 1) for share in shares]
        found: list[float] = []
        below = 0
        for bucket in sorted(self._buckets):
            below += self._buckets[bucket]
            while len(found) < len(wanted) and wanted[len(found)] < below:
                found.append(_middle(bucket))
        return found

    def bars(self, count: int) -> tuple[Sequence[int], float, float]:
        """How many lie in each of `count` equally wide steps, and where the first begins and the last ends, seconds.

        The last 1 % is left out: a single straggler would push all others into one step.
        """
        if not self.count or count < 1:
            return [0] * count, 0.0, 0.0
        low, high = _middle(min(self._buckets)), self.quantiles(0.99)[0]
        if high <= low * (1 + _GROWTH):
            high = low * (1 + 2 * _GROWTH)
        step = (high - low) / count
        steps = [0] * count
        for bucket, number in self._buckets.items():
            place = int((_middle(bucket) - low) / step)
            if place <= count:  # what lies at the very end belongs to the last one
                steps[min(count - 1, max(0, place))] += number
        return steps, low, high


def _middle(bucket: int) -> float:
    return math.exp((bucket + 0.5) / _PER_E)


@dataclass
class Second:
    """What happened in one second of a run. ttft: sum of those that ended in it, seconds; `completed` has how many."""

    chunks: int = 0
    completed: int = 0
    failed: int = 0
    running: int = 0
    ttft: float = 0.0


@dataclass
class Live:
    """Feed it a run's ticks. All counts are of the phase "running"; stopped requests count nowhere.

    failures: kind → how many. chunks: arrived so far. chunks_per_second, requests_per_second: over the last 5 seconds.
    latencies: of the answers that are whole.
    zero: the monotonic time at which the run's clock showed 0; None before. seconds: one by one, from there on.
    """

    phase: str = ""
    at: float = 0.0
    running: int = 0
    completed: int = 0
    chunks: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    chunks_per_second: float = 0.0
    requests_per_second: float = 0.0
    prompt_tokens: int = 0
    output_tokens: int = 0
    zero: float | None = None
    seconds: list[Second] = field(default_factory=list)
    latencies: Mapping[str, LatencyCounts] = field(
        default_factory=lambda: {name: LatencyCounts() for name in LATENCIES}
    )
    _begun: Sequence[tuple[float, float]] = ()
    _ended_chunks: int = 0
    _past: deque[tuple[float, int, int]] = field(default_factory=deque)
    _step: int = 1

    def take(self, tick: Tick) -> None:
        """Note a tick; microseconds for each request that ended, and less for each of its chunks."""
        self.phase, self.running, self._begun = tick.phase, tick.running, tick.begun
        if tick.phase != "running":
            return
        self.at = tick.at
        if self.zero is None:
            self.zero = time.monotonic() - tick.at
        second = self._second(tick.at)
        second.chunks += max(0, tick.chunks - self.chunks)
        second.running = max(second.running, tick.running)
        self.chunks = max(self.chunks, tick.chunks)
        self._take_records(tick, second)
        self._past.append((tick.at, tick.chunks, self.completed))
        while len(self._past) > 2 and tick.at - self._past[0][0] > _WINDOW:
            self._past.popleft()
        at, chunks, completed = self._past[0]
        if tick.at - at >= 0.2:
            self.chunks_per_second = max(0, tick.chunks - chunks) / (tick.at - at)
            self.requests_per_second = (self.completed - completed) / (tick.at - at)

    def _take_records(self, tick: Tick, second: Second) -> None:
        found: dict[str, list[float]] = {name: [] for name in self.latencies}
        for record in tick.records:
            if record.kind == "cancelled":
                continue
            if not record.is_ok:
                self.failures[record.kind] += 1
                second.failed += 1
                continue
            self.completed += 1
            second.completed += 1
            second.ttft += record.ttft
            self.prompt_tokens += max(0, record.prompt_tokens)
            self.output_tokens += output_tokens(record)
            self._ended_chunks += len(record.stamps)
            found["ttft"].append(record.ttft)
            found["e2el"].append(record.e2el)
            found["itl"] += gaps(record)
            if (time_per_token := tpot(record)) is not None:
                found["tpot"].append(time_per_token)
        for name, values in found.items():
            self.latencies[name].add(values)

    def _second(self, at: float) -> Second:
        """The one that `at` lies in; those before it are there too."""
        while int(at) // self._step >= _SECONDS_MOST:
            self._step *= 2
            pairs = zip(self.seconds[::2], [*self.seconds[1::2], Second()], strict=False)
            self.seconds = [_both(first, later) for first, later in pairs]
        while len(self.seconds) <= int(at) // self._step:
            self.seconds.append(Second())
        return self.seconds[int(at) // self._step]

    def latency(self, name: str) -> LatencyCounts:
        """What is known of a latency now: of the answers under way too, where it is TTFT or TPOT."""
        ended = self.latencies[name]
        if not self._begun or name not in ("ttft", "tpot"):
            return ended
        begun = [first if name == "ttft" else after for first, after in self._begun]
        found = ended.copy()
        found.add([value for value in begun if value > 0])
        return found

    @property
    def step(self) -> int:
        """Seconds that an entry of `seconds` stands for."""
        return self._step

    @property
    def failed(self) -> int:
        return sum(self.failures.values())

    @property
    def tokens_per_chunk(self) -> float:
        """Of the answers that are whole; 1 before there are any."""
        return self.output_tokens / self._ended_chunks if self._ended_chunks else 1.0

    @property
    def output_per_second(self) -> float:
        """Output tokens per second over the last 5 seconds: chunks, with as many tokens in each as so far."""
        return self.chunks_per_second * self.tokens_per_chunk

    @property
    def total_per_second(self) -> float:
        """Prompts' and answers' tokens per second since the beginning; a prompt counts when it is answered."""
        return (self.prompt_tokens + self.chunks * self.tokens_per_chunk) / self.at if self.at >= 0.5 else 0.0


def _both(first: Second, later: Second) -> Second:
    return Second(
        first.chunks + later.chunks,
        first.completed + later.completed,
        first.failed + later.failed,
        max(first.running, later.running),
        first.ttft + later.ttft,
    )
