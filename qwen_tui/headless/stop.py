"""`qwen-tui stop`: end a server with all its processes, showing each step."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys

from qwen_tui.errors import QwenTuiError, UsageError
from qwen_tui.i18n import _
from qwen_tui.paths import Paths
from qwen_tui.settings import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help=_("the servers to stop"))
    parser.add_argument("--all", action="store_true", help=_("stop every server"))
    parser.add_argument(
        "--grace", type=float, default=15.0, help=_("seconds between SIGTERM and SIGKILL (default: %(default)s)")
    )
    parser.add_argument("--json", action="store_true", help=_("print the steps as JSON lines"))


def run(arguments: argparse.Namespace, paths: Paths, settings: Settings) -> int:
    if not arguments.names and not arguments.all:
        raise UsageError(_("Which server? Give a name, or --all"), "", _("`qwen-tui ps` lists them"))
    return asyncio.run(_stop(arguments, paths))


async def _stop(arguments: argparse.Namespace, paths: Paths) -> int:
    from qwen_tui.server.service import Servers, StopStep

    servers = Servers(paths)
    names = arguments.names
    if arguments.all:
        names = [status.name for status in await servers.refresh() if status.state.is_alive]

    def show(name: str, step: StopStep) -> None:
        if arguments.json:
            print(
                json.dumps({"name": name, "at": round(step.at, 3), "step": step.text}, ensure_ascii=False), flush=True
            )
        else:
            print(f"{name}: {step.at:5.1f} s  {step.text}", flush=True)

    failed = 0
    try:
        for name in names:
            try:
                await servers.stop(name, lambda step, name=name: show(name, step), arguments.grace)  # type: ignore[misc]
            except QwenTuiError as error:
                if len(names) == 1:
                    raise
                failed += 1
                print(error, file=sys.stderr)
            else:
                if not arguments.json:
                    print(_("{name} is stopped").format(name=name), flush=True)
    finally:
        await servers.close()
    if not names:
        print(_("No server runs"), file=sys.stderr)
    return 1 if failed else 0
