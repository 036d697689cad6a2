"""`qwen-tui chat`, run as a person runs it, against the fake server."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.fakes.openai_server import DONE, RESET, FakeOpenAI, Step, finish, reasoning, tokens, usage

PARIS: list[Step] = [reasoning("hm"), "Par", "is \x1b[31m", finish(), usage(20, 3), DONE]


def environment(tmp_path: Path) -> dict[str, str]:
    folders = {f"XDG_{kind}_HOME": str(tmp_path / kind) for kind in ("CONFIG", "DATA", "STATE", "CACHE")}
    return {**os.environ, **folders, "LANGUAGE": "en", "PYTHONIOENCODING": "utf-8"}


async def start(tmp_path: Path, *words: str) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "qwen_tui", "chat", *words),
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        env=environment(tmp_path),
        cwd=Path(__file__).parents[2],
    )


async def chat(
    tmp_path: Path, script: Sequence[Step], *words: str, stdin: str = ""
) -> tuple[int | None, str, str, FakeOpenAI]:
    async with FakeOpenAI(script) as server:
        process = await start(tmp_path, "--base-url", server.base_url, *words)
        out, err = await process.communicate(stdin.encode())
        return process.returncode, out.decode(), err.decode(), server


async def test_the_answer_on_stdout_the_figures_on_stderr(tmp_path: Path) -> None:
    code, out, err, server = await chat(
        tmp_path,
        PARIS,
        "Which city?",
        "--system",
        "Be brief",
        "--max-tokens",
        "9",
        "--temperature",
        "0",
        stdin="piped\n",
    )
    assert (code, out) == (0, "Paris ␛[31m\n")
    assert "3 tokens (+20 prompt) · stop" in err
    body = server.requests[0].body
    assert body["model"] == "fake-model"
    assert (body["max_tokens"], body["temperature"]) == (9, 0)
    assert body["messages"] == [
        {"role": "system", "content": "Be brief"},
        {"role": "user", "content": "Which city?\n\npiped"},
    ]


async def test_one_json_object(tmp_path: Path) -> None:
    code, out, err, _server = await chat(tmp_path, PARIS, "?", "--json", "--model", "m")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["text"], found["reasoning"], found["model"]) == ("Paris \x1b[31m", "hm", "m")
    assert found["finish_reason"] == "stop"
    assert found["figures"]["completion_tokens"] == 3
    assert "\x1b" not in out


@pytest.mark.parametrize("as_json", [False, True])
async def test_a_break_keeps_what_came(tmp_path: Path, as_json: bool) -> None:
    words = ["?", "--json"] if as_json else ["?"]
    code, out, err, _server = await chat(tmp_path, ["half", 0.05, RESET], *words)
    assert code == 1
    assert "connection broke" in err
    if as_json:
        found = json.loads(out)
        assert found["text"] == "half"
        assert "connection broke" in found["error"]["title"]
    else:
        assert out == "half\n"


async def test_nothing_asked_and_nothing_there(tmp_path: Path) -> None:
    process = await start(tmp_path)
    _out, err = await process.communicate(b"\n")
    assert process.returncode == 2
    assert b"Ask something" in err
    process = await start(tmp_path, "hello")
    _out, err = await process.communicate(b"")
    assert process.returncode == 1
    assert b"No server is ready" in err
    process = await start(tmp_path, "hello", "--server", "nobody")
    await process.communicate(b"")
    assert process.returncode == 1
    process = await start(tmp_path, "hello", "--temperature", "warm")
    await process.communicate(b"")
    assert process.returncode == 2


async def test_ctrl_c_keeps_what_came_and_ends_the_request(tmp_path: Path) -> None:
    async with FakeOpenAI([tokens(100_000, 200)]) as server:
        process = await start(tmp_path, "--base-url", server.base_url, "?")
        assert process.stdin
        assert process.stdout
        process.stdin.close()
        first = await process.stdout.readexactly(10)
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
        assert process.returncode == 130
        assert (first + out).startswith(b"word word ")
        assert b"stopped" in err
        assert b"Traceback" not in err
        await asyncio.wait_for(server.requests[0].disconnected.wait(), 60)


async def test_a_closed_pipe_ends_quietly(tmp_path: Path) -> None:
    async with FakeOpenAI([tokens(100_000, 500)]) as server:
        command = f"{sys.executable} -m qwen_tui chat --base-url {server.base_url} x </dev/null | head -c 8"
        process = await asyncio.create_subprocess_shell(
            command,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment(tmp_path),
            cwd=Path(__file__).parents[2],
        )
        out, err = await asyncio.wait_for(process.communicate(), 60)
        assert (out, err) == (b"word wor", b"")
        await asyncio.wait_for(server.requests[0].disconnected.wait(), 60)
