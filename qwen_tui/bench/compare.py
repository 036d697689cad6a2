"""Runs side by side: which figures differ, by how much, how surely, and whether they may be compared at all."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from qwen_tui.bench.confidence import Interval, change
from qwen_tui.bench.ledger import Run
from qwen_tui.bench.statistics import Figures
from qwen_tui.i18n import N_, _


@dataclass(frozen=True)
class Row:
    """One figure of both. name: translated when drawn. unit: "/s", "ms" or "". change: share, None where a is 0.

    interval: of the change, where both sides were run at least twice.
    """

    key: str
    name: str
    unit: str
    a: float
    b: float
    more_is_better: bool
    interval: Interval | None = None

    @property
    def change(self) -> float | None:
        return (self.b - self.a) / self.a if self.a else None

    @property
    def is_better(self) -> bool | None:
        """Whether b is better than a; None when they are equal, or so near that it may be noise."""
        if self.a == self.b or (self.interval is not None and not self.interval.is_clear):
            return None
        return (self.b > self.a) == self.more_is_better


@dataclass(frozen=True)
class Side:
    """A run with those that repeat it, the newest first; `run` is among them."""

    run: Run
    repeats: Sequence[Run]

    def values(self, key: str, unit: str) -> list[float]:
        """The figure called `key` of each run, in the unit of its row."""
        return [_value(run.figures, key, unit) for run in self.repeats]


#: key, name, unit, whether more is better.
_THROUGHPUTS = (
    ("request_throughput", N_("requests"), "/s"),
    ("output_throughput", N_("output tokens"), "/s"),
    ("total_token_throughput", N_("prompt and output tokens"), "/s"),
)
_LATENCIES = ("ttft", "tpot", "itl", "e2el")
_STATISTICS = ("mean", "median", "p90", "p99")
#: Figures that a trend can be drawn of, those that `rows` compares: key, name, unit, whether more is better.
FIGURES: Sequence[tuple[str, str, str, bool]] = (
    *((key, name, unit, True) for key, name, unit in _THROUGHPUTS),
    *(
        (f"{statistic}_{latency}_ms", f"{latency.upper()} {statistic}", "ms", False)
        for latency in _LATENCIES
        for statistic in _STATISTICS
    ),
)


def value(run: Run, key: str) -> float:
    """The figure of that key, one of FIGURES. Raises KeyError."""
    unit = next((unit for known, _name, unit, _better in FIGURES if known == key), None)
    if unit is None:
        raise KeyError(key)
    return _value(run.figures, key, unit)


def _value(figures: Figures, key: str, unit: str) -> float:
    if unit != "ms":
        return float(getattr(figures, key))
    statistic, latency, _ms = key.split("_")
    return float(getattr(getattr(figures, latency), statistic)) * 1e3


def rows(a: Figures, b: Figures) -> list[Row]:
    """Throughputs, then each latency's mean, median, p90 and p99 in ms. Names of latencies need no translation."""
    return [Row(key, name, unit, _value(a, key, unit), _value(b, key, unit), more) for key, name, unit, more in FIGURES]


def side_rows(a: Side, b: Side) -> list[Row]:
    """The same of runs that were repeated: the means, and how sure their difference is."""
    found = []
    for key, name, unit, more in FIGURES:
        before, after = a.values(key, unit), b.values(key, unit)
        means = statistics.fmean(before), statistics.fmean(after)
        found.append(Row(key, name, unit, *means, more, change(before, after)))
    return found


def sides(chosen: Sequence[Run], known: Sequence[Run] = ()) -> list[Side]:
    """Each chosen run with those of `known` that repeat it.

    Where two of the chosen repeat each other they stand for themselves: what differs between them is noise.
    """
    found = [Side(run, [run, *(one for one in known if one.id != run.id and repeats(one, run))]) for run in chosen]
    ids = {run.id for run in chosen}
    if any(ids & {one.id for one in side.repeats} != {side.run.id} for side in found):
        return [Side(run, [run]) for run in chosen]
    return found


def repeats(a: Run, b: Run) -> bool:
    """Whether both are the same in everything but the moment: work, load, server, its flags and version, machine."""
    if a.partial or b.partial or not a.is_same_work_as(b) or a.load != b.load:
        return False
    if "imported_from" in a.about or "imported_from" in b.about or a.model != b.model or _flags(a) != _flags(b):
        return False
    return all(a.about.get(name) == b.about.get(name) for name in ("engine_version", "gpus", "driver", "backend")) and (
        bool(_flags(a)) or a.base_url == b.base_url
    )


def _flags(run: Run) -> list[str]:
    """The words of the server's command without its interpreter and its port, which change nothing."""
    words = [str(word) for word in run.about.get("argv") or ()]
    return [word for before, word in pairwise(words) if "--port" not in (word, before)]


def caveats(a: Run, b: Run) -> list[str]:
    """Why the difference of two runs may not be what it seems, translated sentences."""
    found = []
    imported = [run for run in (a, b) if run.about.get("imported_from")]
    for run in imported:
        found.append(_("{id} was imported: what it asked for is not known in full").format(id=run.id))
    if not imported and not a.is_same_work_as(b):
        found.append(_("They did not ask for the same work"))
    if (a.load.streams, a.load.rate, a.load.most_at_once) != (b.load.streams, b.load.rate, b.load.most_at_once):
        found.append(_("The load was not the same"))
    if a.id != b.id and repeats(a, b):
        found.append(_("Nothing was changed between them: the difference is noise"))
    for run in (a, b):
        if run.partial:
            found.append(_("{id} was stopped before its end").format(id=run.id))
        if run.health.is_bottleneck:
            found.append(_("{id} may have measured its client instead of the server").format(id=run.id))
        if run.figures.failed:
            found.append(_("{id} had failed requests").format(id=run.id))
    return found


def search(runs: Sequence[Run], text: str = "", tag: str = "") -> list[Run]:
    """Those that carry the tag, and every word of `text` somewhere: model, URL, id, tags, note, engine, GPU, kind."""
    words = text.casefold().split()
    found = []
    for run in runs:
        if tag and tag not in run.tags:
            continue
        about = (run.about.get(name, "") for name in ("engine_version", "server_name", "imported_from", "backend"))
        gpus = run.about.get("gpus") or []
        texts = (run.id, run.model, run.base_url, run.note, run.kind, run.workload.kind, *run.tags, *about, *gpus)
        everything = " ".join(map(str, texts)).casefold()
        if all(word in everything for word in words):
            found.append(run)
    return found


def trend(run: Run, known: Sequence[Run]) -> list[Run]:
    """The runs of the same work under the same load on that model, the oldest first; whatever else changed."""
    found = {
        one.id: one
        for one in (*known, run)
        if one.is_same_work_as(run) and one.load == run.load and one.model == run.model and not one.partial
    }
    return sorted(found.values(), key=lambda one: one.created)


def changed_since(before: Run, after: Run) -> list[str]:
    """What differs between the servers of two runs: engine version, GPU, driver, flags; as short texts."""
    found = []
    for name in ("engine_version", "driver"):
        old, new = before.about.get(name), after.about.get(name)
        if old and new and old != new:
            found.append(f"{name.removesuffix('_version')} {old} → {new}")
    if before.about.get("gpus") != after.about.get("gpus") and before.about.get("gpus") and after.about.get("gpus"):
        found.append(", ".join(map(str, after.about["gpus"])))
    old_words, new_words = _flags(before), _flags(after)
    if old_words and new_words:
        gone = [word for word in old_words if word not in new_words]
        come = [word for word in new_words if word not in old_words]
        found += [f"− {' '.join(gone)}"] * bool(gone) + [f"+ {' '.join(come)}"] * bool(come)
    return found
