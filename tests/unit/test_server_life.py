"""The whole life of a server under its keeper, with the fake engine: start, ready, stop, and every way of dying."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat as stat_module
from collections.abc import Callable
from pathlib import Path

import pytest

from qwen_tui.engine.find import Engine
from qwen_tui.errors import ServerError, ServerNotFound, StartFailed
from qwen_tui.paths import Paths
from qwen_tui.server import processes, registry, service
from qwen_tui.server.service import Servers, StopStep
from qwen_tui.server.spec import ServerSpec
from qwen_tui.server.status import Phase, ServerState, StartProgress
from tests.conftest import nothing_is_left, run_processes, until

MakeSpec = Callable[..., ServerSpec]


def keeper_pid(paths: Paths, name: str = "fake") -> int:
    return int(registry.find(paths.servers, name).state["keeper"]["pid"])


async def start(servers: Servers, engine: Engine, spec: ServerSpec) -> int:
    """Start and wait until ready; the server's pid."""
    await servers.start(spec, engine)
    status = await servers.wait_ready(spec.name)
    assert status.pid
    return status.pid


async def test_start_reports_phases_then_is_ready(
    servers: Servers, fake_engine: Engine, fake_spec: MakeSpec, paths: Paths
) -> None:
    seen: list[StartProgress] = []
    status = await servers.start(fake_spec(pause=0.05), fake_engine)
    assert status.state is ServerState.STARTING
    assert status.pid
    status = await servers.wait_ready("fake", seen.append)
    assert status.state is ServerState.READY
    assert seen[-1].phase is Phase.READY
    phases = [progress.phase for progress in seen]
    assert phases == sorted(phases, key=list(Phase).index)
    assert Phase.WEIGHTS in phases
    # A second look by somebody else sees the same, and what each phase took.
    other = Servers(paths).get("fake")
    assert other.state is ServerState.READY
    assert status.start is not None
    assert other.start is not None
    assert [phase for phase, _seconds in other.start.phases] == [phase for phase, _seconds in status.start.phases]
    assert other.start.elapsed == pytest.approx(status.start.elapsed, abs=0.01)
    assert {s.command for s in run_processes(paths)} >= {"VLLM::EngineCor", "VLLM::Worker"}


async def test_a_start_that_was_not_seen_from_its_beginning_makes_up_no_times(
    servers: Servers, fake_engine: Engine, fake_spec: MakeSpec, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    await servers.start(fake_spec(stall_after="Starting to load model"), fake_engine)
    await until(lambda: servers.get("fake").start.phase is Phase.WEIGHTS, what="the weights")  # type: ignore[union-attr]
    monkeypatch.setattr(service, "_BLINK", 0.0)  # however soon it looks, it comes late
    late = Servers(paths)
    progress = late.get("fake").start
    assert progress is not None
    assert [phase for phase, _seconds in progress.phases] == [Phase.WEIGHTS]
    assert progress.phases[0][1] < progress.elapsed


async def test_second_start_knows_its_eta(servers: Servers, fake_engine: Engine, fake_spec: MakeSpec) -> None:
    spec = fake_spec(pause=0.05)
    await start(servers, fake_engine, spec)
    await servers.stop("fake")
    seen: list[StartProgress] = []
    await servers.start(spec, fake_engine)
    await servers.wait_ready("fake", seen.append)
    assert seen[0].eta is not None
    assert seen[0].eta > 0


async def test_stop_shows_its_steps_and_leaves_nothing(
    servers: Servers, fake_engine: Engine, fake_spec: MakeSpec, paths: Paths
) -> None:
    await start(servers, fake_engine, fake_spec())
    steps: list[StopStep] = []
    await servers.stop("fake", steps.append)
    assert len(steps) >= 3
    assert steps[-1].text == "no process of it is left"
    assert servers.get("fake").state is ServerState.STOPPED
    await nothing_is_left(paths)


async def test_stop_kills_what_ignores_sigterm(
    servers: Servers, fake_engine: Engine, fake_spec: MakeSpec, paths: Paths
) -> None:
    await start(servers, fake_engine, fake_spec(ignore_sigterm=True, children=2))
    steps: list[StopStep] = []
    await servers.stop("fake", steps.append, grace=0.3)
    assert any("SIGKILL" in step.text for step in steps)
    await nothing_is_left(paths)


async def test_children_outside_the_session_end_too(
    servers: Servers, fake_engine: Engine, fake_spec: MakeSpec, paths: Paths
) -> None:
    await start(servers, fake_engine, fake_spec(child_setsid=True))
    await servers.stop("fake")
    await nothing_is_left(paths)


async def test_kill_9_of_the_server_ends_its_children(
    servers: Servers, fake_engine: Engine, fake_spec: MakeSpec, paths: Paths
) -> None:
    pid = await start(servers, fake_engine, fake_spec())
    os.kill(pid, signal.SIGKILL)
    await until(lambda: not run_processes(paths), what="the children to be ended")
    status = servers.get("fake")
    assert status.state is ServerState.FAILED
    assert status.exit is not None
    assert status.exit.signal == signal.SIGKILL


async def test_kill_9_of_the_keeper_leaves_the_server_and_a_new_one_adopts(
    servers: Servers, fake_engine: Engine, fake_spec: MakeSpec, paths: Paths
) -> None:
    pid = await start(servers, fake_engine, fake_spec())
    old_keeper = keeper_pid(paths)
    log = servers.get("fake").log
    os.kill(old_keeper, signal.SIGKILL)
    await until(lambda: not servers.get("fake").kept, what="the lock to be free")
    assert servers.get("fake").pid == pid
    size = log.stat().st_size
    (status,) = await servers.refresh()
    assert status.state is ServerState.READY
    await until(lambda: servers.get("fake").kept, what="the new keeper")
    assert keeper_pid(paths) != old_keeper
    assert log.stat().st_size >= size  # the health check's access line
    await servers.stop("fake")
    await nothing_is_left(paths)


async def test_server_that_dies_unkept_is_cleaned_up_later(
    servers: Servers, fake_engine: Engine, fake_spec: MakeSpec, paths: Paths
) -> None:
    pid = await start(servers, fake_engine, fake_spec())
    os.kill(keeper_pid(paths), signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    await until(lambda: not servers.get("fake").kept, what="the lock to be free")
    await until(lambda: not ((stat := processes.read_stat(pid)) and stat.is_running), what="the server's death")
    assert run_processes(paths)  # its engine core lives on
    await servers.refresh()
    await until(lambda: not run_processes(paths), what="the remains to be ended")
    assert servers.get("fake").state is ServerState.FAILED


async def test_adopted_server_that_crashes_is_noticed(
    servers: Servers, fake_engine: Engine, fake_spec: MakeSpec, paths: Paths
) -> None:
    pid = await start(servers, fake_engine, fake_spec())
    os.kill(keeper_pid(paths), signal.SIGKILL)
    await until(lambda: not servers.get("fake").kept)
    await servers.refresh()
    os.kill(pid, signal.SIGKILL)
    await until(lambda: not run_processes(paths), what="the adopted session to be ended")
    assert servers.get("fake").state is ServerState.FAILED


@pytest.mark.parametrize("content", ["", "{", '{"status": "runn', "[1]", "null"])
async def test_damaged_state_is_made_anew(
    servers: Servers, fake_engine: Engine, fake_spec: MakeSpec, paths: Paths, content: str
) -> None:
    pid = await start(servers, fake_engine, fake_spec())
    os.kill(keeper_pid(paths), signal.SIGKILL)
    await until(lambda: not servers.get("fake").kept)
    (paths.servers / "fake" / "state.json").write_text(content)
    await servers.refresh()
    await until(lambda: servers.get("fake").pid == pid, what="the server to be found by its tag")
    await servers.stop("fake")
    await nothing_is_left(paths)


async def test_reused_pid_is_not_taken_for_the_server(
    servers: Servers, fake_engine: Engine, fake_spec: MakeSpec, paths: Paths
) -> None:
    await start(servers, fake_engine, fake_spec())
    await servers.stop("fake")
    stranger = await asyncio.create_subprocess_exec("sleep", "60", start_new_session=True)
    state_file = paths.servers / "fake" / "state.json"
    state = json.loads(state_file.read_text())
    state.update(status="running", server={"pid": stranger.pid, "started": 1}, exit=None)
    state_file.write_text(json.dumps(state))
    assert servers.get("fake").pid is None
    await servers.refresh()
    await until(lambda: servers.get("fake").state is ServerState.FAILED)
    await until(lambda: not servers.get("fake").kept)
    assert stranger.returncode is None
    assert processes.read_stat(stranger.pid) is not None
    stranger.kill()
    await stranger.wait()


async def test_earlier_boot_means_failed(
    servers: Servers, fake_engine: Engine, fake_spec: MakeSpec, paths: Paths
) -> None:
    await start(servers, fake_engine, fake_spec())
    await servers.stop("fake")
    state_file = paths.servers / "fake" / "state.json"
    state = json.loads(state_file.read_text())
    state.update(status="running", boot="another", server={"pid": os.getpid(), "started": 1}, exit=None)
    state_file.write_text(json.dumps(state))
    (status,) = await servers.refresh()
    assert status.state is ServerState.FAILED
    assert "restarted" in status.cause


async def test_crash_while_starting_names_the_root_cause(
    servers: Servers, fake_engine: Engine, fake_spec: MakeSpec, paths: Paths
) -> None:
    await servers.start(fake_spec(crash_after="KV cache size"), fake_engine)
    with pytest.raises(StartFailed) as caught:
        await servers.wait_ready("fake")
    assert "nothing is left for the KV cache" in caught.value.why
    assert "exit status 1" in caught.value.title
    await nothing_is_left(paths)


async def test_stalled_start_can_be_stopped(
    servers: Servers, fake_engine: Engine, fake_spec: MakeSpec, paths: Paths
) -> None:
    await servers.start(fake_spec(stall_after="Starting to load"), fake_engine)
    waiting = asyncio.create_task(servers.wait_ready("fake"))
    await until(lambda: (p := servers.get("fake").start) and p.phase is Phase.WEIGHTS)
    await servers.stop("fake", grace=0.5)
    with pytest.raises(StartFailed):
        await waiting
    assert servers.get("fake").state is ServerState.STOPPED
    await nothing_is_left(paths)


async def test_restart_on_failure_with_back_off_until_stopped(
    servers: Servers, fake_engine: Engine, fake_spec: MakeSpec, paths: Paths
) -> None:
    pid = await start(servers, fake_engine, fake_spec(restart="on-failure"))
    os.kill(pid, signal.SIGKILL)
    await until(lambda: servers.get("fake").restarts == 1, what="the restart")
    status = await servers.wait_ready("fake")
    assert status.pid != pid
    os.kill(status.pid or 0, signal.SIGKILL)
    await until(lambda: registry.find(paths.servers, "fake").state["status"] == "waiting", what="the back-off")
    assert servers.get("fake").state is ServerState.STARTING
    await servers.stop("fake")
    assert servers.get("fake").state is ServerState.STOPPED
    await nothing_is_left(paths)


async def test_two_starts_of_one_name(servers: Servers, fake_engine: Engine, fake_spec: MakeSpec) -> None:
    spec = fake_spec(pause=0.05)
    results = await asyncio.gather(
        servers.start(spec, fake_engine), servers.start(spec, fake_engine), return_exceptions=True
    )
    assert sorted(type(result).__name__ for result in results) == ["ServerError", "ServerStatus"]
    with pytest.raises(ServerError, match="runs already"):
        await servers.start(spec, fake_engine)


async def test_taken_port_is_refused_with_a_free_one(
    servers: Servers, fake_engine: Engine, fake_spec: MakeSpec
) -> None:
    spec = fake_spec()
    listener = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", spec.port)
    async with listener:
        with pytest.raises(ServerError, match="is taken") as caught:
            await servers.start(spec, fake_engine)
    assert any(character.isdigit() for character in caught.value.hint)


@pytest.mark.parametrize("host", ["192.0.2.77", "no such host!"])
async def test_a_host_nobody_here_can_listen_on(
    servers: Servers, fake_engine: Engine, fake_spec: MakeSpec, host: str
) -> None:
    with pytest.raises(ServerError, match="Can't listen on"):
        await servers.start(fake_spec(host=host), fake_engine)


async def test_missing_interpreter_is_an_error_with_a_hint(servers: Servers, fake_spec: MakeSpec) -> None:
    with pytest.raises(ServerError) as caught:
        await servers.start(fake_spec(), Engine(Path("/nowhere/python"), "1", "cpu", "option"))
    assert "No such file" in caught.value.why
    assert "qwen-tui setup" in caught.value.hint


async def test_another_host_gets_a_key_by_environment_only(
    servers: Servers, fake_engine: Engine, fake_spec: MakeSpec, paths: Paths
) -> None:
    spec = fake_spec(host="0.0.0.0")
    pid = await start(servers, fake_engine, spec)
    status = servers.get("fake")
    assert status.api_key
    assert status.api_key.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert status.api_key not in status.spec.shell_command("python")
    assert status.api_key not in json.dumps(status.to_json())


async def test_files_are_private(servers: Servers, fake_engine: Engine, fake_spec: MakeSpec, paths: Paths) -> None:
    await start(servers, fake_engine, fake_spec())
    for path in [paths.servers, *paths.servers.rglob("*")]:
        mode = stat_module.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path


async def test_a_server_that_stops_answering_is_shown_so(
    servers: Servers, fake_engine: Engine, fake_spec: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qwen_tui.server import health

    hang = tmp_path / "hang"
    await start(servers, fake_engine, fake_spec(hang_health=str(hang)))
    monkeypatch.setattr(health, "_PATIENCE", 0.3)
    monkeypatch.setattr(health, "_READY_INTERVAL", 0.0)
    await servers.refresh()
    hang.touch()
    (status,) = await servers.refresh()
    assert status.state is ServerState.UNRESPONSIVE
    hang.unlink()
    (status,) = await servers.refresh()
    assert status.state is ServerState.READY


async def test_forget_deletes_only_what_does_not_run(
    servers: Servers, fake_engine: Engine, fake_spec: MakeSpec, paths: Paths
) -> None:
    await start(servers, fake_engine, fake_spec())
    with pytest.raises(ServerError, match="stop it first"):
        servers.forget("fake")
    await servers.stop("fake")
    servers.forget("fake")
    assert servers.list() == []
    with pytest.raises(ServerNotFound):
        servers.get("../fake")


async def test_the_keeper_outlives_a_hangup_and_a_full_record(
    servers: Servers, fake_engine: Engine, fake_spec: MakeSpec, paths: Paths
) -> None:
    pid = await start(servers, fake_engine, fake_spec())
    keeper = keeper_pid(paths)
    os.kill(keeper, signal.SIGHUP)
    os.kill(keeper, signal.SIGINT)
    assert processes.read_stat(keeper) is not None
    assert processes.read_stat(pid) is not None
    steps: list[StopStep] = []
    await servers.stop("fake", steps.append)
    assert not any("SIGKILL" in step.text for step in steps)
