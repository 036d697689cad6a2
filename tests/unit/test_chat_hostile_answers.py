"""What servers and proxies answer instead of a reply: each a sentence, a cause and what to do, none a crash."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from qwen_tui.chat.failures import from_status, seconds_to_wait
from tests.fakes.openai_server import CLOSE, DONE, RESET, Action, Step, answer, event, finish, usage
from tests.unit.test_chat_client import Target, ask, text_of


def vllm(status: int, message: str, kind: str = "BadRequestError", param: str | None = None) -> Action:
    """An error body as vLLM 0.32 sends it."""
    return answer(status, {"error": {"message": message, "type": kind, "param": param, "code": status}})


def raw(status: str, *headers: str, body: str = "{}") -> Action:
    """An answer with headers of its own."""
    head = "\r\n".join([f"HTTP/1.1 {status}", *headers, f"content-length: {len(body)}", "connection: close"])
    return Action("raw", f"{head}\r\n\r\n{body}".encode())


CONTEXT = (
    "This model's maximum context length is 1024 tokens. However, your prompt contains at least 1025 input tokens, "
    "which exceeds this limit even without any output tokens. Please reduce the length of the input prompt. "
    "(parameter=input_tokens, value=1025)"
)
GRAMMAR = (
    'Grammar error: at 1(8): invalid regex "(" (in regex): regex parse error:\n    (\n    ^\nerror: unclosed group'
)
TOOLS = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
NGINX = (
    "<html>\r\n<head><title>{0}</title></head>\r\n<body>\r\n"
    "<center><h1>{0}</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)
DEAD = "EngineCore encountered an issue. See stack trace (above) for the root cause."

#: What the server sends → a part of the title, of why, of the hint. The words are vLLM 0.32's and nginx's own.
REFUSED: dict[str, tuple[Step, str, str, str]] = {
    "no key": (answer(401, {"error": "Unauthorized"}), "wants an API key", "Unauthorized", "key"),
    "no model": (vllm(404, "The model `nope` does not exist. Valid aliases: smol.", "NotFoundError", "model"),
                 "has no model “fake-model”", "Valid aliases: smol", "/v1"),
    "no path": (answer(404, {"detail": "Not Found"}), "no chat at this address", "Not Found", "/v1"),
    "wrong method": (answer(405, {"detail": "Method Not Allowed"}), "no chat at this address", "Method", "/v1"),
    "context": (vllm(400, CONTEXT, param="input_tokens"), "did not accept", "1024 tokens", "longer than the model"),
    "max_tokens": (vllm(400, "max_tokens=5000 cannot be greater than max_model_len=1024. (parameter=max_tokens)"),
                   "did not accept", "max_tokens=5000", "fewer tokens"),
    "temperature": (vllm(400, "temperature must be in [0, 2], got 9.0. (parameter=temperature, value=9.0)"),
                    "did not accept", "got 9.0", "sampling"),
    "grammar": (vllm(400, GRAMMAR), "did not accept", "unclosed group", "json_schema and regex"),
    "image": (vllm(400, "smol is not a multimodal model"), "did not accept", "multimodal", "text only"),
    "tools": (vllm(400, TOOLS), "did not accept", "auto", "--tool-call-parser"),
    "nothing asked": (vllm(400, "Cannot apply chat template to an empty conversation. Provide at least one message."),
                      "did not accept", "empty conversation", "Write a message"),
    "JSON": (vllm(400, "1 validation error:\n  {'type': 'json_invalid'}", "Bad Request"), "did not accept", "json", ""),
    "too large": (answer(413, NGINX.format("413 Request Entity Too Large"), "text/html"),
                  "did not accept", "413 Request Entity Too Large", "too large"),
    "FastAPI": (answer(422, {"detail": [{"loc": ["body", "messages"], "msg": "Field required"}]}),
                "did not accept", "messages: Field required", ""),
    "wait": (raw("429 Too Many Requests", "retry-after: 7", body='{"error":{"message":"slow down"}}'),
             "too many requests", "slow down", "Wait 7 s"),
    "asleep": (raw("503 Service Unavailable", "retry-after: 30"), "status 503", "", "Wait 30 s"),
    "crash": (vllm(500, DEAD, "InternalServerError"), "status 500", "EngineCore", "log"),
    "gateway": (answer(502, NGINX.format("502 Bad Gateway"), "text/html"), "status 502", "502 Bad Gateway", "log"),
    "evil": (answer(400, b"\x1b]52;c;eA==\x07\x00\xff[bold]x", "text/plain"), "did not accept", "[bold]x", ""),
    "login page": (answer(200, "<!doctype html><body>Log in</body>", "text/html"),
                   "not a chat reply", "Log in", "address"),
    "error as JSON": (answer(200, {"error": {"message": "no", "code": 500}}), "broke off", "no", "kept"),
    "refused after 200": (event({"error": {"message": GRAMMAR, "type": "BadRequestError", "param": None, "code": 400}}),
                          "did not accept", "unclosed group", "json_schema and regex"),
    "half JSON": (answer(200, '{"choices": [{"mess'), "not a chat reply", "choices", "address"),
    "no choice": (answer(200, {"choices": []}), "not a chat reply", "", "address"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
async def test_a_refusal_says_what_why_and_what_to_do(kind: str) -> None:
    step, title, why, hint = REFUSED[kind]
    events, error = await ask(step)
    assert events == []
    assert error is not None
    assert title in error.title
    assert why in error.why
    assert hint in error.hint
    assert not set(map(chr, [*range(9), *range(11, 32), *range(127, 160)])) & set(str(error))


ENDLESS: dict[str, list[Step]] = {
    "nothing but usage": [usage(5, 9), DONE],
    "nothing but empty choices": [event({"choices": []}), event({"choices": None}), event({}), DONE],
    "only DONE": [DONE],
    "nothing": [0.0],
    "killed": ["Par", 0.05, RESET],
    "cut in a character": ["Par", b'data: {"choices": [{"delta": {"content": "\xe4\xbd', CLOSE],
    "no end": ["Par", usage(5, 1)],
    "an error in the stream": ["Par", event({"error": {"message": "CUDA out of memory", "code": "oom"}}), DONE],
    "an error as text": ["Par", event({"error": "CUDA out of memory", "error_type": "generation"}), DONE],
    "a traceback": ["Par", b"Traceback (most recent call last):\n\ndata: Traceback\n\n"],
}


@pytest.mark.parametrize("kind", ENDLESS)
async def test_a_stream_that_does_not_end_right_says_so(kind: str) -> None:
    events, error = await ask(*ENDLESS[kind])
    assert text_of(events) == ("Par" if "Par" in ENDLESS[kind] else "")
    assert error is not None
    assert error.title
    assert error.why
    if "error" in kind:
        assert error.why == "CUDA out of memory"


async def test_two_usages_and_what_comes_after_the_end() -> None:
    events, error = await ask(
        "Par", usage(1, 1), "is", finish(), usage(5, 2), usage(5, 2), DONE, "more", b"data: {\n\n"
    )
    assert error is None
    assert text_of(events) == "Paris"
    assert events[-1].figures.completion_tokens == 2  # type: ignore[union-attr]


def test_how_long_to_wait() -> None:
    assert [seconds_to_wait(header) for header in (None, "", "soon", "7", "-3", "9" * 99)] == [
        None, None, None, 7, None, 999_999_999,
    ]  # fmt: skip
    assert 50 <= (seconds_to_wait(formatdate(time.time() + 60, usegmt=True)) or 0) <= 61
    assert seconds_to_wait(formatdate(0, usegmt=True)) == 0


def test_a_key_that_is_quoted_is_not_shown() -> None:
    key = "sk-1234567890"
    error = from_status(401, f"Incorrect API key provided: {key}".encode(), Target("http://x/v1", "m", key))
    assert key not in str(error)
    assert "***" in error.why
