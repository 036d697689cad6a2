"""What goes to a chat server and what comes back: plain frozen data, shared by the client and everything above it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from qwen_tui.chat.logprobs import TokenChance
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
    "TokensDelta",
    "ToolCall",
    "ToolCallDelta",
]

Role = Literal["system", "user", "assistant", "tool"]


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
class ToolCall:
    """A function that the model wants called. arguments: JSON as the model wrote it, which may be wrong."""

    id: str
    name: str
    arguments: str = ""

    def to_json(self) -> dict[str, Any]:
        """As the API has it."""
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}}


@dataclass(frozen=True)
class Message:
    """One turn of a conversation, as the API wants it.

    parts: what comes beside the text, such as images, each as the API has it. tool_calls: what an assistant wanted
    called. tool_call_id: for the role "tool", which call this answers.
    """

    role: Role
    content: str
    parts: tuple[Mapping[str, Any], ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""


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
class ThinkingEnded:
    """All that came of this answer as TextDelta until now was thinking: the prompt had begun it already."""

    at: float
    index: int = 0


@dataclass(frozen=True)
class ToolCallDelta:
    """A piece of a tool call. call: which one of the answer; id and name come once, arguments in fragments."""

    call: int
    id: str
    name: str
    arguments: str
    at: float
    index: int = 0


@dataclass(frozen=True)
class TokensDelta:
    """How likely the tokens that just came were, thinking and text alike, where logprobs were asked for."""

    chances: tuple[TokenChance, ...]
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
    cached_tokens: how many of the prompt's tokens the server had in its prefix cache; None where it does not say.
    reasoning_tokens: how many of the completion's tokens were thinking, as the server says; None where it does not.
    queue_s: how long the request waited before the server began with it; None where that is not known.
    """

    ttft_s: float | None
    elapsed_s: float
    tokens_per_s: float | None
    prompt_tokens: int | None
    completion_tokens: int
    finish_reason: str
    chunks: int
    estimated: bool = False
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    queue_s: float | None = None

    def to_json(self) -> dict[str, Any]:
        return dict(self.__dict__)


@dataclass(frozen=True)
class Finished:
    """The stream came to its end; the last event there is."""

    figures: ReplyFigures


Event = TextDelta | ReasoningDelta | ThinkingEnded | ToolCallDelta | TokensDelta | Finished
