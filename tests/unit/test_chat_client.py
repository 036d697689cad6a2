"""The chat client against a server that misbehaves in every known way, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Sequence

import pytest

from qwen_tui.chat.client import (
    Event,
    Finished,
    Message,
    ReasoningDelta,
    Sampling,
    Target,
    TextDelta,
    Timeouts,
    stream_chat,
)
from qwen_tui.chat.failures import message_in
from qwen_tui.chat.meter import ReplyMeter
from qwen_tui.errors import ChatError
from tests.conftest import until
from tests.fakes.openai_server import (
    CLOSE,
    DONE,
    HANG,
    RESET,
    Action,
    FakeOpenAI,
    Step,
    answer,
    delta,
    event,
    finish,
    reasoning,
    tokens,
    usage,
)

HELLO = [Message("user", "hello")]


async def ask(*script: Step, **kwargs: object) -> tuple[list[Event], ChatError | None]:
    """What came, and the error it ended in."""
    async with FakeOpenAI(script) as server:
        return await collect(Target(server.base_url, "fake-model"), **kwargs)


async def collect(
    target: Target, messages: Sequence[Message] = HELLO, timeouts: Timeouts | None = None
) -> tuple[list[Event], ChatError | None]:
    events: list[Event] = []
    try:
        async for item in stream_chat(target, messages, timeouts=timeouts):
            events.append(item)
    except ChatError as error:
        return events, error
    return events, None


def text_of(events: list[Event]) -> str:
    return "".join(item.text for item in events if isinstance(item, TextDelta))


async def test_a_whole_reply_and_its_figures() -> None:
    script = [delta(role="assistant", content=""), 0.05, "Par", 0.02, "is", finish(), usage(20, 3), DONE]
    events, error = await ask(*script)
    assert error is None
    assert text_of(events) == "Paris"
    assert isinstance(events[-1], Finished)
    figures = events[-1].figures
    assert (figures.prompt_tokens, figures.completion_tokens, figures.finish_reason) == (20, 3, "stop")
    assert figures.chunks == 2
    assert not figures.estimated
    assert figures.ttft_s is not None
    assert figures.tokens_per_s is not None
    # The role-only chunk is the first that carries a choice: TTFT comes before the first text.
    first_text = next(item.at for item in events if isinstance(item, TextDelta))
    assert figures.ttft_s < first_text <= figures.elapsed_s
    assert figures.tokens_per_s == pytest.approx(2 / (figures.elapsed_s - figures.ttft_s))


async def test_the_request_says_what_was_asked() -> None:
    async with FakeOpenAI(["a", finish(), DONE]) as server:
        target = Target(server.base_url + "/", "m", api_key="secret")
        sampling = Sampling(temperature=0.5, max_tokens=7, stop=("x",))
        messages = [Message("system", "be brief"), Message("user", "你好 \ud800")]
        async for _ in stream_chat(target, messages, sampling):
            pass
        request = server.requests[0]
    assert request.headers["authorization"] == "Bearer secret"
    assert request.body == {
        "model": "m",
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "你好 ?"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
        "max_tokens": 7,
        "stop": ["x"],
    }


async def test_without_usage_the_tokens_are_the_chunks_and_marked_so() -> None:
    events, error = await ask("a", "b", finish("length"), DONE)
    assert error is None
    figures = events[-1].figures  # type: ignore[union-attr]
    assert figures.estimated
    assert figures.completion_tokens == 2
    assert figures.prompt_tokens is None
    assert figures.finish_reason == "length"


async def test_odd_but_legal_chunks() -> None:
    events, error = await ask(
        event({"choices": []}),
        event({"choices": [{"index": 0, "delta": None}]}),
        event({"choices": [{"index": 0, "delta": {"content": None, "tool_calls": []}}]}),
        event({"choices": [{"index": 0, "delta": {"content": 7}}]}),
        b": keep-alive\n\n",
        reasoning("hm", "reasoning"),
        reasoning("m", "reasoning_content"),
        b'data: {"choices": [{"delta": {"content": "a\\ud800b"}}]}\n\n',
        finish(),
        usage(1, 1),
        usage(5, 9),
        DONE,
    )
    assert error is None
    assert [item.text for item in events if isinstance(item, ReasoningDelta)] == ["hm", "m"]
    assert text_of(events) == "a?b"
    assert events[-1].figures.completion_tokens == 9  # type: ignore[union-attr]


async def test_a_stream_without_done_is_whole_if_it_gave_its_reason() -> None:
    events, error = await ask("a", finish())
    assert error is None
    assert isinstance(events[-1], Finished)


BREAKS: dict[str, list[Step]] = {
    "closed without an end": ["one ", "two"],
    "cut in the middle of an event": ["one ", "two", b'data: {"choices": [{"del', CLOSE],
    "connection closed": ["one ", "two", CLOSE],
    "connection reset": ["one ", "two", 0.05, RESET],
    "error object": ["one ", "two", event({"error": {"message": "CUDA died", "code": 500}}), DONE],
    "older error object": ["one ", "two", event({"object": "error", "message": "CUDA died", "code": 500}), DONE],
    "not JSON": ["one ", "two", b"data: Traceback (most recent call last)\n\n", DONE],
    "not an object": ["one ", "two", b"data: [1]\n\n", DONE],
    "silence": ["one ", "two", HANG],
}


@pytest.mark.parametrize("kind", BREAKS)
async def test_a_break_is_an_error_and_what_came_before_is_kept(kind: str) -> None:
    events, error = await ask(*BREAKS[kind], timeouts=Timeouts(silence=0.3))
    assert text_of(events) == "one two"
    assert error is not None
    assert error.title
    assert not any(isinstance(item, Finished) for item in events)
    if "error object" in kind:
        assert error.why == "CUDA died"
        assert error.status == 500


async def test_a_line_without_end_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qwen_tui.chat.client._BODY_LIMIT", 100_000)
    events, error = await ask("one", *[b"x" * 50_000] * 4, DONE)
    assert text_of(events) == "one"
    assert error is not None


ANSWERS: dict[str, tuple[Action, int, str]] = {
    "401": (answer(401, {"error": "Unauthorized"}), 401, "Unauthorized"),
    "404": (answer(404, {"error": {"message": "no `x`", "type": "NotFoundError", "code": 404}}), 404, "no `x`"),
    "404 old": (answer(404, {"object": "error", "message": "no `x`", "code": 404}), 404, "no `x`"),
    "404 FastAPI": (answer(404, {"detail": "Not Found"}), 404, "Not Found"),
    "422": (answer(422, {"detail": [{"loc": ["body", "messages", 0], "msg": "bad"}]}), 422, "messages.0: bad"),
    "429": (answer(429, {"error": {"message": "slow down"}}), 429, "slow down"),
    "500": (answer(500, "Internal Server Error", "text/plain"), 500, "Internal Server Error"),
    "502": (answer(502, "<html><style>p{}</style><h1>502 Bad&nbsp;Gateway</h1>", "text/html"), 502, "502 Bad Gateway"),
    "418": (answer(418, b"\xff\x1b[31m", "text/plain"), 418, "�␛[31m"),
    "empty": (answer(503, b""), 503, ""),
}


@pytest.mark.parametrize("kind", ANSWERS)
async def test_an_error_status_names_the_servers_own_words(kind: str) -> None:
    script, status, why = ANSWERS[kind]
    events, error = await ask(script)
    assert events == []
    assert error is not None
    assert (error.status, error.why) == (status, why)


async def test_a_web_page_with_status_200_is_not_an_answer() -> None:
    events, error = await ask(answer(200, "<!doctype html><title>Log in</title>", "text/html"))
    assert events == []
    assert error is not None
    assert "Log in" in error.why


async def test_a_server_that_does_not_stream_is_understood() -> None:
    body = {
        "choices": [{"message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 2, "completion_tokens": 1},
    }
    events, error = await ask(answer(200, body))
    assert error is None
    assert text_of(events) == "hi"
    assert events[-1].figures.finish_reason == "stop"  # type: ignore[union-attr]


async def test_no_answer_at_all() -> None:
    _events, error = await ask(DONE)
    assert error is not None
    _events, error = await ask(RESET)
    assert error is not None


async def test_garbage_instead_of_http() -> None:
    _events, error = await ask(Action("raw", b"SSH-2.0-OpenSSH_9.6\r\n\r\n"))
    assert error is not None
    assert error.why


async def test_nothing_listens_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        target = Target(f"http://127.0.0.1:{free.getsockname()[1]}/v1", "m")
        events, error = await collect(target)
    assert events == []
    assert error is not None
    assert target.base_url in error.title
    assert error.why


@pytest.mark.parametrize(
    "target",
    [
        Target("127.0.0.1:1/v1", "m"),
        Target("http://[::1/v1", "m"),
        Target("ftp://127.0.0.1/v1", "m"),
        Target("", "m"),
        Target("http://127.0.0.1:99999999/v1", "m"),
        Target("http://127.0.0.1:1/v1", "m", api_key="钥匙"),
        Target("http://127.0.0.1:1/v1", "m", api_key="a\nb"),
    ],
)
async def test_an_impossible_target_is_a_chat_error(target: Target) -> None:
    events, error = await collect(target)
    assert events == []
    assert error is not None


async def test_proxies_from_the_environment_are_not_used_for_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    events, error = await ask("a", finish(), DONE)
    assert error is None
    assert text_of(events) == "a"


async def test_closing_the_iterator_closes_the_connection() -> None:
    async with FakeOpenAI([tokens(10_000, 500)]) as server:
        stream = stream_chat(Target(server.base_url, "m"), HELLO)
        async for item in stream:
            assert isinstance(item, TextDelta)
            break
        await stream.aclose()
        await asyncio.wait_for(server.requests[0].disconnected.wait(), 60)


@pytest.mark.parametrize("script", [[tokens(10_000, 500)], [HANG]])
async def test_cancelling_the_task_closes_the_connection(script: list[Step]) -> None:
    async with FakeOpenAI(script) as server:
        meter = ReplyMeter()

        async def read() -> None:
            async for _ in stream_chat(Target(server.base_url, "m"), HELLO, meter=meter):
                pass

        task = asyncio.create_task(read())
        await until(lambda: server.requests and (script == [HANG] or meter.chunks >= 5))
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await asyncio.wait_for(server.requests[0].disconnected.wait(), 60)
        assert meter.figures().chunks == meter.chunks


@pytest.mark.parametrize(
    "body", [{"error": "x"}, {"error": {"message": "x"}}, {"object": "error", "message": "x"}, {"detail": "x"}]
)
def test_error_bodies(body: object) -> None:
    assert message_in(body) == "x"
    assert message_in(json.loads("[]")) == ""
