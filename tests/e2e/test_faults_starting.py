"""The real vLLM: killed in parts while it starts, ended when nobody uses it, and what a killed one leaves behind."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
from pathlib import Path

import httpx

from qwen_tui.engine.find import Engine
from qwen_tui.paths import Paths
from qwen_tui.server import orphans, registry
from qwen_tui.server.launch import free_port
from qwen_tui.server.service import Servers
from qwen_tui.server.spec import ServerSpec
from qwen_tui.server.status import ServerState
from tests.conftest import nothing_is_left, until
from tests.e2e.test_faults import session_of


def small_server(model: Path) -> ServerSpec:
    return ServerSpec(
        "real", str(model), "smol", port=free_port(first=18300), max_model_len=1024,
        extra_args=("--enforce-eager",), env={"VLLM_CPU_KVCACHE_SPACE": "1"},
    )  # fmt: skip


async def test_kill_9_of_each_while_starting(engine: Engine, demo_model: Path, paths: Paths) -> None:
    servers = Servers(paths)
    try:
        for victims in ("api", "core", "keeper", "api keeper"):
            await servers.start(small_server(demo_model), engine)
            record = registry.find(paths.servers, "real")
            session = record.server[0]
            await until(
                lambda leader=session: [s for s in session_of(leader) if s.command.startswith("VLLM::Engine")],
                120, "the engine core",
            )  # fmt: skip
            core = next(stat for stat in session_of(session) if stat.command.startswith("VLLM::Engine"))
            pids = {"api": session, "core": core.pid, "keeper": record.keeper or 0}
            for victim in victims.split():
                os.kill(pids[victim], signal.SIGKILL)
            if "keeper" in victims:
                await until(lambda: not servers.get("real").kept, 60, "the lock to be free")
                await servers.refresh()
            if victims == "keeper":
                assert servers.get("real").state is ServerState.STARTING
                await servers.stop("real")
            await until(lambda leader=session: not session_of(leader), 60, f"the session to end after {victims}")
            await until(lambda: not servers.get("real").kept, 60, "the keeper to end")
            assert servers.get("real").state is (ServerState.STOPPED if victims == "keeper" else ServerState.FAILED)
            await nothing_is_left(paths)
    finally:
        await servers.close()


async def test_an_idle_server_ends_and_orphans_are_seen(engine: Engine, demo_model: Path, paths: Paths) -> None:
    servers = Servers(paths)
    spec = dataclasses.replace(small_server(demo_model), idle_minutes=0.2)  # type: ignore[arg-type]
    try:
        await servers.start(spec, engine)
        await asyncio.wait_for(servers.wait_ready("real"), 240)
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            for _request in range(10):  # for longer than it may be idle
                body = {"model": "smol", "prompt": "One two three", "max_tokens": 8}
                assert (await client.post(f"{spec.base_url}/completions", json=body)).status_code == 200
                await asyncio.sleep(1.5)
        assert servers.get("real").state is ServerState.READY
        await until(lambda: not servers.get("real").kept, 60, "the idle server to be ended")
        status = servers.get("real")
        assert status.exit
        assert status.exit.reason == "idle"
        await nothing_is_left(paths)

        # Keeper and API server killed at once: the engine core is seen as ours, and ended by the next who looks.
        await servers.start(small_server(demo_model), engine)
        record = registry.find(paths.servers, "real")
        session = record.server[0]
        await until(lambda: len(session_of(session)) > 1, 120, "the engine core")
        os.kill(record.keeper or 0, signal.SIGKILL)
        os.kill(session, signal.SIGKILL)
        await until(lambda: not servers.get("real").kept, 60, "the lock to be free")
        await until(lambda: not registry.find(paths.servers, "real").server_is_alive, 60, "the server's death")

        def all_are_seen() -> bool:
            left = {stat.pid for stat in session_of(session)}
            found = {orphan.pid: orphan.ours for orphan in orphans.find_orphans(registry.read_all(paths.servers))}
            assert left
            return all(found.get(pid) for pid in left)

        await until(all_are_seen, 60, "what is left to be seen as ours")
        await servers.refresh()
        await until(lambda: not session_of(session), 60, "the rest to end")
    finally:
        await servers.close()
