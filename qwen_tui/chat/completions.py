"""Ask /v1/completions: a text goes in as it is, without a chat template, and is continued."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

from qwen_tui.chat.client import Timeouts, choice_index, stream_request
from qwen_tui.chat.events import Finished, Target
from qwen_tui.chat.harmless import encodable
from qwen_tui.chat.logprobs import TokenChance, read_chances
from qwen_tui.chat.meter import ReplyMeter
from qwen_tui.chat.sampling import Sampling

__all__ = [
    "Completion",
    "CompletionDelta",
    "TokenChance",
    "completion_body",
    "read_chances",
    "read_text",
    "stream_completion",
]


@dataclass(frozen=True)
class Completion:
    """What to continue. echo: begin the answer with the prompt. suffix: what comes after (models that fill in).

    special: whether the server puts the tokenizer's own tokens (such as one for the beginning) before the prompt.
    """

    prompt: str
    sampling: Sampling = field(default_factory=Sampling)
    echo: bool = False
    suffix: str = ""
    special: bool = True


@dataclass(frozen=True)
class CompletionDelta:
    """A piece of one answer. at: seconds since the request was sent. index: of which answer.

    chances: one per token of the piece, where logprobs were asked for.
    """

    text: str
    at: float
    index: int = 0
    chances: tuple[TokenChance, ...] = ()


def completion_body(target: Target, completion: Completion, *, stream: bool) -> dict[str, Any]:
    """The body of a request to /v1/completions."""
    body: dict[str, Any] = {"model": target.model, "prompt": encodable(completion.prompt)}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    if completion.echo:
        body["echo"] = True
    if completion.suffix:
        body["suffix"] = encodable(completion.suffix)
    if not completion.special:
        body["add_special_tokens"] = False
    return {**body, **completion.sampling.to_json("completions")}


async def stream_completion(
    target: Target, completion: Completion, *, meter: ReplyMeter | None = None, timeouts: Timeouts | None = None
) -> AsyncGenerator[CompletionDelta | Finished, None]:
    """Continue a text and yield what comes, ending with one `Finished`; else as `stream_chat`. Raises ChatError."""
    meter = meter or ReplyMeter()
    body = completion_body(target, completion, stream=True)
    reply = stream_request(target, "completions", body, read_text, meter=meter, timeouts=timeouts)
    async with contextlib.aclosing(reply) as pieces:
        async for piece in pieces:
            yield piece
    yield Finished(meter.figures())


def read_text(choice: dict[str, Any], at: float) -> list[CompletionDelta]:
    """What one choice of a completion's chunk carries."""
    text = choice.get("text")
    text = encodable(text) if isinstance(text, str) else ""
    chances = read_chances(choice.get("logprobs"))
    return [CompletionDelta(text, at, choice_index(choice), chances)] if text or chances else []
