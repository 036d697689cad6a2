"""Ask a chat server and receive its answer piece by piece, as it comes; nothing is retried behind the caller's back."""

from __future__ import annotations

import contextlib
import json
import ssl
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from qwen_tui.chat import failures
from qwen_tui.chat.events import (
    Event,
    Finished,
    Message,
    ReasoningDelta,
    ReplyFigures,
    Role,
    Sampling,
    Target,
    TextDelta,
)
from qwen_tui.chat.harmless import encodable
from qwen_tui.chat.meter import ReplyMeter
from qwen_tui.chat.sse import SseDecoder, SseEvent

if TYPE_CHECKING:
    import httpx

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
    "Timeouts",
    "stream_chat",
]

_BODY_LIMIT = 8 * 1024 * 1024
_ERROR_BODY_LIMIT = 64 * 1024


@dataclass(frozen=True)
class Timeouts:
    """How long to be patient, in seconds.

    connect: for the connection. silence: between two arrivals of bytes, the first one included: a busy server
        queues a request for minutes before its first token.
    """

    connect: float = 5.0
    silence: float = 600.0


async def stream_chat(
    target: Target,
    messages: Sequence[Message],
    sampling: Sampling | None = None,
    *,
    meter: ReplyMeter | None = None,
    timeouts: Timeouts | None = None,
) -> AsyncGenerator[Event, None]:
    """Send `messages` and yield what comes back, ending with one `Finished`.

    meter: give one to be able to ask for the figures of a reply that was stopped or that broke.
    Raises ChatError. Closing the iterator, or cancelling the task that runs it, closes the connection at once,
    which is how a server learns to stop generating.
    """
    import httpx

    meter = meter or ReplyMeter()
    body = _request_body(target, messages, sampling or Sampling())
    headers = {"content-type": "application/json", "accept": "text/event-stream", "accept-encoding": "identity"}
    if target.api_key:
        headers["authorization"] = f"Bearer {target.api_key}"

    async def trace(name: str, _info: Any) -> None:
        if name == "http11.send_request_body.complete":
            meter.sent()

    try:
        async with (
            http_client(target, timeouts or Timeouts()) as client,
            client.stream(
                "POST",
                target.base_url.rstrip("/") + "/chat/completions",
                content=body,
                headers=headers,
                extensions={"trace": trace},
            ) as response,
        ):
            if response.status_code != 200:
                raise failures.from_status(response.status_code, await _read(response, _ERROR_BODY_LIMIT), target)
            if "text/event-stream" in response.headers.get("content-type", ""):
                reply = _streamed(response, meter)
            else:
                reply = _whole(response, meter)
            async with contextlib.aclosing(reply) as events:
                async for event in events:
                    yield event
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeEncodeError) as error:
        raise failures.from_transport(error, target, meter.answered) from error
    yield Finished(meter.figures())


def _request_body(target: Target, messages: Sequence[Message], sampling: Sampling) -> bytes:
    body = {
        "model": target.model,
        "messages": [{"role": message.role, "content": encodable(message.content)} for message in messages],
        "stream": True,
        "stream_options": {"include_usage": True},
        **sampling.to_json(),
    }
    return json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")


def http_client(target: Target, timeouts: Timeouts) -> httpx.AsyncClient:
    """A client for one request to `target`. Raises ChatError if its URL is none."""
    import httpx

    try:
        address = urlsplit(target.base_url)
        loopback = address.hostname in ("127.0.0.1", "localhost", "::1")
        secure = address.scheme == "https"
        _ = address.port  # raises ValueError if it is out of range
    except ValueError as error:
        raise failures.from_transport(httpx.InvalidURL(str(error)), target, False) from error
    # Loading the certificates takes tens of milliseconds and megabytes, for nothing where there is no TLS.
    context = ssl.create_default_context() if secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return httpx.AsyncClient(
        verify=context,
        trust_env=not loopback,  # a proxy from the environment can't reach this machine's loopback
        timeout=httpx.Timeout(timeouts.silence, connect=timeouts.connect),
        limits=httpx.Limits(max_keepalive_connections=0),
    )


async def _read(response: httpx.Response, limit: int) -> bytes:
    """The first `limit` bytes of the body; what arrived, if it breaks off before."""
    import httpx

    body = bytearray()
    try:
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) >= limit:
                break
    except httpx.HTTPError:
        if not body:
            raise
    return bytes(body[:limit])


async def _streamed(response: httpx.Response, meter: ReplyMeter) -> AsyncGenerator[Event, None]:
    decoder = SseDecoder(_BODY_LIMIT)
    async for chunk in response.aiter_bytes():
        at = meter.now()  # before anything is parsed
        for sse in decoder.feed(chunk):
            if sse.data.strip() == "[DONE]":
                if not meter.answered:
                    raise failures.ended_early()
                return
            for event in _take(_parse(sse), at, meter):
                yield event
        if decoder.overflowed:
            raise failures.too_long(_BODY_LIMIT)
    for sse in decoder.end():
        try:
            last = json.loads(sse.data)
        except (ValueError, RecursionError):
            break  # cut in the middle of an event: said below
        for event in _take(last, meter.now(), meter):
            yield event
    if not meter.finish_reason:
        raise failures.ended_early()


def _parse(sse: SseEvent) -> Any:
    try:
        return json.loads(sse.data)
    except (ValueError, RecursionError):
        raise failures.not_an_answer(sse.data[:300]) from None


def _take(body: Any, at: float, meter: ReplyMeter) -> list[Event]:
    """One decoded chunk: note its figures, return what it carries. Raises ChatError if it is an error."""
    if not isinstance(body, dict):
        raise failures.not_an_answer(str(body)[:300])
    if error := failures.in_stream(body):
        raise error
    usage = body.get("usage")
    if isinstance(usage, dict):
        meter.prompt_tokens = _count(usage.get("prompt_tokens"), meter.prompt_tokens)
        meter.completion_tokens = _count(usage.get("completion_tokens"), meter.completion_tokens)
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return []
    delta = choices[0].get("delta")
    delta = delta if isinstance(delta, dict) else {}
    reason = choices[0].get("finish_reason")
    if isinstance(reason, str) and reason:
        meter.finish_reason = reason
    found: list[Event] = []
    # vLLM's name was `reasoning_content`, newer ones say `reasoning`; some servers send both.
    thought = delta.get("reasoning_content") or delta.get("reasoning")
    if isinstance(thought, str) and thought:
        found.append(ReasoningDelta(encodable(thought), at))
    text = delta.get("content")
    if isinstance(text, str) and text:
        found.append(TextDelta(encodable(text), at))
    meter.choice(at, bool(found))
    return found


def _count(value: Any, before: int | None) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else before


async def _whole(response: httpx.Response, meter: ReplyMeter) -> AsyncGenerator[Event, None]:
    """The answer of a server that does not stream: one JSON object. Anything else is no answer."""
    raw = await _read(response, _BODY_LIMIT)
    try:
        body = json.loads(raw)
        choice = dict(body["choices"][0])
        choice["delta"] = choice.get("message")
    except (ValueError, RecursionError, LookupError, TypeError):
        error = None
        with contextlib.suppress(ValueError, RecursionError):
            error = failures.in_stream(json.loads(raw))
        raise error or failures.not_an_answer(failures.readable(raw)) from None
    for event in _take({**body, "choices": [choice]}, meter.now(), meter):
        yield event
