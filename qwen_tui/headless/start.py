"""Waiting for a server in plain lines: one line a phase, with what is counted in it."""

from __future__ import annotations

import asyncio
import sys

from qwen_tui.i18n import _
from qwen_tui.progress import Progress
from qwen_tui.server.service import Servers
from qwen_tui.server.status import PHASE_WORDS, Phase, ServerStatus, StartProgress


def as_progress(start: StartProgress) -> Progress:
    """A start in the shape that every long job reports in: seconds done of the seconds it should take."""
    eta = None if start.is_overdue else start.eta
    counted = f" {start.done}/{start.total}" if start.total else ""
    return Progress(
        step=_("starting the server"),
        done=start.elapsed,
        total=start.elapsed + eta if eta is not None else None,
        unit="seconds",
        eta=eta,
        detail=_(PHASE_WORDS[start.phase]) + counted,
    )


async def print_start(servers: Servers, status: ServerStatus) -> ServerStatus:
    """Wait for the server, printing its progress on stderr. Raises StartFailed as `wait_ready` does.

    Interrupted by Ctrl-C it says that the server goes on starting.
    """
    from qwen_tui.headless.plain import PlainProgress

    try:
        with PlainProgress(sys.stderr) as show:
            ready = await servers.wait_ready(status.name, lambda start: show(as_progress(start)))
    except (KeyboardInterrupt, asyncio.CancelledError):
        print(
            _("It goes on starting in the background; `qwen-tui stop {name}` ends it").format(name=status.name),
            file=sys.stderr,
        )
        raise
    phases = ready.start.phases if ready.start else ()
    spent = ", ".join(
        f"{_(PHASE_WORDS[phase])} {seconds:.1f} s" for phase, seconds in phases if phase is not Phase.READY
    )
    elapsed = sum(seconds for _phase, seconds in phases)
    print(_("ready after {seconds:.1f} s ({phases})").format(seconds=elapsed, phases=spent), file=sys.stderr)
    return ready
