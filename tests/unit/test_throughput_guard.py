"""Nothing of a backend outlives whoever asked for it: cancelled, killed, or with the guard itself killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

import pytest

from qwen_tui.bench.throughput import Outcome, Work
from qwen_tui.bench.throughput_run import Comparison
from qwen_tui.paths import Paths
from qwen_tui.server.processes import read_stat
from tests.conftest import until

FAKES = Path(__file__).parents[1] / "fakes" / "offline_engine"
WORK = Work("model", ("vllm",), num_prompts=1, warmups=0)
#: Run by another process, so that it can be killed.
ALONE = """
import asyncio, sys
from pathlib import Path
from qwen_tui.bench.throughput import Work
from qwen_tui.bench.throughput_run import Comparison
from qwen_tui.paths import Paths
folder, work = Path(sys.argv[1]), Work("model", ("vllm",), num_prompts=1, warmups=0)
asyncio.run(Comparison(Paths(folder, folder, folder, folder), work, Path(sys.executable)).run())
"""


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the fake writes the pids of guard, worker and engine; after that it generates without an end."""
    monkeypatch.setenv("PYTHONPATH", str(FAKES))
    monkeypatch.setenv("FAKE_HANG", str(tmp_path / "pids"))
    return tmp_path / "pids"


def lives(pid: int) -> bool:
    stat = read_stat(pid)
    return stat is not None and stat.is_running


async def pids_in(file: Path) -> tuple[int, int, int]:
    await until(file.exists, what="the engine")
    guard, worker, engine = map(int, file.read_text().split())
    return guard, worker, engine


async def all_gone(pids: tuple[int, ...]) -> None:
    await until(lambda: not any(map(lives, pids)), what=f"the end of {pids}")


def sockets_of(guard: int) -> str:
    """The folder that the guard made for vLLM's sockets, as the worker got it."""
    variables = Path(f"/proc/{guard}/environ").read_bytes().split(b"\0")
    return next(one.partition(b"=")[2].decode() for one in variables if one.startswith(b"VLLM_RPC_BASE_PATH="))


async def test_cancelling_ends_everything_before_it_returns(
    paths: Paths, told: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_SESSION", "1")
    task = asyncio.ensure_future(Comparison(paths, WORK, Path(sys.executable)).run())
    pids = await pids_in(told)
    folder = sockets_of(pids[1])
    assert Path(folder).is_dir()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert not any(map(lives, pids))
    assert not Path(folder).exists()
    assert not list((paths.cache / "throughput").iterdir())


async def test_killing_who_asked_ends_everything(tmp_path: Path, told: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_SESSION", "1")
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", ALONE, str(tmp_path / "home"))
    try:
        pids = await pids_in(told)
        folder = sockets_of(pids[1])
    finally:
        process.kill()
        await process.wait()
    await all_gone(pids)
    await until(lambda: not Path(folder).exists(), what="the end of the sockets")


async def test_killing_the_guard_is_a_failure_and_leaves_nothing(paths: Paths, told: Path) -> None:
    task: asyncio.Future[list[Outcome]] = asyncio.ensure_future(Comparison(paths, WORK, Path(sys.executable)).run())
    pids = await pids_in(told)
    folder = sockets_of(pids[1])
    os.kill(pids[0], signal.SIGKILL)
    (outcome,) = await task
    assert outcome.failure is not None
    assert not outcome.rounds
    await all_gone(pids)
    assert not Path(folder).exists()
