"""Deleting gives back what it said and takes nothing else; moving loses nothing whatever happens on the way."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qwen_tui.errors import ModelError
from qwen_tui.models import local_moving
from qwen_tui.models.catalogue import Catalogue
from qwen_tui.models.local_changes import delete_model, leftovers, plan_deletion
from qwen_tui.models.local_folders import Place
from qwen_tui.models.local_model import LocalModel
from qwen_tui.models.local_moving import move_model
from qwen_tui.paths import Paths
from qwen_tui.progress import Progress
from tests.unit.test_catalogue import make_cached, make_model, write_gguf

Listed = Callable[..., list[LocalModel]]


@pytest.fixture
def listed(paths: Paths, tmp_path: Path) -> Listed:
    def run(source: Any = "folder", folder: str = "here") -> list[LocalModel]:
        return Catalogue(paths, where=[Place(tmp_path / folder, source)]).list()

    return run


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_a_folder_is_deleted_and_a_link_in_it_is_not_followed(listed: Listed, tmp_path: Path) -> None:
    outside = make_model(tmp_path / "outside")
    folder = make_model(tmp_path / "here" / "a")
    make_model(tmp_path / "here" / "b")
    (folder / "linked").symlink_to(outside)
    (folder / "precious.txt").symlink_to(outside / "config.json")
    before = tree(outside)
    model = listed()[0]
    plan = plan_deletion(model)
    assert plan.paths == (folder,)
    assert plan.freed == sum(file.lstat().st_size for file in folder.iterdir())
    assert delete_model(plan) == plan.freed
    assert [one.id for one in listed()] == ["b"]
    assert tree(outside) == before
    assert tree(tmp_path / "here") == {"b", *(f"b/{file.name}" for file in (tmp_path / "here" / "b").iterdir())}


def test_a_revision_takes_only_its_own_blobs(listed: Listed, tmp_path: Path) -> None:
    repository = tmp_path / "here" / "models--Qwen--Qwen2"
    old = make_cached(repository, "aaa", "-old")
    new = make_cached(repository, "bbb", "-new")
    first, second = listed("huggingface")
    plan = plan_deletion(first)
    blob = repository / "blobs" / "model.safetensors-old"
    links = sum(file.lstat().st_size for file in old.iterdir())
    assert set(plan.paths) == {old, blob}
    assert plan.freed == blob.stat().st_size + links
    assert plan.kept > 0
    delete_model(plan)
    (left,) = listed("huggingface")
    assert (left.path, left.is_whole) == (new, True)
    last = plan_deletion(second)
    assert last.paths == (repository,)
    delete_model(last)
    assert tree(tmp_path / "here") == set()


def test_a_repository_into_which_another_revision_comes_is_in_use(listed: Listed, tmp_path: Path) -> None:
    repository = tmp_path / "here" / "models--Qwen--Qwen2"
    make_cached(repository, "aaa")
    coming = repository / "snapshots" / "bbb"  # not there before its first file is whole
    (model,) = listed("huggingface")
    with pytest.raises(ModelError, match="in use"):
        plan_deletion(model, [coming])
    plan = plan_deletion(model)
    coming.mkdir()
    unfinished = repository / "blobs" / "model.safetensors-new.parts.incomplete"
    unfinished.write_bytes(b"half")
    with pytest.raises(ModelError, match="in use"):
        delete_model(plan, [coming])
    assert unfinished.exists()
    unfinished.unlink()
    delete_model(plan, [coming])
    assert coming.exists()


def test_blobs_that_are_links_out_of_the_cache_stay(listed: Listed, tmp_path: Path) -> None:
    outside = make_model(tmp_path / "outside")
    repository = tmp_path / "here" / "models--Qwen--Qwen2"
    old = make_cached(repository, "aaa", "-old")
    make_cached(repository, "bbb", "-new")
    (old / "more.safetensors").symlink_to(outside / "model.safetensors")
    delete_model(plan_deletion(listed("huggingface")[0]))
    assert (outside / "model.safetensors").exists()


def test_a_model_that_is_only_a_link_costs_only_the_link(listed: Listed, tmp_path: Path) -> None:
    real = make_model(tmp_path / "real")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "a").symlink_to(real)
    plan = plan_deletion(listed()[0])
    assert plan.freed < 100 < plan.kept
    delete_model(plan)
    assert tree(tmp_path / "here") == set()
    assert (real / "config.json").exists()


def test_hard_links_elsewhere_free_nothing(listed: Listed, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "here" / "a")
    os.link(folder / "model.safetensors", tmp_path / "second")
    plan = plan_deletion(listed()[0])
    assert plan.kept == (folder / "model.safetensors").stat().st_size


def test_modelscopes_link_beside_goes_too_and_the_empty_owner(listed: Listed, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "here" / "hub" / "models" / "Qwen" / "Qwen2___5")
    (folder.parent / "Qwen2.5").symlink_to(folder)
    delete_model(plan_deletion(listed("modelscope")[0]))
    assert tree(tmp_path / "here") == {"hub", "hub/models"}


@pytest.mark.parametrize("used", ["a", "a/model.safetensors", ".", "id"])
def test_what_is_in_use_is_refused(listed: Listed, tmp_path: Path, used: str) -> None:
    folder = make_model(tmp_path / "here" / "a")
    model = listed()[0]
    busy = [Path(model.id) if used == "id" else tmp_path / "here" / used]
    for call in (lambda: plan_deletion(model, busy), lambda: delete_model(plan_deletion(model), busy)):
        with pytest.raises(ModelError) as caught:
            call()
        assert "in use" in caught.value.title
    assert (folder / "config.json").exists()
    assert plan_deletion(model, [tmp_path / "here" / "ab"]).freed


def test_a_deletion_that_fails_at_the_start_leaves_all(
    listed: Listed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_cached(tmp_path / "here" / "models--Qwen--Qwen2", "aaa", "-old")
    make_cached(tmp_path / "here" / "models--Qwen--Qwen2", "bbb", "-new")
    model = listed("huggingface")[0]
    before = tree(tmp_path / "here")
    real = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self.parent.name == "blobs":
            raise OSError(5, "Input/output error")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(ModelError):
        delete_model(plan_deletion(model))
    assert tree(tmp_path / "here") == before


def test_what_a_crash_left_is_not_listed_and_goes_with_the_next(listed: Listed, tmp_path: Path) -> None:
    make_model(tmp_path / "here" / ".qwen-tui-deleted-999999999-a")
    make_model(tmp_path / "here" / "b")
    (model,) = listed()
    delete_model(plan_deletion(model))
    assert tree(tmp_path / "here") == set()


@pytest.fixture
def other_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes every move one to another disk."""
    monkeypatch.setattr(local_moving, "_is_same_disk", lambda source, place: False)


def ignore(_progress: Progress) -> None:
    pass


async def test_a_move_on_one_disk_is_a_rename(listed: Listed, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "here" / "a")
    inode = (folder / "model.safetensors").stat().st_ino
    moved = await move_model(listed()[0], tmp_path / "there", ignore)
    assert moved == tmp_path / "there" / "a"
    assert (moved / "model.safetensors").stat().st_ino == inode
    assert not folder.exists()


@pytest.mark.usefixtures("other_disk")
async def test_a_move_to_another_disk_keeps_layout_links_and_times(listed: Listed, tmp_path: Path) -> None:
    repository = tmp_path / "here" / "models--Qwen--Qwen2"
    snapshot = make_cached(repository, "aaa")
    modified = (snapshot / "model.safetensors").stat().st_mtime
    before = tree(repository)
    told: list[Progress] = []
    moved = await move_model(listed("huggingface")[0], tmp_path / "there", told.append)
    assert moved == tmp_path / "there" / "models--Qwen--Qwen2" / "snapshots" / "aaa"
    assert tree(tmp_path / "there" / "models--Qwen--Qwen2") == before
    assert (moved / "model.safetensors").is_symlink()
    assert (moved / "model.safetensors").stat().st_mtime == modified
    assert not repository.exists()
    assert [model.is_whole for model in listed("huggingface", "there")] == [True]
    assert {progress.done == progress.total for progress in told if progress.step.startswith("Comparing")} >= {True}
    assert len({progress.step for progress in told}) == 2


@pytest.mark.usefixtures("other_disk")
async def test_a_crash_after_the_copy_leaves_no_half_model(
    listed: Listed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_model(tmp_path / "here" / "a")

    def crash(path: Path) -> None:
        if (path / "config.json").exists():
            (path / "config.json").unlink()
            raise KeyboardInterrupt

    monkeypatch.setattr(local_moving, "_clear", crash)
    move = local_moving._Move(listed()[0], tmp_path / "there", ignore, (), threading.Event())
    with pytest.raises(KeyboardInterrupt):
        move.run()
    assert not folder.exists()
    assert listed() == []
    assert [model.is_whole for model in listed("folder", "there")] == [True]


@pytest.mark.usefixtures("other_disk")
async def test_what_a_killed_move_left_is_found_and_goes_with_the_next(listed: Listed, tmp_path: Path) -> None:
    left = make_model(tmp_path / "there" / ".qwen-tui-moving-999999999-a")
    going_on = make_model(tmp_path / "there" / f".qwen-tui-moving-{os.getppid()}-b")
    make_model(tmp_path / "here" / "a")
    assert listed("folder", "there") == []
    assert leftovers(tmp_path / "there") == [left]
    await move_model(listed()[0], tmp_path / "there", ignore)
    assert not left.exists()
    assert going_on.exists()


@pytest.mark.usefixtures("other_disk")
async def test_a_copy_that_differs_is_thrown_away(
    listed: Listed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_model(tmp_path / "here" / "a")

    def corrupt(file: Path) -> None:
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)

    monkeypatch.setattr(local_moving, "_drop_from_memory", corrupt)
    with pytest.raises(ModelError) as caught:
        await move_model(listed()[0], tmp_path / "there", ignore)
    assert "differs" in caught.value.title
    assert tree(tmp_path / "there") == set()
    assert len(tree(folder)) == 4


@pytest.mark.usefixtures("other_disk")
async def test_a_move_that_is_called_off_leaves_the_source(listed: Listed, tmp_path: Path) -> None:
    make_model(tmp_path / "here" / "a")
    before = tree(tmp_path / "here")
    model = listed()[0]
    task: asyncio.Task[Path]

    def cancel(_progress: Progress) -> None:
        task.cancel()

    # The first word of progress calls it off; whether the thread is done by then or not, nothing may be lost.
    task = asyncio.create_task(move_model(model, tmp_path / "there", cancel))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert tree(tmp_path / "here") == before or tree(tmp_path / "there") == before
    assert not [name for name in tree(tmp_path / "there") if "moving" in name]


async def test_moves_that_are_refused(listed: Listed, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "here" / "a")
    make_model(tmp_path / "there" / "a")
    model = listed()[0]
    for target, used in ((tmp_path / "there", []), (folder, []), (tmp_path / "new", [folder])):
        with pytest.raises(ModelError):
            await move_model(model, target, ignore, used)
    assert (folder / "config.json").exists()


async def test_where_a_model_goes_the_hubs_client_finds_it(listed: Listed, tmp_path: Path) -> None:
    here = tmp_path / "here"
    make_model(here / "models" / "Qwen--Qwen2" / "snapshots" / "master")
    make_model(here / "hub" / "Qwen" / "Qwen2___5")
    write_gguf(here / "small.gguf")
    for model in listed("modelscope"):
        await move_model(model, tmp_path / "there", ignore)
    found = {str(model.path.relative_to(tmp_path / "there")) for model in listed("modelscope", "there")}
    assert found == {"models/Qwen--Qwen2/snapshots/master", "Qwen/Qwen2___5", "small.gguf"}
