"""`qwen-tui complete`, `request` and `models --served`, and chat line by line, as a person runs them."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from qwen_tui.cli import main
from qwen_tui.paths import Paths
from tests.fakes.openai_server import DONE, FakeOpenAI, Step, answer, continuation, delta, event, finish, tokens, usage

ONCE: list[Step] = [continuation("upon "), continuation("a time \x1b[2J", finish_reason="length"), usage(1, 4), DONE]
REFUSED = answer(400, {"error": {"message": "temperature must be lower", "code": 400}})


class Ran:
    """What a command printed, and how it ended."""

    def __init__(self, code: int, out: str, err: str, server: FakeOpenAI) -> None:
        self.code, self.out, self.err, self.server = code, out, err, server

    @property
    def body(self) -> dict[str, object]:
        body = self.server.requests[-1].body
        assert isinstance(body, dict)
        return body


@pytest.fixture
def run(paths: Paths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    """Run a command in this process (a thread: it has a loop of its own) against a fake server."""
    monkeypatch.setattr(Paths, "from_environment", classmethod(lambda cls: paths))
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    monkeypatch.setenv("LANGUAGE", "en")

    async def go(scripts: Sequence[Sequence[Step]], *words: str, stdin: str = "", key: str = "") -> Ran:
        if key:
            monkeypatch.setenv("VLLM_API_KEY", key)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()), "utf-8"))
        async with FakeOpenAI(*scripts, max_model_len=500) as server:
            code = await asyncio.to_thread(main, [words[0], "--base-url", server.base_url, *words[1:]])
            out, err = capsys.readouterr()
            return Ran(code, out, err, server)

    return go


async def test_a_text_is_continued(run) -> None:  # type: ignore[no-untyped-def]
    ran = await run([ONCE], "complete", "Once ", "--echo", "--suffix", "end", "--max-tokens", "4", "--stop", "\\n")
    assert (ran.code, ran.out) == (0, "upon a time ␛[2J\n")
    assert "4 tokens (+1 prompt) · length" in ran.err
    assert ran.body == {
        "model": "fake-model", "prompt": "Once ", "stream": True, "stream_options": {"include_usage": True},
        "echo": True, "suffix": "end", "max_tokens": 4, "stop": ["\n"],
    }  # fmt: skip
    piped = await run([ONCE], "complete", stdin="  as it is\n")
    assert piped.body["prompt"] == "  as it is\n"
    nothing = await run([ONCE], "complete")
    assert nothing.code == 2


async def test_several_answers_and_their_chances(run) -> None:  # type: ignore[no-untyped-def]
    chances = {"tokens": ["a"], "token_logprobs": [-0.1], "top_logprobs": [{"a": -0.1, "b": -2.5}]}
    script = [continuation("a", logprobs=chances), continuation("x", 1), continuation("", finish_reason="stop"), DONE]
    ran = await run([script], "complete", "?", "--n", "2", "--logprobs", "2")
    assert ran.out == "[1]\na\n\n[2]\nx\n\n"
    assert '90.5%  "a"     8.2% "b"' in ran.err
    ran = await run([script], "complete", "?", "--n", "2", "--logprobs", "2", "--json", "--stream")
    *pieces, last = [json.loads(line) for line in ran.out.splitlines()]
    assert [(piece["index"], piece["text"]) for piece in pieces] == [(0, "a"), (1, "x")]
    assert last["texts"] == ["a", "x"]
    assert last["logprobs"][0][0]["alternatives"][1] == {"token": "b", "logprob": -2.5}


async def test_tokens_are_coloured_and_what_a_template_makes_is_printed(run) -> None:  # type: ignore[no-untyped-def]
    logprobs = {"tokens": [" sure", " or\n", "not"], "token_logprobs": [-0.01, -0.5, -9.0], "top_logprobs": None}
    script = [continuation(" sure or\nnot", logprobs=logprobs), continuation("", finish_reason="stop"), DONE]
    ran = await run([script], "complete", "Are you", "--logprobs", "0", "--color", "always")
    assert ran.out == "\x1b[32m sure\x1b[0m\x1b[36;4m or\x1b[0m\n\x1b[31;1;7mnot\x1b[0m\n"
    plain = await run([script], "complete", "Are you", "--logprobs", "0")
    assert plain.out == " sure or\nnot\n"
    shown = await run([script], "complete", "--template", "Hi\x1b", "--system", "Be.")
    assert (shown.code, shown.out) == (0, "<system>Be.</system><user>Hi␛</user><assistant>\n")
    assert "47 of 500 tokens" in shown.err
    assert shown.server.requests == []
    found = json.loads((await run([script], "complete", "--template", "Hi", "--json")).out)
    assert (found["text"], found["count"], found["max_model_len"]) == ("<user>Hi</user><assistant>", 26, 500)


async def test_exit_statuses_tell_refusal_from_failure(run) -> None:  # type: ignore[no-untyped-def]
    for command in ("chat", "complete"):
        refused = await run([[REFUSED]], command, "?")
        assert refused.code == 3
        assert "temperature must be lower" in refused.err
        failed = await run([[answer(500, "boom")]], command, "?")
        assert failed.code == 1
        wrong = await run([[REFUSED]], command, "?", "--temperature", "3")
        assert wrong.code == 2
        assert "temperature must be a number, 0 to 2, not 3" in wrong.err
        assert not wrong.server.requests
        assert (await run([[REFUSED]], command, "?", "--preset", "nobody")).code == 2


async def test_sampling_flags_and_presets(run, tmp_path) -> None:  # type: ignore[no-untyped-def]
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "object"}')
    script = ["a", finish(), DONE]
    ran = await run(
        [script], "chat", "?", "--preset", "qwen", "--top-k", "7", "--ignore-eos", "--stop-token-ids", "1,2",
        "--json-schema", f"@{schema}", "--extra-body", '{"priority": 3}', "--stop", "a", "--stop", "b",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    expected = {"temperature": 0.7, "top_p": 0.8, "top_k": 7, "ignore_eos": True, "stop_token_ids": [1, 2],
                "priority": 3, "stop": ["a", "b"]}  # fmt: skip
    assert expected.items() <= ran.body.items()
    assert ran.body["response_format"]["json_schema"]["schema"] == {"type": "object"}


async def test_a_request_as_code_is_not_sent(run) -> None:  # type: ignore[no-untyped-def]
    for form, has in (("--curl", "curl -sS"), ("--python", "from openai"), ("--httpx", "import httpx")):
        for kind in ((), ("--completion",), ("--models",)):
            ran = await run([ONCE], "request", form, *kind, "Say it", "--model", "m", "--seed", "1", key="sk-secret")
            assert ran.code == 0
            assert has in ran.out
            assert ("Say it" in ran.out) == (kind != ("--models",))
            assert "sk-secret" not in ran.out + ran.err
            assert "VLLM_API_KEY" in ran.out
            assert not ran.server.requests
    assert (await run([ONCE], "request")).code == 2


async def test_the_raw_answer(run) -> None:  # type: ignore[no-untyped-def]
    body = {"id": "c-1", "choices": [{"message": {"content": "\u202ehi"}, "finish_reason": "stop"}]}
    ran = await run([[answer(200, body)]], "request", "--raw", "?", key="k")
    assert json.loads(ran.out) == body
    assert "\u202e" not in ran.out
    assert "HTTP/1.1 200" in ran.err
    assert "content-type: application/json" in ran.err
    assert "the whole answer after" in ran.err
    assert ran.server.requests[0].headers["authorization"] == "Bearer k"
    assert "stream" not in ran.body
    as_json = await run([[REFUSED]], "request", "--raw", "?", "--json")
    assert as_json.code == 3
    found = json.loads(as_json.out)
    assert (found["status"], found["body"]["error"]["code"]) == (400, 400)


async def test_the_models_that_a_server_serves(run) -> None:  # type: ignore[no-untyped-def]
    ran = await run([], "models", "--served")
    assert ran.code == 0, ran.err
    assert "fake-model" in ran.out
    assert json.loads((await run([], "models", "--served", "--json")).out) == [{"id": "fake-model"}]


async def test_line_by_line(run) -> None:  # type: ignore[no-untyped-def]
    scripts = [["one", finish(), DONE], ["two", finish(), DONE], ["three", finish(), DONE]]
    lines = "first\nsecond \\\nline\n/new\n\n/system Be brief\nthird\n/quit\nnever\n"
    ran = await run(scripts, "chat", "-i", stdin=lines)
    assert (ran.code, ran.out) == (0, "one\ntwo\nthree\n")
    said = [request.body["messages"] for request in ran.server.requests]
    assert said[1] == [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "one"},
        {"role": "user", "content": "second \nline"},
    ]
    assert said[2] == [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "third"}]
    refused = await run([[REFUSED]], "chat", "-i", stdin="a\nb\n")
    assert (refused.code, len(refused.server.requests)) == (3, 1)
    assert (await run([[tokens(2, 1000)]], "chat", "-i")).code == 0


async def test_a_break_in_the_middle_is_a_failure(run) -> None:  # type: ignore[no-untyped-def]
    error = event({"error": {"message": "engine died", "code": 400}})
    ran = await run([[continuation("half"), error]], "complete", "?", "--json")
    assert json.loads(ran.out.splitlines()[0])["text"] == "half"
    assert json.loads(ran.out.splitlines()[0])["error"]["why"] == "engine died"
    assert ran.code != 0


async def test_tools_files_and_thinking_of_a_chat(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "t.json").write_text('{"name": "look"}')
    (tmp_path / "a.py").write_text("x = 1\n")
    script: list[Step] = ["<think>hm", "m</think>\n\nI look.", delta(tool_calls=[{"index": 0, "id": "c1", "function":
                          {"name": "look", "arguments": "{}"}}]), finish("tool_calls"), DONE]  # fmt: skip
    words = ("--tools", str(tmp_path / "t.json"), "--tool-choice", "look", "--file", str(tmp_path / "a.py"))
    ran = await run([script], "chat", "review", *words, "--show-reasoning")
    assert (ran.code, ran.out) == (0, 'I look.\n{"name": "look", "arguments": "{}"}\n')
    assert ran.err.startswith("hmm\n")
    assert ran.body["tool_choice"] == {"type": "function", "function": {"name": "look"}}
    assert ran.body["messages"] == [{"role": "user", "content": "a.py:\n```\nx = 1\n```\n\nreview"}]
    ran = await run([script], "chat", "review", *words, "--json")
    answered = json.loads(ran.out)
    assert (answered["reasoning"], answered["text"]) == ("hmm", "I look.")
    assert answered["tool_calls"][0]["id"] == "c1"
    ran = await run([["Let me see.\n</think>\n\nYes.", finish(), DONE]], "chat", "?", "--json")
    assert (json.loads(ran.out)["reasoning"], json.loads(ran.out)["text"]) == ("Let me see.\n", "Yes.")
    assert (await run([script], "chat", "?", "--image", str(tmp_path / "a.py"))).code == 2
    assert (await run([script], "chat", "?", "--tool-choice", "auto")).code == 2
