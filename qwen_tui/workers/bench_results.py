"""What a generator process writes down, and how often it looks for more.

Standard library only.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qwen_tui.workers.bench_record import Record
else:
    from bench_record import Record

_PAUSE_MOST = 0.002  # seconds between two looks while chunks come fast
_FAST = 1000  # chunks per second that are fast


class Results:
    """The file of records. chunks: in those that were kept. written: bytes."""

    def __init__(self, file: str) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._waiting: list[bytes] = []
        self.keeps = False
        self.chunks = 0
        self.written = 0

    def keep(self, record: Record) -> None:
        """Note a request that has ended, if what is done now counts; written by the next `flush`."""
        if self.keeps:
            self.chunks += len(record.stamps)
            self._waiting.append(record.pack())

    def flush(self) -> None:
        """Write what was noted."""
        data = b"".join(self._waiting)
        self._waiting.clear()
        while data:
            count = os.write(self._file, data)
            self.written += count
            data = data[count:]


def pause_for(rate: float, streams: int) -> float:
    """Seconds between two looks, for so many chunks a second: a fifth of what a stream takes for one.

    The kernel notes when bytes arrive, so that nothing is lost by it. Streams faster than one in a millisecond are read
    in larger pieces: no clock here tells their chunks apart.
    """
    if rate < _FAST:
        return 0.0
    gap = max(1, streams) / rate
    return _PAUSE_MOST if gap < 0.001 else min(_PAUSE_MOST, gap / 5)


def so_far(sent: float, stamps: Sequence[float]) -> tuple[float, float]:
    """Of an answer that has begun: seconds to its first chunk, and for each one after, on average; 0 for a lone one."""
    gaps = len(stamps) - 1
    return round(stamps[0] - sent, 5), round((stamps[-1] - stamps[0]) / gaps, 6) if gaps else 0.0
