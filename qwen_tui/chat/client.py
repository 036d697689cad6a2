"""Ask a chat server and receive its answer piece by piece, as it comes; nothing is retried behind the caller's back."""

from __future__ import annotations

import contextlib
import json
import ssl
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from qwen_tui.chat import failures
from qwen_tui.chat.delta import Thinking, choice_index, read_delta
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
    TokensDelta,
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
    "TokensDelta",
    "chat_body",
    "choice_index",
    "message_body",
    "stream_chat",
    "stream_request",
]

#: What a caller reads out of one decoded choice, given it and the seconds since the request.
Piece = TypeVar("Piece")

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
    more: Mapping[str, Any] | None = None,
    meter: ReplyMeter | None = None,
    timeouts: Timeouts | None = None,
) -> AsyncGenerator[Event, None]:
    """Send `messages` and yield what comes back, ending with one `Finished`.

    more: other fields of the request, such as `tools`.
    meter: give one to be able to ask for the figures of a reply that was stopped or that broke.
    Raises ChatError. Closing the iterator, or cancelling the task that runs it, closes the connection at once,
    which is how a server learns to stop generating.
    """
    body = chat_body(target, messages, sampling or Sampling(), stream=True, more=more)
    meter = meter or ReplyMeter()
    thinking = Thinking()
    reply = stream_request(target, "chat/completions", body, read_delta, meter=meter, timeouts=timeouts)
    async with contextlib.aclosing(reply) as events:
        async for event in events:
            for part in thinking.told_apart(event):
                yield part
    for part in thinking.rest():
        yield part
    yield Finished(meter.figures())


def chat_body(
    target: Target,
    messages: Sequence[Message],
    sampling: Sampling,
    *,
    stream: bool,
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The body of a request to /v1/chat/completions. more: other fields of it, such as `tools`."""
    said = [message_body(message) for message in messages]
    return {"model": target.model, "messages": said, **_streaming(stream), **sampling.to_json(), **(more or {})}


def message_body(message: Message) -> dict[str, Any]:
    """One message as the API has it."""
    text = encodable(message.content)
    body: dict[str, Any] = {"role": message.role, "content": text}
    if message.parts:
        body["content"] = [*([{"type": "text", "text": text}] if text else []), *message.parts]
    if message.tool_calls:
        body["tool_calls"] = [call.to_json() for call in message.tool_calls]
        body["content"] = text or None
    if message.tool_call_id:
        body["tool_call_id"] = message.tool_call_id
    return body


def _streaming(stream: bool) -> dict[str, Any]:
    return {"stream": True, "stream_options": {"include_usage": True}} if stream else {}


async def stream_request(
    target: Target,
    path: str,
    body: dict[str, Any],
    read_choice: Callable[[dict[str, Any], float], list[Piece]],
    *,
    meter: ReplyMeter,
    timeouts: Timeouts | None = None,
) -> AsyncGenerator[Piece, None]:
    """POST `body` to `path` under the target's base URL, and yield what `read_choice` finds in each choice that comes.

    Raises ChatError; closing it closes the connection.
    """
    import httpx

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
                f"{target.base_url.rstrip('/')}/{path}",
                content=encoded(body),
                headers=headers,
                extensions={"trace": trace},
            ) as response,
        ):
            if response.status_code != 200:
                body_text = await _read(response, _ERROR_BODY_LIMIT)
                wait = response.headers.get("retry-after")
                raise failures.from_status(response.status_code, body_text, target, wait)
            if "text/event-stream" in response.headers.get("content-type", ""):
                reply = _streamed(response, meter, read_choice)
            else:
                reply = _whole(response, meter, read_choice)
            async with contextlib.aclosing(reply) as pieces:
                async for piece in pieces:
                    yield piece
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeEncodeError) as error:
        raise failures.from_transport(error, target, meter.answered) from error


def encoded(body: dict[str, Any]) -> bytes:
    """A request's body as it is sent."""
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


async def _streamed(
    response: httpx.Response, meter: ReplyMeter, read_choice: Callable[[dict[str, Any], float], list[Piece]]
) -> AsyncGenerator[Piece, None]:
    decoder = SseDecoder(_BODY_LIMIT)
    async for chunk in response.aiter_bytes():
        at = meter.now()  # before anything is parsed
        for sse in decoder.feed(chunk):
            if sse.data.strip() == "[DONE]":
                if not meter.answered:
                    raise failures.ended_early()
                return
            for piece in _take(_parse(sse), at, meter, read_choice):
                yield piece
        if decoder.overflowed:
            raise failures.too_long(_BODY_LIMIT)
    for sse in decoder.end():
        try:
            last = json.loads(sse.data)
        except (ValueError, RecursionError):
            break  # cut in the middle of an event: said below
        for piece in _take(last, meter.now(), meter, read_choice):
            yield piece
    if not meter.finish_reason:
        raise failures.ended_early()


def _parse(sse: SseEvent) -> Any:
    try:
        body = json.loads(sse.data)
    except (ValueError, RecursionError):
        raise failures.not_an_answer(sse.data[:300]) from None
    if sse.name == "error" and isinstance(body, dict):
        return {"error": body.get("error") or body}
    return body


def _take(
    body: Any, at: float, meter: ReplyMeter, read_choice: Callable[[dict[str, Any], float], list[Piece]]
) -> list[Piece]:
    """One decoded chunk: note its figures, return what it carries. Raises ChatError if it is an error."""
    if not isinstance(body, dict):
        raise failures.not_an_answer(str(body)[:300])
    if error := failures.in_stream(body):
        raise error
    usage = body.get("usage")
    if isinstance(usage, dict):
        meter.usage(usage)
    choices = body.get("choices")
    found: list[Piece] = []
    for choice in choices if isinstance(choices, list) else ():
        if not isinstance(choice, dict):
            continue
        index = choice_index(choice)
        reason = choice.get("finish_reason")
        if isinstance(reason, str) and reason:
            meter.ended(reason, index)
        pieces = read_choice(choice, at)
        found += pieces
        meter.choice(at, bool(pieces), index)
    return found


async def _whole(
    response: httpx.Response, meter: ReplyMeter, read_choice: Callable[[dict[str, Any], float], list[Piece]]
) -> AsyncGenerator[Piece, None]:
    """The answer of a server that does not stream: one JSON object. Anything else is no answer."""
    raw = await _read(response, _BODY_LIMIT)
    try:
        body = json.loads(raw)
        choices = [{**choice, "delta": choice.get("message")} for choice in body["choices"]]
        choices[0]  # there is an answer
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        error = None
        with contextlib.suppress(ValueError, RecursionError):
            error = failures.in_stream(json.loads(raw))
        raise error or failures.not_an_answer(failures.readable(raw)) from None
    for piece in _take({**body, "choices": choices}, meter.now(), meter, read_choice):
        yield piece
