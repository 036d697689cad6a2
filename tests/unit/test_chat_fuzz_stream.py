"""Any bytes as a stream, cut anywhere: an answer or an error that says something, and always the same one.

QWEN_TUI_FUZZ_EXAMPLES=5000 tries that many, other ones each time; without it, few, and always the same.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
from collections.abc import AsyncIterator
from unittest.mock import patch

import httpx
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen_tui.chat import client
from qwen_tui.chat.client import Message, Target, stream_chat
from qwen_tui.chat.events import Event, Finished, ReasoningDelta, TextDelta, ToolCallDelta
from qwen_tui.errors import ChatError

_WISHED = os.environ.get("QWEN_TUI_FUZZ_EXAMPLES", "")
FUZZ = settings(max_examples=int(_WISHED or 30), derandomize=not _WISHED, deadline=None, database=None)

NASTY = st.sampled_from(
    ["", "a", "你好🙂", "\x1b[31m", "\x1b]52;c;eA==\x07", "\x00", "\ud800", "\u202e", "[DONE]", "data: ", "\n", "\r\n",
     "<think>", "</think>", "</thi", "<think", "`</think>`"]
)  # fmt: skip
ODD = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-2, 2**70), st.floats(), NASTY),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(NASTY, inner, max_size=2)),
    max_leaves=3,
)
CALL = st.fixed_dictionaries(
    {}, optional={"index": ODD, "id": ODD, "function": st.one_of(ODD, st.fixed_dictionaries({}, optional={
        "name": ODD, "arguments": ODD}))},
)  # fmt: skip
LOGPROBS = st.one_of(ODD, st.fixed_dictionaries({"content": st.one_of(ODD, st.lists(st.fixed_dictionaries(
    {}, optional={"token": ODD, "logprob": ODD, "bytes": ODD, "top_logprobs": ODD}), max_size=2))}))  # fmt: skip
DELTA = st.fixed_dictionaries({}, optional={
    "content": st.one_of(NASTY, ODD), "reasoning": ODD, "reasoning_content": ODD, "role": ODD,
    "tool_calls": st.one_of(ODD, st.lists(CALL, max_size=2)),
})  # fmt: skip
CHOICE = st.one_of(ODD, st.fixed_dictionaries({}, optional={
    "index": ODD, "delta": st.one_of(ODD, DELTA), "finish_reason": st.sampled_from(["stop", "", None, 3]),
    "logprobs": LOGPROBS,
}))  # fmt: skip
USAGE = st.one_of(ODD, st.fixed_dictionaries({}, optional={
    "prompt_tokens": ODD, "completion_tokens": ODD, "completion_tokens_details": ODD,
    "prompt_tokens_details": st.one_of(ODD, st.just({"cached_tokens": 3})),
}))  # fmt: skip
CHUNK = st.fixed_dictionaries(
    {"choices": st.one_of(ODD, st.lists(CHOICE, max_size=2))}, optional={"usage": USAGE, "error": ODD}
)
GOOD = NASTY.map(lambda text: {"choices": [{"index": 0, "delta": {"content": text}}]})


def line(value: object) -> bytes:
    return b"data: " + json.dumps(value).encode()


EVENT = st.one_of(
    GOOD.map(line), GOOD.map(line), CHUNK.map(line), ODD.map(line),
    st.just(line({"choices": [{"delta": {}, "finish_reason": "stop"}]})),
    st.sampled_from([b"data: [DONE]", b": ping", b"event: error", b"event: x\ndata: {}", b"data: {", b"data", b"",
                     b"\xef\xbb\xbf", b"id: 1", b"\x00", b"data: \xe4\xbd", b"data: " + b"x" * 3000]),
    st.binary(max_size=12),
)  # fmt: skip
STREAM = st.lists(st.tuples(EVENT, st.sampled_from([b"\n\n", b"\r\n\r\n", b"\r\r", b"\n"])), max_size=8).map(
    lambda parts: b"".join(body + end for body, end in parts)
)


class Cut(httpx.AsyncByteStream):
    """A body that comes in these pieces."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece


async def receive(pieces: list[bytes], kind: str) -> tuple[list[tuple[str, str]], str]:
    """What came, with neighbours of a kind joined, and how it ended."""
    transport = httpx.MockTransport(
        lambda request: httpx.Response(200, headers={"content-type": kind}, stream=Cut(pieces))
    )
    events: list[Event] = []
    try:
        with patch.object(client, "http_client", lambda *_: httpx.AsyncClient(transport=transport)):
            async for event in stream_chat(Target("http://127.0.0.1:1/v1", "m"), [Message("user", "x")]):
                events.append(event)
    except ChatError as error:
        return joined(events), f"{error.title}\n{error.why}" if error.title else ""
    assert isinstance(events[-1], Finished)
    figures = events[-1].figures
    return joined(events), f"{figures.prompt_tokens} {figures.completion_tokens} {figures.finish_reason}"


def joined(events: list[Event]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for event in events:
        if isinstance(event, TextDelta | ReasoningDelta | ToolCallDelta):
            text = event.arguments if isinstance(event, ToolCallDelta) else event.text
            text.encode()  # no half surrogate gets through
            kind = f"{type(event).__name__} {event.index}"
            if found and found[-1][0] == kind:
                found[-1] = (kind, found[-1][1] + text)
            else:
                found.append((kind, text))
    return found


@FUZZ
@given(STREAM, st.lists(st.integers(0, 4000), max_size=6), st.sampled_from(["text/event-stream", "application/json"]))
def test_any_stream_gives_an_answer_or_an_error_however_it_is_cut(stream: bytes, cuts: list[int], kind: str) -> None:
    places = sorted({0, len(stream), *(place % (len(stream) + 1) for place in cuts)})
    pieces = [stream[a:b] for a, b in itertools.pairwise(places)]
    with patch.object(client, "_BODY_LIMIT", 2500):
        whole = asyncio.run(receive([stream], kind))
        assert whole[1]  # an end that says something
        assert asyncio.run(receive(pieces, kind)) == whole
        assert asyncio.run(receive([stream[at : at + 1] for at in range(len(stream))], kind)) == whole
