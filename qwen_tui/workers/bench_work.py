"""What a generator process is to send: the requests' bodies, when each is due, and which one is next.

Standard library only.
"""

from __future__ import annotations

import mmap
import os
import struct
from array import array
from fcntl import LOCK_EX, LOCK_UN, lockf
from pathlib import Path
from typing import Any

KEY_VARIABLE = "QWEN_TUI_BENCH_KEY"


class Work:
    """What there is to send: the bodies, when each is due, and which one is next for whoever asks."""

    def __init__(self, request: dict[str, Any]) -> None:
        self._offsets = array("Q", Path(request["offsets"]).read_bytes())
        self._bodies = mmap.mmap(os.open(request["bodies"], os.O_RDONLY), 0, access=mmap.ACCESS_READ)
        self._counter = os.open(request["counter"], os.O_RDWR)
        self._head = _head(request)
        arrivals = request.get("arrivals")
        self._due: array[float] | None = array("d", Path(arrivals).read_bytes()) if arrivals else None
        self.is_open_loop = self._due is not None
        self.first = self.last = 0
        self.is_done = False

    def begin(self, first: int, last: int) -> None:
        """Hand out the requests from `first` up to, without, `last`."""
        self.first, self.last, self.is_done = first, last, False

    def due_at(self, index: int) -> float | None:
        """Seconds after the beginning when this one is due; None in a closed loop."""
        return self._due[index - self.first] if self._due is not None else None

    def next(self) -> int:
        """The next request's index; -1 when there is none left. Each goes to one process only."""
        lockf(self._counter, LOCK_EX)
        try:
            (index,) = struct.unpack("q", os.pread(self._counter, 8, 0))
            if index >= self.last:
                self.is_done = True
                return -1
            os.pwrite(self._counter, struct.pack("q", index + 1), 0)
        finally:
            lockf(self._counter, LOCK_UN)
        return int(index)

    def message(self, index: int) -> bytes:
        """The whole HTTP request."""
        slot = index % (len(self._offsets) - 1)  # a run by time begins again with the first
        body = self._bodies[self._offsets[slot] : self._offsets[slot + 1]]
        return b"%s%d\r\n\r\n%s" % (self._head, len(body), body)


def _head(request: dict[str, Any]) -> bytes:
    host = f"[{request['host']}]" if ":" in request["host"] else request["host"]
    lines = [
        f"POST {request['path']} HTTP/1.1",
        f"host: {host}:{request['port']}",
        "content-type: application/json",
        "accept: text/event-stream",
        "accept-encoding: identity",
        "user-agent: qwen-tui-bench",
    ]
    if key := os.environ.get(KEY_VARIABLE):
        lines.append(f"authorization: Bearer {key}")
    return ("\r\n".join([*lines, "content-length: "])).encode("latin-1", "replace")
