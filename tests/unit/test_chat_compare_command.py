"""`qwen-tui chat --compare`, against two fake servers."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from qwen_tui.chat.sampling_presets import SamplingPresets
from qwen_tui.cli import main
from qwen_tui.paths import Paths
from tests.fakes.openai_server import DONE, FakeOpenAI, Step, answer, finish, usage

PARIS: list[Step] = ["Par", "is \x1b[31m", finish(), usage(20, 3), DONE]
LYON: list[Step] = ["Lyon", finish(), usage(20, 1), DONE]


@pytest.fixture(autouse=True)
def _folders(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Paths, "from_environment", classmethod(lambda cls: paths))
    monkeypatch.setenv("LANGUAGE", "en")
    monkeypatch.setattr("sys.stdin", None)


async def chat(*words: str) -> int:
    return await asyncio.to_thread(main, ["chat", *words])


async def test_two_answers_as_text_and_as_json(capsys: pytest.CaptureFixture[str], paths: Paths) -> None:
    assert SamplingPresets(paths).get("exact").temperature == 0
    async with FakeOpenAI(PARIS) as one, FakeOpenAI(LYON) as two:
        both = f"{one.base_url},{two.base_url}=other@exact"
        assert await chat("Which city?", "--compare", both) == 0
        out, err = capsys.readouterr()
        assert out.startswith(
            f"[{one.base_url} (fake-model)]\nParis ␛[31m\n\n[{two.base_url}=other@exact (other)]\nLyon"
        )
        assert "3 tokens (+20 prompt) · stop" in err
        assert "temperature" not in one.requests[0].body
        assert (two.requests[0].body["temperature"], two.requests[0].body["model"]) == (0, "other")
        assert await chat("Which city?", "--json", "--stream", "--compare", both) == 0
    *pieces, whole = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {piece["target"] for piece in pieces} == set(both.split(","))
    assert [found["text"] for found in whole["targets"]] == ["Paris \x1b[31m", "Lyon"]
    assert whole["targets"][1]["figures"]["completion_tokens"] == 1


async def test_one_that_fails_does_not_take_the_other_with_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    async with FakeOpenAI(PARIS) as one, FakeOpenAI([answer(400, {"error": {"message": "no"}})]) as two:
        both = f"{one.base_url},{two.base_url}"
        assert await chat("?", "--compare", both) == 3
        out, err = capsys.readouterr()
        assert "Paris" in out
        assert "did not accept the request" in err
        assert await chat("?", "--json", "--compare", f"nobody,{one.base_url}") == 1
        found = json.loads(capsys.readouterr().out)["targets"]
        assert "error" in found[0]
        assert found[1]["text"].startswith("Paris")
    for wrong in (["--compare", "a"], ["--compare", "a,b", "-i"], ["--compare", "a,b", "--server", "c"]):
        assert await chat("?", *wrong) == 2
