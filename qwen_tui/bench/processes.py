"""How many generator processes a run needs, by what this machine can take in: measured, not guessed."""

from __future__ import annotations

import math
import os
import socket
import time

from qwen_tui.workers.bench_answer import Answer

_CHUNK = b'data: {"id":"x","choices":[{"index":0,"delta":{"content":" x"},"finish_reason":null}],"pad":"%s"}\n\n' % (
    b"x" * 90
)
_FRAMED = b"%x\r\n%s\r\n" % (len(_CHUNK), _CHUNK)
#: The share of a core that a generator process may be expected to use.
_SHARE = 0.4


def seconds_per_chunk(count: int = 1500) -> float:
    """CPU seconds to read one chunk off a socket and note it, on this machine now. Takes some 10 ms."""
    ours, theirs = socket.socketpair()
    answer = Answer()
    answer.feed(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n" + _FRAMED, 0.0
    )
    spent = 0.0
    with ours, theirs:
        for _ in range(count // 50):
            for _ in range(50):
                theirs.send(_FRAMED)
            began = time.thread_time()
            for _ in range(50):
                answer.take(ours.recv(len(_FRAMED)), time.monotonic())
            spent += time.thread_time() - began
    # A wait for events and the loop around it are not in this; they cost about as much again.
    return 2 * spent / (count // 50 * 50)


def processes_for(chunks_per_second: float, cost: float, streams: int) -> int:
    """How many processes to spread the streams over. cost: CPU seconds per chunk.

    No more than half of the cores, for the server may be on this machine too, and never more than streams.
    """
    most = max(1, min(len(os.sched_getaffinity(0)) // 2, streams or 64, 64))
    if not math.isfinite(chunks_per_second):
        return most
    return max(1, min(most, math.ceil(chunks_per_second * cost / _SHARE)))
