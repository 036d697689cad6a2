"""`qwen-tui bench`: put a load on a server and say how fast it was."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from qwen_tui.errors import UsageError
from qwen_tui.headless.bench_arguments import (
    add_load_arguments,
    add_workload_arguments,
    levels,
    limits_of,
    load_of,
    workload_of,
)
from qwen_tui.headless.bench_target import add_target_arguments, choose, counters_of, machine_of
from qwen_tui.i18n import _
from qwen_tui.paths import Paths
from qwen_tui.settings import Settings

if TYPE_CHECKING:
    from qwen_tui.bench.generator import Tick
    from qwen_tui.bench.ledger import Ledger, Run
    from qwen_tui.bench.load import Load
    from qwen_tui.bench.run import Bench, Plan
    from qwen_tui.headless.plain import PlainProgress

INTERRUPTED = 130
#: The first word after `bench` that means something else than a server → the module that does it.
ACTION_MODULES = dict.fromkeys(
    ("runs", "show", "tag", "note", "delete", "compare", "trend", "export", "import"), "qwen_tui.headless.bench_kept"
) | {"rerun": "qwen_tui.headless.bench_rerun"}
T = TypeVar("T")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `qwen-tui bench`."""
    parser.epilog = _("What was measured is kept: qwen-tui bench {actions}").format(actions=" | ".join(ACTION_MODULES))
    add_target_arguments(parser)
    add_workload_arguments(parser)
    add_load_arguments(parser)
    parser.add_argument(
        "--goodput",
        nargs="+",
        default=[],
        metavar="LIMIT",
        help=_("count requests within limits in ms: ttft:500 tpot:50"),
    )
    parser.add_argument("--max-failures", type=int, default=0, metavar="N", help=_("more failed requests are an error"))
    parser.add_argument("--timeout", type=float, default=600.0, metavar="SECONDS", help=_("of silence, for a request"))
    parser.add_argument(
        "--processes", type=int, default=0, metavar="N", help=_("of the load generator (default: as needed)")
    )
    parser.add_argument(
        "--tag", action="append", default=[], metavar="TAG", help=_("to find the run by; may be repeated")
    )
    parser.add_argument("--note", default="", metavar="TEXT", help=_("kept with the run"))
    parser.add_argument("--save-result", metavar="FILE", help=_("write the result and each request's figures as JSON"))
    parser.add_argument("--json", action="store_true", help=_("print the result as one JSON object"))
    parser.add_argument(
        "--sweep",
        type=levels,
        metavar="N,N,…",
        help=_("one run at each number of streams; the knee and the highest within --goodput"),
    )
    parser.add_argument(
        "--sweep-rate", type=levels, metavar="R,R,…", help=_("one run at each rate of requests per second")
    )


def run(arguments: argparse.Namespace, paths: Paths, settings: Settings) -> int:
    """Measure; the exit status."""
    if arguments.preset == "list":
        return _print_presets()
    if arguments.save_result and not Path(arguments.save_result).absolute().parent.is_dir():
        raise UsageError(_("There is no folder for {file}").format(file=arguments.save_result))
    if arguments.sweep or arguments.sweep_rate:
        from qwen_tui.headless.bench_sweep import run_sweep

        return asyncio.run(run_sweep(arguments, paths))
    return asyncio.run(_bench(arguments, paths, settings))


def _print_presets() -> int:
    from qwen_tui.bench.presets import PRESETS
    from qwen_tui.headless.bench_lines import table

    print("\n".join(table([(name, _(preset.about)) for name, preset in PRESETS.items()], numbers_from=9)))
    return 0


async def _bench(arguments: argparse.Namespace, paths: Paths, settings: Settings) -> int:
    from qwen_tui.bench.price import HourlyPrice
    from qwen_tui.bench.result import result_json
    from qwen_tui.bench.run import Bench
    from qwen_tui.headless.bench_lines import run_lines
    from qwen_tui.headless.plain import PlainProgress

    price = HourlyPrice.parse(settings.hourly_price)
    plan = await plan_of(arguments, paths, load_of(arguments))
    bench = Bench(paths, counters_of(plan.target), machine_of(plan.target))
    with PlainProgress(sys.stderr) as show:
        found = await interruptible(bench, plan, show)
    if arguments.save_result:
        save_result(found, bench.ledger, arguments.save_result)
    if arguments.json:
        print(json.dumps(result_json(found), ensure_ascii=False), flush=True)
    else:
        print("\n".join(run_lines(found, price)), flush=True)
    if found.partial:
        return INTERRUPTED
    return int(found.figures.failed > arguments.max_failures or not found.figures.completed)


async def plan_of(arguments: argparse.Namespace, paths: Paths, load: Load) -> Plan:
    """What the arguments ask for. Raises UsageError, ServerError, BenchError."""
    from qwen_tui.bench.run import Plan

    workload = workload_of(arguments)
    limits = limits_of(arguments.goodput)
    chosen = await choose(arguments, paths)
    return Plan(
        target=chosen.target,
        workload=workload,
        load=load,
        limits=limits,
        seed=arguments.seed,
        processes=arguments.processes,
        silence=arguments.timeout,
        tokenizer_file=chosen.tokenizer_file,
        tags=tuple(arguments.tag),
        note=arguments.note,
        about=chosen.about,
    )


async def interruptible(bench: Bench, plan: Plan, show: PlainProgress) -> Run:
    """Run `plan`; Ctrl-C ends it in order and keeps what there is, a second one ends it at once."""
    progress = RunProgress(plan.load, show)
    return await stoppable(bench.run(plan, progress), bench.stop, lambda: progress.is_running)


async def stoppable(work: Coroutine[Any, Any, T], stop: Callable[[], None], can_stop: Callable[[], bool]) -> T:
    """Do `work`. Ctrl-C calls `stop`; a second one, or one while it can't be stopped, cancels."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    asked: list[int] = []

    def interrupt(number: int) -> None:
        if asked or not can_stop():
            task.cancel()
        asked.append(number)
        stop()

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, interrupt, number)
    try:
        return await task
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


class RunProgress:
    """Turns a run's ticks into progress on a stream."""

    def __init__(self, load: Load, show: PlainProgress, name: str = "") -> None:
        from qwen_tui.progress import RateMeter

        self.is_running = False
        self._load = load
        self._show = show
        self._measuring = _("Measuring: {name}").format(name=name) if name else _("Measuring")
        self._done = self._failed = 0
        self._tokens = RateMeter(5.0)

    def __call__(self, tick: Tick) -> None:
        from qwen_tui.progress import Progress, RateMeter

        if tick.phase != "running":
            self.is_running = False
            words = {
                "preparing": _("Making prompts"),
                "probing": _("Asking once"),
                "opening": _("Opening connections"),
                "warmup": _("Warming up"),
                "finishing": _("Working out the figures"),
            }
            self._show(Progress(words.get(tick.phase, tick.phase)))
            return
        self.is_running = True
        self._done += len(tick.records)
        self._failed += sum(record.kind not in ("ok", "cancelled") for record in tick.records)
        rate = self._done / tick.at if tick.at > 0.5 else None
        tokens = self._tokens.update(tick.chunks)
        details = [_("{rate} tokens/s").format(rate=f"{tokens:,.0f}")] if tokens else []
        details.append(_("{n} under way").format(n=tick.running))
        if self._failed:
            details.append(_("{n} failed").format(n=self._failed))
        if self._load.count:
            progress = Progress(
                self._measuring,
                self._done,
                self._load.count,
                "items",
                rate,
                RateMeter.eta(self._done, self._load.count, rate),
                ", ".join(details),
            )
        else:
            left = max(0.0, self._load.seconds - tick.at)
            at = min(tick.at, self._load.seconds)
            progress = Progress(self._measuring, at, self._load.seconds, "seconds", None, left, ", ".join(details))
        self._show(progress)


def save_result(run: Run, ledger: Ledger, file: str) -> None:
    """The result with each request's figures, mode as the umask has it: it is meant for others."""
    from qwen_tui.bench.result import result_json
    from qwen_tui.bench.target import BenchError

    text = json.dumps(result_json(run, ledger.records(run)), ensure_ascii=False)
    try:
        Path(file).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise BenchError(_("Can't write {file}").format(file=file), error.strerror or str(error)) from None
