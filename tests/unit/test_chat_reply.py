"""A reply out of what streams in: thinking in any shape, tool calls in fragments, several answers, going on."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen_tui.chat.conversation import Conversation, ReplyState, Turn
from qwen_tui.chat.events import Message, Target, ToolCall
from qwen_tui.chat.session import ChatSession
from qwen_tui.chat.thinking import ThinkingSplitter
from qwen_tui.chat.tools import arguments_problem, pretty_arguments, read_choice, read_tools, request_fields
from qwen_tui.errors import UsageError
from tests.conftest import until
from tests.fakes.openai_server import DONE, HANG, FakeOpenAI, Step, delta, event, finish, reasoning, usage

WEATHER: dict[str, Any] = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def thought_and_said(pieces: Sequence[str]) -> tuple[str, str]:
    splitter, thought, said = ThinkingSplitter(), "", ""
    for part in [*(part for piece in pieces for part in splitter.feed(piece)), *splitter.finish()]:
        if part.kind == "text":
            said += part.text
        elif part.kind == "thinking":
            thought += part.text
        else:
            thought, said = thought + said, ""
    return thought.strip("\n"), said


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>\nhm, 2 < 3\n</think>\n\nYes.", ("hm, 2 < 3", "Yes.")),
        ("\n <think>hm</think>Yes", ("hm", "Yes")),
        ("hm </thin\n</think>\n\nYes.", ("hm </thin", "Yes.")),
        ("<think>\n\n</think>\n\nYes </think> again", ("", "Yes </think> again")),
        ("<think>cut in the mid", ("cut in the mid", "")),
        ("It writes `</think>` and then\n</think>\n", ("", "It writes `</think>` and then\n</think>\n")),
        ("```\n</think>\n```", ("", "```\n</think>\n```")),
        ("Say <think> is a tag", ("", "Say <think> is a tag")),
        ("<thinking is hard", ("", "<thinking is hard")),
        (" <th", ("", " <th")),
    ],
)
@settings(max_examples=20, derandomize=True)
@given(cuts=st.lists(st.integers(0, 40), max_size=12))
def test_thinking_in_the_text_is_told_apart_wherever_it_is_cut(
    text: str, expected: tuple[str, str], cuts: list[int]
) -> None:
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[start:end] for start, end in itertools.pairwise(places)]
    assert thought_and_said(pieces) == expected
    assert thought_and_said(list(text)) == expected


async def ask(session: ChatSession, server: FakeOpenAI, text: str = "?") -> Turn:
    session.send(Target(server.base_url, "m"), text)
    await until(lambda: not session.is_streaming)
    return session.conversation.turns[-1]


async def test_thinking_goes_into_the_turn_and_not_back_to_the_model() -> None:
    opened: list[Step] = ["Let me ", "see.\n</th", "ink>\n\nYes.", finish(), usage(5, 6), DONE]
    by_field: list[Step] = [reasoning("hm", "reasoning"), "<think> is a tag.", finish(), DONE]
    async with FakeOpenAI(opened, by_field) as server:
        session = ChatSession()
        reply = await ask(session, server)
        assert (reply.reasoning, reply.text) == ("Let me see.", "Yes.")
        assert reply.reasoning_tokens is not None
        assert 2 <= reply.reasoning_tokens <= 6
        assert reply.reasoning_s is not None
        second = await ask(session, server)
        assert (second.reasoning, second.text) == ("hm", "<think> is a tag.")
        assert server.requests[1].body["messages"][1] == {"role": "assistant", "content": "Yes."}


async def test_what_the_server_counts_is_taken_over() -> None:
    details = {"prompt_tokens": 20, "completion_tokens": 9, "prompt_tokens_details": {"cached_tokens": 16},
               "completion_tokens_details": {"reasoning_tokens": 7}}  # fmt: skip
    script: list[Step] = [reasoning("a"), "b", finish(), event({"choices": [], "usage": details}), DONE]
    async with FakeOpenAI(script) as server:
        reply = await ask(ChatSession(), server)
        assert reply.figures is not None
        assert (reply.figures.cached_tokens, reply.figures.reasoning_tokens, reply.reasoning_tokens) == (16, 7, 7)


def call(number: int | None, id: str = "", name: str = "", arguments: str = "") -> bytes:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value}
    told = {key: value for key, value in (("index", number), ("id", id or None)) if value is not None}
    return delta(tool_calls=[{**told, "type": "function", "function": function}])


async def test_calls_are_put_together_answered_and_the_conversation_goes_on() -> None:
    asks: list[Step] = [
        "I look. ", call(0, "c1", "weather"), call(0, arguments='{"city": "Pa'), call(1, "c2", "weather", "{"),
        call(0, arguments='ris"}'), finish("tool_calls"), DONE,
    ]  # fmt: skip
    async with FakeOpenAI(asks, ["Sunny.", finish(), DONE]) as server:
        session = ChatSession()
        session.equip(read_tools(json.dumps(WEATHER)), "auto")
        reply = await ask(session, server)
        assert server.requests[0].body["tools"] == [WEATHER]
        assert server.requests[0].body["tool_choice"] == "auto"
        assert reply.tool_calls == (ToolCall("c1", "weather", '{"city": "Paris"}'), ToolCall("c2", "weather", "{"))
        assert session.conversation.calls_to_answer is reply
        with pytest.raises(UsageError):
            session.answer_calls(Target(server.base_url, "m"), reply, ["one"])
        session.answer_calls(Target(server.base_url, "m"), reply, ["18 °C", "none"])
        await until(lambda: not session.is_streaming)
        said = server.requests[1].body["messages"][1:]
        assert said[0]["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city": "Paris"}'}
        assert [(one["role"], one.get("tool_call_id")) for one in said[1:]] == [("tool", "c1"), ("tool", "c2")]
        assert session.conversation.turns[-1].text == "Sunny."


async def test_calls_of_servers_that_number_them_badly() -> None:
    same: list[Step] = [call(0, "a", "f", "{}"), call(0, "b", "g", "{}"), finish("tool_calls"), DONE]
    none: list[Step] = [delta(tool_calls=[{"function": {"name": "f", "arguments": {"x": 1}}}]), finish(), DONE]
    async with FakeOpenAI(same, none) as server:
        assert [one.name for one in (await ask(ChatSession(), server)).tool_calls] == ["f", "g"]
        (only,) = (await ask(ChatSession(), server)).tool_calls
        assert only.id
        assert only.arguments == '{"x": 1}'


async def test_a_flood_of_calls_is_cut() -> None:
    flood = delta(tool_calls=[{"index": number, "function": {"name": "f"}} for number in range(1_000)])
    async with FakeOpenAI([flood, "x", finish(), DONE]) as server:
        reply = await ask(ChatSession(), server)
        assert (len(reply.tool_calls), reply.text) == (200, "x")


def test_calls_without_answers_are_not_sent() -> None:
    talk = Conversation()
    talk.add_user("a")
    reply = talk.begin_reply("m")
    reply.tool_calls, reply.state = (ToolCall("c", "f", "{}"),), ReplyState.DONE
    talk.add_user("b")
    assert talk.messages() == [Message("user", "a\n\nb")]


@pytest.mark.parametrize("text", ["{", "3", '[{"name": ""}]', '{"type": "function"}', '[{"name": "a"}, {"name": "a"}]',
                                  '{"name": "a", "parameters": []}'])  # fmt: skip
def test_tools_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        read_tools(text)


def test_tools_are_read_in_every_shape() -> None:
    for text in (json.dumps(WEATHER), json.dumps([WEATHER]), json.dumps({"tools": [WEATHER]}),
                 json.dumps(WEATHER["function"])):  # fmt: skip
        assert read_tools(text) == [WEATHER]
    assert read_tools(" ") == ()
    assert read_choice("weather", [WEATHER]) == "weather"
    with pytest.raises(UsageError, match="rain"):
        read_choice("rain", [WEATHER])
    talk = Conversation(tools=(WEATHER,), tool_choice="weather")
    assert request_fields(talk)["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
    assert pretty_arguments('{"a": [') is None
    assert pretty_arguments("") == "{}"
    assert [arguments_problem(text) for text in ("", "{", "3")] == [
        "",
        "The arguments are no valid JSON",
        "The arguments are no JSON object",
    ]


async def test_a_reply_that_was_cut_goes_on_in_its_place_and_an_edited_one_as_a_version() -> None:
    async with FakeOpenAI(["Once upon", finish("length"), DONE], [" a time.", finish(), DONE]) as server:
        session, target = ChatSession(), Target(server.base_url, "m")
        reply = await ask(session, server)
        session.go_on(target, reply)
        await until(lambda: not session.is_streaming)
        assert session.conversation.turns[1:] == [reply]
        assert reply.text == "Once upon a time."
        body = server.requests[1].body
        assert body["messages"][-1] == {"role": "assistant", "content": "Once upon"}
        assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
        session.go_on(target, reply, "Twice upon")
        await until(lambda: not session.is_streaming)
        assert session.conversation.turns[1].text == "Twice upon a time."
        assert session.conversation.others == [reply]
        with pytest.raises(UsageError):
            session.go_on(target, session.conversation.turns[0])


async def test_several_answers_are_versions_of_each_other() -> None:
    def piece(text: str, index: int, reason: str | None = None) -> bytes:
        return event({"choices": [{"index": index, "delta": {"content": text}, "finish_reason": reason}]})

    script: list[Step] = [piece("Par", 0), piece("Ly", 1), piece("on", 1, "stop"), piece("is", 0, "length"), DONE]
    async with FakeOpenAI(script, [piece("a", 0), piece("b", 1), HANG]) as server:
        session = ChatSession()
        reply = await ask(session, server)
        versions = session.conversation.siblings(reply)
        assert [turn.text for turn in versions] == ["Paris", "Lyon"]
        assert [turn.figures.finish_reason for turn in versions if turn.figures] == ["length", "stop"]
        session.send(Target(server.base_url, "m"), "again")
        await until(lambda: len(session.conversation.others) == 2)
        session.stop()
        assert {turn.state for turn in session.conversation.others[1:]} == {ReplyState.STOPPED}
