"""The highest load that still meets the limits: found by doubling and halving, and then looked at again."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from qwen_tui.bench.generator import Tick
from qwen_tui.bench.ledger import Run, new_id
from qwen_tui.bench.run import Bench, Plan
from qwen_tui.bench.sweep import By, load_at
from qwen_tui.bench.target import BenchError

#: Two levels this close (a share of the lower one) are as good as one.
_CLOSE = 0.05
#: Of a normal distribution: 95 % lie within so many standard deviations.
_Z = 1.96


@dataclass(frozen=True)
class Trial:
    """One run of the search. good of counted requests met the limits. gave_up: it could not succeed any more."""

    level: float
    good: int
    counted: int
    run: Run
    gave_up: bool = False

    @property
    def share(self) -> float:
        return self.good / self.counted if self.counted else 0.0


@dataclass(frozen=True)
class Capacity:
    """level: streams at once, or requests per second; 0 when not even the lowest met the limits.

    share: of the requests at that level that met them, over all its runs; low, high: its 95 % confidence interval.
    is_most: the search ended at the highest level it was allowed. stopped: it was ended before its time.
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
            "is_most": self.is_most,
            "stopped": self.stopped,
            "run_id": best.id if best is not None else None,
            "limits": self.trials[0].run.limits.to_json() if self.trials else None,
            "output_throughput": best.figures.output_throughput if best is not None else None,
            "trials": [
                {"level": t.level, "share": t.share, "requests": t.counted, "gave_up": t.gave_up, "run_id": t.run.id}
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

    share: of the requests, 0..1. most: the highest level tried. repeats: how often the level found is run, in all.
    count: requests of each trial; 0 for enough to tell. on_tick: called with the level as well.
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
        on_tick: Callable[[float, Tick], None] | None = None,
    ) -> None:
        self._bench = bench
        self._plan = replace(plan, tags=(*plan.tags, f"capacity-{new_id()}"))
        self._share = share
        self._by: By = by
        self._most = most
        self._repeats = repeats
        self._count = count
        self._on_tick = on_tick or (lambda level, tick: None)
        self._stopped = False
        self.trials: list[Trial] = []

    def stop(self) -> None:
        """End the search; what was found so far is the answer."""
        self._stopped = True
        self._bench.stop()

    async def run(self) -> Capacity:
        """Search. Raises what Bench.run does."""
        low, high = 0.0, math.inf
        level = min(1.0, self._most)
        while not self._stopped:
            if await self._holds(level):
                low = level
                if level >= self._most:
                    break
            else:
                high = level
            if high - low <= self._closeness(low):
                if not low or await self._confirmed(low):
                    break
                high, low = low, self._highest_below(low)
                if not low:
                    break
            level = self._between(low, high)
        if low and low >= self._most and not self._stopped and not await self._confirmed(low):
            low = self._highest_below(low)
        return self._result(low)

    def _closeness(self, low: float) -> float:
        step = low * _CLOSE
        return max(1.0, step) if self._by == "users" else max(0.02, step)

    def _between(self, low: float, high: float) -> float:
        level = (low + high) / 2 if math.isfinite(high) else max(1.0, low * 2)
        level = min(level, self._most)
        return float(max(1, math.floor(level))) if self._by == "users" else level

    def _highest_below(self, level: float) -> float:
        """The highest level under this one at which no run failed; 0 if there is none."""
        levels = {trial.level for trial in self.trials if trial.level < level}
        return max((one for one in levels if self._pooled(one)[2]), default=0.0)

    async def _confirmed(self, level: float) -> bool:
        """Whether the level holds when it is run as often as it is to be."""
        while sum(trial.level == level for trial in self.trials) < self._repeats and not self._stopped:
            await self._holds(level)
        return self._pooled(level)[2]

    def _pooled(self, level: float) -> tuple[int, int, bool]:
        """Good and counted requests over all runs at `level`, and whether they are enough."""
        trials = [trial for trial in self.trials if trial.level == level]
        good, counted = sum(trial.good for trial in trials), sum(trial.counted for trial in trials)
        return good, counted, bool(counted) and good >= self._share * counted

    async def _holds(self, level: float) -> bool:
        """Run once at `level`; whether it met the limits. Ends the run as soon as it can't any more."""
        load = load_at(self._plan.load, level, self._by, self._count)
        limits = self._plan.limits
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
        try:
            run = await self._bench.run(replace(self._plan, load=load, seed=seed), watch)
        except BenchError:
            if self._stopped:
                return False
            raise
        figures = run.figures
        # A run that was given up has shown its bad requests first: the rest of its count is taken as good.
        counted = load.count if gave_up else figures.completed + figures.failed
        good = counted - bad
        if self._stopped and not gave_up:
            return False  # a part of a run says nothing
        self.trials.append(Trial(level, good, counted, run, gave_up))
        return good >= self._share * counted > 0

    def _result(self, level: float) -> Capacity:
        good, counted, _holds = self._pooled(level)
        low, high = wilson(good, counted)
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
        )
