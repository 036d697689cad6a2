"""What the UI tests share: servers that live in memory, the app around them, and waiting for a condition."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from textual.content import Content
from textual.pilot import Pilot

from qwen_tui import i18n
from qwen_tui.engine.find import Engine
from qwen_tui.errors import ServerError, ServerNotFound
from qwen_tui.hardware.gpus import Gpu
from qwen_tui.hardware.host import Host
from qwen_tui.hardware.machine import Machine, MachineState
from qwen_tui.paths import Paths
from qwen_tui.server.leftovers import Leftovers
from qwen_tui.server.orphans import Orphan
from qwen_tui.server.service import Servers, StopStep
from qwen_tui.server.spec import ServerSpec
from qwen_tui.server.status import ExitRecord, Phase, ServerState, ServerStatus, StartProgress
from qwen_tui.settings import Settings
from qwen_tui.ui.app import QwenApp
from qwen_tui.ui.services import Services
from tests.ui.idle import use_exact_idling
from tests.ui.style_sheets import SharedRules

#: The moment at which every UI test takes place: Unix time.
NOW = 1_800_000_000.0
ENGINE = Engine(Path("/opt/engine/bin/python"), "0.24.0", "cuda", "managed")


class FakeServers:
    """`Servers` in memory, with the same methods; the test sets `statuses` and reads `calls`."""

    def __init__(self, *statuses: ServerStatus) -> None:
        self.statuses: dict[str, ServerStatus] = {status.name: status for status in statuses}
        self.calls: list[tuple[str, object]] = []
        self.refresh_error: Exception | None = None
        self.stop_error: Exception | None = None
        self.start_error: Exception | None = None
        #: While set, `stop` waits here between its first and its second step.
        self.stop_gate: asyncio.Event | None = None
        self.refreshes = 0

    def put(self, status: ServerStatus) -> None:
        self.statuses[status.name] = status

    def list(self) -> Sequence[ServerStatus]:
        return [self.statuses[name] for name in sorted(self.statuses)]

    async def refresh(self) -> Sequence[ServerStatus]:
        self.refreshes += 1
        if self.refresh_error is not None:
            raise self.refresh_error
        return self.list()

    def get(self, name: str) -> ServerStatus:
        if name not in self.statuses:
            raise ServerNotFound(f"There is no server {name}")
        return self.statuses[name]

    async def start(self, spec: ServerSpec, engine: Engine) -> ServerStatus:
        self.calls.append(("start", spec))
        if self.start_error is not None:
            raise self.start_error
        status = starting(spec.name, spec=spec)
        self.put(status)
        return status

    async def wait_ready(self, name: str, on_progress: Callable[[StartProgress], None] | None = None) -> ServerStatus:
        return self.get(name)

    async def stop(self, name: str, on_step: Callable[[StopStep], None] | None = None, grace: float = 15.0) -> None:
        self.calls.append(("stop", name))
        status = self.get(name)
        if on_step is not None:
            on_step(StopStep("SIGTERM to 1234", 0.0))
        if self.stop_gate is not None:
            await self.stop_gate.wait()
        if self.stop_error is not None:
            raise self.stop_error
        if on_step is not None:
            on_step(StopStep("all 3 processes have ended", 1.25))
        ended = ExitRecord(0, None, NOW, True)
        self.put(dataclasses.replace(status, state=ServerState.STOPPED, pid=None, exit=ended))

    async def close(self) -> None:
        self.calls.append(("close", None))

    def forget(self, name: str) -> None:
        self.calls.append(("forget", name))
        if self.get(name).state.is_alive:
            raise ServerError(f"{name} runs")
        del self.statuses[name]


class StillMachine:
    """`Machine` of which nothing changes; the test sets `state`, by default two cores and no GPU."""

    def __init__(self) -> None:
        host = Host(memory_total=24_000_000_000, memory_available=15_000_000_000, swap_free=0, cores=2, load=0.75)
        self.state = MachineState(0.0, (), host, 0.37)

    async def read(self) -> MachineState:
        return self.state


class StillLeftovers:
    """`Leftovers` that finds what the test puts into `orphans`; `ended` has what was to be ended."""

    is_due = False

    def __init__(self) -> None:
        self.orphans: Sequence[Orphan] = ()
        self.ended: list[int] = []

    async def look(self, gpus: Sequence[Gpu] = ()) -> bool:
        return True

    async def end(self, orphans: Sequence[Orphan], on_step: Callable[[str, list[int]], None]) -> Sequence[int]:
        pids = [orphan.pid for orphan in orphans]
        on_step("sigterm", pids)
        self.ended += pids
        self.orphans = [orphan for orphan in self.orphans if orphan.pid not in pids]
        return []


def ready(name: str = "Qwen2-7B-Instruct", **changes: Any) -> ServerStatus:
    """A server that has answered for an hour and five minutes."""
    spec = changes.pop("spec", None) or ServerSpec(name=name, model=f"qwen/{name}", served_model_name="qwen2")
    status = ServerStatus(
        spec=spec,
        state=ServerState.READY,
        log=Path(f"/home/ann/.local/state/qwen-tui/servers/{name}/server.log"),
        pid=4711,
        started_at=NOW - 3900,
        engine_python="/home/ann/.local/share/qwen-tui/engine/bin/python",
        engine_version="0.24.0",
    )
    return dataclasses.replace(status, **changes)


def starting(name: str = "Qwen2-7B-Instruct", **changes: Any) -> ServerStatus:
    """A server 40 s into its start, loading the second shard of four."""
    progress = StartProgress(
        phase=Phase.WEIGHTS,
        done=2,
        total=4,
        elapsed=40.0,
        eta=22.0,
        phases=((Phase.SPAWN, 6.0), (Phase.RESOLVE, 9.0), (Phase.ENGINE, 12.0), (Phase.WEIGHTS, 13.0)),
    )
    return ready(name, **{"state": ServerState.STARTING, "started_at": NOW - 40, "start": progress, **changes})


def failed(name: str = "Qwen2-7B-Instruct", **changes: Any) -> ServerStatus:
    """A server that ran out of memory while it loaded."""
    cause = (
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.02 GiB. "
        "GPU 0 has a total capacity of 23.64 GiB of which 312.00 MiB is free."
    )
    ended = ExitRecord(1, None, NOW - 60, False)
    return ready(name, **{"state": ServerState.FAILED, "pid": None, "exit": ended, "cause": cause, **changes})


def stopped(name: str = "Qwen2-7B-Instruct", **changes: Any) -> ServerStatus:
    """A server that somebody stopped."""
    ended = ExitRecord(0, None, NOW - 60, True)
    return ready(name, **{"state": ServerState.STOPPED, "pid": None, "exit": ended, **changes})


async def wait_until(pilot: Pilot[None], condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Let the app work until `condition` holds; fails after `seconds`."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "the condition did not come true"
        await asyncio.sleep(0.005)
    await pilot.pause()


@pytest.fixture(scope="session")
def shared_rules() -> SharedRules:
    return SharedRules()


@pytest.fixture(autouse=True)
def _quick_and_exact(monkeypatch: pytest.MonkeyPatch, shared_rules: SharedRules) -> None:
    shared_rules.install(monkeypatch)
    use_exact_idling(monkeypatch)
    monkeypatch.delenv("SSH_CONNECTION", raising=False)  # where the tests run by ssh, the pictures are the same


@pytest.fixture(params=["en", "zh_CN"])
def language(request: pytest.FixtureRequest) -> str:
    """Each language in turn, for tests that look at a whole screen."""
    return str(request.param)


@pytest.fixture(autouse=True)
def _english_again() -> Iterator[None]:
    yield
    i18n.use("en")


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Services:
    """Services over no servers, with everything written under the test's own folder; English."""
    monkeypatch.delenv("TMUX", raising=False)  # what is copied must not reach the buffers of whoever runs the tests
    paths = Paths(tmp_path / "config", tmp_path / "data", tmp_path / "state", tmp_path / "cache")
    services = Services(
        paths=paths,
        settings=Settings(language="en"),
        servers=cast(Servers, FakeServers()),
        find_engine=lambda _paths, _setting: ENGINE,
        free_port=lambda _host, first: first,
        clock=lambda: NOW,
    )
    services.machine = cast(Machine, StillMachine())
    services.leftovers = cast(Leftovers, StillLeftovers())
    return services


def with_servers(services: Services, *statuses: ServerStatus) -> FakeServers:
    """Give `services` these servers; returns the fake for the test to change and ask."""
    fake = FakeServers(*statuses)
    services.servers = cast(Servers, fake)
    return fake


@asynccontextmanager
async def running(
    services: Services, room: str = "servers", size: tuple[int, int] = (80, 24)
) -> AsyncIterator[tuple[QwenApp, Pilot[None]]]:
    """The app on a screen of `size`, after its first look at the servers; no worker of it may fail."""
    app = QwenApp(services, room)
    async with app.run_test(size=size) as pilot:
        await wait_until(pilot, lambda: app.looked or bool(app.failures))
        await pilot.pause()
        yield app, pilot
    assert app.failures == []


def drawn(app: QwenApp, widget: type[Any]) -> str:
    """The text that a one-line widget of the shown room draws."""
    content = app.screen_stack[0].query_one(widget).render()
    assert isinstance(content, Content)
    return content.plain


def notices(app: QwenApp) -> str:
    """Everything that the app has notified of."""
    return "\n".join(f"{notice.title} {notice.message}" for notice in app._notifications)
