"""A chat server that does exactly what a test tells it to, over real sockets.

A script is a list of steps, played for each POST to /v1/chat/completions or /v1/completions in turn (the last one
repeats): text to send as a delta, bytes to send as they are, numbers to wait, or one of the actions below.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Action:
    name: str
    value: Any = None


DONE = Action("done")
RESET = Action("reset")
CLOSE = Action("close")
HANG = Action("hang")


def finish(reason: str = "stop") -> Action:
    """The last chunk with a choice."""
    return Action("finish", reason)


def usage(prompt: int, completion: int) -> Action:
    return Action("usage", {"prompt_tokens": prompt, "completion_tokens": completion})


def reasoning(text: str, key: str = "reasoning_content") -> Action:
    return Action("reasoning", (key, text))


def answer(status: int, body: bytes | str | dict[str, Any], content_type: str = "application/json") -> Action:
    """A whole answer instead of a stream; must be the only step."""
    raw = json.dumps(body).encode() if isinstance(body, dict) else body.encode() if isinstance(body, str) else body
    return Action("answer", (status, raw, content_type))


def tokens(count: int, per_second: float, word: str = "word ") -> Action:
    """`count` deltas at an even pace."""
    return Action("tokens", (count, per_second, word))


def pieces(texts: Sequence[str], per_second: float) -> Action:
    """These deltas at an even pace."""
    return Action("pieces", (list(texts), per_second))


Step = str | bytes | float | Action


def delta(**content: Any) -> bytes:
    return event({"id": "x", "choices": [{"index": 0, "delta": content, "finish_reason": None}]})


def continuation(text: str, index: int = 0, **more: Any) -> bytes:
    """A piece of an answer of /v1/completions."""
    return event({"choices": [{"index": index, "text": text, "finish_reason": None, **more}]})


def event(body: Any) -> bytes:
    return b"data: " + json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n\n"


@dataclass
class Request:
    """What the server saw of one request."""

    path: str
    headers: dict[str, str]
    body: Any
    disconnected: asyncio.Event = field(default_factory=asyncio.Event)
    sent: int = 0


class FakeOpenAI:
    """`async with FakeOpenAI(script, …) as server`: server.base_url, server.requests."""

    def __init__(self, *scripts: Sequence[Step], model: str = "fake-model", max_model_len: int = 0) -> None:
        """max_model_len: with it, the server has /tokenize and /detokenize as vLLM does."""
        self.scripts = list(scripts)
        self.model = model
        self.requests: list[Request] = []
        self.max_model_len = max_model_len
        self.counted: list[Any] = []
        self.base_url = ""
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> FakeOpenAI:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.base_url = f"http://127.0.0.1:{self.port}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self._serve(reader, writer)
        writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
        raw = await reader.readexactly(int(headers.get("content-length", 0)))
        path = head[0].split(" ")[1]
        if path in ("/tokenize", "/detokenize") and self.max_model_len:
            body = json.dumps(self._tokens(path, json.loads(raw))).encode()
            writer.write(_head(200, "application/json", len(body)) + body)
            await writer.drain()
            return
        if path not in ("/v1/chat/completions", "/v1/completions"):
            body = json.dumps({"object": "list", "data": [{"id": self.model}]}).encode()
            status = 404 if path in ("/tokenize", "/detokenize") else 200
            writer.write(_head(status, "application/json", len(body)) + body)
            await writer.drain()
            return
        request = Request(path, headers, json.loads(raw))
        self.requests.append(request)
        watch = asyncio.create_task(self._watch(reader, request))
        script = self.scripts[min(len(self.requests), len(self.scripts)) - 1]
        try:
            await self._play(script, writer, request)
        finally:
            if not request.disconnected.is_set():
                watch.cancel()

    def _tokens(self, path: str, asked: Any) -> dict[str, Any]:
        """Every byte is a token; the chat template is <role>what was said</role>, and <assistant> at the end."""
        if path == "/detokenize":
            return {"prompt": bytes(asked["tokens"]).decode()}
        text = asked.get("prompt", "")
        if "messages" in asked:
            text = "".join(f"<{one['role']}>{one['content']}</{one['role']}>" for one in asked["messages"])
            text += "<assistant>"
        found = {"tokens": list(text.encode()), "max_model_len": self.max_model_len, "count": len(text.encode())}
        self.counted.append(asked)
        return found

    @staticmethod
    async def _watch(reader: asyncio.StreamReader, request: Request) -> None:
        with contextlib.suppress(ConnectionError):
            while await reader.read(1024):
                pass
        request.disconnected.set()

    async def _play(self, script: Sequence[Step], writer: asyncio.StreamWriter, request: Request) -> None:
        if script and isinstance(script[0], Action) and script[0].name == "answer":
            status, body, kind = script[0].value
            writer.write(_head(status, kind, len(body)) + body)
            await writer.drain()
            return
        if RESET not in script[:1] and not (script and isinstance(script[0], Action) and script[0].name == "raw"):
            writer.write(_head(200, "text/event-stream; charset=utf-8", None))
        for step in script:
            if isinstance(step, Action) and step.name in ("reset", "close"):
                if step.name == "reset":
                    _reset(writer)
                return
            if not await self._step(step, writer, request):
                return
        with contextlib.suppress(ConnectionError):
            writer.write(b"0\r\n\r\n")
            await writer.drain()

    async def _step(self, step: Step, writer: asyncio.StreamWriter, request: Request) -> bool:
        """Play one step; False when the client has gone."""
        if isinstance(step, str):
            return await self._send(delta(content=step), writer, request)
        if isinstance(step, bytes):
            return await self._send(step, writer, request)
        if isinstance(step, int | float):
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(request.disconnected.wait(), step)
            return not request.disconnected.is_set()
        if step.name == "hang":
            await request.disconnected.wait()
            return False
        if step.name == "raw":
            writer.write(step.value)
            await writer.drain()
            return True
        if step.name in ("tokens", "pieces"):
            texts = step.value[0] if step.name == "pieces" else [step.value[2]] * step.value[0]
            return await self._paced(texts, step.value[1], writer, request)
        made = {
            "done": lambda: b"data: [DONE]\n\n",
            "finish": lambda: event({"choices": [{"index": 0, "delta": {}, "finish_reason": step.value}]}),
            "usage": lambda: event({"choices": [], "usage": step.value}),
            "reasoning": lambda: delta(**{step.value[0]: step.value[1]}),
        }[step.name]()
        return await self._send(made, writer, request)

    async def _paced(
        self, texts: Sequence[str], per_second: float, writer: asyncio.StreamWriter, request: Request
    ) -> bool:
        loop = asyncio.get_running_loop()
        start = loop.time()
        for number, text in enumerate(texts):
            if (wait := start + number / per_second - loop.time()) > 0:
                await asyncio.sleep(wait)
            if not await self._send(delta(content=text), writer, request):
                return False
        return True

    async def _send(self, data: bytes, writer: asyncio.StreamWriter, request: Request) -> bool:
        if request.disconnected.is_set():
            return False
        try:
            writer.write(b"%x\r\n%s\r\n" % (len(data), data))
            await writer.drain()
        except ConnectionError:
            request.disconnected.set()
            return False
        request.sent += 1
        return True


def _head(status: int, kind: str, length: int | None) -> bytes:
    framing = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    return f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\n{framing}\r\nconnection: close\r\n\r\n".encode()


def _reset(writer: asyncio.StreamWriter) -> None:
    import socket

    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
