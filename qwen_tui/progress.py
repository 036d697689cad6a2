"""Progress of a long job, in one shape for every front end: done/total, rate, ETA."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Unit = Literal["bytes", "items", "seconds", "none"]


@dataclass(frozen=True)
class Progress:
    """A snapshot of one step of a job.

    step: what is being done, translated, a few words.
    done, total: in `unit`; total None while it is not known.
    rate: units per second, measured; None while it is not known.
    eta: seconds to go; None while it is not known.
    detail: one more thing worth showing (a file's name, a phase); may be empty.
    """

    step: str
    done: float = 0.0
    total: float | None = None
    unit: Unit = "none"
    rate: float | None = None
    eta: float | None = None
    detail: str = ""

    @property
    def fraction(self) -> float | None:
        """done/total within 0..1; None while the total is not known."""
        if not self.total:
            return None
        return min(1.0, max(0.0, self.done / self.total))


OnProgress = Callable[[Progress], None]


class RateMeter:
    """Measures units per second over a sliding window, from cumulative counts.

    window: seconds looked back. Source of time: a monotonic clock, given for tests.
    """

    def __init__(self, window: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._window = window
        self._clock = clock
        self._samples: deque[tuple[float, float]] = deque()

    def update(self, done: float) -> float | None:
        """Note that `done` units are done by now; the rate over the window, None until two samples differ."""
        now = self._clock()
        if self._samples and done < self._samples[-1][1]:
            self._samples.clear()  # started again: the old rate says nothing
        self._samples.append((now, done))
        while len(self._samples) > 2 and now - self._samples[0][0] > self._window:
            self._samples.popleft()
        first_time, first_done = self._samples[0]
        if now - first_time < 0.2:
            return None
        return (done - first_done) / (now - first_time)

    @staticmethod
    def eta(done: float, total: float | None, rate: float | None) -> float | None:
        """Seconds to go at `rate`; None when that can't be said."""
        if total is None or not rate or rate <= 0:
            return None
        return max(0.0, (total - done) / rate)


def format_bytes(count: float) -> str:
    """`count` bytes in decimal units, three significant digits: 1,234,567 → '1.23 MB'."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(value) < 999.5:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 99.95 else f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


def format_seconds(seconds: float) -> str:
    """A duration: '8 s', '1 min 05 s', '2 h 03 min'."""
    whole = int(seconds + 0.5)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def format_count(progress: Progress) -> str:
    """done/total with the unit: '12.3 MB / 45.6 MB', '3 / 7'; empty where there is nothing to count."""
    if progress.unit == "none":
        return ""
    show = {"bytes": format_bytes, "items": lambda n: f"{n:,.0f}", "seconds": format_seconds}[progress.unit]
    if progress.total is None:
        return show(progress.done)
    return f"{show(progress.done)} / {show(progress.total)}"


def format_rate(progress: Progress) -> str:
    """The rate with its unit: '5.2 MB/s', '3.1/s'; empty where unknown."""
    if progress.rate is None or progress.unit in ("none", "seconds"):
        return ""
    return f"{format_bytes(progress.rate)}/s" if progress.unit == "bytes" else f"{progress.rate:.1f}/s"
