"""Verifying without asking anybody: by the record, by the names of Hugging Face's blobs, by the weights' headers."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import time
from pathlib import Path

import pytest

from qwen_tui.errors import ModelError
from qwen_tui.models import verify
from qwen_tui.models.verify import Verification, verify_model
from qwen_tui.paths import Paths
from qwen_tui.progress import Progress
from qwen_tui.workers import hub_queue, hub_record

FILES = {"config.json": b"{}", "sub/model.safetensors": b"weights" * 1000}


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(*(tmp_path / name for name in ("config", "data", "state", "cache")))


@pytest.fixture
def folder(tmp_path: Path, paths: Paths) -> Path:
    """A model of ModelScope as a download leaves it: the files, and the record of their hashes."""
    place = tmp_path / "cache" / "models" / "owner--tiny" / "snapshots" / "master"
    plan = {"folder": str(place), "commit": "master"}
    record = hub_record.Record(paths.data / "hashes", {"hub": "modelscope", "model": "owner/tiny"}, plan)
    for name, data in FILES.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)
        record.add(name, place / name, f"sha256:{hashlib.sha256(data).hexdigest()}")
    record.write()
    return place


async def offline(paths: Paths, target: str | Path, cache: str | Path = "") -> Verification:
    return await verify_model(paths, str(target), lambda progress: None, cache_dir=str(cache), offline=True)


async def test_by_the_record_whatever_way_the_model_is_named(paths: Paths, folder: Path, tmp_path: Path) -> None:
    for target, cache in ((folder, ""), ("owner/tiny", tmp_path / "cache")):
        found = await offline(paths, target, cache)
        assert (found.against, found.model, found.folder) == ("record", "owner/tiny", folder)
        assert {file.name: file.verdict for file in found.files} == dict.fromkeys(FILES, "good")
        assert found.is_good
        assert not found.extra


async def test_damage_of_every_kind_is_named_and_no_longer_trusted(paths: Paths, folder: Path) -> None:
    weights = folder / "sub" / "model.safetensors"
    data = bytearray(FILES["sub/model.safetensors"])
    data[100] ^= 1
    weights.write_bytes(data)
    (folder / "config.json").unlink()
    (folder / "extra.txt").write_text("x")
    found = await offline(paths, folder)
    assert {file.name: file.verdict for file in found.files} == {
        "config.json": "missing",
        "sub/model.safetensors": "damaged",
    }
    assert found.extra == ("extra.txt",)
    entries = hub_queue.read_json(hub_record.record_file(paths.data / "hashes", folder))["files"]
    assert [entry[1] for entry in entries.values()] == [0, 0]
    assert not (await offline(paths, folder)).is_good  # and the hash is still known
    weights.write_bytes(data[:-1])
    assert "instead of" in (await offline(paths, folder)).bad[1].why


async def test_hugging_faces_blobs_are_named_by_their_hashes(paths: Paths, tmp_path: Path) -> None:
    root = tmp_path / "hub" / "models--owner--tiny"
    (root / "blobs").mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("abc")
    place = root / "snapshots" / "abc"
    for name, data in FILES.items():
        large = name.endswith("safetensors")
        blob = hashlib.sha256(data).hexdigest() if large else hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        (root / "blobs" / blob).write_bytes(data)
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).symlink_to(Path(*[".."] * (name.count("/") + 2), "blobs", blob))
    found = await offline(paths, "owner/tiny", tmp_path / "hub")
    assert {file.verdict for file in found.files} == {"good"}
    (place / "config.json").resolve().write_bytes(b"[]")
    assert [file.name for file in (await offline(paths, place)).bad] == ["config.json"]


async def test_without_any_hash_the_headers_are_checked(paths: Paths, tmp_path: Path) -> None:
    place = tmp_path / "mine"
    place.mkdir()
    header = json.dumps({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    whole = len(header).to_bytes(8, "little") + header + bytes(16)
    (place / "model.safetensors").write_bytes(whole)
    found = await offline(paths, place)
    assert (found.against, found.is_good, found.files[0].verdict) == ("headers", True, "size")
    (place / "model.safetensors").write_bytes(whole[:-1])
    assert [file.verdict for file in (await offline(paths, place)).bad] == ["damaged"]
    (place / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="no weights"):
        await offline(paths, place)


async def test_what_is_not_there_is_said(paths: Paths, tmp_path: Path) -> None:
    for target in ("owner/nothing", "/no/such/folder", "nothing"):
        with pytest.raises(ModelError):
            await offline(paths, target, tmp_path)


async def test_cancelling_stops_the_hashing(paths: Paths, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Progress] = []
    begun = asyncio.Event()

    def note(progress: Progress) -> None:
        seen.append(progress)
        begun.set()

    class SlowDisk(io.BytesIO):
        def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
            time.sleep(0.01)  # a minute in all, unless it is stopped
            return super().readinto(buffer[:1])

    monkeypatch.setattr(verify, "open_quietly", lambda path: SlowDisk(path.read_bytes()))
    task = asyncio.create_task(verify_model(paths, str(folder), note, offline=True))
    await asyncio.wait_for(begun.wait(), 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert all(progress.fraction is not None and 0 <= progress.fraction <= 1 for progress in seen)
