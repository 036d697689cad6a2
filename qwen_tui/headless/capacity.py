"""`qwen-tui capacity --ttft 500 --tpot 50 --percent 90`: how many users at once a server can bear."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from typing import TYPE_CHECKING

from qwen_tui.bench.sentences import capacity_sentence, confidence_text, level_text
from qwen_tui.errors import UsageError
from qwen_tui.headless.bench import INTERRUPTED, stoppable
from qwen_tui.headless.bench_arguments import add_workload_arguments, workload_of
from qwen_tui.headless.bench_sweep import LevelProgress
from qwen_tui.headless.bench_target import add_target_arguments, choose, counters_of, machine_of
from qwen_tui.i18n import _
from qwen_tui.paths import Paths
from qwen_tui.settings import Settings

if TYPE_CHECKING:
    from qwen_tui.bench.capacity import Capacity, Search
    from qwen_tui.bench.price import HourlyPrice
    from qwen_tui.bench.statistics import Limits
    from qwen_tui.bench.sweep import By


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `qwen-tui capacity`."""
    add_target_arguments(parser)
    parser.add_argument("--ttft", type=float, metavar="MS", help=_("the first token within so many ms"))
    parser.add_argument("--tpot", type=float, metavar="MS", help=_("each further token within so many ms, on average"))
    parser.add_argument("--e2el", type=float, metavar="MS", help=_("the whole answer within so many ms"))
    parser.add_argument(
        "--percent", type=float, default=90.0, metavar="P", help=_("for so many of the requests (default: 90)")
    )
    parser.add_argument(
        "--by-rate", action="store_true", help=_("look for requests per second instead of users at once")
    )
    parser.add_argument(
        "--most", type=float, default=1024, metavar="N", help=_("the highest load to try (default: 1024)")
    )
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help=_("runs at the load found (default: 3)"))
    parser.add_argument(
        "--num-prompts", type=int, default=0, metavar="N", help=_("requests of each run (default: as needed)")
    )
    parser.add_argument(
        "--budget",
        type=float,
        default=120.0,
        metavar="SECONDS",
        help=_("how long to search (default: 120); a run under way is finished"),
    )
    add_workload_arguments(parser)
    parser.set_defaults(preset="chat")
    parser.add_argument("--json", action="store_true", help=_("print the result as one JSON object"))


def run(arguments: argparse.Namespace, paths: Paths, settings: Settings) -> int:
    """Search and say; 0 when some load met the limits."""
    return asyncio.run(_capacity(arguments, paths, settings))


async def _capacity(arguments: argparse.Namespace, paths: Paths, settings: Settings) -> int:
    from qwen_tui.bench.capacity import Search
    from qwen_tui.bench.load import Load
    from qwen_tui.bench.price import HourlyPrice
    from qwen_tui.bench.run import Bench, Plan
    from qwen_tui.bench.statistics import Limits
    from qwen_tui.bench.sweep import load_at
    from qwen_tui.headless.plain import PlainProgress

    given = {name: getattr(arguments, name) for name in ("ttft", "tpot", "e2el")}
    if not any(given.values()) or any(value is not None and not value > 0 for value in given.values()):
        raise UsageError(_("Say what is fast enough"), "", _("For example: qwen-tui capacity --ttft 500 --tpot 50"))
    if (
        not 0 < arguments.percent <= 100
        or arguments.repeats < 1
        or not arguments.most >= 1
        or arguments.num_prompts < 0
        or not arguments.budget > 0
    ):
        raise UsageError(_("--percent is from 1 to 100; the other numbers are at least 1"))
    limits = Limits(**{name: value / 1e3 for name, value in given.items() if value})
    price = HourlyPrice.parse(settings.hourly_price)
    workload = workload_of(arguments)
    chosen = await choose(arguments, paths)
    by: By = "rate" if arguments.by_rate else "users"
    load = Load(streams=1, count=1, warmup=2) if by == "users" else Load(rate=1.0, count=1, warmup=2)
    plan = Plan(
        chosen.target, workload, load, limits, arguments.seed, tokenizer_file=chosen.tokenizer_file, about=chosen.about
    )
    bench = Bench(paths, counters_of(plan.target), machine_of(plan.target))
    share = arguments.percent / 100
    with PlainProgress(sys.stderr) as show:
        search = Search(
            bench, plan, share, by=by, most=arguments.most, repeats=arguments.repeats, count=arguments.num_prompts,
            budget=arguments.budget, on_tick=lambda level, tick: progress(level, tick),
        )  # fmt: skip
        progress = LevelProgress(
            show, lambda level: search.load or load_at(load, level, by), by, lambda level: step_text(search, level, by)
        )
        found = await stoppable(search.run(), search.stop, lambda: True)
    if arguments.json:
        print(json.dumps(_json(found, limits, price), ensure_ascii=False), flush=True)
    else:
        print("\n".join(capacity_lines(found, limits, price)), flush=True)
    return INTERRUPTED if found.stopped else int(not found.level)


def step_text(search: Search, level: float, by: By) -> str:
    """“looking at 16 at once, about 40 s to go in all”."""
    load = level_text(level, by)
    if search.is_probe:
        text = _("looking at {load}").format(load=load)
    else:
        text = _("{load}, full run {n} of {count}").format(load=load, n=search.number, count=search.repeats)
    if (eta := search.eta) is None:
        return text
    return _("{step}, about {seconds:.0f} s to go in all").format(step=text, seconds=eta)


def _json(found: Capacity, limits: Limits, price: HourlyPrice | None) -> dict[str, object]:
    result = {**found.to_json(), "sentence": capacity_sentence(found, limits)}
    if price is not None and found.level and found.by == "users":
        result["price_per_user_hour"] = price.per_user(int(found.level))
        result["currency"] = price.currency
    return result


def capacity_lines(found: Capacity, limits: Limits, price: HourlyPrice | None) -> list[str]:
    """The sentence, what it rests on, and what was tried."""
    from qwen_tui.headless.bench_lines import table

    lines = [capacity_sentence(found, limits)]
    if found.level:
        lines.append(confidence_text(found))
        lines.append(
            _("{share:.1%} met them; with 95 % confidence it is {low:.0%} to {high:.0%}").format(
                share=found.share, low=found.low, high=found.high
            )
        )
    if found.is_most:
        lines.append(_("That was the highest load to try: --most allows more"))
    if found.out_of_time:
        lines.append(_("Its time was used up before the limit was found exactly: --budget gives it more"))
    if found.stopped:
        lines.append(_("It was stopped before its end: the true capacity may be higher"))
    best = found.best
    if price is not None and best is not None and found.level:
        if found.by == "users" and (cost := price.per_user(int(found.level))) is not None:
            lines.append(_("An hour of one user costs {price}").format(price=price.show(cost)))
        if (cost := price.per_million(best.figures.output_throughput)) is not None:
            lines.append(_("A million output tokens cost {price}").format(price=price.show(cost)))
    rows = [(_("LOAD"), _("WITHIN LIMITS"), "TTFT p90 ms", "TPOT p90 ms", _("RUN"))]
    for trial in found.trials:
        figures = trial.run.figures
        share = f"< {found.wanted:.0%}" if trial.gave_up else f"{trial.share:.0%}"
        times = (f"{figures.ttft.p90 * 1e3:,.0f}", f"{figures.tpot.p90 * 1e3:,.1f}") if figures.completed else ("", "")
        name = level_text(trial.level, found.by)
        rows.append((_("{load} (short)").format(load=name) if trial.is_probe else name, share, *times, trial.run.id))
    lines += ["", *table(rows)]
    if best is not None:
        lines += [f"! {text}" for text in best.health.doubts()]
    return lines
