"""`qwen-tui doctor`: what is wrong on this machine; with --fix it ends what was left over."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qwen_tui.i18n import _, ngettext
from qwen_tui.paths import Paths
from qwen_tui.settings import Settings

if TYPE_CHECKING:
    from qwen_tui.server.doctor import Finding, Report
    from qwen_tui.server.orphans import Orphan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `qwen-tui doctor`."""
    parser.add_argument(
        "--fix", action="store_true", help=_("end what servers left over; adopt servers without a keeper")
    )
    parser.add_argument("--yes", action="store_true", help=_("with --fix: don't ask before ending what others started"))
    parser.add_argument("--deep", action="store_true", help=_("also import the engine: 10 to 60 s"))
    parser.add_argument("--engine", default="", help=_("the Python, or the environment, that has vLLM"))
    parser.add_argument("--json", action="store_true", help=_("one JSON object"))


def run(arguments: argparse.Namespace, paths: Paths, settings: Settings) -> int:
    """Examine, and with --fix mend; 0 if nothing is wrong at the end, else 1."""
    return asyncio.run(_doctor(arguments, paths, arguments.engine or settings.engine))


async def _doctor(arguments: argparse.Namespace, paths: Paths, engine: str) -> int:
    from qwen_tui.server.doctor import examine, prove_engine

    report = await asyncio.to_thread(examine, paths, engine)
    done: list[str] = []
    if arguments.fix and (report.orphans or report.abandoned):
        if not arguments.json:
            _print(report.findings)
        done = await _fix(report, arguments)
        report = await asyncio.to_thread(examine, paths, engine)
    if arguments.deep:
        report = dataclasses.replace(report, findings=(await prove_engine(paths, engine), *report.findings))
    if arguments.json:
        print(json.dumps({**report.to_json(), "done": done}, ensure_ascii=False))
    else:
        _print(report.findings)
    return 0 if report.is_well else 1


def _print(findings: Sequence[Finding]) -> None:
    """A line each, what to do below."""
    from rich.cells import cell_len

    from qwen_tui.logs.plain_text import harmless
    from qwen_tui.server.doctor import TOPICS

    marks = {"ok": "✓", "warn": "!", "fail": "✗"}
    width = max(cell_len(_(word)) for word in TOPICS.values())
    for finding in findings:
        word = _(TOPICS[finding.topic])
        line = f"{marks[finding.level]} {word}{' ' * (width - cell_len(word))}  {finding.text}"
        print(harmless(line))
        if finding.remedy:
            print(" " * (width + 4) + harmless(finding.remedy), flush=True)


async def _fix(report: Report, arguments: argparse.Namespace) -> list[str]:
    """Adopt what lost its keeper, end what is left over; what was done, in words."""
    from qwen_tui.server.launch import adopt

    done: list[str] = []

    def say(text: str) -> None:
        done.append(text)
        if not arguments.json:
            print(text, flush=True)

    for record in report.abandoned:
        say(_("giving “{name}” a new keeper").format(name=record.folder.name))
        await adopt(record)
        await _settled(record.folder)
    # What an abandoned run left has been ended by its new keeper.
    adopted = {record.folder.name for record in report.abandoned}
    rest = [orphan for orphan in report.orphans if orphan.server not in adopted and orphan.is_this_users]
    ours = [orphan for orphan in rest if orphan.ours]
    others = [orphan for orphan in rest if not orphan.ours]
    if others and not arguments.yes and not _confirmed(others):
        others = []
    await asyncio.to_thread(_end, [*ours, *others], say)
    return done


async def _settled(folder: Path, seconds: float = 45.0) -> None:
    """Wait until the new keeper holds a living server, or has ended what a dead one left."""
    from qwen_tui.server import registry

    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        record = registry.read(folder)
        if record is None or not record.kept or record.server_is_alive:
            return
        await asyncio.sleep(0.05)


def _end(orphans: Sequence[Orphan], say: Callable[[str], None]) -> None:
    from qwen_tui.server.leftovers import step_words
    from qwen_tui.server.orphans import end

    if not orphans:
        return
    remaining = end(orphans, lambda code, pids: say(step_words(code, pids)))
    if remaining:
        say(_("These can't be ended: {pids}").format(pids=", ".join(map(str, remaining))))


def _confirmed(orphans: Sequence[Orphan]) -> bool:
    """Whether the person wants these ended; not asked, and no, where there is nobody to ask."""
    if not sys.stdin.isatty():
        return False
    count = len(orphans)
    question = ngettext(
        "qwen-tui did not start {pids}. End it? [y/N] ", "qwen-tui did not start {pids}. End them? [y/N] ", count
    )
    print(question.format(pids=", ".join(str(orphan.pid) for orphan in orphans)), end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
