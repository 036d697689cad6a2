"""The keeper holds the log of its server within bounds; whoever reads that log does not notice."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

import qwen_tui
from qwen_tui.logs import keep, rotation
from qwen_tui.logs.archive import archives
from qwen_tui.logs.keep import BoundedLog
from qwen_tui.logs.reader import LogReader
from qwen_tui.server.diagnosis import diagnose, reading
from qwen_tui.server.phases import PhaseReader
from qwen_tui.server.processes import is_alive
from qwen_tui.server.status import Phase
from tests.conftest import until

MB = 1_000_000
LINE = b"INFO 11-22 16:00:22 [loggers.py:335] Engine 000: Running: 3 reqs, %08d\n"


@pytest.fixture(autouse=True)
def _often() -> Iterator[None]:
    with mock.patch.object(keep, "INTERVAL", 0.005), mock.patch.object(rotation, "SMALLEST_PART", 64 * 1024):
        yield


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """2.1 MB in 30,000 lines, on a file system that can give back parts of files."""
    path = tmp_path / "server.log"
    path.write_bytes(b"".join(LINE % number for number in range(30_000)))
    try:
        rotation._check_support(tmp_path)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        pytest.skip("this file system can't give back parts of files")
    return path


async def test_what_is_too_much_is_archived_and_what_is_too_old_is_deleted(log: Path) -> None:
    notes: list[str] = []
    bounded = BoundedLog(log, MB // 2, notes.append)
    size = log.stat().st_size
    with mock.patch.object(keep, "prune", side_effect=lambda path, _bytes: rotation.prune(path, 0)):
        bounded.start()
        await until(lambda: archives(log))
        first = archives(log)[0]
        await until(lambda: log.stat().st_blocks * 512 <= MB // 2 + 8192)
        with log.open("ab") as file:
            file.write(b"".join(LINE % number for number in range(30_000, 50_000)))
        await until(lambda: archives(log)[0].start > 0)
    bounded.stop()
    assert archives(log)[0].start == first.end
    assert size - MB // 2 <= first.end <= size - MB // 2 + len(LINE)
    assert not notes
    with LogReader(log).snapshot() as snapshot:
        assert snapshot.start == first.end
        assert snapshot.read(first.end, snapshot.size).splitlines()[-1] == (LINE % 49_999).rstrip()


async def test_where_the_file_system_can_not_do_it_nothing_is_said(log: Path) -> None:
    notes: list[str] = []
    refused = mock.Mock(side_effect=OSError(errno.EOPNOTSUPP, "not supported"))
    with mock.patch.object(rotation, "_punch", refused):
        bounded = BoundedLog(log, MB, notes.append)
        bounded.start()
        await until(lambda: not bounded._thread.is_alive())
    assert (notes, refused.call_count, archives(log)) == ([], 1, [])


async def test_another_failure_is_noted_once_and_tried_again(log: Path) -> None:
    notes: list[str] = []
    refused = mock.Mock(side_effect=OSError(errno.ENOSPC, "No space left on device"))
    bounded = BoundedLog(log, MB, notes.append)
    with mock.patch.object(rotation, "write_archive", refused):
        bounded.start()
        await until(lambda: refused.call_count > 2)
    await until(lambda: archives(log))
    bounded.stop()
    assert len(notes) == 1
    assert "No space left" in notes[0]


async def test_a_rotation_under_way_is_given_up_when_it_is_to_stop(log: Path) -> None:
    bounded = BoundedLog(log, MB, pytest.fail)
    pread, at_work = os.pread, mock.Mock()

    def slow(*arguments: int) -> bytes:
        at_work()
        bounded._stopped.wait(20)
        return pread(*arguments)

    with mock.patch("qwen_tui.logs.archive.os.pread", slow):
        bounded.start()
        await until(lambda: at_work.called)
        bounded.stop()
    assert not bounded._thread.is_alive()
    assert os.listdir(log.parent) == [log.name]


def test_nothing_is_done_where_nothing_is_to_be(log: Path) -> None:
    before = log.stat().st_blocks
    unwanted = BoundedLog(log, 0, pytest.fail)
    unwanted.start()
    assert not unwanted._thread.is_alive()
    unwanted.stop()
    BoundedLog(log, 3 * MB, pytest.fail).look()
    BoundedLog(log.with_name("none.log"), MB, pytest.fail).look()
    assert log.stat().st_blocks == before
    assert archives(log) == []


#: The keeper as it is started, but that it looks at the log all the time.
KEEPER = f"""
import sys
sys.path.insert(0, {str(Path(qwen_tui.__file__).parents[1])!r})
from qwen_tui.logs import keep
keep.INTERVAL = 0.01
from qwen_tui.server import keeper
sys.exit(keeper.main(sys.argv[1:]))
"""


async def test_the_keeper_does_it_for_the_log_of_its_server(log: Path, tmp_path: Path) -> None:
    log.write_bytes(b"")
    line = (LINE % 7).decode().strip()
    server = f"import sys, time; sys.stdout.write({line!r} * 50_000 + chr(10)); sys.stdout.flush(); time.sleep(600)"
    launch = {"id": "1", "argv": [sys.executable, "-c", server], "env": {}, "cwd": str(tmp_path), "log": str(log)}
    launch.update(log_keep_mb=1, restart="no", spec={}, idle_minutes=0)
    (tmp_path / "launch.json").write_text(json.dumps(launch))
    starting = await asyncio.create_subprocess_exec(sys.executable, "-I", "-S", "-c", KEEPER, str(tmp_path))
    assert await starting.wait() == 0
    keeper = {}
    try:
        await until(lambda: (tmp_path / "state.json").exists())
        keeper = json.loads((tmp_path / "state.json").read_text())["keeper"]
        await until(lambda: archives(log))
        assert archives(log)[0].end > MB
    finally:
        os.kill(keeper["pid"], signal.SIGTERM)
        await until(lambda: not is_alive(keeper["pid"], keeper["started"]))
    assert json.loads((tmp_path / "state.json").read_text())["status"] == "ended"


# Who else reads that log


def test_a_diagnosis_counts_the_lines_that_were_archived(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "WHOLE", MB // 5)
    monkeypatch.setattr(reading, "TAIL", MB // 5)
    with log.open("ab") as file:
        file.write(b'Traceback (most recent call last):\n  File "x.py", line 1, in f\nValueError: the reason\n')
    before = diagnose(log)
    assert before is not None
    assert before.line_number == 30_003
    for left in (MB, MB // 10):  # less than what is read at the end, the second time
        assert rotation.rotate(log, left).archive is not None
        assert diagnose(log) == before
    first, second = archives(log)
    first.path.unlink()
    after = diagnose(log)
    assert after is not None
    assert after.line_number == before.line_number - second.start // len(LINE % 0)


def test_a_start_is_read_on_behind_what_was_archived(log: Path) -> None:
    with log.open("ab") as file:
        file.write(b"INFO 11-22 Loading safetensors checkpoint shards: 50% Completed | 1/2\n")
    rotation.rotate(log, 100_000)
    reader = PhaseReader(log)
    reader.update()
    assert (reader.phase, reader.done, reader.total) == (Phase.WEIGHTS, 1, 2)
