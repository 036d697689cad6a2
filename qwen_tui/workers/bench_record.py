"""One request of a benchmark as it is kept: what a generator process writes and the rest of qwen-tui reads.

Standard library only. Times are seconds on the machine's monotonic clock in a process's file, and seconds after the
run's zero once they are read; NaN stands for never.
"""

from __future__ import annotations

import math
import struct
from array import array
from dataclasses import dataclass, field

#: What became of a request. Stored as the position in this tuple: append only.
KINDS = (
    "ok",
    "cancelled",
    "connect",
    "broken",
    "malformed",
    "timeout",
    "empty",
    "status",
    "rate_limited",
    "too_long",
    "error_event",
    "not_streamed",
)

_HEAD = struct.Struct("<IBBHddddiiIHI")
_MAGIC = 0xB7


@dataclass
class Record:
    """One request.

    index: its position in the workload. kind: one of KINDS. status: of HTTP, 0 without an answer.
    due: when the workload wanted it. sent: when its last byte went to the kernel. first_text: of the first with text.
    end: when its answer was whole, or it failed. stamps: arrival of each chunk that carried a choice.
    prompt_tokens, completion_tokens: from `usage`; -1 where the server told none. text: only where it was asked for.
    """

    index: int
    kind: str
    due: float
    sent: float = math.nan
    end: float = math.nan
    first_text: float = math.nan
    status: int = 0
    prompt_tokens: int = -1
    completion_tokens: int = -1
    stamps: array[float] = field(default_factory=lambda: array("d"))
    message: str = ""
    text: str = ""

    @property
    def is_ok(self) -> bool:
        return self.kind == "ok"

    @property
    def ttft(self) -> float:
        """Seconds to the first chunk that carries a choice."""
        return self.stamps[0] - self.sent if self.stamps else math.nan

    @property
    def e2el(self) -> float:
        """Seconds to the last chunk that carries a choice."""
        return self.stamps[-1] - self.sent if self.stamps else math.nan

    def pack(self) -> bytes:
        """The record as bytes, for `unpack_all`."""
        message = self.message.encode("utf-8", "replace")[:2000]
        text = self.text.encode("utf-8", "replace")
        head = _HEAD.pack(
            self.index,
            _MAGIC,
            KINDS.index(self.kind),
            self.status & 0xFFFF,
            self.due,
            self.sent,
            self.end,
            self.first_text,
            self.prompt_tokens,
            self.completion_tokens,
            len(self.stamps),
            len(message),
            len(text),
        )
        return b"".join((head, self.stamps.tobytes(), message, text))


def unpack_all(data: bytes | memoryview, zero: float = 0.0) -> tuple[list[Record], int]:
    """The records in `data`, as far as they are whole, and how many bytes those are.

    zero: what is taken off all times.
    """
    view = memoryview(data)
    at = end = 0
    found: list[Record] = []
    while at + _HEAD.size <= len(view):
        (index, magic, kind, status, due, sent, end_time, first_text, prompt, completion, count, message, text) = (
            _HEAD.unpack_from(view, at)
        )
        at += _HEAD.size
        if magic != _MAGIC or kind >= len(KINDS) or at + 8 * count + message + text > len(view):
            break
        stamps = array("d")
        stamps.frombytes(view[at : at + 8 * count])
        if zero:
            stamps = array("d", [stamp - zero for stamp in stamps])
        at += 8 * count
        said = bytes(view[at : at + message]).decode("utf-8", "replace")
        at += message
        answer = bytes(view[at : at + text]).decode("utf-8", "replace")
        at += text
        end = at
        times = (due - zero, sent - zero, end_time - zero, first_text - zero)
        found.append(Record(index, KINDS[kind], *times, status, prompt, completion, stamps, said, answer))
    return found, end
