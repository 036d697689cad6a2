"""Rotation takes the front of a log out while it is written and read; no line is lost. Runs and export, too."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from unittest import mock

import pytest

from qwen_tui.logs import rotation
from qwen_tui.logs.export import export
from qwen_tui.logs.filters import Filter
from qwen_tui.logs.follow import Tail
from qwen_tui.logs.parse import Level
from qwen_tui.logs.reader import LogError, LogReader
from qwen_tui.logs.rotation import archived_chunks, archives, rotate
from qwen_tui.logs.runs import runs
from qwen_tui.logs.search import Cancelled

WRITER = """
import os, sys
file = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
for number in range(0, 100_000, 50):
    os.write(file, b"".join(b"line %d of the log, as long as lines are\\n" % n for n in range(number, number + 50)))
"""


@pytest.fixture(autouse=True)
def _small_parts() -> object:
    with mock.patch.object(rotation, "SMALLEST_PART", 64 * 1024):
        yield


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """About 470 kB in 10,000 lines, on a file system that can give back parts of files."""
    path = tmp_path / "server.log"
    path.write_bytes(b"".join(b"line %d of the log, as long as lines are\n" % number for number in range(10_000)))
    try:
        rotation._check_support(tmp_path)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        pytest.skip("this file system can't give back parts of files")
    return path


def everything(log: Path) -> bytes:
    with LogReader(log).snapshot() as snapshot:
        return b"".join(archived_chunks(log)) + snapshot.read(snapshot.start, snapshot.size)


def test_a_writer_at_full_speed_and_a_reader_that_follows_lose_no_line(log: Path) -> None:
    log.write_bytes(b"")
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(log)])
    followed: list[bytes] = []
    read = parts = while_writing = 0
    with Tail(log) as tail:
        while True:
            has_ended = writer.poll() is not None
            lines = tail.lines()
            if not lines and has_ended:
                break
            followed += [line.data for line in lines]
            read = lines[-1].next_offset if lines else read
            if rotate(log, log.stat().st_size - read).archive is not None:
                parts += 1
                while_writing += writer.poll() is None
    expected = [b"line %d of the log, as long as lines are" % number for number in range(100_000)]
    assert everything(log).splitlines() == expected
    assert followed == expected
    assert len(archives(log)) == parts >= while_writing > 0


def test_the_front_is_given_back_and_lines_keep_their_place(log: Path) -> None:
    before, size = log.read_bytes(), log.stat().st_size
    blocks = log.stat().st_blocks
    with LogReader(log).snapshot() as snapshot:
        last = [line.offset for _number, line in zip(range(100), snapshot.before(size), strict=False)]
    rotated = rotate(log, 100_000)
    assert rotated.archive is not None
    assert rotated.archive.start == 0
    assert size - 100_000 <= rotated.archive.end <= size - 99_900
    assert log.stat().st_size == size
    assert (blocks - log.stat().st_blocks) * 512 == rotated.freed > 300_000
    assert everything(log) == before
    assert stat.S_IMODE(rotated.archive.path.stat().st_mode) == 0o600
    reader = LogReader(log)
    assert reader.page_after(0, 1)[0].offset == rotated.archive.end
    assert reader.page_after(0, 1)[0].data.startswith(b"line ")
    with reader.snapshot() as snapshot:
        lines = list(snapshot.before(size))
        assert [line.offset for line in lines[:100]] == last
        assert lines[-1].offset == rotated.archive.end == snapshot.start
        assert snapshot.line_start(5) == snapshot.start
        assert len(lines) == len(list(snapshot.after(0)))
    assert reader.offset_of_line(2) == reader.page_after(0, 2)[1].offset
    with Tail(log) as tail:
        assert tail.chunk() == before[rotated.archive.end :]
    assert rotate(log, 100_000) == (None, 0)


def test_what_was_interrupted_between_archive_and_giving_back_is_not_archived_twice(log: Path) -> None:
    before = log.read_bytes()
    with mock.patch.object(rotation, "_give_back", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        rotate(log, 100_000)
    (known,) = archives(log)
    assert log.read_bytes() == before
    with log.open("ab") as file:
        file.write(b"more\n")
    assert rotate(log, 100_000).archive == known
    assert len(archives(log)) == 1
    assert everything(log) == before + b"more\n"


def test_where_it_can_not_be_done_nothing_changes(log: Path) -> None:
    before = log.read_bytes()
    refused = OSError(errno.EOPNOTSUPP, "not supported")
    with mock.patch.object(rotation, "_punch", side_effect=refused), pytest.raises(OSError, match="not supported"):
        rotate(log, 100_000)
    assert os.listdir(log.parent) == ["server.log"]
    assert log.read_bytes() == before


def test_a_log_of_one_unfinished_line_is_cut_somewhere(tmp_path: Path, log: Path) -> None:
    other = tmp_path / "other.log"
    other.write_bytes(b"x" * 300_000)
    assert rotate(other, 100_000).archive == archives(other)[0]
    assert archives(other)[0].end == 200_000
    assert everything(other) == b"x" * 300_000


# Export


def test_export_writes_all_with_what_was_taken_out_or_what_passes(log: Path, tmp_path: Path) -> None:
    before = log.read_bytes()
    rotate(log, 100_000)
    reports: list[tuple[int, int]] = []
    written = export(log, tmp_path / "all.log", on_progress=lambda done, total: reports.append((done, total)))
    assert written == (tmp_path / "all.log", len(before), None)
    assert written.path.read_bytes() == before
    assert stat.S_IMODE(written.path.stat().st_mode) == 0o600
    assert reports[-1] == (len(before), len(before))
    some = export(log, tmp_path / "some.log", Filter().with_pattern("line 999[0-9] "))
    assert some.path.read_bytes().splitlines() == before.splitlines()[-10:]
    assert some.lines == 10


def test_export_overwrites_nothing_and_leaves_nothing_half_written(log: Path, tmp_path: Path) -> None:
    with pytest.raises(LogError, match="there already"):
        export(log, log)
    with pytest.raises(LogError, match="Can't write"):
        export(log, tmp_path / "no" / "such" / "folder")
    with pytest.raises(LogError, match="no log"):
        export(tmp_path / "none.log", tmp_path / "x")
    for wanted in (None, Filter(level=Level.ERROR)):
        with pytest.raises(Cancelled):
            export(log, tmp_path / "x", wanted, is_cancelled=lambda: True)
    assert os.listdir(tmp_path) == ["server.log"]


# Runs


def test_runs_are_listed_newest_first(tmp_path: Path) -> None:
    names = ["20261120-090000.log", "20261122-160000.log", "20261122-160000_2.log", "20261122-160000_10.log"]
    for name in [*names, "other.log", "20261120-090000.log.0-5.gz"]:
        (tmp_path / name).write_text("x")
    found = runs(tmp_path / names[-1])
    assert [run.log.name for run in found] == names[::-1]
    assert found[-1].started == datetime(2026, 11, 20, 9)
    assert [run.log.name for run in runs(tmp_path / "other.log")] == ["other.log", *names[::-1]]
    assert runs(tmp_path / "none" / "x.log") == []
