"""What is told of a start: while its keeper begins, between two tries, and where its sockets are."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from qwen_tui.engine.find import Engine
from qwen_tui.errors import ServerError
from qwen_tui.paths import Paths, private_folder
from qwen_tui.server import launch, registry, sockets
from qwen_tui.server.phases import PhaseReader
from qwen_tui.server.service import Servers
from qwen_tui.server.spec import ServerSpec
from qwen_tui.server.status import ServerState
from tests.conftest import until

MakeSpec = Callable[..., ServerSpec]


async def test_a_run_whose_keeper_only_begins_is_starting_and_is_not_adopted(
    servers: Servers, fake_engine: Engine, fake_spec: MakeSpec, paths: Paths
) -> None:
    """As between `launch.json` and the keeper's first word, when a failed server is started anew."""
    folder = private_folder(paths.servers / "fake")
    launch._write_launch(folder, fake_spec(), fake_engine)
    (status,) = await servers.refresh()
    assert (status.state, status.kept, status.pid) == (ServerState.STARTING, True, None)
    assert not (folder / "keeper.lock").exists(), "a keeper was started to adopt it"
    os.utime(folder / "launch.json", (1.0, 1.0))
    assert servers.get("fake").state is ServerState.FAILED


async def test_between_two_tries_it_says_when_which_and_why(
    servers: Servers, fake_engine: Engine, fake_spec: MakeSpec, paths: Paths
) -> None:
    spec = fake_spec(restart="on-failure", crash_after="Starting to load model")
    await servers.start(spec, fake_engine)
    await until(lambda: registry.find(paths.servers, "fake").state.get("failures") == 2, what="the second failure")
    (status,) = await servers.refresh()
    assert status.state is ServerState.STARTING
    assert status.next_try is not None
    assert 0 <= status.next_try <= 2.0
    assert (status.failures, status.failures_most) == (2, 10)
    assert "nothing is left for the KV cache" in status.cause
    assert status.start is None
    assert status.exit is not None
    assert status.exit.code == 1
    assert status.to_json()["failures"] == 2
    await servers.stop("fake")
    assert servers.get("fake").state is ServerState.STOPPED


def test_phases_are_those_of_the_last_start_in_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("Capturing CUDA graphs 3/7\n")
    reader = PhaseReader(log, log.stat().st_size)
    with log.open("a") as file:
        file.write("Resolved architecture: LlamaForCausalLM\n")
    reader.update()
    assert reader.phase.value == "resolve"
    log.write_text("Loading model weights took\n")  # what was in it went elsewhere
    reader.update()
    assert reader.phase.value == "weights"


async def test_the_sockets_of_a_killed_server_go_with_it(
    servers: Servers, fake_engine: Engine, fake_spec: MakeSpec, paths: Paths
) -> None:
    status = await servers.start(fake_spec(), fake_engine)
    variables = Path(f"/proc/{status.pid}/environ").read_bytes().decode().split("\0")
    folder = Path(next(text for text in variables if text.startswith(sockets.VARIABLE)).partition("=")[2])
    assert folder.stat().st_mode & 0o777 == 0o700
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "a5a1bd1e-1b9a-4f4f-9d52-0d2fb2e2e0b2"))
    os.kill(status.pid or 0, signal.SIGKILL)
    await until(lambda: not servers.get("fake").kept)
    assert not folder.exists()


def test_the_folder_of_sockets_is_short_and_ones_own(tmp_path: Path) -> None:
    run = uuid.uuid4().hex
    long = tmp_path / ("x" * 60)
    long.mkdir()
    made = sockets.make_folder(run, 0, {"TMPDIR": str(long)})
    try:
        assert made.startswith("/tmp/qwen-tui-")
        assert not sockets.make_folder(run, 0, {}), "a folder that is there may be anybody's"
    finally:
        sockets.remove_folders(run, {})
    assert not Path(made).exists()
    assert sockets.make_folder(run, 1, {sockets.VARIABLE: "/elsewhere"}) == ""


def test_what_is_no_socket_of_it_is_left() -> None:
    run = uuid.uuid4().hex
    made, other = (Path(sockets.make_folder(name, 0, {})) for name in (run, uuid.uuid4().hex))
    try:
        (made / "kept").mkdir()
        (made / "socket").touch()
        sockets.remove_folders(run, {})
        assert [entry.name for entry in made.iterdir()] == ["kept"]
        assert other.exists()
    finally:
        shutil.rmtree(made)
        other.rmdir()


async def test_no_folder_stays_of_a_start_that_could_not_be(
    servers: Servers, fake_spec: MakeSpec, tmp_path: Path, paths: Paths
) -> None:
    with pytest.raises(ServerError):
        await servers.start(fake_spec(), Engine(tmp_path / "none", "0.32.0", "cpu", "option"))
    run = json.loads((paths.servers / "fake" / "launch.json").read_text())["id"]
    assert not list(Path("/tmp").glob(f"qwen-tui-{run[:12]}-*"))


async def test_a_list_reads_no_log_and_a_look_tells_the_cause(
    servers: Servers, fake_engine: Engine, fake_spec: MakeSpec
) -> None:
    await servers.start(fake_spec(crash_after="Starting to load model"), fake_engine)
    await until(lambda: not servers.list()[0].kept, what="its end")
    (listed,) = servers.list()
    assert (listed.state, listed.cause) == (ServerState.FAILED, "")
    (looked,) = await servers.refresh()
    assert "nothing is left for the KV cache" in looked.cause
    assert servers.list()[0].cause == looked.cause
