"""`qwen-tui serve MODEL --plan`: check a start, print what was found, start nothing."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING

from qwen_tui.engine.arguments import ArgumentSchema
from qwen_tui.engine.find import Engine
from qwen_tui.errors import EngineError, UsageError
from qwen_tui.i18n import _
from qwen_tui.logs.plain_text import printable
from qwen_tui.paths import Paths
from qwen_tui.server.spec import ServerSpec

if TYPE_CHECKING:
    from qwen_tui.server.plan import Plan

_MARKS = {"ok": "✓", "warn": "!", "stop": "✗"}
_COLOURS = {"ok": "green", "warn": "yellow", "stop": "red"}


async def print_plan(spec: ServerSpec, engine: Engine, paths: Paths, *, as_json: bool) -> int:
    """Make the plan of `spec` and print it; the exit status: 1 if the start would fail, else 0.

    Where arguments are given, and the engine was never asked what it takes, it is asked first.
    """
    from qwen_tui.server.plan import make_plan
    from qwen_tui.server.quiet import without_quiet_words
    from qwen_tui.server.ray_status import with_ray

    schema: ArgumentSchema | None = None
    if without_quiet_words(spec.extra_args):
        from qwen_tui.headless.flags import load_schema

        try:
            schema = await load_schema(engine, paths)
        except EngineError as error:
            print(_("The arguments are not checked: {why}").format(why=error.why or error.title), file=sys.stderr)
    plan = await asyncio.to_thread(make_plan, spec, engine, paths, schema=schema)
    plan = await asyncio.to_thread(with_ray, plan, engine)
    if as_json:
        print(json.dumps(plan.to_json(), ensure_ascii=False))
    else:
        _print(plan, spec.shell_command(engine.python))
    return 0 if plan.can_start else 1


async def refuse_what_would_fail(spec: ServerSpec, engine: Engine, paths: Paths) -> None:
    """Before a start: raise UsageError if its plan says that it would fail. Well under two seconds; more with Ray."""
    from qwen_tui.server.plan import make_plan
    from qwen_tui.server.ray_status import with_ray

    plan = await asyncio.to_thread(make_plan, spec, engine, paths)
    plan = await asyncio.to_thread(with_ray, plan, engine)
    stops = [line for line in plan.lines if line.level == "stop"]
    if not stops:
        return
    first, *others = stops
    hints = [first.remedy, _("`--no-check` starts it all the same, `--plan` shows every line")]
    raise UsageError(
        _("It would fail: {text}").format(text=printable(first.text)),
        "\n".join(printable(line.text) for line in others),
        "\n".join(printable(hint) for hint in hints if hint),
    )


def _print(plan: Plan, command: str) -> None:
    from rich.cells import cell_len
    from rich.console import Console
    from rich.text import Text

    from qwen_tui.server.plan import TOPICS

    console = Console(soft_wrap=True, highlight=False)
    width = max(cell_len(_(TOPICS[line.topic])) for line in plan.lines)
    for line in plan.lines:
        topic = _(TOPICS[line.topic])
        text = Text(f"{_MARKS[line.level]} ", style=_COLOURS[line.level])
        text.append(topic + " " * (width - cell_len(topic)), style="bold")
        text.append(f"  {printable(line.text)}", style="default not bold")
        console.print(text)
        if line.remedy:
            change = f" → {line.change.label}" if line.change else ""
            console.print(Text(" " * (width + 4) + printable(line.remedy + change), style="dim"))
    console.print(Text(command, style="dim"))
    words = {
        "ok": _("Nothing stands in the way"),
        "warn": _("It can start; mind the lines with !"),
        "stop": _("It would fail: see the lines with ✗"),
    }
    console.print(
        Text(_("{verdict} (checked in {seconds:.2f} s)").format(verdict=words[plan.level], seconds=plan.seconds))
    )
