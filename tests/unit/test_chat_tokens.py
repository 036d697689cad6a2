"""Tokens of a reply: read from servers, put together, kept, laid out; what a template makes of messages; the room."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen_tui.chat.context import Room, estimated_tokens, oldest_sent, room_words
from qwen_tui.chat.conversation import Conversation, Turn
from qwen_tui.chat.events import Message, Target
from qwen_tui.chat.logprobs import (
    TokenChance,
    from_compact,
    least_certain,
    perplexity,
    read_chances,
    read_chat_chances,
    read_prompt_chances,
    to_compact,
    token_texts,
)
from qwen_tui.chat.template import render_chat
from qwen_tui.chat.tokenize import Tokens, reply_chances, token_bytes, tokenize_text
from qwen_tui.errors import ChatError
from qwen_tui.headless.token_colours import coloured
from qwen_tui.ui.widgets.token_detail import bar, percent, token_content
from qwen_tui.ui.widgets.token_text import drawn_text, lay_out, level
from tests.fakes.openai_server import FakeOpenAI, answer

HALF = math.log(0.5)


def test_both_shapes_of_logprobs_are_read_and_nonsense_is_left_out() -> None:
    completion = {"tokens": ["a", 3, "b"], "token_logprobs": [None, 0, -1.5], "top_logprobs": [None, {}, {"c": -2.0}]}
    assert read_chances(completion) == (TokenChance("a", None), TokenChance("b", -1.5, (("c", -2.0),)))
    entry = {"token": "\ud83d", "logprob": float("nan"), "bytes": [240, 159], "top_logprobs": [{"token": "x"}, 7]}
    other = {"token": "ok", "logprob": -99999, "bytes": [300], "top_logprobs": [{"token": "y", "logprob": -1}]}
    assert read_chat_chances({"content": [entry, "?", {"token": 1}, other]}) == (
        TokenChance("?", None, (), b"\xf0\x9f"),
        TokenChance("ok", -9999.0, (("y", -1.0),)),
    )
    for nothing in (None, [], {}, {"content": None}, {"tokens": "x"}, 5):
        assert (read_chances(nothing), read_chat_chances(nothing)) == ((), ())


def test_the_tokens_of_a_prompt_are_its_last_ones() -> None:
    own = {"7": {"logprob": -1.0, "decoded_token": "x"}, "9": {"logprob": -0.5, "decoded_token": "y"}}
    found = read_prompt_chances([None, {"1": {}}, own], [7], [b"x"])
    assert found == [TokenChance("x", -1.0, (("y", -0.5), ("x", -1.0)), b"x")]
    assert read_prompt_chances([None], [7]) == [TokenChance("", None)]
    for wrong in (None, [], [{"8": {}}], [{"7": 3}]):
        with pytest.raises(ValueError, match="prompt_logprobs"):
            read_prompt_chances(wrong, [7])


def test_a_character_in_several_tokens_comes_with_the_last_of_them() -> None:
    smile = "🙂".encode()
    chances = [TokenChance("a", HALF), TokenChance("?", HALF, (), smile[:1]), TokenChance("?", HALF, (), smile[1:])]
    assert token_texts(chances) == ["a", "", "🙂"]
    assert drawn_text("", smile[:1]) == "‹f0›"
    assert token_texts([TokenChance("", HALF, (), b""), TokenChance("你", HALF, (), "你".encode())]) == ["", "你"]
    assert token_texts([TokenChance("?", HALF, (), b"\xf0"), TokenChance("b", HALF)]) == ["", "�b"]
    assert token_texts([TokenChance("?", HALF, (), b"\xf0")]) == ["�"]
    assert token_texts([]) == []


def test_figures_of_a_reply() -> None:
    chances = [TokenChance("a", None), TokenChance("b", HALF), TokenChance("c", 2 * HALF), TokenChance("d", 0.0)]
    assert perplexity(chances) == pytest.approx(2.0)
    assert perplexity(chances[:1]) is None
    assert least_certain(chances) == [2, 1, 3]
    assert [level(chance) for chance in chances] == ["unknown", "likely", "unsure", "sure"]
    assert math.isfinite(perplexity([TokenChance("x", -9999.0)]) or math.inf)


@given(
    st.lists(
        st.builds(
            TokenChance,
            st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
            st.none() | st.floats(-9999, 0).map(lambda value: round(value, 4)),
            st.lists(st.tuples(st.text(st.characters(exclude_categories=["Cs"]), max_size=3), st.just(-1.5))).map(
                tuple
            ),
            st.none() | st.binary(max_size=4),
        ),
        max_size=6,
    )
)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_what_is_kept_comes_back(chances: list[TokenChance]) -> None:
    back = from_compact(json.loads(json.dumps(to_compact(chances))))
    assert [(one.token, one.logprob, one.alternatives) for one in back] == [
        (one.token, one.logprob, one.alternatives) for one in chances
    ]
    assert token_texts([one for one in back if one.data is not None]) == token_texts(
        [one for one, again in zip(chances, back, strict=True) if again.data is not None]
    )


def test_rows_that_are_none_are_left_out() -> None:
    assert from_compact([["half"], 3, None, ["a", "b", []], ["a", -1, ["b"]], ["a", -1, [], "zz"]]) == [
        TokenChance("a", None)
    ]
    assert from_compact("x") == []


def test_bytes_are_found_only_where_they_make_up_the_text() -> None:
    assert token_bytes(Tokens((1, 2, 3), None, ("ä½", "ł", "Ġa")), "你 a") == [b"\xe4\xbd", b"\xa0", b" a"]
    assert token_bytes(Tokens((1,), None, ("▁the",)), " the") is None
    assert token_bytes(Tokens((1,), None, ("é",)), "é") is None  # a vocabulary of characters
    assert token_bytes(Tokens((1,)), "x") is None


@given(st.lists(st.text("ab 你🙂\n\t\x1b", max_size=9), max_size=12), st.integers(2, 12))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_every_token_is_drawn_once_within_the_width(texts: list[str], width: int) -> None:
    from rich.cells import cell_len

    drawn = [drawn_text(text, None) for text in texts]
    rows, places = lay_out(drawn, width)
    assert all(sum(cell_len(text) for _index, text in row) <= width for row in rows)
    for index, text in enumerate(drawn):
        assert "".join(piece for row in rows for place, piece in row if place == index) == text.replace("\n", "")
    assert len(places) == len(texts)
    assert places == sorted(places)
    assert all(piece.isprintable() for row in rows for _index, piece in row)


def test_a_hostile_token_is_only_text() -> None:
    chances = [TokenChance("\x1b]52;c;aGk=\x07[bold]", HALF, (("[red]\x1b[2J", -3.0),))]
    content = token_content(chances, token_texts(chances), 0, 44)
    assert "\x1b" not in content.plain
    assert "[bold]" in content.plain
    assert "\x1b" not in drawn_text(chances[0].token, None)
    assert coloured(chances[0].token, chances).count("\x1b") == 2  # its own two
    assert coloured("something else", chances) == "something else"


def test_a_bar_and_a_percentage() -> None:
    assert [bar(part, 4) for part in (0.0, 0.5, 1.0, 7.0)] == ["    ", "██  ", "████", "████"]
    assert [percent(part) for part in (0.621, 0.00001, 1.0)] == [" 62.1 %", " <0.1 %", "100.0 %"]


async def test_the_template_and_the_tokens_of_a_reply_are_asked_for() -> None:
    prompt = [None] * 44 + [{str(byte): {"logprob": -1.0, "decoded_token": chr(byte)}} for byte in b"Hi"]
    script = [answer(200, {"choices": [{"prompt_logprobs": prompt}]})]
    async with FakeOpenAI(script, max_model_len=100) as server:
        target = Target(server.base_url, "fake-model")
        messages = [Message("system", "Be."), Message("user", "Hm?")]
        rendered = await render_chat(target, messages)
        assert rendered.text == "<system>Be.</system><user>Hm?</user><assistant>"
        assert (len(rendered.tokens), rendered.tokens.max_model_len) == (len(rendered.text), 100)
        chances = await reply_chances(target, messages, "Hi", reasoning="so")
        assert [(one.token, one.logprob) for one in chances] == [("H", -1.0), ("i", -1.0)]
        asked = bytes(server.requests[0].body["prompt"]).decode()
        assert asked == rendered.text + "<think>\nso\n</think>\n\nHi"
        assert server.requests[0].body["max_tokens"] == 1


async def test_a_server_that_cannot_count_says_so() -> None:
    async with FakeOpenAI([answer(200, {"choices": [{}]})]) as server:
        with pytest.raises(ChatError) as raised:
            await tokenize_text(Target(server.base_url, "m"), "x")
        assert raised.value.status == 404
        server.max_model_len = 10
        with pytest.raises(ChatError, match="does not say how likely"):
            await reply_chances(Target(server.base_url, "m"), [Message("user", "a")], "b")
    with pytest.raises(ChatError, match="No server answers"):
        await tokenize_text(Target(server.base_url, "m"), "x")


@pytest.mark.parametrize(
    ("room", "state", "words"),
    [
        (Room(100, 1000), "ok", "100 of 1,000 tokens"),
        (Room(100, None), "ok", "100 tokens"),
        (Room(100, 1000, 900, True), "ok", "~100 of 1,000 tokens"),
        (Room(101, 1000, 900), "full", "max_tokens 900 does not fit, the server will refuse"),
        (Room(950, 1000), "tight", "only 50 left for the reply"),
        (Room(1000, 1000), "full", "too long, the server will refuse"),
    ],
)
def test_the_words_of_the_meter(room: Room, state: str, words: str) -> None:
    assert room.state == state
    assert words in room_words(room)[0]


def test_the_oldest_exchange_is_left_out_first_and_never_the_last() -> None:
    turns = [Turn("user", "a"), Turn("assistant", "b"), Turn("user", "c"), Turn("assistant", "d"), Turn("user", "e")]
    conversation = Conversation("s", turns)
    left_out = []
    while oldest := oldest_sent(conversation):
        for turn in oldest:
            turn.left_out = True
        left_out.append("".join(turn.text for turn in oldest))
    assert left_out == ["ab", "cd"]
    assert oldest_sent(conversation, drafted=True) == turns[4:]
    assert [message.content for message in conversation.messages()] == ["s", "e"]
    assert (estimated_tokens("你好"), estimated_tokens("abcdefgh"), estimated_tokens("")) == (2, 2, 0)
