"""The figures of a run that is still under way, for whoever shows it."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from qwen_tui.bench.generator import Tick
from qwen_tui.bench.statistics import Distribution, gaps, tpot

#: Values of each latency that are kept: the latest.
_KEPT = 20_000
#: Seconds over which rates are taken.
_WINDOW = 5.0


@dataclass
class Live:
    """Feed it a run's ticks. All counts are of the phase "running"; stopped requests count nowhere.

    failures: kind → how many. chunks_per_second, requests_per_second: over the last 5 seconds.
    """

    phase: str = ""
    at: float = 0.0
    running: int = 0
    completed: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    chunks_per_second: float = 0.0
    requests_per_second: float = 0.0
    _past: deque[tuple[float, int, int]] = field(default_factory=deque)
    _values: Mapping[str, deque[float]] = field(
        default_factory=lambda: {name: deque(maxlen=_KEPT) for name in ("ttft", "tpot", "itl", "e2el")}
    )

    def take(self, tick: Tick) -> None:
        """Note a tick; microseconds for each request that ended, and each of its chunks."""
        self.phase, self.at, self.running = tick.phase, tick.at, tick.running
        if tick.phase != "running":
            return
        values = self._values
        for record in tick.records:
            if record.kind == "cancelled":
                continue
            if not record.is_ok:
                self.failures[record.kind] += 1
                continue
            self.completed += 1
            values["ttft"].append(record.ttft)
            values["e2el"].append(record.e2el)
            values["itl"].extend(gaps(record)[-_KEPT:])
            if (time_per_token := tpot(record)) is not None:
                values["tpot"].append(time_per_token)
        self._past.append((tick.at, tick.chunks, self.completed))
        while len(self._past) > 2 and tick.at - self._past[0][0] > _WINDOW:
            self._past.popleft()
        at, chunks, completed = self._past[0]
        if tick.at - at >= 0.2:
            self.chunks_per_second = max(0, tick.chunks - chunks) / (tick.at - at)
            self.requests_per_second = (self.completed - completed) / (tick.at - at)

    @property
    def failed(self) -> int:
        return sum(self.failures.values())

    def distribution(self, name: str) -> Distribution:
        """Of "ttft", "tpot", "itl" or "e2el", in seconds, of the latest 20,000 values; takes some 10 ms."""
        return Distribution.of(self._values[name])
