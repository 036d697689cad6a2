"""Server-sent events out of a byte stream that may be cut anywhere. Source: HTML Living Standard, 9.2.6."""

from __future__ import annotations

from typing import NamedTuple

_BOM = b"\xef\xbb\xbf"


class SseEvent(NamedTuple):
    """One event. name: the `event:` field, empty where there was none. data: its `data:` lines joined by newlines."""

    name: str
    data: str


class SseDecoder:
    """Feed it bytes as they come; it hands back the events that became complete.

    limit: the most bytes one line, and one event's data, may have. Beyond it `overflowed` turns True and the
        decoder takes nothing more: a server that never ends its line can't fill the memory.
    """

    def __init__(self, limit: int = 8 * 1024 * 1024) -> None:
        self.overflowed = False
        self._limit = limit
        self._pieces: list[bytes] = []  # the line not yet ended
        self._pieces_size = 0
        self._data: list[str] = []
        self._data_size = 0
        self._name = ""
        self._first_line = True
        self._after_cr = False  # a "\n" right after belongs to the line end already seen

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """Take the next bytes; returns the events they complete, in order."""
        events: list[SseEvent] = []
        if self._after_cr and chunk:
            self._after_cr = False
            if chunk.startswith(b"\n"):
                chunk = chunk[1:]
        if not chunk or self.overflowed:
            return events
        self._after_cr = chunk.endswith(b"\r")
        # For bytes, splitlines knows exactly the three line ends that the standard knows.
        for line in chunk.splitlines(keepends=True):
            ended = line.rstrip(b"\r\n") if line.endswith((b"\n", b"\r")) else None
            self._pieces_size += len(line if ended is None else ended)
            if self._pieces_size > self._limit:
                self.overflowed = True
                break
            if ended is None:
                self._pieces.append(line)
                break
            if self._pieces:
                ended = b"".join([*self._pieces, ended])
                self._pieces.clear()
            self._pieces_size = 0
            self._take_line(ended, events)
            if self.overflowed:
                break
        return events

    def end(self) -> list[SseEvent]:
        """The stream is over: an event whose closing blank line never came is handed back all the same.

        The standard drops it; servers that forget the last blank line exist. It may be half an event.
        """
        events: list[SseEvent] = []
        if not self.overflowed:
            if self._pieces:
                self._take_line(b"".join(self._pieces), events)
                self._pieces.clear()
            self._dispatch(events)
        return events

    def _take_line(self, line: bytes, events: list[SseEvent]) -> None:
        if self._first_line:
            self._first_line = False
            line = line.removeprefix(_BOM)
        if not line:
            self._dispatch(events)
            return
        field, _colon, value = line.partition(b":")
        if field == b"data":
            value = value.removeprefix(b" ")
            self._data_size += len(value) + 1
            if self._data_size > self._limit + 1:
                self.overflowed = True
                return
            self._data.append(value.decode("utf-8", "replace"))
        elif field == b"event":
            self._name = value.removeprefix(b" ").decode("utf-8", "replace")

    def _dispatch(self, events: list[SseEvent]) -> None:
        if self._data:
            events.append(SseEvent(self._name, "\n".join(self._data)))
        self._data = []
        self._data_size = 0
        self._name = ""
