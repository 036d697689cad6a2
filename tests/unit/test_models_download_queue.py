"""The queue's files, without processes: order, turns, states that are read, words for what went wrong."""

from __future__ import annotations

import fcntl
import json
import os
import threading
from pathlib import Path

import pytest

from qwen_tui.errors import ModelError, UsageError
from qwen_tui.models.download import as_progress, result
from qwen_tui.models.download_queue import Downloads
from qwen_tui.models.download_state import DownloadRequest, DownloadState, DownloadStatus, QueueOptions
from qwen_tui.models.download_words import listing_error, problem, reason
from qwen_tui.models.hub import HUGGINGFACE, MODELSCOPE, is_hub_id
from qwen_tui.models.tokens import TokenNeeded, Tokens
from qwen_tui.paths import Paths
from qwen_tui.workers import hub_queue, hub_record

REQUEST = DownloadRequest("owner/tiny", include=("*.json",))


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(*(tmp_path / name for name in ("config", "data", "state", "cache")))


@pytest.fixture
def downloads(paths: Paths) -> Downloads:
    service = Downloads(paths)
    service.folder.mkdir(parents=True)
    return service


def put(downloads: Downloads, id: str, **state: object) -> Path:
    """A download whose process has written `state`."""
    job = downloads.folder / id
    job.mkdir()
    hub_queue.write_json(job / "request.json", {"request": REQUEST.to_json(), "cache_dir": "/nowhere"})
    hub_queue.write_json(job / "state.json", state)
    return job


class Held:
    """Another process that holds a job: flock knows open files, so this one will do."""

    def __init__(self, job: Path) -> None:
        self._descriptor = hub_queue.take_job(job)
        assert self._descriptor is not None

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_error: object) -> None:
        os.close(self._descriptor)


def test_a_job_without_its_process_is_interrupted(downloads: Downloads) -> None:
    job = put(downloads, "a", status="running", done=5, total=10, active=[["f", 10, 5]], rate=3.0)
    with Held(job):
        state = downloads.find("a")
        assert (state.status, state.rate, state.eta) == (DownloadStatus.RUNNING, 3.0, 5 / 3.0)
        assert state.active[0].done == 5
        assert state.request == REQUEST
        assert hub_queue.take_job(job) is None  # it is held once
    state = downloads.find("a")
    assert (state.status, state.rate, state.active) == (DownloadStatus.INTERRUPTED, None, ())
    assert state.status.is_resumable


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", '{"status": "no such"}', '{"status": "running", "done": "x"}', '{"seconds": "long"}',
        '{"folder": 5, "status": []}',
    ],
)  # fmt: skip
def test_a_damaged_state_spoils_nothing(downloads: Downloads, text: str) -> None:
    job = put(downloads, "a")
    (job / "state.json").write_text(text)
    put(downloads, "b", status="done")
    assert [state.id for state in downloads.list()] == ["a", "b"]
    (job / "request.json").write_text(text)
    assert [state.id for state in downloads.list()] == ["b"]


@pytest.mark.parametrize("kept", [5, [["b"], {}, 5, "b", "b", "gone"], {"b": 1}])
def test_an_order_that_makes_no_sense_spoils_nothing(downloads: Downloads, kept: object) -> None:
    put(downloads, "a")
    put(downloads, "b")
    hub_queue.write_json(downloads.folder / "order.json", {"order": kept})
    assert sorted(state.id for state in downloads.list()) == ["a", "b"]


def test_turns_are_taken_in_order_and_as_many_as_are_set(downloads: Downloads) -> None:
    jobs = [put(downloads, name, status="queued") for name in "abc"]
    turn = lambda name: hub_queue.may_run(downloads.folder, name)  # noqa: E731
    with Held(jobs[0]), Held(jobs[1]), Held(jobs[2]):
        assert [turn(name) for name in "abc"] == [True, False, False]
        downloads.move("c", -2)
        assert [state.id for state in downloads.list()] == ["c", "a", "b"]
        assert [turn(name) for name in "abc"] == [False, False, True]
        hub_queue.write_json(jobs[2] / "state.json", {"status": "running"})
        assert not any(turn(name) for name in "ab")
        downloads.set_options(QueueOptions(jobs=2, connections=3))
        assert [turn(name) for name in "ab"] == [True, False]
        assert downloads.options == QueueOptions(2, 3)
    # Killed: none of them stands in anybody's way.
    assert turn("b")


def test_who_only_looks_at_a_job_does_not_keep_it_from_starting(downloads: Downloads) -> None:
    job = put(downloads, "a", status="queued")
    with (job / "job.lock").open("w") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        timer = threading.Timer(0.05, fcntl.flock, (looking, fcntl.LOCK_UN))
        timer.start()
        descriptor = hub_queue.take_job(job)
        timer.join()
    assert descriptor is not None
    assert hub_queue.take_job(job) is None
    os.close(descriptor)


async def test_what_is_alive_is_not_removed_and_what_is_not_there_is_said(downloads: Downloads) -> None:
    with Held(put(downloads, "a", status="queued")), pytest.raises(ModelError, match="still being downloaded"):
        await downloads.remove("a")
    await downloads.remove("a")
    assert not downloads.list()
    with pytest.raises(ModelError, match="no download"):
        await downloads.pause("a")
    for wrong in (
        DownloadRequest("nonsense"),
        DownloadRequest("a/b", hub="x"),
        DownloadRequest("a/b", revision="../x"),
    ):
        with pytest.raises((ModelError, UsageError)):
            await downloads.start(wrong)
    assert not downloads.list()


async def test_cancelled_it_deletes_what_it_fetched_and_nothing_else(downloads: Downloads, tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "models" / "owner--tiny" / "snapshots" / "master"
    folder.mkdir(parents=True)
    files = []
    for name in ("before", "fetched", "half"):
        (folder / (name if name != "half" else "half.parts.incomplete")).write_bytes(b"x" * 10_000)
        files.append({"name": name, "target": str(folder / name), "link": "", "size": 10_000, "present": 0})
    (folder / "mine").write_text("not of the hub")
    job = put(downloads, "a", status="paused")
    hub_queue.write_json(job / "request.json", {"request": REQUEST.to_json(), "cache_dir": str(tmp_path / "cache")})
    hub_queue.write_json(job / "plan.json", {"folder": str(folder), "files": files, "before": ["before"]})
    assert await downloads.cancel("a") >= 10_000
    assert sorted(path.name for path in folder.iterdir()) == ["before", "fetched", "mine"]
    assert await downloads.cancel("a", delete_files=True) >= 10_000
    assert sorted(path.name for path in folder.iterdir()) == ["before", "mine"]
    assert downloads.find("a").status is DownloadStatus.CANCELLED


def test_files_are_told_one_by_one(downloads: Downloads) -> None:
    job = put(downloads, "a", status="paused")
    assert downloads.files("a") == ()
    entries = [{"name": "x", "size": 10, "present": 10}, {"name": "y", "size": 20, "present": 3}]
    hub_queue.write_json(job / "plan.json", {"files": entries})
    assert [(file.name, file.done, file.checked) for file in downloads.files("a")] == [
        ("x", 10, False),
        ("y", 3, False),
    ]
    hub_queue.write_json(job / "files.json", {"done": [10, 99], "checked": "10"})
    assert [(file.name, file.done, file.checked) for file in downloads.files("a")] == [
        ("x", 10, True),
        ("y", 20, False),
    ]


def state_of(status: DownloadStatus, **fields: object) -> DownloadState:
    return DownloadState("a", REQUEST, status, 0, **fields)  # type: ignore[arg-type]


def test_all_is_there_only_when_it_is_done() -> None:
    assert state_of(DownloadStatus.RUNNING, done=10, total=10).fraction == 0.9999
    assert state_of(DownloadStatus.DONE, done=10, total=10).fraction == 1.0
    assert state_of(DownloadStatus.LISTING).fraction is None
    assert "Asking" in as_progress(state_of(DownloadStatus.QUEUED)).step  # nothing is before it
    assert "hashes" in as_progress(state_of(DownloadStatus.RUNNING, done=10, total=10, rate=5.0)).detail
    with pytest.raises(ModelError, match="interrupted"):
        result(state_of(DownloadStatus.INTERRUPTED))


@pytest.mark.parametrize(
    ("title", "why", "kind", "word"),
    [
        ("NotExistError", "E3020", ModelError, "no model"),
        ("AuthenticationError", "[401] invalid", TokenNeeded, "refuses"),
        ("GatedRepoError", "403 Client Error", TokenNeeded, "refuses"),
        ("ConnectionError", "refused", ModelError, "does not answer"),
        ("NotAFileNameError", "'../x'", ModelError, "outside"),
        ("Strange", "what", ModelError, "Can't list"),
    ],
)
def test_errors_of_the_clients_are_put_into_words(title: str, why: str, kind: type, word: str) -> None:
    error = listing_error(title, why, REQUEST)
    assert type(error) is kind
    assert word in error.title
    assert error.why


def test_hugging_face_hides_private_models_so_a_token_is_asked_for() -> None:
    error = listing_error("RepositoryNotFoundError", "401", DownloadRequest("a/b", "huggingface"))
    assert isinstance(error, TokenNeeded)
    assert "no model" in error.title


@pytest.mark.parametrize(
    "code",
    [
        "listing",
        "damaged",
        "wrong_size",
        "nothing",
        "token",
        "file_missing",
        "gave_up",
        "no_room",
        "disk_full",
        "disk",
        "?",
    ],
)
def test_every_failure_has_words(code: str) -> None:
    found = {"code": code, "name": "file", "why": "why", "title": "T", "reason": "silent", "path": "/x", "needed": 1}
    words = problem(found, REQUEST)
    assert (words.title == "The download ended with an error") is (code == "?")
    assert words.why
    assert reason("status", "503") == "the hub answers 503"


def test_a_token_is_kept_for_the_host_it_was_given_for(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    for hub in (MODELSCOPE, HUGGINGFACE):
        monkeypatch.delenv(hub.token_variable, raising=False)
        monkeypatch.delenv(hub.endpoint_variable, raising=False)
    tokens = Tokens(paths)
    tokens.save(HUGGINGFACE, " secret\n")
    assert tokens.file(HUGGINGFACE).stat().st_mode & 0o777 == 0o600
    assert tokens.load(HUGGINGFACE) == "secret"
    assert tokens.load(HUGGINGFACE, "https://mirror.example") == tokens.load(MODELSCOPE) == ""
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "from the environment")
    assert tokens.load(MODELSCOPE) == "from the environment"
    assert tokens.load(MODELSCOPE, "https://www.modelscope.cn/") == "from the environment"
    assert tokens.load(MODELSCOPE, "https://mirror.example") == ""  # nobody gave it for that one
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "https://mirror.example")
    assert tokens.load(MODELSCOPE, "https://mirror.example") == "from the environment"
    for wrong in ("two words", "a\x1b[31mb", "中文"):
        with pytest.raises(ModelError, match="can't be a token"):
            tokens.save(HUGGINGFACE, wrong)
    tokens.save(HUGGINGFACE, "")
    assert not tokens.file(HUGGINGFACE).exists()


def test_a_refused_token_is_marked_until_it_is_replaced(paths: Paths) -> None:
    tokens = Tokens(paths)
    tokens.set_refused(HUGGINGFACE, is_refused=True)
    assert not tokens.is_refused(HUGGINGFACE)  # there is none
    tokens.save(HUGGINGFACE, "old")
    tokens.set_refused(HUGGINGFACE, is_refused=True)
    assert tokens.is_refused(HUGGINGFACE)
    assert not tokens.is_refused(HUGGINGFACE, "https://mirror.example")
    tokens.save(HUGGINGFACE, "new")
    assert not tokens.is_refused(HUGGINGFACE)


def test_after_a_power_cut_what_was_not_on_the_disk_is_hashed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = {"folder": str(tmp_path), "commit": "master"}
    request = {"hub": "modelscope", "model": "a/b"}
    file = tmp_path / "f"
    file.write_bytes(b"x")

    def known() -> bool:
        return hub_record.Record(tmp_path / "records", request, plan).is_good("f", file, "sha256:0")

    record = hub_record.Record(tmp_path / "records", request, plan)
    record.add("f", file, "sha256:0")
    record.write()
    assert known()
    monkeypatch.setattr(hub_record, "boot", lambda: "another")
    assert not known()
    hub_record.sync_disk_of(tmp_path)
    record.write(is_synced=True)
    assert known()
    with pytest.raises(OSError, match="No such file"):
        hub_record.sync_disk_of(tmp_path / "nothing")


def test_a_checked_file_is_known_until_it_is_touched(tmp_path: Path) -> None:
    plan = {"folder": str(tmp_path), "commit": "master"}
    file = tmp_path / "f"
    file.write_bytes(b"x")
    record = hub_record.Record(tmp_path / "records", {"hub": "modelscope", "model": "a/b"}, plan)
    assert not record.is_good("f", file, "sha256:1")
    record.add("f", file, "sha256:1")
    record.write()
    again = hub_record.Record(tmp_path / "records", {"hub": "modelscope", "model": "a/b"}, plan)
    assert again.is_good("f", file, "sha256:1")
    assert not again.is_good("f", file, "sha256:2")
    os.utime(file, ns=(1, 1))
    assert not again.is_good("f", file, "sha256:1")
    assert json.loads(next((tmp_path / "records").iterdir()).read_text())["model"] == "a/b"


@pytest.mark.parametrize(
    ("text", "is_id"),
    [("qwen/Qwen2-7B-Instruct", True), ("qwen", False), ("/models/x", False), ("a/b/c", False), ("../x", False)],
)
def test_hub_ids(text: str, is_id: bool) -> None:
    assert is_hub_id(text) is is_id
