"""The installed program in a real terminal on the real engine: start, chat, quit leaving it, reopen, stop."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from qwen_tui.engine.find import Engine
from qwen_tui.paths import Paths, write_private
from qwen_tui.server import processes
from qwen_tui.server.launch import free_port
from qwen_tui.server.service import Servers
from qwen_tui.server.status import ServerState
from tests.conftest import nothing_is_left
from tests.terminal import Terminal

PROGRAM = Path(sys.executable).parent / "qwen-tui"


def engine_processes(leader: int) -> list[str]:
    """The names of the vLLM processes in the session that `leader` leads or led."""
    stats = (processes.read_stat(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [s.command for s in stats if s and s.is_running and s.session == leader and s.command.startswith("VLLM")]


def fill(terminal: Terminal, *fields: str) -> None:
    """Fill in the form's fields from the first on; an empty text leaves one as it is."""
    for text in fields:
        if text:
            terminal.type(text)
        terminal.press("tab")


def test_start_chat_leave_reopen_stop(engine: Engine, demo_model: Path, tmp_path: Path) -> None:
    environment = {
        "XDG_CONFIG_HOME": str(tmp_path / "config"), "XDG_STATE_HOME": str(tmp_path / "state"),
        "XDG_DATA_HOME": str(tmp_path / "data"), "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "LANG": "C.UTF-8", "LC_ALL": "", "LANGUAGE": "", "VLLM_CPU_KVCACHE_SPACE": "1",
    }  # fmt: skip
    paths = Paths(*(tmp_path / kind / "qwen-tui" for kind in ("config", "data", "state", "cache")))
    write_private(paths.settings_file, f'engine = "{engine.python}"\n')
    port = free_port(first=18100)
    try:
        with Terminal([str(PROGRAM)], environment) as terminal:
            terminal.wait_for("n +new")
            terminal.press("n")
            terminal.wait_for(r"engine +vLLM \d")
            fill(terminal, str(demo_model), "one", "smol")
            terminal.press("tab", *["backspace"] * 5)
            fill(terminal, str(port), "1024", "", "--enforce-eager")
            terminal.wait_for("--max-model-len 1024 --enforce-eager")
            terminal.press("ctrl+s")
            if "Plan of" in terminal.wait_for("starting Python|Plan of", 90)[0]:
                terminal.press("enter")  # a machine short of memory is warned of it
            terminal.wait_for("loading weights|starting the engine", 120)
            terminal.wait_for(r"● one +ready", 240)

            terminal.press("c")
            terminal.wait_for("Message to smol")
            terminal.type("What is the capital of France?")
            terminal.press("enter")
            terminal.wait_for(r"TTFT [\d,.]+ m?s · [\d.]+ tokens/s · \d+ tokens", 120)
            assert "Paris" in terminal.text

            terminal.press("esc", "l")
            terminal.wait_for("POST /v1/chat/completions HTTP/1.1")
            terminal.press("q")
            terminal.wait_for("leave it running")
            terminal.press("l")
            assert terminal.wait_end() == 0

        status = Servers(paths).get("one")
        assert status.state is ServerState.READY
        assert status.pid
        assert len(engine_processes(status.pid)) >= 2

        with Terminal([str(PROGRAM)], environment) as terminal:
            terminal.wait_for(r"● one +ready")
            os.kill(terminal.child.pid, signal.SIGKILL)
            terminal.wait_end()
        assert Servers(paths).get("one").pid == status.pid

        with Terminal([str(PROGRAM)], environment) as terminal:
            terminal.wait_for(r"● one +ready")
            terminal.press("l")
            terminal.wait_for("POST /v1/chat/completions HTTP/1.1")
            terminal.press("s")
            terminal.wait_for("x stop")
            terminal.press("x")
            terminal.wait_for("Stop one")
            terminal.press("y")
            terminal.wait_for(r"no process of it is left|one +stopped", 60)
            terminal.press("esc")
            terminal.wait_for(r"○ one +stopped")
            terminal.press("q")
            assert terminal.wait_end() == 0
    finally:
        asyncio.run(_stop_all(paths))
    asyncio.run(nothing_is_left(paths))
    assert engine_processes(status.pid) == []


async def _stop_all(paths: Paths) -> None:
    servers = Servers(paths)
    for status in servers.list():
        await servers.stop(status.name)
    await servers.close()
