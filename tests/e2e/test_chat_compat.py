"""What the chat asks of a server, asked of the real vLLM on this machine's CPU: thinking, tools, guided output, …

The model is small and thinks of nothing, so a regular expression makes it write what is to be parsed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from qwen_tui.chat.client import stream_chat
from qwen_tui.chat.compare import Comparison, Place
from qwen_tui.chat.completions import Completion
from qwen_tui.chat.conversation import Conversation, ReplyState, Turn
from qwen_tui.chat.events import Event, Finished, Message, Target, TextDelta, TokensDelta
from qwen_tui.chat.sampling import make_sampling
from qwen_tui.chat.session import ChatSession
from qwen_tui.chat.store import ConversationStore
from qwen_tui.chat.tokenize import detokenize, tokenize_chat
from qwen_tui.engine.find import Engine
from qwen_tui.errors import ChatError, ServerError
from qwen_tui.paths import Paths
from qwen_tui.server.launch import free_port
from qwen_tui.server.service import Servers
from qwen_tui.server.spec import ServerSpec
from tests.conftest import nothing_is_left, until
from tests.e2e.conftest import PROGRAM
from tests.e2e.test_chat import KEY, complete, printed

QUESTION = "What is the capital of France?"
#: The parser takes all for thinking until it ends, unless the template says that there is none.
NO_THINKING: dict[str, Any] = {"extra_body": {"chat_template_kwargs": {"enable_thinking": False}}}
EXACT = {**NO_THINKING, "temperature": 0, "max_tokens": 16}
WEATHER: dict[str, Any] = {"type": "function", "function": {"name": "weather", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}  # fmt: skip
CALL = r"<tool_call>\n\{\"name\": \"weather\", \"arguments\": \{\"city\": \"Paris\"\}\}\n</tool_call>".replace(
    '\\"', '"'
)


@pytest.fixture(scope="module")
def place(engine: Engine, demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Target, Paths]]:
    """A server with the parsers of Qwen3, for all tests of this file."""
    root = tmp_path_factory.mktemp("compat")
    paths = Paths(root / "config", root / "data", root / "state", root / "cache")
    options = (
        "--enforce-eager", "--reasoning-parser", "qwen3", "--enable-auto-tool-choice", "--tool-call-parser", "hermes",
        "--structured-outputs-config.enable_in_reasoning=True", "--enable-prompt-tokens-details",
    )  # fmt: skip
    spec = ServerSpec(
        "compat", str(demo_model), "smol", port=free_port(first=18260), max_model_len=1024,
        extra_args=options, env={"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_API_KEY": KEY},
    )  # fmt: skip

    async def start() -> None:
        servers = Servers(paths)
        await servers.start(spec, engine)
        await asyncio.wait_for(servers.wait_ready("compat"), 240)
        await servers.close()

    async def stop() -> None:
        servers = Servers(paths)
        with contextlib.suppress(ServerError):  # the last test killed it
            await servers.stop("compat")
        await servers.close()
        await nothing_is_left(paths)

    with ThreadPoolExecutor(1) as pool:  # a loop of its own
        try:
            pool.submit(lambda: asyncio.run(start())).result()
            yield Target(spec.base_url, "smol", KEY), paths
        finally:
            pool.submit(lambda: asyncio.run(stop())).result()


@pytest.fixture
def target(place: tuple[Target, Paths]) -> Target:
    return place[0]


async def ask(target: Target, messages: list[Message] | None = None, **sampling: Any) -> tuple[str, list[Event]]:
    """The text of the first answer, and everything that came."""
    asked = messages or [Message("user", QUESTION)]
    events = [event async for event in stream_chat(target, asked, make_sampling({**EXACT, **sampling}))]
    return "".join(event.text for event in events if isinstance(event, TextDelta) and event.index == 0), events


async def settled(session: ChatSession) -> Turn:
    """The reply, when it is whole."""
    await until(lambda: not session.is_streaming, 120)
    reply = session.conversation.turns[-1]
    assert reply.state is ReplyState.DONE, reply.error
    return reply


async def test_thinking_is_told_apart_and_counted(target: Target) -> None:
    session = ChatSession()
    session.sampling = make_sampling({"regex": r"<think>\nok so\n</think>\n\nParis\.", "temperature": 0})
    session.send(target, QUESTION)
    reply = await settled(session)
    assert (reply.reasoning.strip(), reply.text.strip()) == ("ok so", "Paris.")
    assert reply.figures is not None
    assert reply.figures.reasoning_tokens
    assert reply.figures.cached_tokens is not None
    assert [message.content.strip() for message in session.conversation.messages()] == [QUESTION, "Paris."]


async def test_tools_are_called_and_answered(target: Target) -> None:
    session = ChatSession()
    session.equip([WEATHER], "")
    session.sampling = make_sampling({**EXACT, "regex": CALL, "max_tokens": 60})
    session.send(target, "Is it warm in Paris?")
    reply = await settled(session)
    (call,) = reply.tool_calls
    assert (call.name, json.loads(call.arguments), bool(call.id)) == ("weather", {"city": "Paris"}, True)
    assert reply.figures is not None
    assert reply.figures.finish_reason == "tool_calls"
    session.sampling = make_sampling(EXACT)
    session.answer_calls(target, reply, ["21 degrees"])
    reply = await settled(session)
    assert session.conversation.turns[-2].role == "tool"
    for choice in ("required", "weather"):
        session = ChatSession()
        session.equip([WEATHER], choice)
        session.sampling = make_sampling({**EXACT, "max_tokens": 30})
        session.send(target, "Is it warm in Paris?")
        reply = await settled(session)
        assert [call.name for call in reply.tool_calls] == ["weather"]


async def test_a_reply_that_was_cut_is_gone_on_with(target: Target) -> None:
    whole, _events = await ask(target)
    session = ChatSession()
    session.sampling = make_sampling({**EXACT, "max_tokens": 3})
    session.send(target, QUESTION)
    reply = await settled(session)
    assert whole.startswith(reply.text)
    assert reply.text != whole
    session.sampling = make_sampling(EXACT)
    session.go_on(target, reply)
    assert (await settled(session)).text == whole


async def test_how_replies_are_drawn(target: Target) -> None:
    greedy, events = await ask(target, logprobs=3)
    chances = [chance for event in events if isinstance(event, TokensDelta) for chance in event.chances]
    assert "".join(chance.token for chance in chances).startswith(greedy)
    assert all(len(chance.alternatives) >= 3 for chance in chances)
    assert "Paris" in greedy
    assert (await ask(target, stop=["Paris"]))[0] == greedy.partition("Paris")[0]
    assert (await ask(target, temperature=2, min_p=1, seed=1))[0] == greedy  # only the likeliest is left
    one, other = [(await ask(target, temperature=1.5, seed=7))[0] for _ in range(2)]
    assert one == other
    ids = (await tokenize_chat(target, [Message("user", QUESTION)], strings=True)).ids
    assert QUESTION in await detokenize(target, ids)
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.figures.prompt_tokens == len(ids)
    _text, events = await ask(target, stop_token_ids=[ids[-1]], n=2, temperature=1, ignore_eos=True, max_tokens=4)
    assert {event.index for event in events if isinstance(event, TextDelta)} == {0, 1}
    schema = {"type": "object", "properties": {"city": {"enum": ["Paris", "Lyon"]}}, "required": ["city"],
              "additionalProperties": False}  # fmt: skip
    assert json.loads((await ask(target, json_schema=schema, max_tokens=60))[0])["city"] in ("Paris", "Lyon")
    assert len((await ask(target, regex="[0-9]{3}"))[0]) == 3
    texts, _pieces, _end = await complete(
        target, Completion("1 2 3 4", make_sampling({"temperature": 0, "max_tokens": 4}))
    )
    assert texts[0]


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}
REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"max_tokens": 5000}, "max_tokens=5000", "fewer tokens"),
    ({"regex": "("}, "unclosed group", "json_schema and regex"),
    ({"messages": [Message("user", "x " * 3000)]}, "maximum context length", "longer than the model"),
    ({"messages": [Message("user", "look", (IMAGE,))]},
     "multimodal", "text only"),
]  # fmt: skip


async def test_what_it_refuses_says_what_to_change(target: Target) -> None:
    for values, why, hint in REFUSED:
        with pytest.raises(ChatError) as caught:
            await ask(target, **values)
        assert why in caught.value.why
        assert hint in caught.value.hint
    for wrong, status in ((Target(target.base_url, "nope", KEY), 404), (Target(target.base_url, "smol"), 401)):
        with pytest.raises(ChatError) as caught:
            await ask(wrong)
        assert caught.value.status == status


async def test_two_samplings_of_one_model_side_by_side(place: tuple[Target, Paths]) -> None:
    target, paths = place
    comparison = Comparison(ConversationStore(paths))
    for side, limit in zip(comparison.sides, (16, 3), strict=True):
        side.place = Place("server", "compat", target)
        side.sampling = make_sampling({**EXACT, "max_tokens": limit})
    comparison.begin(Conversation())
    comparison.ask(QUESTION)
    await until(lambda: not comparison.is_streaming, 120)
    one, other = (side.reply for side in comparison.sides)
    assert one is not None
    assert other is not None
    assert one.text.startswith(other.text) and "Paris" in one.text  # noqa: PT018
    whole = await comparison.end()
    assert len(whole.siblings(whole.turns[1])) == 2
    both = f"{target.base_url}@exact,{target.base_url}=nope"
    command = [str(PROGRAM), "chat", QUESTION, "--json", "--max-tokens", "8", "--compare", both]
    with pytest.raises(AssertionError):  # one of them is refused: status 3
        await asyncio.to_thread(printed, command)


async def test_a_server_that_is_killed_in_the_middle(place: tuple[Target, Paths]) -> None:
    target, paths = place
    session = ChatSession()
    session.sampling = make_sampling({**NO_THINKING, "max_tokens": 900, "ignore_eos": True})
    session.send(target, "Count to a thousand.")
    reply = session.conversation.turns[-1]
    await until(lambda: reply.text, 120)
    (status,) = Servers(paths).list()
    assert status.pid is not None
    os.kill(status.pid, signal.SIGKILL)
    await until(lambda: not session.is_streaming, 120)
    assert reply.state is ReplyState.FAILED
    assert reply.text
    assert reply.error is not None
    assert reply.error.title
    assert reply.error.hint
