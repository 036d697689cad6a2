"""Requests as code, run as they are printed: each sends the same body and prints the same answer."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import subprocess

import pytest

from qwen_tui.chat.completions import Completion
from qwen_tui.chat.events import Message, Target
from qwen_tui.chat.request_answer import RawAnswer, send
from qwen_tui.chat.request_code import (
    Request,
    as_curl,
    as_httpx,
    as_openai,
    chat_request,
    completion_request,
    models_request,
)
from qwen_tui.chat.sampling import make_sampling
from qwen_tui.errors import ChatError
from tests.fakes.openai_server import DONE, RESET, FakeOpenAI, Step, answer, continuation, finish, usage

#: Everything that could break a shell, a Python literal, JSON or a terminal.
NASTY = "it's \"quoted\" $HOME `id` \\n\nJSON\n你好 🙂 \x1b[31m\u2028\u202e{curly} %s '''"
SAMPLING = make_sampling(
    {"temperature": 0, "top_k": 5, "stop": ["'", "\n"], "seed": 3, "json_schema": {"type": "object", "x": None},
     "ignore_eos": True, "extra_body": {"priority": 0, "nested": {"a": [1, {"b": "'"}]}}}
)  # fmt: skip
KEY = "sk-very'secret"
CHAT_ANSWER = {"id": "c-1", "object": "chat.completion", "created": 1, "model": "m", "usage": {"prompt_tokens": 3},
               "choices": [{"index": 0, "message": {"role": "assistant", "content": "Par\u2028is 你"},
                            "finish_reason": "stop"}]}  # fmt: skip
TEXT_ANSWER = {"id": "c-2", "object": "text_completion", "created": 1, "model": "m",
               "choices": [{"index": 0, "text": "Paris", "finish_reason": "length", "logprobs": None}]}  # fmt: skip


async def run_curl(request: Request, key: str = "") -> str:
    """What the command prints, run by sh with the key in its environment."""
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", as_curl(request), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "VLLM_API_KEY": key},
    )  # fmt: skip
    out, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")
    return out.decode()


async def run_python(code: str, monkeypatch: pytest.MonkeyPatch, key: str = "") -> str:
    """What the script prints. Run in here: importing openai takes a second each time."""
    monkeypatch.setenv("VLLM_API_KEY", key)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        await asyncio.to_thread(exec, compile(code, "printed", "exec"), {"__name__": "__main__"})
    return printed.getvalue()


def seen(server: FakeOpenAI) -> object:
    """The one body that came with all requests."""
    bodies = [request.body for request in server.requests]
    assert all(body == bodies[0] for body in bodies)
    return bodies[0]


async def test_a_chat_in_all_three_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    async with FakeOpenAI([answer(200, CHAT_ANSWER)]) as server:
        target = Target(server.base_url + "/", "m", KEY)
        request = chat_request(target, [Message("system", "x"), Message("user", NASTY)], SAMPLING)
        whole = json.loads(await run_curl(request, KEY))
        assert whole["choices"][0]["message"]["content"] == "Par\u2028is 你"
        assert await run_python(as_openai(request), monkeypatch, KEY) == "Par\u2028is 你\n"
        assert await run_python(as_httpx(request), monkeypatch, KEY) == "Par\u2028is 你\n"
        assert len(server.requests) == 3
        assert seen(server) == request.body
        assert {item.headers["authorization"] for item in server.requests} == {f"Bearer {KEY}"}


async def test_a_chat_that_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    script: list[Step] = ["Par", "\u2028is", finish(), usage(1, 2), DONE]
    async with FakeOpenAI(script) as server:
        request = chat_request(Target(server.base_url, "m"), [Message("user", "?")], stream=True)
        assert "data: [DONE]" in await run_curl(request)
        assert await run_python(as_openai(request), monkeypatch) == "Par\u2028is\n"
        assert await run_python(as_httpx(request), monkeypatch) == "Par\u2028is\n"
        assert seen(server) == request.body


async def test_a_completion_in_all_three_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    completion = Completion(NASTY, make_sampling({"max_tokens": 5, "logprobs": 1, "min_p": 0.5}), True, "'")
    async with FakeOpenAI([answer(200, TEXT_ANSWER)]) as server:
        request = completion_request(Target(server.base_url, "m"), completion)
        assert json.loads(await run_curl(request)) == TEXT_ANSWER
        assert await run_python(as_openai(request), monkeypatch) == "Paris\n"
        assert await run_python(as_httpx(request), monkeypatch) == "Paris\n"
        assert seen(server) == request.body
    async with FakeOpenAI([continuation("Par"), continuation("is", finish_reason="stop"), DONE]) as server:
        request = completion_request(Target(server.base_url, "m"), completion, stream=True)
        assert await run_python(as_openai(request), monkeypatch) == "Paris\n"
        assert await run_python(as_httpx(request), monkeypatch) == "Paris\n"


async def test_the_models_in_all_three_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    async with FakeOpenAI([], model="qwen2") as server:
        request = models_request(Target(server.base_url, "", KEY))
        assert json.loads(await run_curl(request, KEY))["data"][0]["id"] == "qwen2"
        assert await run_python(as_openai(request), monkeypatch, KEY) == "qwen2\n"
        assert await run_python(as_httpx(request), monkeypatch, KEY) == "qwen2\n"


async def test_a_proxy_of_the_environment_is_no_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    async with FakeOpenAI([answer(200, CHAT_ANSWER)]) as server:
        request = chat_request(Target(server.base_url, "m"), [Message("user", "?")])
        assert request.bypass_proxy
        assert "--noproxy" in as_curl(request)
        assert await run_python(as_openai(request), monkeypatch) == "Par\u2028is 你\n"
        assert await run_python(as_httpx(request), monkeypatch) == "Par\u2028is 你\n"
    assert not chat_request(Target("http://10.0.0.1/v1", "m"), []).bypass_proxy


def test_no_key_and_nothing_harmful_is_in_the_text() -> None:
    request = chat_request(Target("http://h/v1'; rm -rf x;'", "m", KEY), [Message("user", NASTY)], SAMPLING)
    for code in (as_curl(request), as_openai(request), as_httpx(request)):
        assert "secret" not in code
        assert "VLLM_API_KEY" in code
        assert not set(code) & set("\x1b\u2028\u202e")
        assert "你好 🙂" in code
    assert as_curl(request).startswith("""curl -sS 'http://h/v1'"'"'; rm -rf x;'""")
    open_request = chat_request(Target("http://h/v1", "m"), [Message("user", "?")])
    for code in (as_curl(open_request), as_openai(open_request), as_httpx(open_request)):
        assert "VLLM_API_KEY" not in code


async def test_the_raw_answer() -> None:
    async with FakeOpenAI(
        [answer(200, CHAT_ANSWER)], [answer(429, b"<html>\x1b]52;busy", "text/html")], [RESET]
    ) as server:
        request = chat_request(Target(server.base_url, "m", KEY), [Message("user", "?")])
        found = await send(request, KEY)
        assert (found.status, found.id, found.usage, found.finish_reasons) == (
            200,
            "c-1",
            {"prompt_tokens": 3},
            ("stop",),
        )
        assert ("content-type", "application/json") in found.headers
        assert 0 < found.headers_s <= found.total_s
        assert json.loads(found.body_text()) == CHAT_ANSWER
        assert found.to_json()["body"] == CHAT_ANSWER
        refused = await send(request, KEY)
        assert (refused.status, refused.id, refused.usage, refused.finish_reasons) == (429, "", {}, ())
        assert "\x1b" not in refused.body_text()
        with pytest.raises(ChatError):
            await send(request, KEY)
        listed = await send(models_request(Target(server.base_url, "", None)))
        assert listed.decoded["data"][0]["id"] == "fake-model"


@pytest.mark.parametrize("body", [b"[]", b"3", b'{"choices": 3, "usage": 4, "id": 5}', b'{"choices": [1, {}]}'])
def test_odd_raw_answers(body: bytes) -> None:
    odd = RawAnswer(200, "OK", "HTTP/1.1", (), body, 0.1, 0.2)
    assert (odd.id, odd.usage, odd.finish_reasons) == ("", {}, ())
