"""Conversation, session and prompt history."""

from __future__ import annotations

import json
import stat

import pytest

from qwen_tui.chat.conversation import Conversation, ReplyState
from qwen_tui.chat.events import Message, ReplyFigures, Target
from qwen_tui.chat.figures import duration, figures_line
from qwen_tui.chat.history import PromptHistory
from qwen_tui.chat.session import ChatSession
from qwen_tui.errors import ChatError, UsageError
from qwen_tui.paths import Paths
from tests.conftest import until
from tests.fakes.openai_server import DONE, FakeOpenAI, finish, tokens

FIGURES = ReplyFigures(0.052, 3.0, 41.3, 20, 1128, "stop", 1120)


def test_messages_leave_out_what_is_empty_and_alternate() -> None:
    talk = Conversation(system="s")
    talk.add_user("a")
    talk.fail(talk.begin_reply("m"), ChatError("broke"), None)
    talk.add_user("b")
    reply = talk.begin_reply("m")
    reply.text, reply.reasoning = "half", "because"
    talk.stop(reply, FIGURES)
    talk.add_user("c")
    assert talk.messages() == [
        Message("system", "s"),
        Message("user", "a\n\nb"),
        Message("assistant", "half"),
        Message("user", "c"),
    ]


def test_one_reply_at_a_time_and_retry_drops_the_last() -> None:
    talk = Conversation()
    with pytest.raises(UsageError):
        talk.drop_reply()
    with pytest.raises(UsageError):
        talk.add_user(" \n")
    talk.add_user("a")
    reply = talk.begin_reply("m")
    with pytest.raises(UsageError):
        talk.add_user("b")
    with pytest.raises(UsageError):
        talk.drop_reply()
    talk.finish(reply, FIGURES)
    talk.drop_reply()
    assert [turn.text for turn in talk.turns] == ["a"]
    talk.drop_reply()
    assert [turn.text for turn in talk.turns] == ["a"]


def test_figures_in_one_line() -> None:
    assert figures_line(FIGURES) == "TTFT 52 ms · 41.3 tokens/s · 1,128 tokens (+20 prompt) · stop"
    nothing = ReplyFigures(None, 0.1, None, None, 0, "", 0, estimated=True)
    assert figures_line(nothing, stopped=True) == "~0 tokens · stopped"
    assert [duration(value) for value in (0.0004, 0.9996, 1.234, 9.996, 75.2)] == [
        "0 ms", "1.00 s", "1.23 s", "10 s", "75 s",
    ]  # fmt: skip


async def test_a_session_streams_stops_and_tells() -> None:
    async with FakeOpenAI(["hi", finish(), DONE], [tokens(100_000, 300)]) as server:
        session, told = ChatSession(), []
        end = session.subscribe(lambda: told.append(session.is_streaming))
        target = Target(server.base_url, "m")
        session.send(target, "one")
        await until(lambda: not session.is_streaming)
        assert session.conversation.turns[-1].state is ReplyState.DONE
        assert told[0] is True
        assert told[-1] is False
        end()
        count = len(told)
        session.send(target, "two")
        with pytest.raises(UsageError):
            session.retry(target)
        await until(lambda: session.conversation.turns[-1].text)
        await session.close()
        assert session.conversation.turns[-1].state is ReplyState.STOPPED
        assert session.conversation.turns[-1].figures is not None
        assert len(told) == count
        await until(server.requests[1].disconnected.is_set)


def test_history_is_kept_private_and_bounded(paths: Paths) -> None:
    history = PromptHistory(paths, limit=5)
    for number in range(23):
        history.add(f"prompt {number}")
        history.add(f"prompt {number}")
    file = paths.state / "prompts.jsonl"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(file.read_text().splitlines()) <= 10
    assert PromptHistory(paths, limit=5).entries == [f"prompt {n}" for n in range(18, 23)]


def test_history_reads_past_damage(paths: Paths) -> None:
    file = paths.state / "prompts.jsonl"
    file.parent.mkdir(parents=True)
    file.write_bytes(b'"a"\n{"x": 1}\n\xff\xfe\n\n"half')
    history = PromptHistory(paths)
    assert history.entries == ["a"]
    history.add("b \ud800")
    assert file.read_bytes().endswith(b'"half\n"b ?"\n')
    assert PromptHistory(paths).entries == ["a", "b ?"]


def test_history_steps_like_a_shell(paths: Paths) -> None:
    history = PromptHistory(paths)
    assert history.back("x") is None
    history.add("one")
    history.add("two")
    assert [history.back("draft"), history.back("two"), history.back("one")] == ["two", "one", None]
    assert [history.forward(), history.forward(), history.forward()] == ["two", "draft", None]


def test_a_folder_that_cant_be_written_is_no_end(paths: Paths) -> None:
    paths.state.parent.mkdir(parents=True, exist_ok=True)
    paths.state.write_text("a file where the folder should be")
    history = PromptHistory(paths)
    history.add("one")
    assert history.back("") == "one"
    assert json.dumps(history.entries) == '["one"]'
