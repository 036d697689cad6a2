"""The left-over processes of this machine, looked for in the background and ended when asked."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable, Sequence

from qwen_tui.hardware.gpus import Gpu
from qwen_tui.i18n import _
from qwen_tui.paths import Paths
from qwen_tui.server import registry
from qwen_tui.server.orphans import Orphan, end, find_orphans

#: Seconds between two looks, at least; and how many times as long as a look takes.
LOOK_EVERY = 20.0
_REST = 400


class Leftovers:
    """What servers left behind, as last seen. `orphans`: the oldest first; their ages are as of that look."""

    def __init__(self, paths: Paths) -> None:
        self._folder = paths.servers
        self.orphans: Sequence[Orphan] = ()
        self._due = 0.0

    @property
    def is_due(self) -> bool:
        """Whether it is time for another look."""
        return time.monotonic() >= self._due

    async def look(self, gpus: Sequence[Gpu] = ()) -> bool:
        """Look now, in a thread; whether there is something else to tell than before."""
        self._due = time.monotonic() + LOOK_EVERY  # nobody else need begin one meanwhile
        found, took = await asyncio.to_thread(self._find, gpus)
        self._due = time.monotonic() + max(LOOK_EVERY, _REST * took)
        before = {(orphan.pid, orphan.started): _without_age(orphan) for orphan in self.orphans}
        now = {(orphan.pid, orphan.started): _without_age(orphan) for orphan in found}
        self.orphans = found
        return before != now

    def _find(self, gpus: Sequence[Gpu]) -> tuple[Sequence[Orphan], float]:
        """What there is, and the seconds of CPU that finding it took."""
        began = time.thread_time()
        records = registry.read_all(self._folder)
        abandoned = {record.folder.name for record in records if record.is_abandoned}
        # A run without a keeper gets one at the next look at the servers, which ends what it left.
        found = [orphan for orphan in find_orphans(records, gpus) if orphan.server not in abandoned]
        return found, time.thread_time() - began

    async def end(self, orphans: Sequence[Orphan], on_step: Callable[[str, list[int]], None]) -> Sequence[int]:
        """End these, as `orphans.end` does; the pids that remain. `on_step` is called in the event loop."""
        loop = asyncio.get_running_loop()

        def tell(code: str, pids: list[int]) -> None:
            loop.call_soon_threadsafe(on_step, code, pids)

        remaining = await asyncio.to_thread(end, orphans, tell)
        await self.look()
        return remaining


def step_words(code: str, pids: Sequence[int]) -> str:
    """A step of ending them in words."""
    words = {"sigterm": _("SIGTERM to {pids}"), "sigkill": _("SIGKILL to {pids}")}
    return words[code].format(pids=", ".join(map(str, pids)))


def _without_age(orphan: Orphan) -> Orphan:
    # Its memory moves by a few pages; a hundred MB are worth a word.
    return dataclasses.replace(orphan, age=0.0, memory=orphan.memory // 10**8)
