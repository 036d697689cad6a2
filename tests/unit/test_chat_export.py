"""Conversations to Markdown and OpenAI's JSON and back, whatever is in them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen_tui.chat.conversation import Conversation, Turn
from qwen_tui.chat.export import from_openai, read_conversation, to_markdown, to_openai
from qwen_tui.errors import UsageError

NASTY = [
    "", "\n", "\n\n", "a\n", "\na", "## User", "<!-- qwen-tui: user -->", "\\<!-- qwen-tui: user -->\nx",
    "```\n# x\n```", "你好 🙂", "\x1b[31m", "a\u2028b", "  indented",
]  # fmt: skip
TEXT = st.one_of(st.sampled_from(NASTY), st.lists(st.sampled_from([*NASTY, "\\", "x"]), max_size=5).map("\n".join))


def made(system: str, said: list[tuple[str, str]]) -> Conversation:
    """A conversation of questions and answers."""
    conversation = Conversation(system=system)
    for question, reply in said:
        conversation.turns.append(Turn("user", question))
        conversation.turns.append(Turn("assistant", reply, reasoning="hm\n" if len(reply) % 2 else "", model="m/x 1"))
    return conversation


def content(conversation: Conversation) -> list[tuple[str, ...]]:
    turns = [(turn.role, turn.text, turn.reasoning, turn.model) for turn in conversation.turns]
    return [("system", conversation.system), *turns]


@settings(max_examples=60, deadline=None)
@given(system=TEXT, said=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3))
def test_both_ways_give_back_what_was_said(system: str, said: list[tuple[str, str]]) -> None:
    conversation = made(system, said)
    assert content(read_conversation(to_markdown(conversation).encode())) == content(conversation)
    exported = json.dumps(to_openai(conversation))
    assert content(read_conversation(exported.encode())) == content(conversation)


def test_the_turns_are_chained_and_titled() -> None:
    loaded = read_conversation(to_markdown(made("", [("Which city?", "Paris")])).encode())
    assert loaded.title == "Which city?"
    assert (loaded.turns[0].parent, loaded.turns[1].parent) == ("", loaded.turns[0].id)


def test_what_others_wrote() -> None:
    conversation = from_openai(
        [
            {"role": "developer", "content": "a"},
            {"role": "system", "content": "b"},
            {"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "image_url"}, {"text": "y"}]},
            {"role": "assistant", "content": None, "reasoning": "r"},
        ]
    )  # fmt: skip
    assert content(conversation) == [("system", "a\n\nb"), ("user", "x\n\ny", "", ""), ("assistant", "", "r", "")]


@pytest.mark.parametrize(
    ("file", "says"),
    [
        (b"\xff\xfe", "UTF-8"), (b"{", "no JSON"), (b"[]", "no conversation"), (b'{"messages": 3}', "no conversation"),
        (b'[{"role": "function", "content": "x"}]', "Message 1"), (b'[{"role": "user", "content": 3}]', "Message 1"),
        (b"[3]", "Message 1"), (b"just words", "no conversation"), (b"", "no conversation"),
        (b"[" * 100_000, "no JSON"),
    ],
)  # fmt: skip
def test_what_is_no_conversation_says_so(file: bytes, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_conversation(file)
    assert says in caught.value.title
