"""What every test gets: folders of its own, English texts, and an engine that is not the real one."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from qwen_tui import i18n
from qwen_tui.engine.find import Engine
from qwen_tui.paths import Paths
from qwen_tui.server import processes
from qwen_tui.server import service as service_module
from qwen_tui.server.launch import free_port
from qwen_tui.server.service import Servers
from qwen_tui.server.spec import ServerSpec
from tests.failures import pytest_runtest_makereport, pytest_terminal_summary

__all__ = ["pytest_runtest_makereport", "pytest_terminal_summary"]

#: The first of a hundred ports for what these tests start: another process that runs tests has others.
PORTS = 18400 + os.getpid() % 140 * 100

FAKE_ENGINE = Path(__file__).parent / "fakes" / "engine"


async def until(condition: Callable[[], Any], seconds: float = 60.0, what: str = "") -> Any:
    """Wait until `condition()` is true, and return it; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds} s in vain for {what or condition}")
        await asyncio.sleep(0.02)
    return value


def pytest_configure() -> None:
    """Ctrl+C and a hang-up reach what tests start, also where a shell put the tests into the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    gc.set_threshold(100_000, 20, 100)  # each app is a tree of cycles: looking for them takes a tenth of the time


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two processes for whole folders; for less, starting them would take longer than the tests."""
    return 2 if all(os.path.isdir(name.split("::")[0]) for name in config.args) else 0


@pytest.fixture(autouse=True)
def _english() -> Iterator[None]:
    i18n.use("en")
    yield
    i18n.use("en")


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """Folders of this test's own."""
    return Paths(tmp_path / "config", tmp_path / "data", tmp_path / "state", tmp_path / "cache")


@pytest.fixture
def fake_engine() -> Engine:
    return Engine(Path(sys.executable), "0.32.0", "cpu", "option")


@pytest.fixture
def fake_spec() -> Callable[..., ServerSpec]:
    """Makes specifications for the fake engine: `fake_spec("name", crash_after="…")`."""
    taken: list[int] = []

    def make(name: str = "fake", **options: Any) -> ServerSpec:
        port = free_port(first=max([PORTS - 1, *taken]) + 1)
        taken.append(port)
        restart = options.pop("restart", "no")
        host = options.pop("host", "127.0.0.1")
        environment = {"PYTHONPATH": str(FAKE_ENGINE), "FAKE_ENGINE": json.dumps({"pause": 0.005, **options})}
        return ServerSpec(name, "some/model", "fake-model", host=host, port=port, env=environment, restart=restart)

    return make


@pytest.fixture
async def servers(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Servers]:
    """A server service in this test's folders; nothing that it started outlives the test."""
    monkeypatch.setattr(service_module, "_STARTING_INTERVAL", 0.02)
    service = Servers(paths)
    yield service
    for status in service.list():
        if status.state.is_alive:
            await service.stop(status.name, grace=0.2)
    await service.close()
    with contextlib.suppress(pytest.fail.Exception):
        await until(lambda: not run_processes(paths), 10.0)  # a keeper's last breath
    left = run_processes(paths)
    for stat in left:
        os.kill(stat.pid, signal.SIGKILL)
    assert not left, f"processes were left: {left}"


async def nothing_is_left(paths: Paths) -> None:
    """Of the servers in `paths` no process is left; their keepers may be drawing their last breath."""
    assert run_processes(paths, with_keepers=False) == []
    await until(lambda: not run_processes(paths), what="the keepers' end")


def run_processes(paths: Paths, with_keepers: bool = True) -> list[processes.ProcessStat]:
    """Every process that carries a tag of a run launched in `paths`, and every keeper of it."""
    found = []
    tags = [json.loads(file.read_text())["id"] for file in paths.servers.glob("*/launch.json") if file.stat().st_size]
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        stat = processes.read_stat(int(entry.name))
        if stat is None or not stat.is_running:
            continue
        try:
            command = (entry / "cmdline").read_bytes().decode("utf-8", "replace")
        except OSError:
            continue
        if "keeper.py" in command and str(paths.servers) in command:
            found += [stat] if with_keepers else []
        elif any(processes.has_tag(stat.pid, tag) for tag in tags):
            found.append(stat)
    return found
