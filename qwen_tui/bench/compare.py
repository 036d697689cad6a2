"""Two runs side by side: which figures differ, by how much, and whether they may be compared at all."""

from __future__ import annotations

from dataclasses import dataclass

from qwen_tui.bench.ledger import Run
from qwen_tui.bench.statistics import Figures
from qwen_tui.i18n import N_, _


@dataclass(frozen=True)
class Row:
    """One figure of both. name: translated when drawn. unit: "/s", "ms" or "". change: share, None where a is 0."""

    key: str
    name: str
    unit: str
    a: float
    b: float
    more_is_better: bool

    @property
    def change(self) -> float | None:
        return (self.b - self.a) / self.a if self.a else None

    @property
    def is_better(self) -> bool | None:
        """Whether b is better than a; None when they are equal."""
        return None if self.a == self.b else (self.b > self.a) == self.more_is_better


#: key, name, unit, whether more is better.
_THROUGHPUTS = (
    ("request_throughput", N_("requests"), "/s"),
    ("output_throughput", N_("output tokens"), "/s"),
    ("total_token_throughput", N_("prompt and output tokens"), "/s"),
)
_LATENCIES = ("ttft", "tpot", "itl", "e2el")
_STATISTICS = ("mean", "median", "p90", "p99")


def rows(a: Figures, b: Figures) -> list[Row]:
    """Throughputs, then each latency's mean, median, p90 and p99 in ms. Names of latencies need no translation."""
    found = [Row(key, name, unit, getattr(a, key), getattr(b, key), True) for key, name, unit in _THROUGHPUTS]
    for latency in _LATENCIES:
        for statistic in _STATISTICS:
            before, after = (getattr(getattr(figures, latency), statistic) * 1e3 for figures in (a, b))
            key = f"{statistic}_{latency}_ms"
            found.append(Row(key, f"{latency.upper()} {statistic}", "ms", before, after, False))
    return found


def caveats(a: Run, b: Run) -> list[str]:
    """Why the difference of two runs may not be what it seems, translated sentences."""
    found = []
    if not a.is_same_work_as(b):
        found.append(_("They did not ask for the same work"))
    if (a.load.streams, a.load.rate, a.load.most_at_once) != (b.load.streams, b.load.rate, b.load.most_at_once):
        found.append(_("The load was not the same"))
    for run in (a, b):
        if run.partial:
            found.append(_("{id} was stopped before its end").format(id=run.id))
        if run.health.is_bottleneck:
            found.append(_("{id} may have measured its client instead of the server").format(id=run.id))
        if run.figures.failed:
            found.append(_("{id} had failed requests").format(id=run.id))
    return found
