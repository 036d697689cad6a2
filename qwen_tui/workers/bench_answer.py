"""The answer to one streamed request, out of bytes as they arrive: when its chunks came, and how it ended.

Standard library only. Nearly every read of a busy stream is one whole HTTP chunk with one whole event in it, the same
shape each time: `take` recognises that without decoding anything. Whatever is different goes through `feed`, which
knows HTTP/1.1 framing, server-sent events and JSON in full.
"""

from __future__ import annotations

import json
import math
from array import array
from typing import Any

_HEAD, _SIZE, _CHUNK, _CHUNK_END, _TRAILER, _LENGTH, _CLOSE, _WHOLE = range(8)
_MOST = 8 * 2**20  # bytes of a head, a line, or a body that is no stream
#: How a chunk ends that ends with an event. No event has it inside: a line end in JSON is escaped.
EVENT_END = b"\n\n\r\n"
_MARKS = (b'"choices":[{', b'"choices": [{')
#: What servers say when a prompt does not fit.
_TOO_LONG = ("maximum context length", "context length", "too long", "max_model_len", "longer than the maximum")


class MalformedError(Exception):
    """The bytes are not what HTTP, server-sent events or an OpenAI API would send."""


class Answer:
    """Feed it what arrives for one request.

    stamps: arrival of each chunk that carries a choice. first_text: of the first with text (NaN so far).
    is_whole: the HTTP message ended; the connection can be used again if `keeps_alive`.
    keep_text: gather the text too, for counting its tokens afterwards.
    """

    __slots__ = (
        "_body", "_chunked", "_data", "_left", "_line", "_pending", "_state", "_streams", "begun", "carry",
        "completion_tokens", "done", "error", "fast", "first_text", "is_whole", "keeps_alive", "last_read", "mark",
        "prompt_tokens", "stamps", "status", "text",
    )  # fmt: skip

    def __init__(self, keep_text: bool = False) -> None:
        self.stamps: array[float] = array("d")
        self.first_text = math.nan
        self.status = 0
        self.prompt_tokens = -1
        self.completion_tokens = -1
        self.begun = False
        self.done = False
        self.is_whole = False
        self.keeps_alive = True
        self.error = ""
        self.text: list[str] | None = [] if keep_text else None
        #: Whether the next read may be tried with `take`.
        self.fast = False
        self.mark = b""
        #: The beginning of an event that `take` saw only a part of.
        self.carry = b""
        self.last_read = b""
        self._state = _HEAD
        self._pending = b""
        self._left = 0
        self._chunked = False
        self._streams = False
        self._line = b""
        self._data: list[bytes] = []
        self._body = bytearray()

    def take(self, data: bytes, now: float) -> bytes:
        """Note what of `data`, read at `now`, is whole chunks of whole events that carry a choice each.

        The answer is what is left for `feed`; empty if nothing is. Only for an answer that is `fast` or has a `carry`.
        """
        if self.carry:
            data = self.carry + data
            self.carry = b""
        # It began where a chunk begins. Up to where an event and its chunk end, counting is enough.
        end = len(data) if data[-4:] == EVENT_END else data.rfind(EVENT_END) + 4
        count = data.count(self.mark, 0, end)
        if end < 4 or count != data.count(b"\n\n", 0, end):
            return data
        self.stamps.extend([now] * count)
        self.last_read = data
        rest = data[end:]
        if rest and (rest[-1:] != b"\n" or (b"{" in rest and rest[-2:] != b"\r\n")):
            # Cut in the middle of a line: there is more to come for certain.
            self.carry, rest = rest, b""
        self.fast = not self.carry
        return rest

    def feed(self, data: bytes, now: float) -> None:
        """Take `data`, read at `now`. Raises MalformedError."""
        self.begun = True
        self.fast = False
        data = self._pending + data if self._pending else data
        self._pending = b""
        while data and not self.is_whole:
            data = self._step(data, now)
        self.fast = (
            self._state == _SIZE
            and self._streams
            and bool(self.mark)
            and self.text is None
            and not (self._pending or self._line or self._data or self.done)
            and self.first_text == self.first_text  # not NaN
        )

    def closed(self) -> None:
        """The connection was closed by the server: the end of a message that has no other end."""
        if self._state == _CLOSE:
            self.is_whole = True
            self.keeps_alive = False

    def finish(self) -> None:
        """Read the usage out of the last event, for servers that put it beside a choice."""
        if self.completion_tokens >= 0 or not self.last_read:
            return
        for line in self.last_read.splitlines():
            if line.startswith(b"data:") and b'"usage"' in line:
                try:
                    self._usage(json.loads(line[5:]))
                except (ValueError, RecursionError, AttributeError):
                    return

    @property
    def outcome(self) -> tuple[str, str]:
        """What became of the request, one of bench_record.KINDS, and the server's words where it failed."""
        if self.status and self.status != 200:
            said = self._error_text()
            if self.status == 429:
                return "rate_limited", said
            is_long = self.status in (400, 413, 422) and any(words in said.lower() for words in _TOO_LONG)
            return ("too_long" if is_long else "status"), said
        if self.error:
            return "error_event", self.error
        if self.is_whole and not self._streams:
            return "not_streamed", self._body[:300].decode("utf-8", "replace")
        if not self.is_whole or not (self.done or (self._chunked and self.stamps)):
            return "broken", ""
        if not self.stamps or self.completion_tokens == 0:
            return "empty", ""
        return "ok", ""

    def _error_text(self) -> str:
        """The message in an error's body, or the body."""
        try:
            body = json.loads(bytes(self._body))
            error = body.get("error", body)
            return str(error.get("message", error) if isinstance(error, dict) else error)[:1000]
        except (ValueError, RecursionError, AttributeError):
            return self._body[:300].decode("utf-8", "replace")

    # -- HTTP -----------------------------------------------------------------------------------------

    def _step(self, data: bytes, now: float) -> bytes:
        """Take one part of the message from the front of `data`; what is left to take."""
        state = self._state
        if state in (_CHUNK, _LENGTH):
            part, rest = data[: self._left], data[self._left :]
            self._left -= len(part)
            if not self._left:
                self._state = _CHUNK_END if state == _CHUNK else _WHOLE
                self.is_whole = state == _LENGTH
            self._content(part, now)
            return rest
        if state == _CLOSE:
            self._content(data, now)
            return b""
        end = data.find(b"\r\n\r\n" if state == _HEAD else b"\r\n")
        if end < 0:
            if len(data) > (_MOST if state == _HEAD else 16384):
                raise MalformedError("no end of line")
            self._pending = data
            return b""
        if state == _HEAD:
            self._head(data[:end])
            return data[end + 4 :]
        self._framing(data[:end])
        return data[end + 2 :]

    def _framing(self, line: bytes) -> None:
        if self._state == _CHUNK_END:
            if line:
                raise MalformedError("a chunk is longer than it says")
            self._state = _SIZE
        elif self._state == _SIZE:
            try:
                self._left = int(line.partition(b";")[0], 16)
            except ValueError:
                raise MalformedError("no size of a chunk") from None
            if self._left < 0:
                raise MalformedError("a negative size")
            self._state = _CHUNK if self._left else _TRAILER
        elif not line:  # the end of the trailer
            self._state = _WHOLE
            self.is_whole = True

    def _head(self, head: bytes) -> None:
        first, *lines = head.split(b"\r\n")
        words = first.split(b" ", 2)
        if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
            raise MalformedError("no HTTP answer")
        status = int(words[1])
        if 100 <= status < 200:
            return  # "100 Continue" and its kin: the answer itself follows
        self.status = status
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        self._streams = status == 200 and b"event-stream" in headers.get(b"content-type", b"").lower()
        self.keeps_alive = words[0] != b"HTTP/1.0" and headers.get(b"connection", b"").lower() != b"close"
        if b"chunked" in headers.get(b"transfer-encoding", b"").lower():
            self._chunked = True
            self._state = _SIZE
        elif b"content-length" in headers:
            try:
                self._left = int(headers[b"content-length"])
            except ValueError:
                raise MalformedError("no number as content-length") from None
            self._state = _LENGTH if self._left > 0 else _WHOLE
            self.is_whole = self._left <= 0
        else:
            self._state = _CLOSE
            self.keeps_alive = False

    # -- server-sent events ---------------------------------------------------------------------------

    def _content(self, part: bytes, now: float) -> None:
        if not self._streams:
            if len(self._body) < 65536:
                self._body += part[:65536]
            return
        *lines, self._line = (self._line + part).split(b"\n")
        if len(self._line) > _MOST:
            raise MalformedError("no end of an event's line")
        for line in lines:
            line = line.rstrip(b"\r")
            if line.startswith(b"data:"):
                self._data.append(line[5:].strip())
            elif not line and self._data:
                data = b"\n".join(self._data)
                self._data = []
                self._event(data, now)

    def _event(self, data: bytes, now: float) -> None:
        if data == b"[DONE]":
            self.done = True
            return
        try:
            body = json.loads(data)
        except (ValueError, RecursionError):
            raise MalformedError(data[:200].decode("utf-8", "replace")) from None
        if not isinstance(body, dict):
            raise MalformedError(data[:200].decode("utf-8", "replace"))
        if body.get("error") or body.get("object") == "error":
            error = body.get("error") or body
            self.error = str(error.get("message", error) if isinstance(error, dict) else error)[:1000]
            return
        self._usage(body)
        choices = body.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            return
        if not self.mark:
            self.mark = next((mark for mark in _MARKS if mark in data), b"")
        self.stamps.append(now)
        if text := _text(choices[0]):
            if self.first_text != self.first_text:  # NaN: none so far
                self.first_text = now
            if self.text is not None:
                self.text.append(text)

    def _usage(self, body: dict[str, Any]) -> None:
        usage = body.get("usage")
        if isinstance(usage, dict):
            self.prompt_tokens = _count(usage.get("prompt_tokens"), self.prompt_tokens)
            self.completion_tokens = _count(usage.get("completion_tokens"), self.completion_tokens)


def _text(choice: dict[str, Any]) -> str:
    """What a choice carries, reasoning included."""
    delta = choice.get("delta")
    if not isinstance(delta, dict):
        return str(choice.get("text") or "")
    return "".join(str(delta[key]) for key in ("reasoning_content", "reasoning", "content") if delta.get(key))


def _count(value: Any, before: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31 else before
