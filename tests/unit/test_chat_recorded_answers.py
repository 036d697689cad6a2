"""Streams in the shapes of other servers of this API, each file naming where its shape is from."""

from __future__ import annotations

from pathlib import Path

import pytest

from qwen_tui.chat.events import Finished, ReasoningDelta
from tests.fakes.openai_server import FakeOpenAI
from tests.unit.test_chat_client import Target, collect, text_of

FOLDER = Path(__file__).parent / "recorded_answers"
#: Name → thinking, prompt tokens, answer tokens, cached tokens, why it ended.
WHOLE: dict[str, tuple[str, int | None, int, int | None, str]] = {
    "openai": ("", 20, 3, 16, "stop"),
    "azure": ("", 20, 3, None, "stop"),
    "sglang": ("A capital.", 20, 6, None, "stop"),
    "llama-cpp": ("A capital.", 17, 5, 7, "stop"),
    "ollama": ("", 20, 3, None, "stop"),
    "lm-studio": ("", None, 3, None, "stop"),
    "tgi": ("", 20, 3, None, "eos_token"),
    "deepseek": ("A capital.", 20, 6, 16, "stop"),
    "openrouter": ("A capital.", 20, 5, 0, "stop"),
    "vllm": ("A capital.", 37, 8, None, "stop"),
    "crlf": ("", 20, 3, None, "stop"),
}
BROKEN = {
    "openrouter-error": "Provider disconnected unexpectedly",
    "named-error": "The model has crashed without additional information.",
}


def pieces(name: str, size: int) -> list[bytes]:
    raw = (FOLDER / f"{name}.sse").read_bytes()
    return [raw[start : start + size] for start in range(0, len(raw), size)]


@pytest.mark.parametrize("name", WHOLE)
async def test_what_others_send_streams_right(name: str) -> None:
    thinking, prompt, completion, cached, reason = WHOLE[name]
    async with FakeOpenAI(pieces(name, 61)) as server:
        events, error = await collect(Target(server.base_url, "m"))
    assert error is None
    assert text_of(events) == "Paris."
    assert "".join(event.text for event in events if isinstance(event, ReasoningDelta)) == thinking
    assert isinstance(events[-1], Finished)
    figures = events[-1].figures
    assert (figures.prompt_tokens, figures.completion_tokens, figures.finish_reason) == (prompt, completion, reason)
    assert figures.cached_tokens == cached
    assert figures.estimated == (name == "lm-studio")
    assert figures.ttft_s is not None


@pytest.mark.parametrize("name", BROKEN)
async def test_what_breaks_off_says_why_and_keeps_what_came(name: str) -> None:
    async with FakeOpenAI(pieces(name, 61)) as server:
        events, error = await collect(Target(server.base_url, "m"))
    assert text_of(events) == "Par"
    assert error is not None
    assert (error.why, bool(error.title), bool(error.hint)) == (BROKEN[name], True, True)


def test_every_file_is_used_and_names_its_source() -> None:
    files = {file.stem: file.read_text() for file in FOLDER.glob("*.sse")}
    assert set(files) == {*WHOLE, *BROKEN}
    assert all(text.startswith(": ") for text in files.values())
