"""A server that nobody uses is ended by its keeper; what counts as use."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from qwen_tui.engine.find import Engine
from qwen_tui.paths import Paths
from qwen_tui.server.idle import IdleWatch
from qwen_tui.server.service import Servers, describe_exit
from qwen_tui.server.spec import ServerSpec
from qwen_tui.server.status import ServerState
from tests.conftest import nothing_is_left, until

MakeSpec = Callable[..., ServerSpec]


async def test_an_idle_server_is_ended(
    servers: Servers, fake_engine: Engine, fake_spec: MakeSpec, paths: Paths
) -> None:
    specs = [fake_spec("by-metrics", tokens=1), fake_spec("by-log", metrics=False, tokens=1)]
    await asyncio.gather(*(end_idle(servers, fake_engine, spec) for spec in specs))
    await nothing_is_left(paths)


async def end_idle(servers: Servers, fake_engine: Engine, spec: ServerSpec) -> None:
    """Start, use it for longer than it may be idle, leave it alone."""
    spec = dataclasses.replace(spec, idle_minutes=0.7 / 60)  # type: ignore[arg-type]
    await servers.start(spec, fake_engine)
    await servers.wait_ready(spec.name)
    async with httpx.AsyncClient(trust_env=False) as client:
        busy_until = time.monotonic() + 0.9
        while time.monotonic() < busy_until:
            reply = await client.post(f"{spec.base_url}/chat/completions", json={})
            assert reply.status_code == 200
    await until(lambda: not servers.get(spec.name).kept)
    status = servers.get(spec.name)
    assert status.state is ServerState.STOPPED
    assert status.exit
    assert (status.exit.reason, status.exit.asked) == ("idle", True)
    assert status.to_json()["exit_reason"] == "idle"
    assert "nobody had used it" in describe_exit(status)


class Scripted(IdleWatch):
    """An idle watch over answers that a test gives; each look is due at once."""

    answer = b""

    def _get(self, path: bytes) -> bytes:
        if not self.answer:
            raise ConnectionRefusedError
        return self.answer

    def looks(self, answer: str = "") -> str:
        self.answer = answer.encode()
        self.interval = 0.0
        before = self._active_at
        self.is_over()
        return "quiet" if self._active_at == before else "active"


def test_what_counts_as_use(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("")
    watch = Scripted({"idle_minutes": 1, "log": str(log)})
    quiet = 'HTTP/1.1 200 OK\n\nvllm:num_requests_running{a="}b"} 0.0\nvllm:prompt_tokens_total 7.0\n'
    assert watch.looks() == "active"  # starting
    assert watch.looks(quiet) == "active"  # nothing to compare with yet
    assert watch.looks(quiet) == "quiet"
    assert watch.looks(quiet.replace("7.0", "8.0")) == "active"
    assert watch.looks(quiet.replace("7.0", "8.0").replace("0.0", "1.0")) == "active"
    assert watch.looks(quiet.replace("7.0", "8.0")) == "quiet"
    # Without figures the log tells; a log without any access line can't.
    assert watch.looks("HTTP/1.1 404 Not Found") == "active"
    log.write_text('INFO:  127.0.0.1:1 - "GET /health HTTP/1.1" 200 OK\n')
    assert watch.looks("HTTP/1.1 404 Not Found") == "quiet"
    with log.open("a") as file:
        file.write('INFO:  127.0.0.1:1 - "POST /v1/chat/completions HTTP/1.1" 200 OK\n')
    assert watch.looks("HTTP/1.1 404 Not Found") == "active"
    assert watch.looks("HTTP/1.1 404 Not Found") == "quiet"
    log.unlink()
    assert watch.looks("HTTP/1.1 404 Not Found") == "active"
