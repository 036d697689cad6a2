"""Measure one reply while it streams.

The words are those of `vllm bench serve`: TTFT is the first streamed chunk that carries a choice (role-only and
empty ones count) minus the moment the request's last byte was sent; output tokens are the server's own count.
tokens/s is the decode rate, (tokens - 1) / (last chunk - first chunk): the wait for the first token is not in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from qwen_tui.chat.events import ReplyFigures


class ReplyMeter:
    """Takes time stamps; `figures()` may be asked at any moment, also after the stream broke."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._sent = clock()
        self._first: float | None = None
        self._last: float | None = None
        self.chunks = 0
        self.finish_reason = ""
        self.prompt_tokens: int | None = None
        self.completion_tokens: int | None = None

    def sent(self) -> None:
        """The request's last byte has just been handed over."""
        self._sent = self._clock()

    def now(self) -> float:
        """Seconds since the request was sent."""
        return self._clock() - self._sent

    def choice(self, at: float, carries_text: bool) -> None:
        """A chunk with a choice arrived `at` seconds after the request."""
        if self._first is None:
            self._first = at
        self._last = at
        self.chunks += carries_text

    @property
    def answered(self) -> bool:
        """Whether any chunk with a choice has come."""
        return self._first is not None

    def figures(self) -> ReplyFigures:
        """What is known so far."""
        estimated = self.completion_tokens is None
        tokens = self.chunks if self.completion_tokens is None else self.completion_tokens
        rate = None
        if self._first is not None and self._last is not None and self._last > self._first and tokens > 1:
            rate = (tokens - 1) / (self._last - self._first)
        return ReplyFigures(
            ttft_s=self._first,
            elapsed_s=self.now() if self._last is None else self._last,
            tokens_per_s=rate,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=tokens,
            finish_reason=self.finish_reason,
            chunks=self.chunks,
            estimated=estimated,
        )
