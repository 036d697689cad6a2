"""Conversations on disk: branches, search in Chinese, undo, kill -9 in the middle of a reply, and damaged files."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
import time
from pathlib import Path

import pytest

from qwen_tui.chat.attachments import KEPT_LIMIT, read_attachment
from qwen_tui.chat.completions import TokenChance
from qwen_tui.chat.conversation import Conversation, ReplyState, Turn
from qwen_tui.chat.events import ReplyFigures, Target, ToolCall
from qwen_tui.chat.session import ChatSession
from qwen_tui.chat.store import KEEP_DELETED, ConversationStore, StoreError, snapshot
from qwen_tui.chat.store_keeper import ConversationKeeper
from qwen_tui.errors import ChatError, QwenTuiError, UsageError
from qwen_tui.paths import Paths
from tests.conftest import until
from tests.fakes.openai_server import DONE, HANG, RESET, FakeOpenAI, event, finish, reasoning, tokens

FIGURES = ReplyFigures(0.1, 0.5, 30.0, 5, 12, "stop", 12)


@pytest.fixture
def store(paths: Paths) -> ConversationStore:
    return ConversationStore(paths)


def talked(question: str = "Which city?", answer: str = "Paris") -> Conversation:
    """One question and its answer."""
    conversation = Conversation(system="Be brief")
    conversation.add_user(question)
    reply = conversation.begin_reply("m")
    reply.text, reply.reasoning = answer, "hm"
    conversation.finish(reply, FIGURES)
    return conversation


def keep(store: ConversationStore, conversation: Conversation) -> Conversation:
    store.save(snapshot(conversation))
    return conversation


def texts(conversation: Conversation) -> list[str]:
    return [turn.text for turn in conversation.turns]


def test_what_is_saved_is_loaded(store: ConversationStore) -> None:
    kept = talked("你好 \ud800", "\x1b[31m")
    failed = kept.begin_reply("m")
    kept.fail(failed, ChatError("title", "why", "hint", 500), None)
    keep(store, kept)
    loaded = store.load(kept.id)
    assert (loaded.id, loaded.system, loaded.created) == (kept.id, "Be brief", kept.created)
    assert texts(loaded) == ["你好 ?", "\x1b[31m", ""]
    assert loaded.turns[1].figures == FIGURES
    assert (loaded.turns[1].reasoning, loaded.turns[1].model, loaded.turns[1].state) == ("hm", "m", ReplyState.DONE)
    error = loaded.turns[2].error
    assert error is not None
    assert (error.title, error.why, error.hint, error.status) == ("title", "why", "hint", 500)
    assert store.file.stat().st_mode & 0o777 == 0o600
    assert Path(f"{store.file}-wal").stat().st_mode & 0o777 == 0o600
    with pytest.raises(StoreError):
        store.load("nobody")


def test_branches_are_kept_and_stepped_through(store: ConversationStore) -> None:
    kept = talked()
    kept.drop_reply()
    again = kept.begin_reply("m")
    again.text = "Lyon"
    kept.finish(again, FIGURES)
    kept.add_user("And then?")
    edited = kept.edit(kept.turns[0], "Which river?")
    keep(store, kept)
    loaded = store.load(kept.id)
    assert texts(loaded) == ["Which river?"]
    assert [turn.text for turn in loaded.siblings(loaded.turns[0])] == ["Which city?", "Which river?"]
    assert loaded.step(loaded.turns[0], 1) is None
    first = loaded.step(loaded.turns[0], -1)
    assert first is not None
    assert texts(loaded) == ["Which city?", "Lyon", "And then?"]
    assert [turn.text for turn in loaded.siblings(loaded.turns[1])] == ["Paris", "Lyon"]
    loaded.step(loaded.turns[1], -1)
    assert texts(loaded) == ["Which city?", "Paris"]
    loaded.step(loaded.turns[0], 1)
    assert loaded.turns[0].id == edited.id
    assert len(loaded.others) == 4
    loaded.begin_reply("m")
    for change in (lambda: loaded.step(loaded.turns[0], -1), lambda: loaded.edit(loaded.turns[0], "x")):
        with pytest.raises(UsageError):
            change()


def test_a_reply_with_nothing_in_it_is_no_branch() -> None:
    conversation = Conversation()
    conversation.add_user("?")
    conversation.fail(conversation.begin_reply("m"), ChatError("x"), None)
    conversation.drop_reply()
    assert conversation.others == []


def test_list_search_rename_delete_restore_duplicate(store: ConversationStore) -> None:
    one = keep(store, talked("什么是北京烤鸭？", "一道菜"))
    time.sleep(0.002)  # the clock's next tick, not a wait
    two = keep(store, talked("100% sure_thing about Paris?", "Yes, Paris it is"))
    assert [entry.id for entry in store.list()] == [two.id, one.id]
    assert store.list()[1].name == "什么是北京烤鸭？"
    assert [entry.id for entry in store.search("烤鸭")] == [one.id]
    assert [entry.id for entry in store.search("菜")] == [one.id]
    assert [entry.id for entry in store.search("paris YES")] == [two.id]
    assert "北京" in store.search("北京")[0].found
    assert [entry.id for entry in store.search("100%")] == [two.id]
    assert store.search("%%") == []
    assert store.search("sure1thing") == []
    assert len(store.search(" ")) == 2
    store.rename(one.id, "  Duck \n dishes ")
    assert [entry.name for entry in store.search("duck")] == ["Duck dishes"]
    assert store.load(one.id).title == "Duck dishes"
    store.delete(two.id)
    assert [entry.id for entry in store.list()] == [one.id]
    assert store.search("Paris") == []
    store.restore(two.id)
    assert store.last() == two.id
    copy = store.duplicate(two.id)
    assert texts(store.load(copy.id)) == texts(two)
    assert {turn.id for turn in copy.turns}.isdisjoint(turn.id for turn in two.turns)
    assert len(store.list()) == 3


def test_what_was_deleted_long_ago_goes(store: ConversationStore) -> None:
    one = keep(store, talked())
    store.delete(one.id)
    store.close()
    with sqlite3.connect(store.file) as raw:
        raw.execute("UPDATE conversations SET deleted = deleted - ?", (KEEP_DELETED + 60,))
    raw.close()
    store.list()
    with pytest.raises(StoreError):
        store.load(one.id)
    with sqlite3.connect(store.file) as raw:
        assert raw.execute("SELECT count(*) FROM turns").fetchone() == (0,)
    raw.close()


@pytest.mark.parametrize("damage", ["all", "middle"])
def test_a_damaged_file_is_set_aside_and_nothing_deleted(store: ConversationStore, damage: str) -> None:
    for number in range(30):
        keep(store, talked(f"question {number}", "word " * 2000))
    store.close()
    content = bytearray(store.file.read_bytes())
    start, end = (0, len(content)) if damage == "all" else (4096, len(content) // 2)
    content[start:end] = b"\xa5" * (end - start)
    store.file.write_bytes(content)
    again = ConversationStore(Paths(store.file.parent, store.file.parent, store.file.parent, store.file.parent))
    assert again.list() == []
    (aside,) = store.file.parent.glob("conversations.damaged-*.sqlite3")
    assert aside.read_bytes() == content
    assert str(aside) in again.notice
    keep(again, talked())
    assert len(again.list()) == 1


def test_a_newer_file_and_one_that_cannot_be_written_are_left_alone(store: ConversationStore) -> None:
    keep(store, talked())
    store.close()
    with sqlite3.connect(store.file) as raw:
        raw.execute("PRAGMA user_version = 99")
    raw.close()
    with pytest.raises(StoreError, match="newer qwen-tui"):
        store.list()
    assert not list(store.file.parent.glob("*damaged*"))
    blocked = ConversationStore(Paths(store.file, store.file, store.file, store.file))
    with pytest.raises(StoreError) as caught:
        blocked.list()
    assert caught.value.hint


async def test_what_is_said_is_kept(store: ConversationStore) -> None:
    session = ChatSession()
    keeper = ConversationKeeper(session, store)
    async with FakeOpenAI([reasoning("hm"), "Par", "is", finish(), DONE], ["half", 0.01, RESET]) as server:
        session.send(Target(server.base_url, "m"), "Which city?")
        await until(lambda: not session.is_streaming)
        session.send(Target(server.base_url, "m"), "And?")
        await until(lambda: not session.is_streaming)
        first = session.conversation.id
        await until(lambda: len(store.list()) == 1 and store.list()[0].turns == 4)
        session.new()
        await keeper.close()
    loaded = store.load(first)
    assert texts(loaded) == ["Which city?", "Paris", "And?", "half"]
    assert loaded.turns[1].reasoning == "hm"
    assert loaded.turns[3].state is ReplyState.FAILED
    assert store.list()[0].name == "Which city?"
    assert [entry.id for entry in store.list()] == [first]


async def test_a_reply_is_on_disk_while_it_streams(store: ConversationStore, paths: Paths) -> None:
    session = ChatSession()
    keeper = ConversationKeeper(session, store)
    other = ConversationStore(paths)
    async with FakeOpenAI(["first ", 0.3, "second ", 0.3, "third", HANG]) as server:
        session.send(Target(server.base_url, "m"), "?")

        def on_disk() -> str:
            return other.load(session.conversation.id).turns[-1].text if other.list() else ""

        await until(lambda: on_disk().startswith("first"))
        await until(lambda: on_disk() == "first second third")
        assert other.load(session.conversation.id).turns[-1].state is ReplyState.STOPPED
        session.stop()
        await keeper.close()
    assert on_disk() == "first second third"
    with sqlite3.connect(store.file) as raw:
        assert raw.execute("SELECT count(*) FROM pieces").fetchone() == (0,)
    raw.close()


async def test_an_answer_after_thinking_that_nothing_opened_is_on_disk_while_it_streams(
    store: ConversationStore, paths: Paths
) -> None:
    session = ChatSession()
    keeper = ConversationKeeper(session, store)
    other = ConversationStore(paths)
    async with FakeOpenAI(["a long thought ", 0.3, "ends</think>", "The answer", HANG]) as server:
        session.send(Target(server.base_url, "m"), "?")

        def on_disk() -> tuple[str, str]:
            reply = other.load(session.conversation.id).turns[-1] if other.list() else Turn("user")
            return reply.reasoning, reply.text

        await until(lambda: on_disk() == ("", "a long thought "))
        await until(lambda: on_disk() == ("a long thought ends", "The answer"))
        await session.close()
        await keeper.close()


async def test_each_of_several_answers_is_on_disk_while_they_stream(store: ConversationStore, paths: Paths) -> None:
    session = ChatSession()
    keeper = ConversationKeeper(session, store)
    other = ConversationStore(paths)

    def both(*texts: str) -> bytes:
        choices = [{"index": index, "delta": {"content": text}} for index, text in enumerate(texts)]
        return event({"choices": choices})

    async with FakeOpenAI([both("one", "two"), 0.3, both(" more", " again"), HANG]) as server:
        session.send(Target(server.base_url, "m"), "?")

        def on_disk() -> set[str]:
            found = other.load(session.conversation.id) if other.list() else Conversation()
            return {turn.text for turn in (*found.turns, *found.others)}

        await until(lambda: on_disk() == {"?", "one more", "two again"})
        await session.close()
        await keeper.close()


KILLED = """
import asyncio, sys
from pathlib import Path
from qwen_tui.chat.events import Target
from qwen_tui.chat.session import ChatSession
from qwen_tui.chat.store import ConversationStore
from qwen_tui.chat.store_keeper import ConversationKeeper
from qwen_tui.paths import Paths

async def main():
    root = Path(sys.argv[1])
    session = ChatSession()
    paths = Paths(root / "config", root / "data", root / "state", root / "cache")
    keeper = ConversationKeeper(session, ConversationStore(paths))
    session.send(Target(sys.argv[2], "m"), "?")
    await asyncio.sleep(1000)

asyncio.run(main())
"""


async def test_kill_9_in_the_middle_of_a_reply(store: ConversationStore, tmp_path: Path) -> None:
    async with FakeOpenAI([tokens(100_000, 200, "word ")]) as server:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", KILLED, str(tmp_path), server.base_url, cwd=Path(__file__).parents[2]
        )
        await until(lambda: server.requests and server.requests[0].sent > 100, what="a hundred words")

        def kept() -> int:
            entries = store.list()
            return len(store.load(entries[0].id).turns[-1].text.split()) if entries else 0

        await until(lambda: kept() > 20, what="words on disk")
        os.kill(process.pid, signal.SIGKILL)
        await process.wait()
        before = kept()
    assert before > 20
    assert ConversationStore(Paths(tmp_path, tmp_path / "data", tmp_path, tmp_path)).notice == ""
    assert store.load(store.last()).turns[-1].state is ReplyState.STOPPED


async def test_a_disk_that_refuses_is_told_once_and_the_chat_goes_on(paths: Paths) -> None:
    paths.data.parent.mkdir(parents=True, exist_ok=True)
    paths.data.write_text("in the way")
    problems: list[QwenTuiError] = []
    session = ChatSession()
    keeper = ConversationKeeper(session, ConversationStore(paths), problems.append)
    async with FakeOpenAI(["a", 0.3, "b", finish(), DONE]) as server:
        session.send(Target(server.base_url, "m"), "?")
        await until(lambda: not session.is_streaming)
        assert session.conversation.turns[-1].text == "ab"
        await until(lambda: problems)
        assert len(problems) == 1
        paths.data.unlink()
        await keeper.close()
    assert texts(ConversationStore(paths).load(session.conversation.id)) == ["?", "ab"]


def test_a_file_of_version_1_is_brought_up_to_date(store: ConversationStore, paths: Paths) -> None:
    store.file.parent.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(store.file) as file:
        # What version 1 had written, as SQLite dumps it.
        file.executescript((Path(__file__).parent / "conversations-version-1.sql").read_text())
    store.file.chmod(0o644)
    loaded = store.load("1" * 32)
    assert store.file.stat().st_mode & 0o777 == 0o600
    assert texts(loaded) == ["Which city?", "Lyon", "北京烤鸭？", "一道菜"]
    assert [turn.text for turn in loaded.others] == ["Paris"]
    assert loaded.others[0].figures == FIGURES
    assert (loaded.turns[-1].reasoning, loaded.turns[-1].state) == ("想", ReplyState.STOPPED)
    loaded.turns[-1].tool_calls = (ToolCall("c1", "look", "{}"),)
    store.save(snapshot(loaded))
    assert store.load(loaded.id).turns[-1].tool_calls == (ToolCall("c1", "look", "{}"),)
    store.close()
    assert texts(ConversationStore(paths).load(loaded.id)) == texts(loaded)


def test_what_comes_beside_the_text_is_kept(store: ConversationStore, tmp_path: Path) -> None:
    small, large = tmp_path / "a.txt", tmp_path / "b.txt"
    small.write_text("你好")
    large.write_text("x" * (KEPT_LIMIT + 1))
    kept = talked()
    kept.tools, kept.tool_choice = ({"type": "function", "function": {"name": "look"}},), "required"
    kept.turns[0].attachments = (read_attachment(str(small)), read_attachment(str(large)))
    reply = kept.turns[1]
    reply.tool_calls = (ToolCall("c1", "look", '{"at": "\ud800'), ToolCall("c2", "look"))
    reply.logprobs = [TokenChance("Par", -0.1, (("Par", -0.1), ("Ly", -2.5))), TokenChance("is", None)]
    reply.reasoning_tokens, reply.reasoning_s, reply.left_out = 3, 0.5, True
    kept.turns.append(Turn("tool", "found", parent=reply.id, tool_call_id="c1"))
    keep(store, kept)
    loaded = store.load(kept.id)
    assert (loaded.tools, loaded.tool_choice) == (kept.tools, "required")
    question, answer, found = loaded.turns
    assert [item.content for item in question.attachments] == ["你好", None]
    assert question.attachments[1].whole() == kept.turns[0].attachments[1]
    assert answer.tool_calls == reply.tool_calls
    assert answer.logprobs == reply.logprobs
    assert (answer.reasoning_tokens, answer.reasoning_s, answer.left_out) == (3, 0.5, True)
    assert (found.role, found.tool_call_id) == ("tool", "c1")
    large.write_text("y")
    with pytest.raises(UsageError, match="has changed"):
        question.attachments[1].whole()
