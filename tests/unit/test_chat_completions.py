"""Completions: what is sent, several answers at once, logprobs, and what odd servers send."""

from __future__ import annotations

import pytest

from qwen_tui.chat.client import Message, Sampling, Target, TextDelta, stream_chat
from qwen_tui.chat.completions import (
    Completion,
    CompletionDelta,
    TokenChance,
    completion_body,
    read_chances,
    stream_completion,
)
from qwen_tui.chat.events import Finished
from qwen_tui.errors import ChatError
from tests.fakes.openai_server import DONE, FakeOpenAI, Step, answer, continuation, event, usage


async def complete(script: list[Step], completion: Completion) -> tuple[list[CompletionDelta | Finished], FakeOpenAI]:
    async with FakeOpenAI(script) as server:
        return [event async for event in stream_completion(Target(server.base_url, "m"), completion)], server


def text_of(events: list[CompletionDelta | Finished], index: int = 0) -> str:
    return "".join(item.text for item in events if isinstance(item, CompletionDelta) and item.index == index)


async def test_a_text_is_continued() -> None:
    completion = Completion("Once", Sampling(max_tokens=4, logprobs=2, n=2), echo=True, suffix=" end")
    events, server = await complete(
        [
            continuation("upon"),
            continuation("two", 1),
            continuation(" a", finish_reason="length"),
            continuation("", 1, finish_reason="stop"),
            usage(1, 3),
            DONE,
        ],
        completion,
    )
    assert (text_of(events), text_of(events, 1)) == ("upon a", "two")
    assert isinstance(events[-1], Finished)
    assert events[-1].figures.completion_tokens == 3
    assert events[-1].figures.finish_reason == "length"
    assert server.requests[0].path == "/v1/completions"
    assert server.requests[0].body == {
        "model": "m", "prompt": "Once", "stream": True, "stream_options": {"include_usage": True}, "echo": True,
        "suffix": " end", "max_tokens": 4, "n": 2, "logprobs": 2,
    }  # fmt: skip


async def test_logprobs_come_with_their_tokens() -> None:
    logprobs = {"tokens": ["a", "b"], "token_logprobs": [None, -0.5], "top_logprobs": [None, {"c": -2, "b": -0.5}]}
    events, _server = await complete(
        [continuation("ab", logprobs=logprobs), continuation("", finish_reason="stop"), DONE], Completion("x")
    )
    assert isinstance(events[0], CompletionDelta)
    assert events[0].chances == (TokenChance("a", None), TokenChance("b", -0.5, (("b", -0.5), ("c", -2.0))))
    assert events[0].chances[1].to_json()["alternatives"][0] == {"token": "b", "logprob": -0.5}


@pytest.mark.parametrize(
    "odd",
    [None, [], {"tokens": 3}, {"tokens": [3]}, {"tokens": ["a"], "token_logprobs": "x", "top_logprobs": [7]}],
)
def test_odd_logprobs_do_no_harm(odd: object) -> None:
    assert all(chance.logprob is None for chance in read_chances(odd))


async def test_an_answer_that_does_not_stream() -> None:
    whole = {"choices": [{"index": 0, "text": "upon", "finish_reason": "stop"}, {"index": 1, "text": "x"}]}
    events, _server = await complete([answer(200, whole)], Completion("Once"))
    assert (text_of(events), text_of(events, 1)) == ("upon", "x")


async def test_a_refusal_and_a_stream_that_breaks_off() -> None:
    body = {"error": {"message": "suffix is not currently supported", "type": "BadRequestError", "code": 400}}
    with pytest.raises(ChatError) as caught:
        await complete([answer(400, body)], Completion("x", suffix="y"))
    assert caught.value.status == 400
    assert "suffix is not currently supported" in caught.value.why
    with pytest.raises(ChatError):
        await complete([continuation("half")], Completion("x"))


async def test_a_chat_keeps_several_answers_apart() -> None:
    def piece(text: str, index: int, reason: str | None = None) -> bytes:
        return event({"choices": [{"index": index, "delta": {"content": text}, "finish_reason": reason}]})

    script: list[Step] = [piece("a", 0), piece("x", 1), piece("y", 1, "length"), piece("b", 0, "stop"), DONE]
    async with FakeOpenAI(script) as server:
        events = [item async for item in stream_chat(Target(server.base_url, "m"), [Message("user", "?")])]
    texts = [(item.index, item.text) for item in events if isinstance(item, TextDelta)]
    assert texts == [(0, "a"), (1, "x"), (1, "y"), (0, "b")]
    assert events[-1].figures.finish_reason == "stop"  # type: ignore[union-attr]


def test_a_body_that_does_not_stream() -> None:
    assert completion_body(Target("http://x/v1", "m"), Completion("a \ud800"), stream=False) == {
        "model": "m",
        "prompt": "a ?",
    }
