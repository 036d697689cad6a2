"""What goes to a chat server and what comes back: plain frozen data, shared by the client and everything above it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from qwen_tui.chat.sampling import Sampling

__all__ = [
    "Event",
    "Finished",
    "Message",
    "ReasoningDelta",
    "ReplyFigures",
    "Role",
    "Sampling",
    "Target",
    "TextDelta",
]

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class Target:
    """Where to send a chat.

    base_url: the URL of the OpenAI API, such as http://127.0.0.1:8000/v1; a trailing slash does no harm.
    model: the name that the server knows the model by.
    api_key: sent as a bearer token, or None.
    """

    base_url: str
    model: str
    api_key: str | None = None


@dataclass(frozen=True)
class Message:
    """One turn of a conversation, as the API wants it."""

    role: Role
    content: str


@dataclass(frozen=True)
class TextDelta:
    """A piece of the answer. at: seconds since the request was sent. index: of which answer, where several come."""

    text: str
    at: float
    index: int = 0


@dataclass(frozen=True)
class ReasoningDelta:
    """A piece of the model's thinking, as reasoning models send it beside the answer; else as TextDelta."""

    text: str
    at: float
    index: int = 0


@dataclass(frozen=True)
class ReplyFigures:
    """The measurements of one reply.

    ttft_s: first streamed chunk that carries a choice, minus the moment the request was sent; None if none came.
    elapsed_s: last chunk that carries a choice, minus the moment the request was sent.
    tokens_per_s: the decode rate, (completion tokens - 1) / (last chunk - first chunk); the wait for the first
        token is not in it. None with fewer than two tokens.
    prompt_tokens, completion_tokens: as the server counted them (`usage`); None for a prompt it did not count.
    estimated: True when the server sent no usage, and completion_tokens is the number of chunks instead.
    finish_reason: "stop", "length", …; empty if the server gave none.
    chunks: streamed chunks that carried text or reasoning.
    """

    ttft_s: float | None
    elapsed_s: float
    tokens_per_s: float | None
    prompt_tokens: int | None
    completion_tokens: int
    finish_reason: str
    chunks: int
    estimated: bool = False

    def to_json(self) -> dict[str, Any]:
        return dict(self.__dict__)


@dataclass(frozen=True)
class Finished:
    """The stream came to its end; the last event there is."""

    figures: ReplyFigures


Event = TextDelta | ReasoningDelta | Finished
