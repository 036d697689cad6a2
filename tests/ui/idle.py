"""When an app has done all it was asked to: a measure that does not depend on how busy the machine is.

Textual's own (`textual._wait`) takes a process that used little processor time for a while for an idle one: on a busy
machine that is too early, on an idle one it costs 40 ms a key, and while a reply streams it costs seconds.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Executor
from typing import Any
from weakref import WeakSet

import pytest

#: What is due within a frame belongs to what is being done: Textual draws and moves in frames.
_FRAME = 1 / 60
#: Frames after which what still goes on counts as endless: a reply that streams, something that turns.
_FRAMES = 6
#: Seconds after which a thread counts as endless.
_LONGEST = 0.5


class _Threads:
    """What the event loop has given to threads and not got back."""

    def __init__(self) -> None:
        self.working: WeakSet[asyncio.Future[Any]] = WeakSet()
        self._run_in_executor = asyncio.BaseEventLoop.run_in_executor

    def run(self, loop: asyncio.BaseEventLoop, executor: Executor | None, function: Any, *given: Any) -> Any:
        future = self._run_in_executor(loop, executor, function, *given)
        self.working.add(future)
        return future

    def at_work(self, loop: asyncio.AbstractEventLoop) -> bool:
        return any(not future.done() and future.get_loop() is loop for future in self.working)


def use_exact_idling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Textual's pilot waits until nothing is ready to run, no thread works and nothing is due within a frame."""
    threads = _Threads()

    async def wait_for_idle(min_sleep: float = 0, max_sleep: float = _LONGEST) -> None:
        loop: Any = asyncio.get_running_loop()
        last = time.monotonic() + _LONGEST
        frames = 0
        quiet = 0
        while quiet < 3 and time.monotonic() < last:
            await asyncio.sleep(0)
            if loop._ready:
                quiet = 0
            elif threads.at_work(loop):
                quiet = 0
                await asyncio.sleep(0.002)
            elif frames < _FRAMES and (wait := _next_timer(loop)) < _FRAME:
                quiet = 0
                frames += 1
                await asyncio.sleep(wait + 0.0005)
            else:
                quiet += 1

    monkeypatch.setattr(asyncio.BaseEventLoop, "run_in_executor", lambda loop, *given: threads.run(loop, *given))
    monkeypatch.setattr("textual.app.wait_for_idle", wait_for_idle)
    monkeypatch.setattr("textual.pilot.wait_for_idle", wait_for_idle)


def _next_timer(loop: Any) -> float:
    """Seconds until the first timer is due."""
    due = [timer.when() for timer in loop._scheduled if not timer.cancelled()]
    return max(0.0, min(due) - loop.time()) if due else 1e9
