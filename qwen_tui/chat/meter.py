"""Measure one reply while it streams.

The words are those of `vllm bench serve`: TTFT is the first streamed chunk that carries a choice (role-only and
empty ones count) minus the moment the request's last byte was sent; output tokens are the server's own count.
tokens/s is the decode rate, (tokens - 1) / (last chunk - first chunk): the wait for the first token is not in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from qwen_tui.chat.events import ReplyFigures

#: What `usage` tells in an object of its own, and its name there and here.
_DETAILS = (("prompt_tokens_details", "cached_tokens"), ("completion_tokens_details", "reasoning_tokens"))


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
        self.cached_tokens: int | None = None
        self.reasoning_tokens: int | None = None
        self.queue_s: float | None = None
        self._chunks: dict[int, int] = {}
        self._reasons: dict[int, str] = {}

    def sent(self) -> None:
        """The request's last byte has just been handed over."""
        self._sent = self._clock()

    def now(self) -> float:
        """Seconds since the request was sent."""
        return self._clock() - self._sent

    def usage(self, usage: Mapping[str, Any]) -> None:
        """What the server counted; what it leaves out stays as it was."""
        self.prompt_tokens = _count(usage.get("prompt_tokens"), self.prompt_tokens)
        self.completion_tokens = _count(usage.get("completion_tokens"), self.completion_tokens)
        for details, name in _DETAILS:
            found = usage.get(details)
            if isinstance(found, Mapping):
                setattr(self, name, _count(found.get(name), getattr(self, name)))

    def ended(self, reason: str, index: int = 0) -> None:
        """An answer has come to its end. reason: "stop", "length", …"""
        self._reasons[index] = reason
        if index == 0 or not self.finish_reason:
            self.finish_reason = reason

    def choice(self, at: float, carries_text: bool, index: int = 0) -> None:
        """A chunk with a choice arrived `at` seconds after the request."""
        if self._first is None:
            self._first = at
        self._last = at
        self.chunks += carries_text
        self._chunks[index] = self._chunks.get(index, 0) + carries_text

    @property
    def answered(self) -> bool:
        """Whether any chunk with a choice has come."""
        return self._first is not None

    @property
    def first_at(self) -> float | None:
        """When the first chunk with a choice came: seconds after the request."""
        return self._first

    def chunks_of(self, index: int) -> int:
        """How many chunks of this answer carried something."""
        return self._chunks.get(index, 0)

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
            cached_tokens=self.cached_tokens,
            reasoning_tokens=self.reasoning_tokens,
            queue_s=self.queue_s,
        )

    def figures_of(self, index: int) -> ReplyFigures:
        """Of several answers to one request, this one: the server counts them together, so its tokens are chunks."""
        if len(self._chunks) < 2:
            return self.figures()
        tokens = self.chunks_of(index)
        figures = replace(self.figures(), completion_tokens=tokens, chunks=tokens, estimated=True)
        share = tokens / max(1, self.chunks)
        rate = figures.tokens_per_s * share if figures.tokens_per_s is not None else None
        reason = self._reasons.get(index, "")
        return replace(figures, tokens_per_s=rate, finish_reason=reason, reasoning_tokens=None)


def _count(value: Any, before: int | None) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else before
