"""The demo's order of things on the fake engine: a model from a hub, a server, reuse, failure, Ctrl-C."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from qwen_tui import demo
from qwen_tui.demo import DemoOptions, prepare_demo
from qwen_tui.engine.find import Engine
from qwen_tui.errors import ModelError, StartFailed
from qwen_tui.paths import Paths
from qwen_tui.progress import Progress
from qwen_tui.server.launch import free_port
from qwen_tui.server.service import Servers
from qwen_tui.server.status import ServerState, StartProgress
from qwen_tui.settings import Settings
from tests.conftest import FAKE_ENGINE, PORTS, until
from tests.fakes.hub import FakeHub

FILES = {"config.json": b"{}", "model.safetensors": b"0" * 100_000}


def nobody(progress: Progress | StartProgress) -> None:
    """Listens to nothing."""


@pytest.fixture(autouse=True)
def _on_the_fake_engine(fake_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "find_engine", lambda paths, setting, option: fake_engine)
    monkeypatch.setenv("PYTHONPATH", str(FAKE_ENGINE))
    monkeypatch.setenv("FAKE_ENGINE", json.dumps({"pause": 0.005}))
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("MODELSCOPE_HOME", str(tmp_path / "hub-home"))


def options(model: str) -> DemoOptions:
    return DemoOptions(model=model, port=free_port(first=PORTS + 70))


async def test_a_model_of_a_hub_ends_in_a_server_that_answers_and_is_found_again(
    paths: Paths, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Progress] = []
    with FakeHub(FILES, "qwen/Tiny-1B") as hub:
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", hub.url)
        first = await prepare_demo(paths, Settings(), servers, options(hub.model), seen.append, nobody)
        assert first.started
        assert first.server.state is ServerState.READY
        assert first.server.model_name == "Tiny-1B"
        assert (Path(first.server.spec.model) / "model.safetensors").read_bytes() == FILES["model.safetensors"]
        assert "Downloading qwen/Tiny-1B" in {progress.step for progress in seen}

        again = await prepare_demo(paths, Settings(), servers, options(hub.model), nobody, nobody)
    assert not again.started
    assert again.server.pid == first.server.pid


async def test_a_start_that_fails_is_an_error_and_leaves_no_process(
    paths: Paths, servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_ENGINE", json.dumps({"pause": 0.005, "crash_after": "Starting to load model"}))
    (tmp_path / "model").mkdir()
    with pytest.raises(StartFailed):
        await prepare_demo(paths, Settings(), servers, options(str(tmp_path / "model")), nobody, nobody)
    assert not servers.get("model").state.is_alive


async def test_stopped_during_the_start_it_stops_the_server_it_started(
    paths: Paths, servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_ENGINE", json.dumps({"pause": 30}))
    (tmp_path / "model").mkdir()
    task = asyncio.create_task(
        prepare_demo(paths, Settings(), servers, options(str(tmp_path / "model")), nobody, nobody)
    )
    await until(lambda: [status for status in servers.list() if status.pid], what="the server's process")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert servers.get("model").state is ServerState.STOPPED


@pytest.mark.parametrize("model", ["/no/such/folder", "./nothing", "no-owner"])
async def test_what_is_neither_a_folder_nor_a_hub_id_is_said_so(paths: Paths, servers: Servers, model: str) -> None:
    with pytest.raises(ModelError, match="There is no model at"):
        await prepare_demo(paths, Settings(), servers, options(model), nobody, nobody)
