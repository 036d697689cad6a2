"""The highest load that still meets the limits: bracketed by short runs, and then confirmed by full ones."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from qwen_tui.bench.generator import Tick
from qwen_tui.bench.ledger import Run, new_id
from qwen_tui.bench.load import Load
from qwen_tui.bench.run import Bench, Plan
from qwen_tui.bench.sweep import By, load_at
from qwen_tui.bench.target import BenchError

#: Two levels this close (a share of the lower one) are as good as one.
_CLOSE = 0.05
#: Of a normal distribution: 95 % lie within so many standard deviations.
_Z = 1.96
#: The first number of streams; and what each stream of a short and of a full run asks.
_FIRST = 4
_PROBE_EACH, _FULL_EACH = 2.0, 3.0
_PROBE_FEWEST = 4
#: Requests in all full runs together, at least.
_FEWEST = 40
#: Seconds of a short run at a rate.
_PROBE_SECONDS = 8.0


@dataclass(frozen=True)
class Trial:
    """One run of the search. good of counted requests met the limits. gave_up: it could not succeed any more.

    is_probe: a short run that only looks where the limits are; the answer rests on the others.
    """

    level: float
    good: int
    counted: int
    run: Run
    gave_up: bool = False
    is_probe: bool = False

    @property
    def share(self) -> float:
        return self.good / self.counted if self.counted else 0.0


@dataclass(frozen=True)
class Capacity:
    """level: streams at once, or requests per second; 0 when not even the lowest met the limits.

    share: of the requests at that level that met them, over all its full runs; low, high: its 95 % confidence interval.
    met of runs full runs met them. above: the lowest level that did not; None if none was seen to fail.
    is_most: the search ended at the highest level it was allowed. stopped: it was ended before its time.
    out_of_time: what it was allowed to take was used up before `level` and `above` were as near as they could be.
    """

    by: By
    wanted: float
    level: float
    share: float
    low: float
    high: float
    trials: Sequence[Trial]
    is_most: bool = False
    stopped: bool = False
    met: int = 0
    runs: int = 0
    above: float | None = None
    out_of_time: bool = False

    @property
    def best(self) -> Run | None:
        """The last run at the level found."""
        return next((trial.run for trial in reversed(self.trials) if trial.level == self.level), None)

    def to_json(self) -> dict[str, Any]:
        best = self.best
        return {
            "by": self.by,
            "level": self.level,
            "wanted_share": self.wanted,
            "share": self.share,
            "confidence_95": [self.low, self.high],
            "runs": self.runs,
            "runs_that_met": self.met,
            "lowest_that_failed": self.above,
            "is_most": self.is_most,
            "stopped": self.stopped,
            "out_of_time": self.out_of_time,
            "run_id": best.id if best is not None else None,
            "limits": self.trials[0].run.limits.to_json() if self.trials else None,
            "output_throughput": best.figures.output_throughput if best is not None else None,
            "trials": [
                {
                    "level": t.level,
                    "share": t.share,
                    "requests": t.counted,
                    "gave_up": t.gave_up,
                    "is_probe": t.is_probe,
                    "run_id": t.run.id,
                }
                for t in self.trials
            ],
        }


def wilson(good: int, counted: int) -> tuple[float, float]:
    """The 95 % confidence interval of a share. Source: Wilson 1927."""
    if not counted:
        return 0.0, 1.0
    share, squared = good / counted, _Z**2 / counted
    middle = (share + squared / 2) / (1 + squared)
    half = _Z / (1 + squared) * math.sqrt(share * (1 - share) / counted + squared / (4 * counted))
    return max(0.0, middle - half), min(1.0, middle + half)


class Search:
    """Looks for the capacity with one `Bench`; the plan's limits are what has to be met.

    Short runs bracket it, four times as high each, then half way, one that fails twice; full runs confirm it.
    share: of the requests, 0..1.
    most: the highest level tried. repeats: full runs at the level found. count: requests of each run; 0 for enough to
    tell. budget: seconds after which nothing but one full run is begun. on_tick: called with the level as well.
    """

    def __init__(
        self,
        bench: Bench,
        plan: Plan,
        share: float,
        *,
        by: By = "users",
        most: float = 1024,
        repeats: int = 3,
        count: int = 0,
        budget: float = 120.0,
        on_tick: Callable[[float, Tick], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bench = bench
        self._plan = replace(plan, tags=(*plan.tags, f"capacity-{new_id()}"))
        self._share = share
        self._by: By = by
        self._most = most
        self._repeats = repeats
        self._count = count
        self._budget = budget
        self._on_tick = on_tick or (lambda level, tick: None)
        self._clock = clock
        self._began = 0.0
        self._stopped = False
        self._low, self._high = 0.0, math.inf
        #: Seconds of the last short run, for each request of a stream.
        self._pace = 0.0
        self.trials: list[Trial] = []
        #: The run under way: its load, whether it is a short one, and the how manieth full run at its level.
        self.load: Load | None = None
        self.is_probe = True
        self.number = 0

    def stop(self) -> None:
        """End the search; what was found so far is the answer."""
        self._stopped = True
        self._bench.stop()

    @property
    def repeats(self) -> int:
        return self._repeats

    @property
    def eta(self) -> float | None:
        """Seconds until the answer, about; None before the first run has shown how long one takes."""
        if not self._pace:
            return None
        full = self._full_runs_time(self._repeats - (0 if self.is_probe else self.number - 1))
        if not self.is_probe:
            return full
        if math.isinf(self._high):
            steps = 2.0 + math.log2(4 / _CLOSE) / 2
        else:
            gap = max(self._high - self._low, 1e-9) / self._closeness(self._low)
            steps = max(0.0, math.log2(gap)) if gap > 1 else 0.0
        probes = min(steps * self._pace * _PROBE_EACH, max(0.0, self._left() - full))
        return probes + full

    async def run(self) -> Capacity:
        """Search. Raises what Bench.run does."""
        self._began = self._clock()
        level = min(float(_FIRST), self._most) if self._by == "users" else min(1.0, self._most)
        while not self._stopped:
            if not (self._low and self._is_late()):
                await self._bracket(level)
            if self._stopped or not self._low or await self._confirmed(self._low):
                break
            self._high, self._low = self._low, self._highest_below(self._low)
            if not self._low and self._is_close():
                break
            level = self._between()
        return self._result(self._low)

    async def _bracket(self, level: float) -> None:
        """Short runs until a level that holds and one that does not are near each other, or time is up."""
        while not self._stopped:
            if not any(trial.level == level for trial in self.trials):
                holds = await self._holds(level, probe=True)
                if not holds and not self._stopped:
                    # A server's first requests of a kind can cost it seconds, once: what fails must fail twice.
                    holds = await self._holds(level, probe=True)
                if holds:
                    self._low = max(self._low, level)
                elif not self._stopped:
                    self._high = min(self._high, level)
            if self._is_close() or self._low >= self._most or (self._low and self._is_late()):
                return
            level = self._between()

    def _is_close(self) -> bool:
        return self._high - self._low <= self._closeness(self._low)

    def _closeness(self, low: float) -> float:
        step = low * _CLOSE
        return max(1.0, step) if self._by == "users" else max(0.02, step)

    def _between(self) -> float:
        """The next level: four times as high while none failed, then half way, on the scale of their ratio."""
        low, high = self._low, self._high
        if math.isinf(high):
            level = max(1.0, low * 4)
        elif low:
            level = math.sqrt(low * high)
        else:
            level = high / 2
        level = min(level, self._most)
        if self._by != "users":
            return level
        level = float(max(1, math.floor(level)))
        return low + 1 if low < high and level <= low else level

    def _left(self) -> float:
        return self._budget - (self._clock() - self._began)

    def _each(self, level: float, probe: bool) -> float:
        """Requests of each stream: a short run has a few at least, and all full runs together enough to tell."""
        if probe:
            return max(_PROBE_EACH, _PROBE_FEWEST / level)
        return max(_FULL_EACH, _FEWEST / self._repeats / level)

    def _full_runs_time(self, runs: int) -> float:
        return runs * self._pace * self._each(max(self._low, 1.0), False)

    def _is_late(self) -> bool:
        """Whether another short run would take the time that the full runs need."""
        return self._left() < self._full_runs_time(self._repeats) + self._pace * _PROBE_EACH

    def _highest_below(self, level: float) -> float:
        """The highest level under this one at which no run failed; 0 if there is none."""
        levels = {trial.level for trial in self.trials if trial.level < level}
        return max((one for one in levels if self._pooled(one)[2]), default=0.0)

    async def _confirmed(self, level: float) -> bool:
        """Whether the level holds in full runs: as many as are wanted, or as there is time for, but one at least."""
        done = [trial for trial in self.trials if trial.level == level and not trial.is_probe]
        while len(done) < self._repeats and not self._stopped:
            if done and self._left() < self._full_runs_time(1):
                break
            self.number = len(done) + 1
            await self._holds(level, probe=False)
            done = [trial for trial in self.trials if trial.level == level and not trial.is_probe]
            wanted = self._repeats * max((trial.counted for trial in done), default=0)
            bad = sum(trial.counted - trial.good for trial in done)
            if done and bad > (1 - self._share) * wanted:
                return False
        return self._pooled(level)[2]

    def _full(self, level: float) -> list[Trial]:
        """The runs that say something about a level: the full ones, or where there are none, the last short one."""
        trials = [trial for trial in self.trials if trial.level == level]
        return [trial for trial in trials if not trial.is_probe] or trials[-1:]

    def _pooled(self, level: float) -> tuple[int, int, bool]:
        """Good and counted requests at `level`, and whether they are enough."""
        trials = self._full(level)
        good, counted = sum(trial.good for trial in trials), sum(trial.counted for trial in trials)
        return good, counted, bool(counted) and good >= self._share * counted

    def _load(self, level: float, probe: bool) -> Load:
        count = self._count
        if not count and self._by == "users":
            count = math.ceil(level * self._each(level, probe))
        elif not count and probe:
            count = max(_PROBE_FEWEST, math.ceil(level * _PROBE_SECONDS))
        load = load_at(self._plan.load, level, self._by, count)
        return replace(load, warmup=0) if self.trials else load  # it is warm after the first

    async def _holds(self, level: float, *, probe: bool) -> bool:
        """Run once at `level`; whether it met the limits. Ends the run as soon as it can't any more."""
        self.load, self.is_probe = self._load(level, probe), probe
        load, limits = self.load, self._plan.limits
        bad = 0
        gave_up = False

        def watch(tick: Tick) -> None:
            nonlocal bad, gave_up
            bad += sum(record.kind != "cancelled" and not limits.are_met(record) for record in tick.records)
            if load.count and bad > (1 - self._share) * load.count and not gave_up and tick.phase == "running":
                gave_up = True
                self._bench.stop()
            self._on_tick(level, tick)

        seed = None if self._plan.seed is None else self._plan.seed + len(self.trials)
        began = self._clock()
        try:
            run = await self._bench.run(replace(self._plan, load=load, seed=seed), watch)
        except BenchError:
            if self._stopped:
                return False
            raise
        figures = run.figures
        if not gave_up and load.count:
            each = load.count / level  # requests of a stream; or seconds, at a rate
            self._pace = (self._clock() - began) / max(each, 1.0)
        # A run that was given up has shown its bad requests first: the rest of its count is taken as good.
        counted = load.count if gave_up else figures.completed + figures.failed
        good = counted - bad
        if self._stopped and not gave_up:
            return False  # a part of a run says nothing
        self.trials.append(Trial(level, good, counted, run, gave_up, probe))
        return good >= self._share * counted > 0

    def _result(self, level: float) -> Capacity:
        good, counted, holds = self._pooled(level)
        if level and not holds:
            level, good, counted = 0.0, 0, 0
        low, high = wilson(good, counted)
        full = [trial for trial in self.trials if trial.level == level and not trial.is_probe]
        return Capacity(
            self._by,
            self._share,
            level,
            good / counted if counted else 0.0,
            low,
            high,
            tuple(self.trials),
            is_most=bool(level) and level >= self._most,
            stopped=self._stopped,
            met=sum(trial.share >= self._share for trial in full),
            runs=len(full),
            above=self._high if math.isfinite(self._high) else None,
            out_of_time=not self._stopped and level < self._most and not self._is_close(),
        )
