"""Ask /v1/completions: a text goes in as it is, without a chat template, and is continued."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

from qwen_tui.chat.client import Timeouts, choice_index, stream_request
from qwen_tui.chat.events import Finished, Target
from qwen_tui.chat.harmless import encodable
from qwen_tui.chat.meter import ReplyMeter
from qwen_tui.chat.sampling import Sampling


@dataclass(frozen=True)
class Completion:
    """What to continue. echo: begin the answer with the prompt. suffix: what comes after (models that fill in)."""

    prompt: str
    sampling: Sampling = field(default_factory=Sampling)
    echo: bool = False
    suffix: str = ""


@dataclass(frozen=True)
class TokenChance:
    """One token, and how likely it was. logprob: natural logarithm; None for the first of a prompt.

    alternatives: (token, logprob), the likeliest first.
    """

    token: str
    logprob: float | None
    alternatives: tuple[tuple[str, float], ...] = ()

    def to_json(self) -> dict[str, Any]:
        others = [{"token": token, "logprob": logprob} for token, logprob in self.alternatives]
        return {"token": self.token, "logprob": self.logprob, "alternatives": others}


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


def read_chances(logprobs: Any) -> tuple[TokenChance, ...]:
    """The tokens in a completion's `logprobs` (the lists `tokens`, `token_logprobs`, `top_logprobs`)."""
    if not isinstance(logprobs, dict) or not isinstance(logprobs.get("tokens"), list):
        return ()
    tokens, chances, others = (logprobs.get(key) or [] for key in ("tokens", "token_logprobs", "top_logprobs"))
    found = []
    for number, token in enumerate(tokens):
        if not isinstance(token, str):
            continue
        chance = chances[number] if isinstance(chances, list) and number < len(chances) else None
        more = others[number] if isinstance(others, list) and number < len(others) else None
        pairs = [
            (encodable(other), float(value))
            for other, value in (more.items() if isinstance(more, dict) else ())
            if isinstance(value, int | float)
        ]
        pairs.sort(key=lambda pair: -pair[1])
        found.append(
            TokenChance(encodable(token), float(chance) if isinstance(chance, int | float) else None, tuple(pairs))
        )
    return tuple(found)
