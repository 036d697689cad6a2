"""The whole program killed, or its terminal gone, while a server starts or serves; another one open beside it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from qwen_tui.engine.find import Engine
from qwen_tui.paths import Paths
from qwen_tui.server.service import Servers
from qwen_tui.server.spec import ServerSpec
from qwen_tui.server.status import ServerState
from tests.conftest import until
from tests.terminal import Terminal

PROGRAM = Path(sys.executable).parent / "qwen-tui"
MakeSpec = Callable[..., ServerSpec]


def environment_of(tmp_path: Path) -> tuple[Paths, dict[str, str]]:
    kinds = ("config", "data", "state", "cache")
    variables = {f"XDG_{kind.upper()}_HOME": str(tmp_path / kind) for kind in kinds}
    return Paths(*(tmp_path / kind / "qwen-tui" for kind in kinds)), {**variables, "LANG": "C.UTF-8", "LC_ALL": ""}


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """The folders that the program finds by its environment."""
    return environment_of(tmp_path)[0]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
@pytest.mark.parametrize("phase", ["starting", "serving"])
async def test_the_program_dies_and_its_server_does_not(
    servers: Servers, fake_engine: Engine, fake_spec: MakeSpec, tmp_path: Path, number: signal.Signals, phase: str
) -> None:
    _paths, environment = environment_of(tmp_path)
    spec = fake_spec(**({"stall_after": "Resolved architecture"} if phase == "starting" else {}))
    before = await servers.start(spec, fake_engine)
    if phase == "serving":
        await servers.wait_ready("fake")
    with Terminal([str(PROGRAM)], environment) as terminal, Terminal([str(PROGRAM)], environment) as other:
        for shown in (terminal, other):
            await asyncio.to_thread(shown.wait_for, "fake +(ready|starting)")
        os.kill(terminal.child.pid, number)
        assert await asyncio.to_thread(terminal.wait_end) != 0
        status = servers.get("fake")
        assert (status.pid, status.kept) == (before.pid, True)
        assert status.state is (ServerState.STARTING if phase == "starting" else ServerState.READY)
        # The one beside it sees the server and stops it.
        other.press("x")
        await asyncio.to_thread(other.wait_for, "Stop fake")
        other.press("y")
        await until(lambda: servers.get("fake").state is ServerState.STOPPED)
        await asyncio.to_thread(other.wait_for, "fake +stopped")
