"""Which processes count as left over, whose they are, and ending them: on real processes of the fake engine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from qwen_tui.engine.find import Engine
from qwen_tui.hardware.gpus import Gpu, GpuProcess
from qwen_tui.paths import Paths
from qwen_tui.server import orphans, processes, registry
from qwen_tui.server.leftovers import Leftovers, step_words
from qwen_tui.server.orphans import Orphan, find_orphans
from qwen_tui.server.service import Servers
from qwen_tui.server.spec import ServerSpec
from tests.conftest import run_processes, until

MakeSpec = Callable[..., ServerSpec]


def in_session(session: int) -> list[processes.ProcessStat]:
    stats = (processes.read_stat(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [stat for stat in stats if stat and stat.session == session and stat.is_running]


def found_in(session: int, paths: Paths, gpus: list[Gpu] | None = None) -> list[Orphan]:
    """The orphans of this session; others may be on the machine."""
    pids = {stat.pid for stat in in_session(session)}
    return [o for o in find_orphans(registry.read_all(paths.servers), gpus or []) if o.pid in pids]


@pytest.fixture
async def stranger(fake_spec: MakeSpec) -> AsyncIterator[asyncio.subprocess.Process]:
    """A vLLM that somebody started by hand, its workers up."""
    spec = fake_spec()
    process = await asyncio.create_subprocess_exec(
        *spec.argv(sys.executable),
        env={**os.environ, **spec.env},
        stdout=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    await until(lambda: len(in_session(process.pid)) == 3, what="its workers")
    yield process
    for stat in in_session(process.pid):
        os.kill(stat.pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()


def gpu(*pids: int) -> Gpu:
    held = tuple(GpuProcess(pid, 3 * 2**30) for pid in pids)
    return Gpu(1, "GPU-1", "Fake", 80 * 2**30, 70 * 2**30, 10 * 2**30, processes=held)


async def test_a_server_that_runs_has_no_orphans(stranger: asyncio.subprocess.Process, paths: Paths) -> None:
    everything = gpu(*(stat.pid for stat in in_session(stranger.pid)))
    assert found_in(stranger.pid, paths, [everything]) == []


async def test_what_a_killed_server_left_is_found_and_ended(stranger: asyncio.subprocess.Process, paths: Paths) -> None:
    workers = {stat.pid for stat in in_session(stranger.pid)} - {stranger.pid}
    stranger.kill()
    await stranger.wait()
    found = found_in(stranger.pid, paths, [gpu(*workers)])
    assert {orphan.pid for orphan in found} == workers
    for orphan in found:
        assert (orphan.ours, orphan.server, orphan.is_this_users) == (False, "", True)
        assert (orphan.gpus, orphan.gpu_memory) == ((1,), 3 * 2**30)
        assert orphan.memory > 10**6
        assert 0 <= orphan.age < 60
    steps: list[str] = []
    assert await asyncio.to_thread(orphans.end, found, lambda code, _pids: steps.append(code)) == []
    assert steps == ["sigterm"]
    assert in_session(stranger.pid) == []


async def test_a_pid_that_was_taken_over_is_not_ended(stranger: asyncio.subprocess.Process, paths: Paths) -> None:
    stat = processes.read_stat(stranger.pid)
    assert stat
    old = Orphan(stranger.pid, stat.started - 1, "VLLM::x", os.geteuid(), 1.0, 0, None, (), True)
    other = Orphan(stranger.pid, stat.started, "VLLM::x", os.geteuid() + 1, 1.0, 0, None, (), True)
    assert orphans.end([old, other], lambda *_: pytest.fail("nothing is to be signalled")) == []
    assert processes.is_alive(stranger.pid, stat.started)


async def test_a_program_of_ones_own_on_a_gpu_is_none(paths: Paths) -> None:
    """Started in the background and left by its shell, as a training is."""
    shell = await asyncio.create_subprocess_exec(
        "sh", "-c", "sleep 60 >/dev/null & echo $!", stdout=-1, start_new_session=True
    )
    out, _err = await shell.communicate()
    pid = int(out)
    try:
        assert processes.read_stat(pid)
        assert pid not in {orphan.pid for orphan in find_orphans([], [gpu(pid)])}
    finally:
        os.kill(pid, signal.SIGKILL)


async def test_ours_are_known_by_their_run(
    servers: Servers, fake_engine: Engine, fake_spec: MakeSpec, paths: Paths
) -> None:
    await servers.start(fake_spec(), fake_engine)
    await servers.wait_ready("fake")
    record = registry.find(paths.servers, "fake")
    session = record.server[0]
    assert found_in(session, paths) == []
    os.kill(record.keeper or 0, signal.SIGKILL)
    await until(lambda: not servers.get("fake").kept)
    assert found_in(session, paths) == []  # the server lives, and can be adopted
    os.kill(session, signal.SIGKILL)
    await until(lambda: len(in_session(session)) == 2)
    found = found_in(session, paths)
    assert [(orphan.ours, orphan.server) for orphan in found] == [(True, "fake")] * 2
    leftovers = Leftovers(paths)
    await leftovers.look()
    pids = {orphan.pid for orphan in leftovers.orphans}
    assert not pids & {orphan.pid for orphan in found}, "the new keeper of their run ends them"
    await servers.refresh()
    await until(lambda: not run_processes(paths))


async def test_a_server_whose_record_was_deleted_is_ours(
    servers: Servers, fake_engine: Engine, fake_spec: MakeSpec, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    tag_of = orphans._tag

    def overwritten(pid: int) -> str:
        """As of vLLM's own processes, which write their title over their environment."""
        stat = processes.read_stat(pid)
        return "" if stat and stat.command.startswith("VLLM") else tag_of(pid)

    monkeypatch.setattr(orphans, "_tag", overwritten)
    await servers.start(fake_spec(), fake_engine)
    await servers.wait_ready("fake")
    session = registry.find(paths.servers, "fake").server[0]
    shutil.rmtree(paths.servers)
    found = found_in(session, paths)
    assert len(found) == 3
    assert all(orphan.ours for orphan in found)
    leftovers = Leftovers(paths)
    assert leftovers.is_due
    assert await leftovers.look()
    assert not leftovers.is_due
    pids = {orphan.pid for orphan in found}
    assert pids <= {orphan.pid for orphan in leftovers.orphans}
    steps: list[str] = []
    assert await leftovers.end(found, lambda code, pids: steps.append(step_words(code, pids))) == []
    await asyncio.sleep(0)  # the last step is told in the event loop
    assert steps[0].startswith("SIGTERM to ")
    assert not list(Path("/tmp").glob(f"qwen-tui-{found[0].run[:12]}-*")), "its sockets are left"
    assert in_session(session) == []
    assert not pids & {orphan.pid for orphan in leftovers.orphans}
