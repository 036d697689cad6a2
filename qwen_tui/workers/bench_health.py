"""How the generator process itself fares, and how it tells without ever waiting for whoever listens.

Standard library only.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

#: Seconds between two looks at how late the loop comes round.
PROBE = 0.02
_STEP = 1e-4  # seconds that one counter of the histogram covers
_STEPS = 20000
_BACKLOG = 2**20


class Health:
    """CPU time, and the loop's lag: how late it comes round to what was due at a known time."""

    def __init__(self) -> None:
        self._counts = [0] * (_STEPS + 1)
        self.begin()

    def begin(self) -> None:
        """Count from now on."""
        self._counts = [0] * (_STEPS + 1)
        self._cpu = time.process_time()
        self._wall = time.monotonic()
        self._waited = _waited_for_cpu()
        self.due = self._wall + PROBE

    def probe(self, now: float) -> None:
        """The loop came round at `now` to the look that was due at `self.due`."""
        late = now - self.due
        self._counts[min(_STEPS, int(late / _STEP))] += 1
        missed = int(late / PROBE)
        for number in range(1, min(missed, 1000) + 1):  # the looks that would have been late as well
            self._counts[min(_STEPS, int((late - number * PROBE) / _STEP))] += 1
        self.due = now + PROBE

    @property
    def cpu(self) -> float:
        """Seconds of CPU since `begin`."""
        return time.process_time() - self._cpu

    def figures(self) -> dict[str, float]:
        """cpu, wall: seconds since `begin`. waited: seconds of wanting a core and having none; -1 if not told.

        lag_p99, lag_max: seconds.
        """
        total = sum(self._counts)
        waited = _waited_for_cpu()
        return {
            "cpu": self.cpu,
            "wall": time.monotonic() - self._wall,
            "waited": waited - self._waited if waited >= 0 else -1.0,
            "lag_p99": self._quantile(0.99 * total),
            "lag_max": self._quantile(total),
        }

    def _quantile(self, rank: float) -> float:
        seen = 0
        for step, count in enumerate(self._counts):
            seen += count
            if count and seen >= rank:
                return (step + 1) * _STEP
        return 0.0


def _waited_for_cpu() -> float:
    """Seconds this process was ready to run and was not let; -1 where the kernel does not count it."""
    try:
        with open("/proc/self/schedstat", "rb") as file:  # noqa: PTH123 - a tenth of a millisecond less
            return int(file.read().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return -1.0


class Outbox:
    """Lines to the parent. A parent that does not read loses news of the moment, and holds up nothing."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._rest = b""
        os.set_blocking(descriptor, False)

    def say(self, kind: str, **fields: Any) -> None:
        """Send one object; dropped if too many before it are still unread."""
        if len(self._rest) < _BACKLOG:
            self._rest += json.dumps({"kind": kind, **fields}).encode() + b"\n"
        try:
            while self._rest:
                self._rest = self._rest[os.write(self._descriptor, self._rest) :]
        except BlockingIOError:
            return

    def close(self) -> None:
        """Wait until everything was taken."""
        os.set_blocking(self._descriptor, True)
        while self._rest:
            self._rest = self._rest[os.write(self._descriptor, self._rest) :]
