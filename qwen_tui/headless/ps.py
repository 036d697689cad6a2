"""`qwen-tui ps`: the servers of this user."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from typing import TYPE_CHECKING

from qwen_tui.i18n import _
from qwen_tui.paths import Paths
from qwen_tui.settings import Settings

if TYPE_CHECKING:
    from qwen_tui.server.status import ServerStatus


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help=_("print a JSON array"))


def run(arguments: argparse.Namespace, paths: Paths, settings: Settings) -> int:
    return asyncio.run(_ps(arguments.json, paths))


async def _ps(as_json: bool, paths: Paths) -> int:
    from rich.cells import cell_len

    from qwen_tui.progress import format_seconds
    from qwen_tui.server.service import Servers
    from qwen_tui.server.status import STATE_WORDS

    servers = Servers(paths)
    try:
        statuses = await servers.refresh()
    finally:
        await servers.close()
    if as_json:
        print(json.dumps([status.to_json() for status in statuses], ensure_ascii=False))
        return 0
    if not statuses:
        print(_("No server. `qwen-tui serve MODEL` starts one, `qwen-tui demo` shows everything"))
        return 0
    rows = [(_("NAME"), _("STATE"), _("MODEL"), _("ADDRESS"), _("PID"), _("UP"))]
    for status in statuses:
        up = format_seconds(time.time() - status.started_at) if status.pid and status.started_at else ""
        address = f"{status.spec.host}:{status.spec.port}"
        pid = str(status.pid or "")
        rows.append((status.name, _state(status, _(STATE_WORDS[status.state])), status.model_name, address, pid, up))
    widths = [max(cell_len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        # Chinese letters are two cells wide, so str.ljust would not line up.
        print(
            "  ".join(text + " " * (width - cell_len(text)) for text, width in zip(row, widths, strict=True)).rstrip()
        )
    return 0


def _state(status: ServerStatus, word: str) -> str:
    """The state, with what a person would wonder about."""
    if status.next_try is not None:
        return _("{state}, next try in {seconds:.0f} s").format(state=word, seconds=status.next_try)
    if status.exit is not None and status.exit.reason == "idle":
        return _("{state}, was idle").format(state=word)
    return word
