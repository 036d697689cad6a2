"""The same work under one load after another: where more load stops paying, and how much still meets the limits."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from qwen_tui.bench.generator import Tick
from qwen_tui.bench.ledger import Run, new_id
from qwen_tui.bench.load import Load
from qwen_tui.bench.run import Bench, Plan

By = Literal["users", "rate"]
#: Of twice the load, at least this power of two more tokens are worth it: 1.41 times as many.
_SLOPE = 0.5
_FEWEST = 40
_PER_STREAM = 3


def load_at(base: Load, level: float, by: By, count: int = 0) -> Load:
    """`base` with so many streams, or at that rate. count: requests; 0 for enough to tell: 40, or 3 for each stream."""
    count = count or max(_FEWEST, math.ceil(level * _PER_STREAM))
    seconds = 0.0
    if base.seconds:
        count, seconds = 0, base.seconds
    if by == "users":
        return Load(streams=int(level), count=count, seconds=seconds, warmup=base.warmup)
    return replace(base, streams=0, rate=level, count=count, seconds=seconds, ramp="", ramp_from=0.0)


@dataclass(frozen=True)
class Sweep:
    """levels: streams or requests per second, ascending; runs: one for each that was run."""

    by: By
    levels: Sequence[float]
    runs: Sequence[Run]

    @property
    def knee(self) -> float | None:
        """The highest level up to which output throughput kept up: at least 1.41 times as much for twice the load.

        None if it kept up to the end.
        """
        for (level, run), (before, run_before) in zip(self._points()[1:], self._points(), strict=False):
            gain = run.figures.output_throughput / run_before.figures.output_throughput
            if gain < (level / before) ** _SLOPE:
                return before
        return None

    def highest_within(self, share: float) -> float | None:
        """The highest level, none below it failing, whose requests met the limits to that share; None if none did."""
        found = None
        for level, run in zip(self.levels, self.runs, strict=False):
            if (run.figures.good_share or 0.0) < share:
                break
            found = level
        return found

    def _points(self) -> list[tuple[float, Run]]:
        return [pair for pair in zip(self.levels, self.runs, strict=False) if pair[1].figures.output_throughput > 0]

    def to_json(self, share: float = 0.9) -> dict[str, Any]:
        """The levels with their runs' ids, and what they amount to."""
        return {
            "by": self.by,
            "levels": list(self.levels[: len(self.runs)]),
            "runs": [run.id for run in self.runs],
            "knee": self.knee,
            "highest_within_limits": self.highest_within(share) if self.runs and self.runs[0].limits else None,
        }


async def sweep(
    bench: Bench,
    plan: Plan,
    levels: Sequence[float],
    by: By,
    on_tick: Callable[[float, Tick], None],
    count: int = 0,
    on_run: Callable[[Run], None] | None = None,
) -> Sweep:
    """Run `plan` at each level, lowest first, each with prompts of its own; ends early when a run is stopped.

    on_tick: called with the level besides; on_run: with each run as it ends. All runs carry one tag. Raises what
    Bench.run does.
    """
    levels = sorted(set(levels))
    tag = f"sweep-{new_id()}"
    runs: list[Run] = []
    for number, level in enumerate(levels):
        one = replace(
            plan,
            load=load_at(plan.load, level, by, count),
            seed=None if plan.seed is None else plan.seed + number,
            tags=(*plan.tags, tag),
        )

        def tell(tick: Tick, level: float = level) -> None:
            on_tick(level, tick)

        runs.append(await bench.run(one, tell))
        if on_run is not None:
            on_run(runs[-1])
        if runs[-1].partial:
            break
    return Sweep(by, levels, runs)
