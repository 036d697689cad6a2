"""What there is to fetch, in order, and what has to wait: shared by the threads that fetch. Standard library only."""

from __future__ import annotations

import heapq
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qwen_tui.workers import hub_http
    from qwen_tui.workers.hub_files import File, Unit
else:
    import hub_http
    from hub_files import File, Unit

_LONGEST_DELAY = 30.0
_LONGEST_ASKED_FOR = 120.0


class Units:
    """The pieces that are to be fetched now, and those that failed and are tried later.

    takers: how many threads take from it. trouble: the last one, trouble_at and next_try in monotonic seconds.
    """

    def __init__(self, takers: int) -> None:
        self.trouble: hub_http.Trouble | None = None
        self.trouble_at = 0.0
        self.next_try = 0.0
        self._takers = takers
        self._ready: deque[Unit] = deque()
        self._later: list[Unit] = []
        self._wake = threading.Condition()
        self._number = 0
        self._streak = 0
        self._hold = 0.0
        self._stopped = False

    def add(self, file: File, index: int = -1, *, is_first: bool = False) -> None:
        """A whole file, or (index >= 0) a part of it, at the end or in front."""
        with self._wake:
            self._number += 1
            unit = Unit(0.0, self._number, file, index, file.generation)
            if is_first:
                self._ready.appendleft(unit)
            else:
                self._ready.append(unit)
            self._wake.notify()

    def take(self) -> Unit | None:
        """The next unit, waiting for one; None after `stop`."""
        with self._wake:
            while not self._stopped:
                now = time.monotonic()
                wait = 1.0
                if self._hold > now:
                    wait = self._hold - now
                else:
                    if self._later and self._later[0].due <= now:
                        return heapq.heappop(self._later)
                    if self._ready:
                        return self._ready.popleft()
                    if self._later:
                        wait = self._later[0].due - now
                self._wake.wait(wait)
            return None

    def again(self, unit: Unit, trouble: hub_http.Trouble) -> None:
        """Try the unit later; if nothing at all gets through, hold everything."""
        with self._wake:
            now = time.monotonic()
            self.trouble, self.trouble_at = trouble, now
            unit.failures += 1
            self._streak += 1
            # A connection that was cut is opened again at once, the first time.
            quick = trouble.code == "cut" and unit.failures == 1
            delay = 0.05 if quick else min(_LONGEST_DELAY, 0.5 * 2 ** (unit.failures - 1))
            delay = max(delay, min(trouble.wait or 0.0, _LONGEST_ASKED_FOR))
            unit.due = now + delay
            if self._streak >= self._takers and not quick:
                self._hold = max(self._hold, unit.due)
            self.next_try = max(unit.due, self._hold)
            heapq.heappush(self._later, unit)
            self._wake.notify_all()

    def got_through(self) -> None:
        """Bytes arrived: the hub is there."""
        self._streak = 0

    def stop(self) -> None:
        """Have `take` give None from now on."""
        with self._wake:
            self._stopped = True
            self._wake.notify_all()
