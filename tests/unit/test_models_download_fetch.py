"""The own downloader against a hub with faults: nothing lost, nothing wrong kept, nothing counted twice."""

from __future__ import annotations

import hashlib
import os
import random
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from qwen_tui.workers.host import FOLDER
from tests.fakes.hub import FakeHub, Faults

sys.path.append(str(FOLDER))  # as where the scripts run
import hub_client
import hub_fetch
import hub_files
import hub_http
import hub_parts

BIG = random.Random(1).randbytes(700_000)
FILES = {"config.json": b'{"model_type": "qwen2"}', "model.safetensors": BIG, "sub/notes.txt": b"n" * 500, "none": b""}
TOTAL = sum(map(len, FILES.values()))


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of 100 kB, so that a file of 700 kB has seven."""
    monkeypatch.setattr(hub_fetch, "SMALL", 50_000)
    monkeypatch.setattr(hub_parts, "part_size", lambda size: 100_000)


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub(FILES) as running:
        yield running


def files_of(hub: FakeHub, folder: Path, hashes: dict[str, str] | None = None) -> list[Any]:
    return [
        hub_files.File(
            name,
            f"{hub.url}/{hub.model}/resolve/main/{name}",
            folder / name,
            len(data),
            f"sha256:{(hashes or {}).get(name) or hashlib.sha256(data).hexdigest()}",
        )
        for name, data in FILES.items()
    ]


def fetcher_of(
    hub: FakeHub, files: list[Any], *, timeout: float = 5.0, connections: int = 3, token: str = "", known: bool = False
) -> Any:
    context = hub_http.tls_context
    home = hub_http.Site.of(hub.url)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return hub_fetch.Fetcher(
        files,
        lambda: hub_client.Client(home, headers, timeout, context),
        connections,
        lambda file: known,
        lambda file: None,
    )


class Run:
    """A fetcher that runs in a thread."""

    def __init__(self, fetcher: Any) -> None:
        self.fetcher = fetcher
        self.failure: Any = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.fetcher.run()
        except hub_files.Failure as failure:
            self.failure = failure

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline
            assert self._thread.is_alive()
            time.sleep(0.01)

    def stop(self) -> None:
        self.fetcher.stop()
        self.join()

    def join(self) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive()


def check(folder: Path, files: list[Any]) -> None:
    for name, data in FILES.items():
        assert (folder / name).read_bytes() == data
    assert not list(folder.rglob("*.incomplete"))
    assert all(file.checked and file.done == file.size for file in files)


@pytest.mark.parametrize(
    "faults",
    [
        Faults(),
        Faults(truncate_first=30_000),
        Faults(cut_each=60_000),
        Faults(corrupt=1),
        Faults(ignore_range=True),
        Faults(ignore_range=True, truncate_first=300_000),
        Faults(refuse=2),
        Faults(refuse=1, status=429),
        Faults(silent=2, silent_after=20_000),
    ],
    ids=["none", "cut", "cut always", "corrupt", "no ranges", "no ranges, cut", "503", "429", "silent"],
)
def test_whatever_goes_wrong_for_a_while_the_bytes_are_right_in_the_end(
    hub: FakeHub, tmp_path: Path, faults: Faults
) -> None:
    hub.faults["model.safetensors"] = faults
    files = files_of(hub, tmp_path)
    fetcher_of(hub, files, timeout=0.4 if faults.silent else 5.0).run()
    check(tmp_path, files)


def test_a_large_file_comes_in_parts_and_no_byte_twice(hub: FakeHub, tmp_path: Path) -> None:
    files = files_of(hub, tmp_path)
    fetcher = fetcher_of(hub, files)
    fetcher.run()
    starts = sorted(start for name, start in hub.served if name == "model.safetensors")
    assert starts == list(range(0, 700_000, 100_000))
    assert fetcher.received == TOTAL


def test_stopped_half_way_only_the_rest_is_fetched(hub: FakeHub, tmp_path: Path) -> None:
    hub.faults["model.safetensors"] = Faults(bytes_per_second=200_000)
    files = files_of(hub, tmp_path)
    fetcher = fetcher_of(hub, files)
    run = Run(fetcher)
    run.until(lambda: files[1].now_done() >= 200_000)
    run.stop()
    on_disk = hub_parts.present(tmp_path / "model.safetensors", files[1].content, len(BIG))
    assert on_disk >= 200_000
    assert not (tmp_path / "model.safetensors").exists()
    hub.faults.clear()
    again = files_of(hub, tmp_path)
    second = fetcher_of(hub, again, known=True)
    second.run()
    check(tmp_path, again)
    assert second.received == TOTAL - on_disk - sum(len(data) for name, data in FILES.items() if name != again[1].name)


def test_what_the_hubs_own_client_left_is_gone_on_with(hub: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.incomplete").write_bytes(BIG[:250_000])
    files = files_of(hub, tmp_path)
    assert hub_parts.present(files[1].target, files[1].content, len(BIG)) == 250_000
    fetcher = fetcher_of(hub, files)
    fetcher.run()
    check(tmp_path, files)
    assert fetcher.received == TOTAL - 250_000


def test_what_it_left_and_is_wrong_is_fetched_anew(hub: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.incomplete").write_bytes(b"x" * 250_000)
    (tmp_path / "config.json.incomplete").write_bytes(b"{")
    files = files_of(hub, tmp_path)
    fetcher_of(hub, files).run()
    check(tmp_path, files)


def test_bytes_of_another_content_are_not_gone_on_with(hub: FakeHub, tmp_path: Path) -> None:
    target = tmp_path / "model.safetensors"
    parts = hub_parts.PartFile(target, "sha256:another", len(BIG))
    parts.write(0, memoryview(b"x" * 50_000))
    parts.close()
    files = files_of(hub, tmp_path)
    fetcher = fetcher_of(hub, files)
    fetcher.run()
    check(tmp_path, files)
    assert fetcher.received == TOTAL


def test_a_damaged_file_is_fetched_again_alone(hub: FakeHub, tmp_path: Path) -> None:
    for name, data in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    (tmp_path / "model.safetensors").write_bytes(b"x" + BIG[1:])
    files = files_of(hub, tmp_path)
    fetcher = fetcher_of(hub, files)
    fetcher.run()
    check(tmp_path, files)
    assert {name for name, _start in hub.served} == {"model.safetensors"}
    assert fetcher.received == len(BIG)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_file_that_stays_damaged_is_named_and_not_kept(hub: FakeHub, tmp_path: Path, name: str) -> None:
    files = files_of(hub, tmp_path, {name: "0" * 64})
    run = Run(fetcher_of(hub, files))
    run.join()
    assert run.failure.code == "damaged"
    assert run.failure.details["name"] == name
    assert not (tmp_path / name).exists()
    assert not hub_parts.path_for(tmp_path / name).exists()


def test_another_size_than_listed_is_never_taken(hub: FakeHub, tmp_path: Path) -> None:
    hub.files["model.safetensors"] = BIG + b"more"
    run = Run(fetcher_of(hub, files_of(hub, tmp_path)))
    run.join()
    assert run.failure.code == "wrong_size"
    assert not (tmp_path / "model.safetensors").exists()


def test_a_missing_file_and_a_missing_token_end_it_at_once(hub: FakeHub, tmp_path: Path) -> None:
    hub.faults["config.json"] = Faults(refuse=1, status=404)
    run = Run(fetcher_of(hub, files_of(hub, tmp_path)))
    run.join()
    assert (run.failure.code, run.failure.details["name"]) == ("file_missing", "config.json")
    hub.token = "secret"
    run = Run(fetcher_of(hub, files_of(hub, tmp_path)))
    run.join()
    assert run.failure.code == "token"


def test_the_token_stays_with_the_hub_when_it_sends_elsewhere(hub: FakeHub, tmp_path: Path) -> None:
    hub.token = "secret"
    hub.redirect_from = 100_000
    files = files_of(hub, tmp_path)
    fetcher_of(hub, files, token="secret").run()
    check(tmp_path, files)
    assert hub.redirected
    assert not any("secret" in value for headers in hub.redirected for value in headers.values())
    # The way is asked once per connection, not once per part.
    assert len(hub.redirected) == 7


def test_a_hub_that_is_gone_is_named_and_tried_later_and_later(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        hub = FakeHub(FILES)
        files = files_of(hub, tmp_path)
        for file in files:
            file.url = file.url.replace(hub.url, f"http://127.0.0.1:{taken.getsockname()[1]}")
        fetcher = fetcher_of(hub, files)
        run = Run(fetcher)
        run.until(lambda: fetcher.units.trouble is not None and fetcher.units.next_try - fetcher.units.trouble_at > 0.4)
        assert fetcher.units.trouble.code == "refused"
        run.stop()


def test_a_disk_that_is_full_ends_it_and_leaves_no_wrong_file(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(hub_parts.os, "pwrite", full)
    run = Run(fetcher_of(hub, files_of(hub, tmp_path)))
    run.join()
    assert run.failure.code == "disk_full"
    assert not (tmp_path / "model.safetensors").exists()


def test_a_file_killed_between_its_last_steps_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "model.safetensors"
    hub_parts.path_for(target).write_bytes(BIG)  # the note is cut off, the name not given yet
    parts = hub_parts.PartFile(target, "sha256:x", len(BIG))
    assert parts.done == parts.prefix() == len(BIG)
    parts.close()


def test_two_processes_do_not_write_the_same_file(tmp_path: Path) -> None:
    first = hub_parts.PartFile(tmp_path / "file", "x", 1000)
    with pytest.raises(BlockingIOError):
        hub_parts.PartFile(tmp_path / "file", "x", 1000)
    first.close()


def test_a_file_that_was_finished_meanwhile_is_not_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "file"
    lock = hub_parts.fcntl.flock

    def finish_then_lock(descriptor: int, how: int) -> None:
        hub_parts.path_for(target).replace(target)  # what the other process does between the two steps
        lock(descriptor, how)

    target.with_name(target.name + hub_parts.SUFFIX).write_bytes(b"good")
    monkeypatch.setattr(hub_parts.fcntl, "flock", finish_then_lock)
    with pytest.raises(BlockingIOError):
        hub_parts.PartFile(target, "x", 1000)
    assert target.read_bytes() == b"good"
    other = tmp_path / "small"
    monkeypatch.setattr(hub_parts.fcntl, "flock", lock)
    descriptor = hub_parts.open_alone(f"{other}{hub_parts.SUFFIX}")
    with pytest.raises(BlockingIOError):
        hub_files.write_whole(other, memoryview(b"mine"))
    assert not other.exists()
    os.close(descriptor)


def test_a_run_that_failed_holds_no_file(hub: FakeHub, tmp_path: Path) -> None:
    hub.faults["model.safetensors"] = Faults(bytes_per_second=100_000)
    files = files_of(hub, tmp_path)
    run = Run(fetcher_of(hub, files))
    run.until(lambda: files[1].now_done() > 0)
    run.fetcher.stop(hub_files.Failure("damaged", name="config.json"))
    run.join()
    assert run.failure.code == "damaged"
    assert 0 < files[1].done < len(BIG)
    hub.faults.clear()
    again = files_of(hub, tmp_path)
    fetcher_of(hub, again, known=True).run()
    check(tmp_path, again)


def test_what_another_process_fetched_meanwhile_is_taken(hub: FakeHub, tmp_path: Path) -> None:
    files = files_of(hub, tmp_path)
    held = hub_parts.PartFile(files[1].target, files[1].content, len(BIG))
    fetcher = fetcher_of(hub, files)
    run = Run(fetcher)
    run.until(lambda: fetcher.units.trouble is not None and fetcher.units.trouble.code == "busy")
    files[1].target.write_bytes(BIG)
    held.drop()
    run.join()
    check(tmp_path, files)
    assert not any(name == "model.safetensors" for name, _start in hub.served)


def test_whatever_ends_it_is_a_failure(hub: FakeHub, tmp_path: Path) -> None:
    def fail(_file: object) -> bool:
        raise PermissionError(13, "Permission denied", "somewhere")

    (tmp_path / "config.json").write_bytes(FILES["config.json"])
    fetcher = fetcher_of(hub, files_of(hub, tmp_path))
    fetcher._is_known_good = fail
    with pytest.raises(hub_files.Failure) as caught:
        fetcher.run()
    assert (caught.value.code, caught.value.details["path"]) == ("disk", "somewhere")


def test_a_git_hash_is_checked_too(hub: FakeHub, tmp_path: Path) -> None:
    data = FILES["config.json"]
    name = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    good, bad = files_of(hub, tmp_path)[0], files_of(hub, tmp_path / "other")[0]
    good.identity, bad.identity = f"git:{name}", f"git:{'0' * 40}"
    fetcher_of(hub, [good]).run()
    assert good.checked
    run = Run(fetcher_of(hub, [bad]))
    run.join()
    assert run.failure.code == "damaged"
