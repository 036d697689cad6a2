"""Downloads by the real clients and the real jobs, from a hub of our own, with the faults that hubs have."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from qwen_tui.errors import ModelError
from qwen_tui.models.download_queue import Downloads
from qwen_tui.models.download_state import DownloadRequest, DownloadStatus, QueueOptions
from qwen_tui.models.hub import HUGGINGFACE, MODELSCOPE
from qwen_tui.models.tokens import TokenNeeded, Tokens
from qwen_tui.models.verify import verify_model
from qwen_tui.paths import Paths
from qwen_tui.workers import hub_queue
from tests.e2e.downloading import (
    FILES,
    HUB_KEYS,
    TIMING,
    TOTAL,
    WEIGHTS,
    check,
    downloads,
    ended,
    hub,
    paths,
    slow,
    until,
)
from tests.fakes.hub import FakeHub, Faults

__all__ = ["downloads", "hub", "paths"]  # fixtures


def found_by_the_client(key: str, hub: FakeHub, folder: Path) -> None:
    """The hub's own client takes the files for its own: it fetches nothing."""
    program = {
        "modelscope": "from modelscope import snapshot_download; print(snapshot_download({0!r}))",
        "huggingface": "from huggingface_hub import snapshot_download; print(snapshot_download({0!r}))",
    }[key].format(hub.model)
    hub.served.clear()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.splitlines()[-1]).resolve() == folder.resolve()
    assert not hub.served


def command(*words: str | Path) -> None:
    subprocess.run(words, check=True)


@pytest.mark.parametrize("key", HUB_KEYS)
async def test_a_model_is_planned_fetched_checked_and_found_by_the_hubs_own_client(
    downloads: Downloads, hub: FakeHub, key: str
) -> None:
    hub.redirect_from = 1_000_000
    request = DownloadRequest(hub.model, key)
    plan = await downloads.plan(request)
    assert not hub.served
    assert {file.name: file.size for file in plan.files} == {name: len(data) for name, data in FILES.items()}
    assert all(file.sha256 or file.git_sha1 for file in plan.files)
    assert (plan.total, plan.present, plan.fits) == (TOTAL, 0, True)
    state = await ended(downloads, await downloads.start(request))
    assert (state.status, state.done, state.total, state.fraction) == (DownloadStatus.DONE, TOTAL, TOTAL, 1.0)
    assert state.folder == plan.folder
    check(plan.folder)
    assert all(file.checked for file in downloads.files(state.id))
    found_by_the_client(key, hub, plan.folder)
    assert (await downloads.plan(request)).missing == 0


@pytest.mark.parametrize("key", HUB_KEYS)
async def test_killed_half_way_it_is_interrupted_and_goes_on(downloads: Downloads, hub: FakeHub, key: str) -> None:
    slow(hub)
    request = DownloadRequest(hub.model, key)
    id = await downloads.start(request)
    await until(downloads, id, lambda state: state.done > TOTAL // 2)
    os.kill(hub_queue.read_json(downloads.folder / id / "state.json")["pid"], signal.SIGKILL)
    state = await ended(downloads, id)
    assert state.status is DownloadStatus.INTERRUPTED
    on_disk = (await downloads.plan(request)).present
    assert on_disk > TOTAL // 3
    hub.faults.clear()
    await downloads.resume(id)
    state = await ended(downloads, id)
    assert state.status is DownloadStatus.DONE
    assert state.fetched == TOTAL - on_disk
    assert state.folder is not None
    check(state.folder)


async def test_paused_and_resumed_no_byte_comes_twice(downloads: Downloads, hub: FakeHub) -> None:
    slow(hub)
    request = DownloadRequest(hub.model)
    id = await downloads.start(request)
    await until(downloads, id, lambda state: state.done > TOTAL // 3)
    await downloads.pause(id)
    state = downloads.find(id)
    assert state.status is DownloadStatus.PAUSED
    on_disk = (await downloads.plan(request)).present
    assert await downloads.start(request) == id  # the same one goes on
    hub.faults.clear()
    state = await ended(downloads, id)
    assert (state.status, state.fetched) == (DownloadStatus.DONE, TOTAL - on_disk)


@pytest.mark.parametrize("delete_files", [False, True])
async def test_cancelled_it_leaves_nothing_unfinished(downloads: Downloads, hub: FakeHub, delete_files: bool) -> None:
    slow(hub)
    id = await downloads.start(DownloadRequest(hub.model))
    state = await until(downloads, id, lambda state: state.done > TOTAL // 3)
    assert await downloads.cancel(id, delete_files=delete_files) > 0
    assert downloads.find(id).status is DownloadStatus.CANCELLED
    assert state.folder is not None
    assert not list(state.folder.rglob("*.incomplete"))
    assert (state.folder / "config.json").exists() is not delete_files
    await downloads.remove(id)
    assert not downloads.list()


async def test_one_after_the_other_in_the_order_that_is_asked_for(downloads: Downloads, hub: FakeHub) -> None:
    slow(hub, 6_000_000)
    ids = [await downloads.start(DownloadRequest(hub.model, include=(glob,))) for glob in ("model*", "conf*", "sub/*")]
    assert [downloads.find(id).position for id in ids] == [0, 1, 2]
    await until(downloads, ids[0], lambda state: state.status is DownloadStatus.RUNNING)
    downloads.move(ids[2], -1)
    assert [state.id for state in downloads.list()] == [ids[0], ids[2], ids[1]]
    assert downloads.find(ids[1]).status is DownloadStatus.QUEUED
    states = [await ended(downloads, id) for id in ids]
    assert all(state.status is DownloadStatus.DONE for state in states)
    assert states[0].ended_at <= states[2].started_at <= states[2].ended_at <= states[1].started_at  # type: ignore[operator]


async def test_two_at_once_if_that_is_set(downloads: Downloads, hub: FakeHub) -> None:
    slow(hub, 1_000_000)
    downloads.set_options(QueueOptions(jobs=2, connections=2))
    first = await downloads.start(DownloadRequest(hub.model, include=("model*",)))
    second = await downloads.start(DownloadRequest(hub.model, include=("conf*",)))
    assert (await ended(downloads, second)).status is DownloadStatus.DONE
    assert downloads.find(first).status in (DownloadStatus.LISTING, DownloadStatus.RUNNING)


@pytest.mark.parametrize(("fault", "word"), [("silent", "no bytes"), ("503", "503")])
async def test_a_stall_is_named_with_its_reason_and_overcome(
    downloads: Downloads, hub: FakeHub, fault: str, word: str
) -> None:
    hub.faults["model.safetensors"] = Faults(silent=1) if fault == "silent" else Faults(refuse=3)
    id = await downloads.start(DownloadRequest(hub.model))
    state = await until(downloads, id, lambda state: state.stall is not None)
    assert state.stall is not None
    assert word in state.stall.reason
    assert state.stall.seconds >= TIMING["stall"]
    assert (await ended(downloads, id)).status is DownloadStatus.DONE


async def test_a_hub_that_does_not_list_is_named_and_given_up(paths: Paths, hub: FakeHub) -> None:
    hub.lists.clear()
    downloads = Downloads(paths, {"stall": 0.3, "silent": 0.5, "patience": 3.0})
    id = await downloads.start(DownloadRequest(hub.model))
    state = await until(downloads, id, lambda state: state.stall is not None)
    assert state.stall is not None
    assert "does not list" in state.stall.reason
    state = await ended(downloads, id)
    assert state.status is DownloadStatus.FAILED
    assert state.problem is not None
    assert "does not answer" in state.problem.title


async def test_a_hub_that_is_gone_is_given_up_in_the_end(paths: Paths, hub: FakeHub) -> None:
    downloads = Downloads(paths, {"stall": 0.3, "silent": 0.5, "patience": 2.0})
    hub.faults["model.safetensors"] = Faults(refuse=10_000)
    state = await ended(downloads, await downloads.start(DownloadRequest(hub.model)))
    assert state.status is DownloadStatus.FAILED
    assert state.problem is not None
    assert "503" in state.problem.why


@pytest.mark.parametrize("key", HUB_KEYS)
async def test_a_token_is_asked_for_and_is_nowhere_but_in_its_file(
    downloads: Downloads, hub: FakeHub, paths: Paths, key: str, tmp_path: Path
) -> None:
    hub.token = "hf_SECRETSECRET"
    hub.redirect_from = 1_000_000
    request = DownloadRequest(hub.model, key)
    with pytest.raises(TokenNeeded):
        await downloads.plan(request)
    facts = {"modelscope": MODELSCOPE, "huggingface": HUGGINGFACE}[key]
    tokens = Tokens(paths)
    tokens.save(facts, hub.token)
    assert tokens.file(facts).stat().st_mode & 0o777 == 0o600
    slow(hub)
    id = await downloads.start(request)
    await until(downloads, id, lambda state: state.done > 1000)
    pid = hub_queue.read_json(downloads.folder / id / "state.json")["pid"]
    for name in ("cmdline", "environ"):
        assert hub.token.encode() not in Path(f"/proc/{pid}/{name}").read_bytes()
    hub.faults.clear()
    assert (await ended(downloads, id)).status is DownloadStatus.DONE
    assert not any(hub.token in value for headers in hub.redirected for value in headers.values())
    kept = [file for file in tmp_path.rglob("*") if file.is_file() and hub.token.encode() in file.read_bytes()]
    assert kept == [tokens.file(facts)]


async def test_a_file_that_was_changed_on_the_hub_is_fetched_as_it_is_now(downloads: Downloads, hub: FakeHub) -> None:
    slow(hub)
    request = DownloadRequest(hub.model)
    id = await downloads.start(request)
    await until(downloads, id, lambda state: state.done > TOTAL // 3)
    await downloads.pause(id)
    hub.faults.clear()
    hub.files["model.safetensors"] = WEIGHTS[::-1]
    await downloads.resume(id)
    state = await ended(downloads, id)
    assert state.status is DownloadStatus.DONE
    assert state.folder is not None
    assert (state.folder / "model.safetensors").read_bytes() == WEIGHTS[::-1]
    assert state.done == state.total == TOTAL


async def test_one_of_two_files_was_changed_on_the_hub_while_both_come(downloads: Downloads, hub: FakeHub) -> None:
    hub.files["other.safetensors"] = WEIGHTS[::-1]
    hub.faults["model.safetensors"] = Faults(bytes_per_second=500_000)
    request = DownloadRequest(hub.model)
    await downloads.plan(request)
    hub.files["other.safetensors"] = WEIGHTS[1000:] + WEIGHTS[:1000]
    id = await downloads.start(request)  # with the older answer
    await until(downloads, id, lambda state: state.done > 0)
    state = await ended(downloads, id)
    assert state.status is DownloadStatus.DONE
    assert state.folder is not None
    for name, data in hub.files.items():
        assert (state.folder / name).read_bytes() == data


@pytest.mark.parametrize("key", HUB_KEYS)
async def test_a_wrong_hash_is_never_counted_as_good(downloads: Downloads, hub: FakeHub, key: str) -> None:
    hub.false_hashes["model.safetensors"] = "0" * 64
    state = await ended(downloads, await downloads.start(DownloadRequest(hub.model, key)))
    assert state.status is DownloadStatus.FAILED
    assert state.problem is not None
    assert "model.safetensors" in state.problem.title
    assert state.folder is not None
    assert not (state.folder / "model.safetensors").exists()
    assert (state.folder / "config.json").exists()


async def test_a_name_outside_the_folder_is_refused(downloads: Downloads, hub: FakeHub, tmp_path: Path) -> None:
    hub.files["../../../../evil"] = b"x"
    with pytest.raises(ModelError, match="outside"):
        await downloads.plan(DownloadRequest(hub.model))
    state = await ended(downloads, await downloads.start(DownloadRequest(hub.model)))
    assert state.status is DownloadStatus.FAILED
    assert not list(tmp_path.rglob("evil"))


async def test_a_disk_that_fills_up_stops_it_and_space_lets_it_go_on(
    paths: Paths, hub: FakeHub, tmp_path: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("a small file system can be made by root only")
    small = tmp_path / "small"
    small.mkdir()
    command("mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", small)
    # The queue's own files are on it, too.
    downloads = Downloads(Paths(paths.config, paths.data, small / "state", paths.cache), TIMING)
    try:
        state = await ended(downloads, await downloads.start(DownloadRequest(hub.model, cache_dir=str(small))))
        assert state.problem is not None
        assert "disk space" in state.problem.title  # it is not even begun
        request = json.loads((downloads.folder / state.id / "request.json").read_text())
        request["reserve"] = -10_000_000  # as if another program had taken the space meanwhile
        hub_queue.write_json(downloads.folder / state.id / "request.json", request)
        await downloads._launch(downloads.folder / state.id)
        state = await ended(downloads, state.id)
        assert state.problem is not None
        assert state.problem.title == "The disk is full"
        assert state.folder is not None
        assert not (state.folder / "model.safetensors").exists()
        command("mount", "-o", "remount,size=40m", small)
        await downloads._launch(downloads.folder / state.id)
        state = await ended(downloads, state.id)
        assert state.status is DownloadStatus.DONE
        assert state.fetched < TOTAL
        check(state.folder or small)
    finally:
        command("umount", small)


@pytest.mark.parametrize("key", HUB_KEYS)
async def test_a_damaged_file_is_found_named_and_fetched_again_alone(
    downloads: Downloads, hub: FakeHub, paths: Paths, key: str
) -> None:
    request = DownloadRequest(hub.model, key)
    state = await ended(downloads, await downloads.start(request))
    assert state.folder is not None
    weights = (state.folder / "model.safetensors").resolve()
    before = weights.stat()
    weights.write_bytes(b"x" + WEIGHTS[1:])
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))  # nothing but the hash tells
    for offline in (False, True):
        found = await verify_model(paths, hub.model, lambda progress: None, hub=key, offline=offline)
        assert [(file.name, file.verdict) for file in found.bad] == [("model.safetensors", "damaged")]
        assert found.against == ("record" if offline else "hub")
    hub.served.clear()
    state = await ended(downloads, await downloads.start(request))
    assert len(downloads.list()) == 1
    assert {name for name, _start in hub.served} == {"model.safetensors"}
    assert state.fetched == len(WEIGHTS)
    assert (await verify_model(paths, str(state.folder), lambda progress: None)).is_good
