"""Run a command's coroutine so that Ctrl-C, SIGTERM and a lost terminal end its children too."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_interruptible(main: Callable[[], Coroutine[Any, Any, int]], farewell: Callable[[], str]) -> int:
    """Run `main` to its end; its exit status.

    On SIGINT, SIGTERM or SIGHUP the coroutine is cancelled, which ends the groups of its children, `farewell()` is
    printed on stderr and the status is 128 + the signal's number (130 for Ctrl-C). A second signal does not hurry it.
    """
    caught: list[int] = []

    async def guarded() -> int:
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(main())

        def interrupt(number: int) -> None:
            if not caught:
                task.cancel()
            caught.append(number)

        for number in _SIGNALS:
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                loop.add_signal_handler(number, interrupt, number)
        try:
            return await task
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)

    try:
        return asyncio.run(guarded())
    except (KeyboardInterrupt, asyncio.CancelledError):
        number = caught[0] if caught else int(signal.SIGINT)
        with contextlib.suppress(OSError):  # the terminal may be gone
            print(farewell(), file=sys.stderr, flush=True)
        return 128 + number
