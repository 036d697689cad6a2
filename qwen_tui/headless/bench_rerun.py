"""`qwen-tui bench rerun RUN`: the same work under the same load once more."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from dataclasses import replace

from qwen_tui.errors import UsageError
from qwen_tui.headless.bench import INTERRUPTED, interruptible
from qwen_tui.headless.bench_target import add_target_arguments, choose, counters_of, machine_of
from qwen_tui.i18n import _
from qwen_tui.paths import Paths
from qwen_tui.settings import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `qwen-tui bench rerun`."""
    parser.add_argument("action", choices=("rerun",), help=argparse.SUPPRESS)
    parser.add_argument("run", metavar="RUN", help=_("its id, the beginning or the end of it, or `last`"))
    add_target_arguments(parser)
    parser.set_defaults(api=None)
    parser.add_argument(
        "--same-prompts", action="store_true", help=_("the very same: a server's prefix cache may know them")
    )
    parser.add_argument("--repeats", type=int, default=1, metavar="N", help=_("how often (default: once)"))
    parser.add_argument("--json", action="store_true", help=_("print the result as one JSON object, the last run's"))


def run(arguments: argparse.Namespace, paths: Paths, settings: Settings) -> int:
    """Measure again; the exit status. Raises UsageError, ServerError, BenchError."""
    return asyncio.run(_rerun(arguments, paths, settings))


async def _rerun(arguments: argparse.Namespace, paths: Paths, settings: Settings) -> int:
    from qwen_tui.bench.compare import sides
    from qwen_tui.bench.ledger import Ledger
    from qwen_tui.bench.price import HourlyPrice
    from qwen_tui.bench.result import result_json
    from qwen_tui.bench.run import Bench, plan_again
    from qwen_tui.headless.bench_lines import compare_lines, run_lines
    from qwen_tui.headless.plain import PlainProgress

    before = Ledger(paths).get(arguments.run)
    if arguments.repeats < 1:
        raise UsageError(_("--repeats is at least 1"))
    arguments.api = arguments.api or before.api
    if not (arguments.server or arguments.base_url or arguments.endpoint):
        arguments.server = before.about.get("server_name")
        arguments.base_url = None if arguments.server else before.base_url
        arguments.model = arguments.model or before.model
    chosen = await choose(arguments, paths)
    plan = plan_again(before, chosen.target, chosen.about, chosen.tokenizer_file)
    if arguments.same_prompts:
        plan = replace(plan, seed=before.seed)
    bench = Bench(paths, counters_of(plan.target), machine_of(plan.target))
    found = before
    with PlainProgress(sys.stderr) as show:
        for _number in range(arguments.repeats):
            found = await interruptible(bench, plan, show)
            if found.partial:
                break
    if arguments.json:
        print(json.dumps(result_json(found), ensure_ascii=False), flush=True)
    else:
        lines = run_lines(found, HourlyPrice.parse(settings.hourly_price))
        print("\n".join([*lines, "", *compare_lines(sides([before, found]))]), flush=True)
    return INTERRUPTED if found.partial else int(not found.figures.completed)
