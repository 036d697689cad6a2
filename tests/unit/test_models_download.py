"""Downloads with the real ModelScope client from a hub of our own: totals, resuming, faults."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

import pytest

from qwen_tui.errors import ModelError
from qwen_tui.models import download
from qwen_tui.models.download import download_model, is_hub_id
from qwen_tui.paths import Paths
from qwen_tui.progress import Progress
from tests.fakes.hub import FakeHub, Faults

WEIGHTS = random.Random(1).randbytes(3_000_000)
FILES = {"config.json": b'{"model_type": "qwen2"}', "model.safetensors": WEIGHTS, "sub/notes.txt": b"notes" * 100}
TOTAL = sum(map(len, FILES.values()))


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    monkeypatch.setenv("MODELSCOPE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "cache"))
    return Paths(*(tmp_path / name for name in ("config", "data", "state", "xdgcache")))


class Seen(list[Progress]):
    """Every progress that was reported, and a way to wait for one."""

    def __init__(self) -> None:
        super().__init__()
        self._waiters: list[tuple[float, asyncio.Event]] = []

    def __call__(self, progress: Progress) -> None:
        self.append(progress)
        for done, event in self._waiters:
            if progress.done >= done:
                event.set()

    async def reaches(self, done: float) -> None:
        event = asyncio.Event()
        self._waiters.append((done, event))
        await asyncio.wait_for(event.wait(), 60)

    @property
    def bytes(self) -> list[Progress]:
        return [progress for progress in self if progress.unit == "bytes"]


def check(folder: Path, seen: Seen) -> None:
    for name, data in FILES.items():
        assert (folder / name).read_bytes() == data
    assert not list(folder.rglob("*.incomplete"))
    assert {progress.total for progress in seen.bytes} == {TOTAL}
    assert all(0 <= progress.done <= TOTAL for progress in seen.bytes)
    assert seen.bytes[-1].done == TOTAL


async def test_a_model_arrives_whole_and_the_total_is_known_before_the_first_byte(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Seen()
    with FakeHub(FILES) as hub:
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", hub.url)
        folder = await download_model(paths, hub.model, seen)
    check(folder, seen)
    assert seen.bytes[0].done == 0


async def test_what_is_there_is_counted_and_not_fetched_again(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeHub(FILES) as hub:
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", hub.url)
        folder = await download_model(paths, hub.model, Seen())
        (folder / "config.json").unlink()
        hub.served.clear()
        seen = Seen()
        await download_model(paths, hub.model, seen)
        assert hub.served == [("config.json", 0)]
    check(folder, seen)
    assert seen.bytes[0].done == TOTAL - len(FILES["config.json"])


async def test_cancelled_half_way_it_goes_on_where_it_stopped(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeHub(FILES) as hub:
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", hub.url)
        hub.pause_after = 2_000_000
        hub.flow.clear()
        seen = Seen()
        task = asyncio.create_task(download_model(paths, hub.model, seen))
        await seen.reaches(1_900_000)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        hub.flow.set()
        hub.served.clear()
        seen = Seen()
        folder = await download_model(paths, hub.model, seen)
        starts = [start for name, start in hub.served if name == "model.safetensors"]
    assert len(starts) == 1
    assert starts[0] >= 1_000_000
    check(folder, seen)
    # What was on the disk is there from the start, and is no speed.
    assert seen.bytes[0].done >= starts[0]
    assert [p.done for p in seen.bytes] == sorted(p.done for p in seen.bytes)


@pytest.mark.parametrize(
    "faults",
    [Faults(truncate_first=1_000_000), Faults(corrupt=1), Faults(truncate_first=1_000_000, ignore_range=True)],
    ids=["cut off", "corrupt once", "cut off, no ranges"],
)
async def test_a_hub_with_a_fault_still_gives_the_true_bytes_and_never_more_than_all(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, faults: Faults
) -> None:
    seen = Seen()
    with FakeHub(FILES) as hub:
        hub.faults["model.safetensors"] = faults
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", hub.url)
        folder = await download_model(paths, hub.model, seen)
        assert sum(1 for name, _start in hub.served if name == "model.safetensors") >= 2
    check(folder, seen)


async def test_a_model_that_is_not_there_is_named(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeHub(FILES) as hub:
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", hub.url)
        with pytest.raises(ModelError) as raised:
            await download_model(paths, "owner/nothing", Seen())
    assert "owner/nothing" in raised.value.title
    assert raised.value.hint


async def test_a_disk_that_is_too_small_stops_it_before_the_first_byte(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = os.statvfs("/")
    monkeypatch.setattr(
        download.shutil, "disk_usage", lambda place: type("Usage", (), {"free": TOTAL - 1, "total": usage.f_blocks})
    )
    with FakeHub(FILES) as hub:
        hub.flow.clear()
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", hub.url)
        with pytest.raises(ModelError) as raised:
            await download_model(paths, hub.model, Seen())
        assert not hub.sent
    assert "disk" in raised.value.title


@pytest.mark.parametrize(
    ("text", "is_id"),
    [("qwen/Qwen2-7B-Instruct", True), ("qwen", False), ("/models/x", False), ("a/b/c", False), ("../x", False)],
)
def test_hub_ids(text: str, is_id: bool) -> None:
    assert is_hub_id(text) is is_id
