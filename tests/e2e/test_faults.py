"""kill -9 of each part of a serving real vLLM: what lives on, what ends, and that nothing is left."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from qwen_tui.engine.find import Engine
from qwen_tui.paths import Paths
from qwen_tui.server import processes, registry
from qwen_tui.server.launch import free_port
from qwen_tui.server.service import Servers
from qwen_tui.server.spec import ServerSpec
from qwen_tui.server.status import ServerState
from tests.conftest import nothing_is_left, until


def session_of(leader: int) -> list[processes.ProcessStat]:
    """Every running process of the session that `leader` leads or led."""
    stats = (processes.read_stat(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [stat for stat in stats if stat is not None and stat.session == leader and stat.is_running]


async def test_kill_9_of_each_in_turn(engine: Engine, demo_model: Path, paths: Paths) -> None:
    servers = Servers(paths)
    spec = ServerSpec(
        "real", str(demo_model), "smol", port=free_port(first=18200), max_model_len=1024,
        extra_args=("--enforce-eager",), env={"VLLM_CPU_KVCACHE_SPACE": "1"}, restart="on-failure",
    )  # fmt: skip
    try:
        await servers.start(spec, engine)
        status = await asyncio.wait_for(servers.wait_ready("real"), 240)
        first = status.pid or 0
        assert {stat.command for stat in session_of(first)} >= {"VLLM::EngineCor"}

        # The API server: the keeper ends what it left and, as the specification says, starts it again.
        os.kill(first, signal.SIGKILL)
        await until(lambda: not session_of(first), 60, "the old session to end")
        await until(lambda: servers.get("real").restarts == 1, 60, "the restart")
        status = await asyncio.wait_for(servers.wait_ready("real"), 240)
        second = status.pid or 0
        assert second != first

        # The keeper: the server goes on, and whoever looks next gives it a new one.
        keeper = int(registry.find(paths.servers, "real").state["keeper"]["pid"])
        os.kill(keeper, signal.SIGKILL)
        await until(lambda: not servers.get("real").kept, 60, "the lock to be free")
        assert session_of(second)
        (status,) = await servers.refresh()
        assert status.state is ServerState.READY
        await until(lambda: servers.get("real").kept, 60, "a new keeper")

        # The engine core: vLLM's API server ends by itself, and the new keeper sees to the rest.
        core = next(stat for stat in session_of(second) if stat.command.startswith("VLLM::Engine"))
        os.kill(core.pid, signal.SIGKILL)
        await until(lambda: not session_of(second), 60, "the whole session to end")
    finally:
        await servers.stop("real")
        await servers.close()
    assert servers.get("real").state is ServerState.STOPPED
    await nothing_is_left(paths)
