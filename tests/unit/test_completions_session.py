"""The text of the Completions room: continued, stopped, asked again, undone, stepped through, and kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen_tui.chat.completions_kept import CompletionsKeeper
from qwen_tui.chat.completions_session import CompletionsSession, Draft, joined, shifted
from qwen_tui.chat.conversation import ReplyState
from qwen_tui.chat.events import Target
from qwen_tui.chat.sampling import make_sampling
from qwen_tui.errors import QwenTuiError, UsageError
from qwen_tui.paths import Paths
from tests.fakes.openai_server import DONE, HANG, RESET, FakeOpenAI, Step, answer, continuation, usage


def said(*texts: str) -> list[Step]:
    end = continuation("", finish_reason="stop")
    return [*(continuation(text) for text in texts), end, usage(3, len(texts)), DONE]


async def until(condition: Callable[[], bool]) -> None:
    async def wait() -> None:
        while not condition():  # noqa: ASYNC110 - whatever the condition is about
            await asyncio.sleep(0.002)

    await asyncio.wait_for(wait(), 30)


async def ended(session: CompletionsSession) -> None:
    await until(lambda: not session.is_streaming)


async def test_continue_edit_continue_retry_and_undo() -> None:
    async with FakeOpenAI(said(" upon", " a"), said(" time"), said(" day")) as server:
        target, session = Target(server.base_url, "m"), CompletionsSession()
        with pytest.raises(UsageError, match="nothing to continue"):
            session.proceed(target)
        session.edit(Draft("Once"))
        session.proceed(target)
        with pytest.raises(UsageError, match="still streaming"):
            session.edit(Draft("x"))
        await ended(session)
        assert session.draft == Draft("Once upon a", ((4, 11),))
        assert session.attempt
        assert session.attempt.figures
        assert session.attempt.figures.completion_tokens == 2
        session.edit(Draft("Once upon one", ((4, 10),)))
        assert session.continued is None
        with pytest.raises(UsageError, match="no continuation"):
            session.retry(target)
        session.proceed(target)
        await ended(session)
        assert session.draft == Draft("Once upon one time", ((4, 10), (13, 18)))
        session.retry(target)
        await ended(session)
        assert session.draft.text == "Once upon one day"
        assert [request.body["prompt"] for request in server.requests] == ["Once", "Once upon one", "Once upon one"]
        undone = []
        while session.undo():
            undone.append(session.draft.text)
        assert undone == ["Once upon one time", "Once upon one", "Once"]


async def test_stop_and_a_break_keep_what_came() -> None:
    async with FakeOpenAI([continuation(" half"), HANG], [continuation(" more"), 0.02, RESET]) as server:
        target, session = Target(server.base_url, "m"), CompletionsSession()
        session.edit(Draft("A"))
        session.proceed(target)
        await until(lambda: session.draft.text == "A half")
        session.stop()
        await asyncio.wait_for(server.requests[0].disconnected.wait(), 30)
        assert session.attempt
        assert session.attempt.state is ReplyState.STOPPED
        assert session.draft == Draft("A half", ((1, 6),))
        session.proceed(target)
        await ended(session)
        assert session.attempt.state is ReplyState.FAILED
        assert session.attempt.error
        assert session.draft == Draft("A half more", ((1, 11),))
        await session.close()


async def test_several_are_stepped_through_and_what_is_echoed_is_not_doubled() -> None:
    logprobs = {"tokens": ["Say", " a"], "token_logprobs": [None, -1.0], "top_logprobs": [None, {" a": -1.0}]}
    script = [
        continuation("Say a", 0, logprobs=logprobs), continuation("Say \x1b[2Jb", 1), continuation("!", 0),
        continuation("", 0, finish_reason="stop"), DONE,
    ]  # fmt: skip
    async with FakeOpenAI(script) as server:
        target, session = Target(server.base_url, "m"), CompletionsSession()
        session.sampling, session.echo, session.special = make_sampling({"n": 2, "logprobs": 1}), True, False
        session.suffix = "end"
        session.edit(Draft("Say "))
        session.proceed(target)
        await ended(session)
        body = server.requests[0].body
        assert (body["echo"], body["suffix"], body["n"], body["add_special_tokens"]) == (True, "end", 2, False)
        assert session.draft == Draft("Say a!", ((4, 6),))
        assert session.continued
        assert [chance.token for chance in session.continued.chances] == ["Say", " a"]
        assert session.step(1)
        assert session.draft == Draft("Say ␛[2Jb", ((4, 9),))
        assert not session.step(1)
        assert session.step(-1)
        assert session.draft.text == "Say a!"


async def test_a_refusal_is_kept_with_the_text_as_it_was() -> None:
    refusal = {"error": {"message": "suffix is only supported for models with FIM", "code": 400}}
    async with FakeOpenAI([answer(400, refusal)]) as server:
        session = CompletionsSession()
        session.edit(Draft("x"))
        session.proceed(Target(server.base_url, "m"))
        await ended(session)
        assert session.attempt
        assert session.attempt.error
        assert "FIM" in session.attempt.error.why
        assert session.draft == Draft("x")


@given(st.text("ab", max_size=12), st.integers(0, 12), st.integers(0, 12), st.text("abX", max_size=4), st.data())
@settings(max_examples=80, deadline=None, derandomize=True)
def test_spans_follow_a_change(old: str, first: int, second: int, put: str, data: st.DataObject) -> None:
    start, end = sorted((min(first, len(old)), min(second, len(old))))
    new = old[:start] + put + old[end:]
    spans = joined([data.draw(st.tuples(st.integers(0, len(old)), st.integers(0, len(old))))])
    moved = shifted(spans, old, new)
    assert joined(moved) == moved
    assert all(0 <= first < last <= len(new) for first, last in moved)
    written = "".join(old[first:last] for first, last in spans)
    assert "X" not in "".join(new[first:last] for first, last in moved)
    assert sum(last - first for first, last in moved) <= len(written)
    if old == new:
        assert moved == spans


def test_typing_in_the_middle_of_what_the_model_wrote_splits_it() -> None:
    assert shifted(((2, 8),), "aabbbbbbaa", "aabbbXbbbaa") == ((2, 5), (6, 9))
    assert shifted(((2, 8),), "aabbbbbbaa", "aabbbaa") == ((2, 5),)
    assert shifted(((2, 4),), "aabb", "aabbX") == ((2, 4),)
    assert shifted(((2, 4),), "aabb", "") == ()


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path / "config", tmp_path / "data", tmp_path / "state", tmp_path / "cache")


async def test_the_text_is_kept_and_comes_back(paths: Paths) -> None:
    session = CompletionsSession()
    keeper = CompletionsKeeper(session, paths)
    await keeper.restore()
    session.suffix, session.sampling = "s", make_sampling({"temperature": 0.5})
    session.edit(Draft("Once upon", ((4, 9),)))
    await until(keeper.file.exists)  # while it runs, as a crash would find it
    assert keeper.file.stat().st_mode & 0o777 == 0o600
    session.edit(Draft("Once upon a", ((4, 9),)))
    await keeper.close()
    again = CompletionsSession()
    restored = CompletionsKeeper(again, paths)
    await restored.restore()
    assert (again.draft, again.suffix, again.sampling.temperature) == (Draft("Once upon a", ((4, 9),)), "s", 0.5)
    await restored.close()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"text": 3}', json.dumps({"text": "a", "written": [["x"]]})])
async def test_a_file_that_is_none_is_passed_over(paths: Paths, content: str) -> None:
    session = CompletionsSession()
    keeper = CompletionsKeeper(session, paths)
    keeper.file.parent.mkdir(parents=True)
    keeper.file.write_text(content)
    await keeper.restore()
    assert session.draft == Draft()
    await keeper.close()


async def test_a_file_that_cannot_be_written_is_told_once(paths: Paths) -> None:
    paths.state.parent.mkdir(parents=True, exist_ok=True)
    paths.state.write_text("a file where the folder should be")
    session = CompletionsSession()
    keeper = CompletionsKeeper(session, paths)
    told: list[QwenTuiError] = []
    keeper.on_problem = told.append
    texts: Sequence[str] = ("a", "ab")
    for text in texts:
        session.edit(Draft(text))
        await until(lambda: keeper._task is None)
    await keeper.close()
    assert len(told) == 1
