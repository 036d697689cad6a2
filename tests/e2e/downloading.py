"""What the tests of downloads share: a hub with a model, folders of their own, and waiting for a state."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qwen_tui.models.download_queue import Downloads
from qwen_tui.models.download_state import DownloadState
from qwen_tui.paths import Paths
from qwen_tui.workers import hub_queue
from tests.fakes.hub import FakeHub, Faults

#: Above the size up to which a file is fetched whole, so that there is an unfinished one to go on with.
WEIGHTS = random.Random(1).randbytes(6_000_000)
FILES = {"config.json": b'{"model_type": "qwen2"}', "model.safetensors": WEIGHTS, "sub/notes.txt": b"notes" * 100}
TOTAL = sum(map(len, FILES.values()))
HUB_KEYS = ("modelscope", "huggingface")
TIMING = {"stall": 0.5, "silent": 1.0, "patience": 60.0}
PROGRAM = Path(sys.executable).parent / "qwen-tui"


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    for kind in ("CONFIG", "DATA", "STATE", "CACHE"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(tmp_path / kind.lower()))
    monkeypatch.setenv("MODELSCOPE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "modelscope"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setenv("LANG", "C")
    for name in ("HF_HUB_CACHE", "HF_TOKEN", "MODELSCOPE_API_TOKEN", "MODELSCOPE_DOMAIN"):
        monkeypatch.delenv(name, raising=False)
    return Paths.from_environment()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with FakeHub(FILES) as running:
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", running.url)
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


@pytest.fixture
def downloads(paths: Paths) -> Iterator[Downloads]:
    service = Downloads(paths, TIMING)
    yield service
    for state in service.list():  # no process outlives its test
        pid = hub_queue.read_json(service.folder / state.id / "state.json").get("pid")
        if isinstance(pid, int) and hub_queue.is_job(pid, service.folder / state.id):
            os.kill(pid, signal.SIGKILL)


async def until(downloads: Downloads, id: str, condition: Callable[[DownloadState], bool]) -> DownloadState:
    """The first state that meets the condition. Every state on the way has to make sense."""
    deadline = time.monotonic() + 90
    while True:
        state = downloads.find(id)
        assert state.total is None or 0 <= state.done <= state.total
        assert state.fraction is None or 0 <= state.fraction <= 1
        if condition(state):
            return state
        assert time.monotonic() < deadline, state
        assert state.status.is_alive, state
        await asyncio.sleep(0.03)


async def ended(downloads: Downloads, id: str) -> DownloadState:
    return await until(downloads, id, lambda state: not state.status.is_alive)


def slow(hub: FakeHub, bytes_per_second: float = 3_000_000) -> None:
    hub.faults["model.safetensors"] = Faults(bytes_per_second=bytes_per_second)


def check(folder: Path) -> None:
    for name, data in FILES.items():
        assert (folder / name).read_bytes() == data
    assert not list(folder.rglob("*.incomplete"))
