"""Faults at a server under its keeper: what dies, what goes on, what is told, and that no process is left."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from qwen_tui.engine.find import Engine
from qwen_tui.errors import ServerError, StartFailed
from qwen_tui.paths import Paths
from qwen_tui.server import launch, processes, registry
from qwen_tui.server.service import Servers
from qwen_tui.server.spec import ServerSpec
from qwen_tui.server.status import Phase, ServerState
from tests.conftest import nothing_is_left, run_processes, until

MakeSpec = Callable[..., ServerSpec]
ROOT = Path(__file__).parents[2]


def pids_of(paths: Paths, name: str) -> dict[str, int]:
    """The run's processes by role: keeper, api, core, worker."""
    record = registry.find(paths.servers, name)
    roles = {"VLLM::EngineCor": "core", "VLLM::Worker": "worker"}
    tagged = processes.members(-1, 0, record.launch["id"])
    found = {roles.get(stat.command, "api"): stat.pid for stat in tagged}
    return {**found, **({"keeper": record.keeper} if record.keeper else {})}


VICTIMS = ["api", "core", "worker", "keeper", "api keeper", "core keeper", "worker keeper", "api core"]


@pytest.mark.parametrize("phase", ["starting", "serving"])
async def test_kill_9(servers: Servers, fake_engine: Engine, fake_spec: MakeSpec, paths: Paths, phase: str) -> None:
    """Every victim at once, each a server of its own: the machine's cores are the limit, not the waiting."""

    async def one(victims: Sequence[str], spec: ServerSpec) -> None:
        name = spec.name
        await servers.start(spec, fake_engine)
        if phase == "serving":
            await servers.wait_ready(name)
        else:
            await until(lambda: (p := servers.get(name).start) and p.phase is Phase.WEIGHTS)
        await until(lambda: len(pids_of(paths, name)) == 4)
        before = pids_of(paths, name)
        for victim in victims:
            with contextlib.suppress(ProcessLookupError):  # the core ends by itself after its server
                os.kill(before[victim], signal.SIGKILL)
        if victims == ["keeper"]:
            await until(lambda: not servers.get(name).kept)
            assert await launch.adopt(registry.find(paths.servers, name))
            await until(lambda: servers.get(name).kept)
            after = pids_of(paths, name)
            assert {**after, "keeper": 0} == {**before, "keeper": 0}
            assert after["keeper"] != before["keeper"]
            assert servers.get(name).state is (ServerState.READY if phase == "serving" else ServerState.STARTING)
            await servers.stop(name, grace=0.5)
            assert servers.get(name).state is ServerState.STOPPED
        else:
            if "keeper" in victims:
                await until(lambda: not servers.get(name).kept)
                assert await launch.adopt(registry.find(paths.servers, name))
            await until(lambda: not servers.get(name).kept, what=f"the keeper's end after {victims}")
            status = servers.get(name)
            assert status.state is ServerState.FAILED
            if victims in (["api"], ["api", "core"]):
                assert status.exit
                assert status.exit.signal == signal.SIGKILL
            if victims == ["core"]:
                assert status.exit
                assert status.exit.code == 1
        assert pids_of(paths, name) == {}, victims

    stall = {"stall_after": "Starting to load"} if phase == "starting" else {}
    specs = [fake_spec(f"fake{number}", **stall) for number in range(len(VICTIMS))]
    await asyncio.gather(*(one(victims.split(), spec) for victims, spec in zip(VICTIMS, specs, strict=True)))


async def test_a_state_that_is_damaged_while_its_keeper_lives_is_written_anew(
    servers: Servers, fake_engine: Engine, fake_spec: MakeSpec, paths: Paths
) -> None:
    for name in ("looked-at", "stopped"):
        await servers.start(fake_spec(name), fake_engine)
        await servers.wait_ready(name)
        (paths.servers / name / "state.json").write_text('{"ver')
    await servers.stop("stopped", grace=0.5)  # with nobody having looked
    assert servers.get("stopped").state is ServerState.STOPPED

    await servers.refresh()
    await until(lambda: servers.get("looked-at").pid is not None, what="the state")
    assert servers.get("looked-at").state is ServerState.READY
    await servers.stop("looked-at", grace=0.5)
    await nothing_is_left(paths)


async def test_a_keeper_killed_while_it_stops_a_server_is_followed_by_one_that_goes_on(
    servers: Servers, fake_engine: Engine, fake_spec: MakeSpec, paths: Paths
) -> None:
    await servers.start(fake_spec(restart="on-failure"), fake_engine)
    await servers.wait_ready("fake")
    os.kill(pids_of(paths, "fake")["keeper"], signal.SIGKILL)
    await until(lambda: not servers.get("fake").kept)
    state_file = paths.servers / "fake" / "state.json"
    state_file.write_text(json.dumps({**json.loads(state_file.read_text()), "status": "stopping"}))
    await servers.refresh()
    await until(lambda: not servers.get("fake").kept)
    assert servers.get("fake").state is ServerState.STOPPED
    assert servers.get("fake").restarts == 0
    await nothing_is_left(paths)


STARTER = """
import asyncio, json, sys
from pathlib import Path
from qwen_tui.engine.find import Engine
from qwen_tui.paths import Paths
from qwen_tui.server.service import Servers
from qwen_tui.server.spec import ServerSpec
folder, spec = Path(sys.argv[1]), ServerSpec.from_json(json.loads(sys.argv[2]))
servers = Servers(Paths(folder / "config", folder / "data", folder / "state", folder / "cache"))
async def main():
    await servers.start(spec, Engine(Path(sys.executable), "1", "cpu", "option"))
    print("started", flush=True)
    await servers.wait_ready(spec.name)
    await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.mark.parametrize("how", ["hangup", "kill"])
async def test_the_terminal_hangs_up_or_the_client_is_killed_while_starting(
    servers: Servers, fake_spec: MakeSpec, paths: Paths, how: str
) -> None:
    spec = fake_spec(pause=0.005)
    master, slave = pty.openpty()

    def own_terminal() -> None:
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

    client = await asyncio.to_thread(
        subprocess.Popen,
        [sys.executable, "-c", STARTER, str(paths.state.parent), json.dumps(spec.to_json())],
        stdin=slave, stdout=slave, stderr=slave, cwd=ROOT, preexec_fn=own_terminal,
    )  # fmt: skip
    os.close(slave)
    assert b"started" in await asyncio.to_thread(os.read, master, 4096)
    if how == "kill":
        client.kill()
    os.close(master)
    assert await asyncio.to_thread(client.wait, 60) == (-signal.SIGKILL if how == "kill" else -signal.SIGHUP)
    status = await servers.wait_ready("fake")
    assert status.state is ServerState.READY
    assert status.kept


@pytest.fixture
def small_disk(tmp_path: Path, paths: Paths) -> Iterator[Path]:
    """paths.state on a file system of 256 KB of its own."""
    paths.state.mkdir(parents=True, mode=0o700)
    command = ["mount", "-t", "tmpfs", "-o", "size=256k,mode=0700", "none", str(paths.state)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("mounting a file system takes root")
    yield paths.state
    subprocess.run(["umount", "-l", str(paths.state)], check=True)


def fill(folder: Path) -> None:
    with contextlib.suppress(OSError), (folder / "filler").open("wb", buffering=0) as file:
        while file.write(bytes(1024)):
            pass


@pytest.mark.parametrize("end", ["stop", "crash"])
async def test_a_full_disk_under_log_and_state(
    small_disk: Path, servers: Servers, fake_engine: Engine, fake_spec: MakeSpec, paths: Paths, end: str
) -> None:
    await servers.start(fake_spec(stall_after="Using max model len"), fake_engine)
    pid = servers.get("fake").pid
    fill(small_disk)
    with pytest.raises(ServerError, match="could not be started"):
        await servers.start(fake_spec("other"), fake_engine)
    if end == "stop":
        await servers.stop("fake", grace=1)
    else:
        os.kill(pid or 0, signal.SIGKILL)
    await until(lambda: not servers.get("fake").kept)
    status = servers.get("fake")
    assert status.state is (ServerState.STOPPED if end == "stop" else ServerState.FAILED)
    await nothing_is_left(paths)
    await servers.refresh()
    assert not servers.get("fake").kept, "nothing is adopted again and again"


async def test_a_server_that_got_ready_on_a_full_disk_is_ready(
    small_disk: Path, servers: Servers, fake_engine: Engine, fake_spec: MakeSpec, paths: Paths
) -> None:
    await servers.start(fake_spec(pause=0.005), fake_engine)
    fill(small_disk)
    assert (await servers.wait_ready("fake")).state is ServerState.READY
    (status,) = await servers.refresh()
    assert status.state is ServerState.READY


async def test_a_late_adoption_leaves_what_has_ended_alone(
    servers: Servers, fake_engine: Engine, fake_spec: MakeSpec, paths: Paths
) -> None:
    await servers.start(fake_spec(), fake_engine)
    before = registry.find(paths.servers, "fake")
    await servers.stop("fake")
    assert not await launch.adopt(before)
    assert servers.get("fake").state is ServerState.STOPPED
    await servers.start(before.spec, fake_engine)
    assert not await launch.adopt(before)
    assert servers.get("fake").state is ServerState.STARTING


async def test_two_services_on_one_server(
    servers: Servers, fake_engine: Engine, fake_spec: MakeSpec, paths: Paths
) -> None:
    other = Servers(paths)
    spec = fake_spec()
    await servers.start(spec, fake_engine)
    first, second = await asyncio.gather(servers.wait_ready("fake"), other.wait_ready("fake"))
    assert first.pid == second.pid
    os.kill(pids_of(paths, "fake")["keeper"], signal.SIGKILL)
    await until(lambda: not other.get("fake").kept)
    await asyncio.gather(servers.refresh(), other.refresh(), servers.refresh(), other.refresh())
    await until(lambda: servers.get("fake").kept)
    assert len([stat for stat in run_processes(paths) if "python" in stat.command]) == 2  # the server and one keeper
    await asyncio.gather(servers.stop("fake"), other.stop("fake"))
    assert other.get("fake").state is ServerState.STOPPED
    await nothing_is_left(paths)
    # One stops while the other starts anew as soon as it may: neither hangs, and one server stands at the end.
    await servers.start(spec, fake_engine)

    async def start_when_possible() -> None:
        while True:
            with contextlib.suppress(ServerError):
                await other.start(spec, fake_engine)
                return
            await asyncio.sleep(0)

    await asyncio.wait_for(asyncio.gather(servers.stop("fake"), start_when_possible()), 60)
    await servers.wait_ready("fake")
    await other.close()


#: Seconds: far more than any start takes, however busy the machine is.
A_STEP = 86400.0


async def test_a_clock_that_steps(
    servers: Servers, fake_engine: Engine, fake_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = fake_spec(pause=0.01)
    await servers.start(spec, fake_engine)
    await servers.wait_ready("fake")
    await servers.stop("fake")
    await servers.start(spec, fake_engine)
    true_time = time.time
    monkeypatch.setattr(time, "time", lambda: true_time() + A_STEP)
    start = servers.get("fake").start
    assert start
    assert 0 <= start.elapsed < A_STEP / 2
    assert start.eta is not None
    assert 0 <= start.eta < A_STEP / 2
    status = await servers.wait_ready("fake")
    for changed in (A_STEP, -A_STEP):
        monkeypatch.setattr(time, "time", lambda step=changed: true_time() + step)
        started_at = servers.get("fake").started_at
        assert started_at
        assert -0.1 < time.time() - started_at < A_STEP / 2
    assert status.start
    assert all(0 <= seconds < A_STEP / 2 for _phase, seconds in status.start.phases)
    steps: list[float] = []
    await servers.stop("fake", lambda stop_step: steps.append(stop_step.at))
    assert steps
    assert all(0 <= at < A_STEP / 2 for at in steps)


async def test_a_crash_loop_ends(
    servers: Servers, fake_engine: Engine, fake_spec: MakeSpec, paths: Paths,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    hurried = tmp_path / "keeper.py"
    hurried.write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom qwen_tui.server import keeper\n"
        "keeper.BACKOFF_FIRST = keeper.BACKOFF_MOST = 0.05; keeper.FAILURES_MOST = 3\n"
        "sys.exit(keeper.main(sys.argv[1:]))\n"
    )
    monkeypatch.setattr(launch, "_KEEPER", hurried)
    await servers.start(fake_spec(crash_after="non-default", restart="on-failure"), fake_engine)
    tries: set[float] = set()

    def ended() -> bool:
        status = servers.get("fake")
        tries.update({status.next_try} - {None})
        return not status.kept

    await until(ended, what="the keeper to give up")
    assert tries
    assert max(tries) <= 0.05
    with pytest.raises(StartFailed, match="3 times in a row"):
        await servers.wait_ready("fake")
    assert servers.get("fake").restarts == 2
    await nothing_is_left(paths)


async def test_a_keeper_that_cannot_open_the_log_says_so(
    servers: Servers, fake_engine: Engine, fake_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = launch._write_launch

    def spoil(*arguments: object) -> registry.Record:
        record = write(*arguments)  # type: ignore[arg-type]
        record.log.unlink()
        record.log.mkdir()
        return record

    monkeypatch.setattr(launch, "_write_launch", spoil)
    with pytest.raises(ServerError) as caught:
        await servers.start(fake_spec(), fake_engine)
    assert "Is a directory" in caught.value.why


async def test_starting_and_stopping_leaves_no_descriptor_open(
    servers: Servers, fake_engine: Engine, fake_spec: MakeSpec, paths: Paths
) -> None:
    spec = fake_spec(pause=0.0)
    counts = []
    for _cycle in range(5):
        await servers.start(spec, fake_engine)
        await servers.wait_ready("fake")
        await servers.stop("fake")
        counts.append(len(os.listdir("/proc/self/fd")))
    assert len(set(counts[1:])) == 1, counts
