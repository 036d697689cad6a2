"""`qwen-tui batch`: prompts in, completions out, without a server or through one; list, follow and cancel batches."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from qwen_tui.headless.batch_arguments import add_arguments
from qwen_tui.i18n import _, ngettext
from qwen_tui.logs.plain_text import harmless
from qwen_tui.paths import Paths
from qwen_tui.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from qwen_tui.batch.jobs import Batches
    from qwen_tui.batch.order import BatchOrder
    from qwen_tui.batch.state import BatchState
    from qwen_tui.engine.find import Engine

__all__ = ["add_arguments", "run"]

#: Words after `--` come as arguments.extra.
TAKES_EXTRA = True
#: Results that are put back into the input's order before they are printed; of more, each stands where it was finished.
_SORTED_MOST = 100_000


def run(arguments: argparse.Namespace, paths: Paths, settings: Settings) -> int:
    """Do it; the exit status. Raises QwenTuiError."""
    from qwen_tui.batch.jobs import Batches
    from qwen_tui.headless.request_arguments import any_character
    from qwen_tui.server import keeper
    from qwen_tui.server.plan_offline import why_it_failed

    any_character()
    batches = Batches(paths, Path(keeper.__file__), why_it_failed)
    if arguments.action == "list":
        return _list(batches, arguments.json)
    if arguments.action == "remove":
        batches.remove(arguments.id)
        return 0
    if arguments.action == "cancel":
        return asyncio.run(_cancel(batches, arguments))
    if arguments.action == "attach":
        return asyncio.run(_attach(batches, arguments))
    return asyncio.run(_run(batches, arguments, paths, settings))


# -- one batch ------------------------------------------------------------------------------------


async def _run(batches: Batches, arguments: argparse.Namespace, paths: Paths, settings: Settings) -> int:
    from qwen_tui.headless.batch_arguments import wanted

    asked = await wanted(arguments, paths, batches)
    engine = await _engine(asked.order, arguments, paths, settings) if asked.order.server is None else None
    state = await batches.start(asked.order, engine)
    if state.finished_before:
        print(_("{n} rows are done already").format(n=f"{state.finished_before:,}"), file=sys.stderr)
    if arguments.detach:
        if arguments.json:
            print(json.dumps(state.to_json(), ensure_ascii=False))
        else:
            print(_("Batch {id} runs; `qwen-tui batch attach {id}` follows it").format(id=state.id))
        return 0
    state = await _follow(batches, state)
    return _tell(batches, state, as_json=arguments.json, is_printed=asked.is_printed)


async def _engine(order: BatchOrder, arguments: argparse.Namespace, paths: Paths, settings: Settings) -> Engine:
    """The engine, once nothing is known that would make the start fail. Raises EngineError, UsageError."""
    from qwen_tui.engine.find import find_engine
    from qwen_tui.errors import UsageError
    from qwen_tui.headless.flags import refuse_wrong_arguments
    from qwen_tui.server.plan_offline import offline_problems

    engine = await asyncio.to_thread(find_engine, paths, settings.engine, arguments.engine)
    if arguments.no_check:
        return engine
    await refuse_wrong_arguments(list(order.arguments), engine, paths)
    problems = await asyncio.to_thread(offline_problems, order.model, order.arguments, order.env, engine, paths)
    if problems:
        first, *others = problems
        raise UsageError(
            _("It would fail: {text}").format(text=harmless(first.text)),
            "\n".join(harmless(line.text) for line in others),
            "\n".join(filter(None, (harmless(first.remedy), _("`--no-check` starts it all the same")))),
        )
    return engine


async def _follow(batches: Batches, state: BatchState) -> BatchState:
    """Show how it goes until it is over. Interrupted, it is ended in good order; without a terminal it goes on."""
    from qwen_tui.headless.plain import PlainProgress

    with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, os._exit, 128 + signal.SIGHUP)
    phase = _phase_reader(state)
    try:
        with PlainProgress(sys.stderr) as show:
            async for now in batches.follow(state.id):
                state = now
                if now.status.is_alive:
                    show(now.as_progress(phase()))
    except asyncio.CancelledError:
        print(_("Ending it; run it again and it goes on"), file=sys.stderr, flush=True)
        await asyncio.shield(batches.cancel(state.id))
        raise
    return state


def _phase_reader(state: BatchState) -> Callable[[], str]:
    """How far the engine's start is, in words: read off its log."""
    if state.order.get("server"):
        return lambda: ""
    from qwen_tui.server.phases import PhaseReader
    from qwen_tui.server.status import PHASE_WORDS

    reader = PhaseReader(state.log)

    def phase() -> str:
        reader.update()
        counted = f" {reader.done}/{reader.total}" if reader.total else ""
        return _(PHASE_WORDS[reader.phase]) + counted

    return phase


def _tell(batches: Batches, state: BatchState, *, as_json: bool, is_printed: bool) -> int:
    """What came of it; the exit status. Raises BatchError for a batch that failed."""
    from qwen_tui.batch.jobs import BatchError
    from qwen_tui.batch.state import BatchStatus

    if state.problem is not None:
        hint = "\n".join(filter(None, (state.problem.hint, _("The engine's output is in {log}").format(log=state.log))))
        raise BatchError(state.problem.title, state.problem.why, hint)
    print(_summary(state), file=sys.stderr)
    _tell_errors(state)
    if as_json:
        found = {"results": [json.loads(line) for line in state.output.open("rb")]} if is_printed else {}
        print(json.dumps({**state.to_json(), **found}, ensure_ascii=False))
    elif is_printed:
        _print_results(state.output)
    else:
        print(state.output)
    if is_printed and state.status is BatchStatus.DONE:
        batches.remove(state.id)
        for path in {state.output.parent, Path(state.order["input"]["path"]).parent}:
            if path.parent.name == "batch-files":
                shutil.rmtree(path, ignore_errors=True)
    return 0 if state.status is BatchStatus.DONE and (state.finished or not state.failed) else 1


def _summary(state: BatchState) -> str:
    from qwen_tui.progress import format_seconds

    words = ngettext("{n} row answered", "{n} rows answered", state.finished).format(n=f"{state.finished:,}")
    parts = [words]
    if state.failed:
        parts.append(_("{n} without an answer").format(n=f"{state.failed:,}"))
    if state.requests_rate and state.seconds:
        parts.append(
            _("{requests} requests/s, {tokens} tokens/s in {time}").format(
                requests=f"{state.requests_rate:,.2f}",
                tokens=f"{state.tokens_rate or 0:,.1f}",
                time=format_seconds(state.seconds),
            )
        )
    return " · ".join(parts)


def _tell_errors(state: BatchState) -> None:
    """How many rows got no answer, by reason, on stderr."""
    if not state.failed:
        return
    from collections import Counter

    from qwen_tui.batch.results import read_results
    from qwen_tui.batch.words import row_words

    counted: Counter[str] = Counter()
    lines: dict[str, int] = {}
    for row in read_results(state.errors):
        counted[row.code] += 1
        lines.setdefault(row.code, row.line)
    for code, count in counted.most_common():
        words = _("  {n} × {reason}, the first in line {line}")
        print(words.format(n=f"{count:,}", reason=row_words(code), line=lines[code]), file=sys.stderr)
    print(_("  They are in {file}").format(file=state.errors), file=sys.stderr)


def _print_results(output: Path) -> None:
    """As vLLM's own example prints them."""
    from itertools import islice

    from qwen_tui.batch.results import read_results

    rows = read_results(output)
    first = sorted(islice(rows, _SORTED_MOST), key=lambda row: row.line)
    for row in first:
        print(f"Prompt: {row.prompt!r}, Generated text: {row.text!r}")
    for row in rows:
        print(f"Prompt: {row.prompt!r}, Generated text: {row.text!r}")


# -- those that were started ----------------------------------------------------------------------


def _list(batches: Batches, as_json: bool) -> int:
    from qwen_tui.batch.state import STATUS_WORDS

    states = batches.list()
    if as_json:
        print(json.dumps([state.to_json() for state in states], ensure_ascii=False))
        return 0
    if not states:
        print(_("No batches"))
    for state in states:
        done = f"{state.done:,}/{state.total:,}"
        why = state.problem.title if state.problem is not None else ""
        parts = (state.id, _(STATUS_WORDS[state.status]), done, state.model, str(state.output), why)
        print("  ".join(harmless(part) for part in parts if part))
    return 0


async def _cancel(batches: Batches, arguments: argparse.Namespace) -> int:
    from qwen_tui.batch.state import STATUS_WORDS

    state = await batches.cancel(arguments.id)
    if arguments.json:
        print(json.dumps(state.to_json(), ensure_ascii=False))
    else:
        words = _("Batch {id}: {status}, {done} of {total} rows")
        done, total = f"{state.done:,}", f"{state.total:,}"
        print(words.format(id=state.id, status=_(STATUS_WORDS[state.status]), done=done, total=total))
    return 0


async def _attach(batches: Batches, arguments: argparse.Namespace) -> int:
    """Follow one; interrupted, it goes on."""
    from qwen_tui.headless.plain import PlainProgress

    state = batches.get(arguments.id)
    phase = _phase_reader(state)
    with PlainProgress(sys.stderr) as show:
        async for now in batches.follow(state.id):
            state = now
            if now.status.is_alive:
                show(now.as_progress(phase()))
    return _tell(batches, state, as_json=arguments.json, is_printed=False)
