"""One prompt to two targets: both stream, both are kept, one goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from qwen_tui.chat.compare import Comparison, Place
from qwen_tui.chat.compare_figures import side_figures
from qwen_tui.chat.conversation import Conversation, ReplyState
from qwen_tui.chat.events import ReplyFigures, Sampling, Target
from qwen_tui.chat.store import ConversationStore
from qwen_tui.errors import UsageError
from qwen_tui.paths import Paths
from tests.conftest import until
from tests.fakes.openai_server import DONE, RESET, FakeOpenAI, Step, finish, tokens, usage

PARIS: list[Step] = ["Paris", finish(), usage(20, 1), DONE]
LYON: list[Step] = ["Lyon", finish(), usage(20, 1), DONE]


@asynccontextmanager
async def comparing(
    paths: Paths, one: list[Step], other: list[Step], conversation: Conversation | None = None
) -> AsyncIterator[tuple[Comparison, FakeOpenAI, FakeOpenAI]]:
    async with FakeOpenAI(one) as left, FakeOpenAI(other) as right:
        comparison = Comparison(ConversationStore(paths))
        for side, server in zip(comparison.sides, (left, right), strict=True):
            side.place = Place("endpoint", "x", Target(server.base_url, f"m{server.port}"))
        comparison.begin(conversation or Conversation("Be brief"))
        yield comparison, left, right
        await comparison.close()


def said(conversation: Conversation) -> list[tuple[str, str]]:
    return [(turn.role, turn.text) for turn in conversation.turns]


async def test_both_answer_and_both_are_kept_as_versions(paths: Paths) -> None:
    async with comparing(paths, PARIS, LYON) as (comparison, left, right):
        comparison.sides[1].sampling = Sampling(temperature=0)
        comparison.ask("Which city?")
        assert comparison.is_streaming
        with pytest.raises(UsageError):
            comparison.ask("And?")
        await until(lambda: not comparison.is_streaming)
        assert [side.reply.text for side in comparison.sides if side.reply] == ["Paris", "Lyon"]
        assert ("temperature" in left.requests[0].body, right.requests[0].body["temperature"]) == (False, 0)
        comparison.ask("And then?")
        await until(lambda: not comparison.is_streaming)
        heard = [request.body["messages"][2]["content"] for request in (left.requests[1], right.requests[1])]
        assert heard == ["Paris", "Lyon"]  # each goes on from its own
        assert comparison.asked_anything
        whole = await comparison.end(comparison.sides[1])
    assert [text for _role, text in said(whole)] == ["Which city?", "Lyon", "And then?", "Lyon"]
    assert [turn.text for turn in whole.siblings(whole.turns[1])] == ["Paris", "Lyon"]
    loaded = ConversationStore(paths).load(whole.id)
    assert (loaded.system, len(loaded.turns), len(loaded.others)) == ("Be brief", 4, 3)


async def test_it_goes_on_from_what_was_said_and_loses_none_of_it(paths: Paths) -> None:
    before = Conversation()
    before.add_user("one")
    before.begin_reply("m").text = "old"
    before.turns[-1].state = ReplyState.DONE
    before.drop_reply()
    before.begin_reply("m").text = "new"
    before.turns[-1].state = ReplyState.DONE
    async with comparing(paths, PARIS, LYON, before) as (comparison, left, _right):
        assert not comparison.asked_anything
        comparison.ask("two")
        await until(lambda: not comparison.is_streaming)
        comparison.retry(comparison.sides[0])
        await until(lambda: not comparison.is_streaming)
        comparison.swap()
        whole = await comparison.end()
        assert [message["content"] for message in left.requests[1].body["messages"]] == ["one", "new", "two"]
    assert len(before.turns) == 2
    assert [text for _role, text in said(whole)] == ["one", "new", "two", "Lyon"]
    assert sorted(turn.text for turn in whole.others) == ["Paris", "Paris", "old"]
    assert whole.id == before.id


async def test_one_side_stops_and_one_breaks(paths: Paths) -> None:
    async with comparing(paths, [tokens(100_000, 200)], ["half", 0.05, RESET]) as (comparison, left, _right):
        one, other = comparison.sides
        comparison.ask("go")
        await until(lambda: one.reply and one.reply.text and not other.session.is_streaming)
        comparison.stop(one)
        await until(left.requests[0].disconnected.is_set)
        assert one.reply is not None
        assert other.reply is not None
        assert (one.reply.state, other.reply.state) == (ReplyState.STOPPED, ReplyState.FAILED)
        assert "stopped" in side_figures(one, None)
        assert side_figures(other, None).startswith("✗ The connection broke")
        other.place = None
        with pytest.raises(UsageError):
            comparison.ask("more")
        assert len(one.conversation.turns) == 2


async def test_the_better_figure_is_marked(paths: Paths) -> None:
    async with comparing(paths, PARIS, LYON) as (comparison, _left, _right):
        comparison.ask("go")
        await until(lambda: not comparison.is_streaming)
        side = comparison.sides[0]
        assert side.reply is not None
        side.reply.figures = ReplyFigures(0.05, 1.0, 40.0, 20, 128, "stop", 128)
        slower = ReplyFigures(0.2, 2.0, 39.5, 20, 128, "stop", 128)
        assert side_figures(side, slower) == "TTFT 50 ms ▲ · 40.0 tokens/s · 128 tokens · stop"
