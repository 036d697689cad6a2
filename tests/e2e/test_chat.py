"""Chat, completions and requests as code, against the real vLLM on this machine's CPU."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from qwen_tui.chat.client import stream_chat
from qwen_tui.chat.completions import Completion, CompletionDelta, stream_completion
from qwen_tui.chat.completions_session import CompletionsSession, Draft
from qwen_tui.chat.events import Finished, Message, Target, TextDelta, TokensDelta
from qwen_tui.chat.logprobs import token_texts
from qwen_tui.chat.request_answer import send
from qwen_tui.chat.request_code import (
    Request,
    as_curl,
    as_httpx,
    as_openai,
    chat_request,
    completion_request,
    models_request,
)
from qwen_tui.chat.sampling import Sampling, make_sampling
from qwen_tui.chat.template import render_chat
from qwen_tui.chat.tokenize import reply_chances, tokenize_text
from qwen_tui.engine.find import Engine
from qwen_tui.errors import ChatError
from qwen_tui.paths import Paths
from qwen_tui.server.launch import free_port
from qwen_tui.server.service import Servers
from qwen_tui.server.spec import ServerSpec
from tests.conftest import nothing_is_left
from tests.e2e.conftest import PROGRAM

KEY = "sk-only-for-this-test"
QUESTION = [Message("user", "What is the capital of France? Answer with the city's name.")]


@pytest.fixture(scope="module")
def target(engine: Engine, demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A server that wants a key, for all tests of this file."""
    root = tmp_path_factory.mktemp("chat")
    paths = Paths(root / "config", root / "data", root / "state", root / "cache")
    spec = ServerSpec(
        "chat", str(demo_model), "smol", port=free_port(first=18230), max_model_len=1024,
        extra_args=("--enforce-eager",), env={"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_API_KEY": KEY},
    )  # fmt: skip

    async def start() -> None:
        servers = Servers(paths)
        await servers.start(spec, engine)
        await asyncio.wait_for(servers.wait_ready("chat"), 240)
        await servers.close()

    async def stop() -> None:
        servers = Servers(paths)
        await servers.stop("chat")
        await servers.close()
        await nothing_is_left(paths)

    with ThreadPoolExecutor(1) as pool:  # a loop of its own
        try:
            pool.submit(lambda: asyncio.run(start())).result()
            yield Target(spec.base_url, "smol", KEY)
        finally:
            pool.submit(lambda: asyncio.run(stop())).result()


async def complete(target: Target, completion: Completion) -> tuple[dict[int, str], list[CompletionDelta], Finished]:
    """The answers by number, the pieces, and the end."""
    events = [event async for event in stream_completion(target, completion)]
    pieces = [event for event in events if isinstance(event, CompletionDelta)]
    texts: dict[int, str] = {}
    for piece in pieces:
        texts[piece.index] = texts.get(piece.index, "") + piece.text
    assert isinstance(events[-1], Finished)
    return texts, pieces, events[-1]


def printed(command: list[str], text: str = "") -> str:
    """What a program prints, with the key in its environment."""
    environment = {**os.environ, "VLLM_API_KEY": KEY, "LANG": "C.UTF-8"}
    done = subprocess.run(
        command, input=text, capture_output=True, text=True, env=environment, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_all(request: Request, tmp_path: Path) -> tuple[str, str, str]:
    """What curl, the openai script and the httpx script print, each run exactly as printed."""
    found = []
    for name, code in (("openai.script", as_openai(request)), ("httpx.script", as_httpx(request))):
        (tmp_path / name).write_text(code)
        found.append(printed([sys.executable, str(tmp_path / name)]))
    return printed(["sh"], as_curl(request)), found[0], found[1]


async def test_the_scripts_give_the_answer_of_the_chat(target: Target, tmp_path: Path) -> None:
    sampling = make_sampling({"temperature": 0, "max_tokens": 24, "top_k": 50, "stop": ["'", "<|x|>"]})
    events = [event async for event in stream_chat(target, QUESTION, sampling)]
    said = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert "Paris" in said
    request = chat_request(target, QUESTION, sampling)
    curl, openai, httpx = await asyncio.to_thread(run_all, request, tmp_path)
    assert json.loads(curl)["choices"][0]["message"]["content"] == said
    assert (openai, httpx) == (said + "\n", said + "\n")
    streamed = chat_request(target, QUESTION, sampling, stream=True)
    curl, openai, httpx = await asyncio.to_thread(run_all, streamed, tmp_path)
    assert (openai, httpx) == (said + "\n", said + "\n")
    assert "data: [DONE]" in curl
    raw = await send(request, target.api_key)
    assert (raw.status, raw.finish_reasons[0] in ("stop", "length")) == (200, True)
    assert raw.id.startswith("chatcmpl-")
    assert raw.usage["prompt_tokens"] > 0
    assert raw.total_s >= raw.headers_s > 0


async def test_the_scripts_give_the_answer_of_the_completion(target: Target, tmp_path: Path) -> None:
    completion = Completion("The capital of France is", make_sampling({"temperature": 0, "max_tokens": 8}))
    texts, _pieces, _end = await complete(target, completion)
    curl, openai, httpx = await asyncio.to_thread(run_all, completion_request(target, completion), tmp_path)
    assert "Paris" in texts[0]
    assert json.loads(curl)["choices"][0]["text"] == texts[0]
    assert (openai, httpx) == (texts[0] + "\n", texts[0] + "\n")
    curl, openai, httpx = await asyncio.to_thread(run_all, models_request(target), tmp_path)
    assert json.loads(curl)["data"][0]["id"] == "smol"
    assert (openai, httpx) == ("smol\n", "smol\n")


async def test_what_a_completion_can_be_asked_for(target: Target) -> None:
    # vLLM 0.32 breaks off when echo, logprobs and n come together.
    sampling = make_sampling({"max_tokens": 4, "n": 2, "seed": 5, "ignore_eos": True, "temperature": 0.8})
    texts, pieces, end = await complete(target, Completion("Once upon", sampling, echo=True))
    assert sorted(texts) == [0, 1]
    assert all(text.startswith("Once upon") for text in texts.values())
    assert end.figures.completion_tokens == 8
    assert end.figures.finish_reason == "length"
    sampling = make_sampling({"max_tokens": 4, "n": 2, "logprobs": 3, "ignore_eos": True, "temperature": 0.8})
    texts, pieces, end = await complete(target, Completion("Once upon", sampling))
    for index in (0, 1):
        chances = [chance for piece in pieces if piece.index == index for chance in piece.chances]
        assert "".join(chance.token for chance in chances) == texts[index]
        assert all(len(chance.alternatives) >= 3 for chance in chances)
        assert all(chance.logprob is not None and chance.logprob <= 0 for chance in chances)
    with pytest.raises(ChatError) as caught:
        await complete(target, Completion("def f(", suffix="return 1"))
    assert caught.value.exit_code == 3
    with pytest.raises(ChatError) as caught:
        await complete(target, Completion("x " * 3000))
    assert "context" in caught.value.hint


async def test_the_template_shown_is_what_the_model_gets(target: Target) -> None:
    messages = [Message("system", "Answer briefly."), Message("user", "What is the capital of France? 你好 🙂")]
    rendered = await render_chat(target, messages)
    assert rendered.text.endswith("What is the capital of France? 你好 🙂<|im_end|>\n<|im_start|>assistant\n")
    assert rendered.text.startswith("<|im_start|>system\nAnswer briefly.")
    assert rendered.tokens.max_model_len == 1024
    assert (await tokenize_text(target, rendered.text)).ids == rendered.tokens.ids
    sampling = make_sampling({"temperature": 0, "max_tokens": 12})
    events = [event async for event in stream_chat(target, messages, sampling)]
    said = "".join(event.text for event in events if isinstance(event, TextDelta))
    texts, _pieces, end = await complete(target, Completion(rendered.text, sampling))
    assert texts[0] == said
    assert end.figures.prompt_tokens == len(rendered.tokens)
    shown = await asyncio.to_thread(
        printed, [str(PROGRAM), "complete", "--template", messages[1].content, "--system", "Answer briefly.",
                  "--base-url", target.base_url],
    )  # fmt: skip
    assert shown == rendered.text


async def test_the_tokens_of_a_reply_with_logprobs_and_of_one_without(target: Target) -> None:
    question = [Message("user", "Repeat after me: 你好 🙂 𝄞")]
    sampling = make_sampling({"temperature": 0, "max_tokens": 24, "logprobs": 3, "regex": "你好 🙂 𝄞, indeed"})
    said, chances = "", []
    async for event in stream_chat(target, question, sampling):
        if isinstance(event, TokensDelta):
            chances += event.chances
        elif isinstance(event, TextDelta):
            said += event.text
    assert said == "你好 🙂 𝄞, indeed"
    assert "".join(token_texts(chances)) == said + "<|im_end|>"  # the token that ends the reply is one too
    assert all(chance.logprob is not None and len(chance.alternatives) >= 3 for chance in chances)
    asked = await reply_chances(target, question, said)
    texts = token_texts(asked)
    assert "".join(texts) == said
    assert "" in texts  # half of a character is a token of its own
    assert asked[texts.index("")].data
    assert all(chance.logprob is not None and chance.logprob <= 0 for chance in asked)


async def test_asking_afterwards_tells_what_streaming_told(target: Target) -> None:
    sampling = make_sampling({"temperature": 0, "max_tokens": 16, "logprobs": 1})
    pieces = [event async for event in stream_chat(target, QUESTION, sampling)]
    told = [chance for piece in pieces if isinstance(piece, TokensDelta) for chance in piece.chances]
    text = "".join(piece.text for piece in pieces if isinstance(piece, TextDelta))
    asked = await reply_chances(target, QUESTION, text)
    for before, after in zip(told, asked, strict=False):
        assert (before.token, before.share) == (after.token, pytest.approx(after.share, abs=0.08))


async def test_the_session_of_the_completions_room(target: Target) -> None:
    session = CompletionsSession()
    session.sampling = make_sampling({"max_tokens": 4, "n": 2, "logprobs": 2, "temperature": 0.9, "ignore_eos": True})
    session.edit(Draft("Once upon"))

    async def end() -> None:
        while session.is_streaming:  # noqa: ASYNC110 - until it has ended
            await asyncio.sleep(0.01)

    session.proceed(target)
    await asyncio.wait_for(end(), 60)
    assert session.attempt is not None
    assert session.attempt.error is None
    assert len(session.attempt.answers) == 2
    first = session.draft.text
    assert first.startswith("Once upon")
    assert session.step(1)
    assert session.draft.text == "Once upon" + session.attempt.answers[1].text
    assert session.continued is not None
    assert "".join(token_texts(session.continued.chances)) == session.continued.text
    session.suffix, session.sampling = "the end", Sampling(max_tokens=4)
    before = session.draft
    session.proceed(target)
    await asyncio.wait_for(end(), 60)
    assert session.attempt.error is not None
    assert "suffix is only supported" in session.attempt.error.why
    assert session.draft == before
    await session.close()


async def test_guided_output(target: Target) -> None:
    regex = make_sampling({"regex": r"[0-9]{3}-[a-f]{2}", "max_tokens": 30, "temperature": 0})
    texts, _pieces, _end = await complete(target, Completion("My number is ", regex))
    assert re.fullmatch(r"[0-9]{3}-[a-f]{2}", texts[0])
    schema = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 12}}, "required": ["city"],
              "additionalProperties": False}  # fmt: skip
    wanted = make_sampling({"json_schema": schema, "max_tokens": 80, "temperature": 0})
    raw = await send(chat_request(target, QUESTION, wanted), target.api_key)
    assert raw.status == 200, raw.body_text()
    assert set(json.loads(raw.decoded["choices"][0]["message"]["content"])) == {"city"}


async def test_the_key_is_wanted(target: Target) -> None:
    raw = await send(chat_request(Target(target.base_url, "smol"), QUESTION, Sampling(max_tokens=1)))
    assert raw.status == 401


def test_the_commands(target: Target) -> None:
    place = ["--base-url", target.base_url]
    assert "smol" in printed([str(PROGRAM), "models", "--served", *place])
    question = "What is the capital of France?"
    answered = printed([str(PROGRAM), "chat", question, *place, "--preset", "exact", "--max-tokens", "20"])
    assert "Paris" in answered
    piped = printed(
        [str(PROGRAM), "complete", *place, "--temperature", "0", "--max-tokens", "5"], "The capital of France is"
    )
    assert "Paris" in piped
    code = printed([str(PROGRAM), "request", "--curl", question, *place, "--preset", "exact", "--max-tokens", "20"])
    assert KEY not in code
    assert json.loads(printed(["sh"], code))["choices"][0]["message"]["content"] == answered.rstrip("\n")
