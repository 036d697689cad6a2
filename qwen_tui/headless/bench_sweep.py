"""`qwen-tui bench --sweep 1,2,4,…`: the same work under one load after another."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from qwen_tui.bench.sentences import level_text, sweep_texts
from qwen_tui.errors import UsageError
from qwen_tui.headless.bench import INTERRUPTED, RunProgress, plan_of, stoppable
from qwen_tui.headless.bench_arguments import load_of
from qwen_tui.headless.bench_target import counters_of, machine_of
from qwen_tui.i18n import _
from qwen_tui.paths import Paths

if TYPE_CHECKING:
    from qwen_tui.bench.generator import Tick
    from qwen_tui.bench.load import Load
    from qwen_tui.bench.sweep import By, Sweep
    from qwen_tui.headless.plain import PlainProgress

_SHARE = 0.9


async def run_sweep(arguments: argparse.Namespace, paths: Paths) -> int:
    """Run at every level, print a table; the exit status."""
    from qwen_tui.bench.run import Bench
    from qwen_tui.bench.sweep import load_at, sweep
    from qwen_tui.headless.plain import PlainProgress

    by: By = "rate" if arguments.sweep_rate else "users"
    if arguments.sweep and arguments.sweep_rate:
        raise UsageError(_("Give --sweep or --sweep-rate, not both"))
    if arguments.concurrency is not None or arguments.request_rate is not None:
        raise UsageError(_("A sweep sets the load itself: leave out --concurrency and --request-rate"))
    if by == "users" and any(level != int(level) for level in arguments.sweep):
        raise UsageError(_("Streams are counted in whole numbers"))
    base = load_of(arguments)
    count = arguments.num_prompts or 0
    plan = replace(await plan_of(arguments, paths, base), load=base)
    bench = Bench(paths, counters_of(plan.target), machine_of(plan.target))
    with PlainProgress(sys.stderr) as show:
        progress = LevelProgress(show, lambda level: load_at(base, level, by, count), by)
        work = sweep(bench, plan, arguments.sweep_rate or arguments.sweep, by, progress, count)
        found = await stoppable(work, bench.stop, lambda: progress.is_running)
    if arguments.json:
        print(json.dumps(found.to_json(_SHARE), ensure_ascii=False), flush=True)
    else:
        print("\n".join(await asyncio.to_thread(sweep_lines, found)), flush=True)
    if any(run.partial for run in found.runs):
        return INTERRUPTED
    return int(sum(run.figures.failed for run in found.runs) > arguments.max_failures)


class LevelProgress:
    """The progress of runs at one level after another; each begins anew. name: of a run, else its level."""

    def __init__(
        self, show: PlainProgress, load: Callable[[float], Load], by: By, name: Callable[[float], str] | None = None
    ) -> None:
        self._show = show
        self._load = load
        self._name = name or (lambda level: level_text(level, by))
        self._level = 0.0
        self._phase = ""
        self._progress: RunProgress | None = None

    @property
    def is_running(self) -> bool:
        return self._progress is not None and self._progress.is_running

    def __call__(self, level: float, tick: Tick) -> None:
        begins = tick.phase == "preparing" and self._phase not in ("preparing", "probing")
        if self._progress is None or level != self._level or begins:
            self._level = level
            self._progress = RunProgress(self._load(level), self._show, self._name(level))
        self._phase = tick.phase
        self._progress(tick)


def sweep_lines(found: Sweep) -> list[str]:
    """A row for each level, then the knee and what the limits allow."""
    from qwen_tui.headless.bench_lines import table

    has_limits = bool(found.runs and found.runs[0].limits)
    rows = [
        (
            _("LOAD"), _("REQUESTS/S"), _("OUTPUT TOKENS/S"),
            "TTFT p50 ms", "TTFT p99 ms", "TPOT p50 ms", "TPOT p99 ms", _("FAILED"),
            *([_("WITHIN LIMITS")] if has_limits else []),
        )
    ]  # fmt: skip
    for level, run in zip(found.levels, found.runs, strict=False):
        figures = run.figures
        times = (figures.ttft.median, figures.ttft.p99, figures.tpot.median, figures.tpot.p99)
        rows.append(
            (
                level_text(level, found.by),
                f"{figures.request_throughput:.2f}",
                f"{figures.output_throughput:,.1f}",
                *(f"{value * 1e3:,.1f}" for value in times),
                str(figures.failed),
                *([f"{figures.good_share or 0.0:.0%}"] if has_limits else []),
            )
        )
    lines = [*table(rows), ""]
    lines += sweep_texts(found, _SHARE)
    doubtful = [level_text(level, found.by) for level, run in zip(found.levels, found.runs, strict=False)
                if run.health.is_bottleneck]  # fmt: skip
    if doubtful:
        lines.append(
            _("! At {loads} the client may have been measured: see `qwen-tui bench show`").format(
                loads=", ".join(doubtful)
            )
        )
    return lines
