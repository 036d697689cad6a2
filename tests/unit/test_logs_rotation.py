"""Rotation takes the front of a log out while it is written and read; no line is lost. Runs and export, too."""

from __future__ import annotations

import argparse
import errno
import gzip
import os
import stat
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from unittest import mock

import pytest

from qwen_tui.headless import logs as command
from qwen_tui.logs import reader as reader_module
from qwen_tui.logs import rotation
from qwen_tui.logs.archive import archives
from qwen_tui.logs.export import export
from qwen_tui.logs.filters import Filter, Pattern, Sieve
from qwen_tui.logs.follow import Tail
from qwen_tui.logs.pager import Pager
from qwen_tui.logs.parse import Level
from qwen_tui.logs.reader import LogError, LogReader
from qwen_tui.logs.rotation import prune, rotate
from qwen_tui.logs.runs import runs
from qwen_tui.logs.search import Cancelled
from qwen_tui.logs.seek import Seeker
from qwen_tui.logs.survey import Survey

#: Writes lines as fast as it can, as many as it is told, again and again; ends when it is told nothing more.
WRITER = """
import os, sys
file = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
number = 0
while count := sys.stdin.readline():
    for first in range(number, number + int(count), 50):
        os.write(file, b"".join(b"line %d of the log, as long as lines are\\n" % n for n in range(first, first + 50)))
    number += int(count)
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
    """What is in the archives, by another reader of them than ours, and behind it what is in the file itself."""
    found = archives(log)
    return b"".join(gzip.decompress(archive.path.read_bytes()) for archive in found) + log.read_bytes()[found[-1].end :]


def numbered(count: int, first: int = 0) -> list[bytes]:
    return [b"line %d of the log, as long as lines are" % number for number in range(first, first + count)]


def first_difference(found: list[bytes], expected: list[bytes]) -> str:
    """Where two lists of lines differ first, in few words; empty where they don't."""
    for number, (left, right) in enumerate(zip(found, expected, strict=False)):
        if left != right:
            return f"line {number} is {left[:60]!r} instead of {right[:60]!r}"
    return "" if len(found) == len(expected) else f"{len(found)} lines instead of {len(expected)}"


def test_a_writer_at_full_speed_and_a_reader_that_follows_lose_no_line(log: Path) -> None:
    """The writer is always ahead of the reader, so every cut may lie behind what was read, and goes on meanwhile."""
    log.write_bytes(b"")
    turns, count = 20, 5000
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(log)], stdin=subprocess.PIPE)
    assert writer.stdin is not None
    writer.stdin.write(b"%d\n" % count)
    writer.stdin.flush()
    followed: list[bytes] = []
    read = parts = asked = 0
    with Tail(log) as tail:
        while len(followed) < turns * count:
            if len(followed) >= asked * count and asked < turns:
                asked += 1
                writer.stdin.write(b"%d\n" % count if asked < turns else b"")
                writer.stdin.flush()
            lines = tail.lines()
            assert lines or writer.poll() is None
            followed += [line.data for line in lines]
            read = lines[-1].next_offset if lines else read
            parts += rotate(log, log.stat().st_size - read).archive is not None
        writer.stdin.close()
        assert writer.wait() == 0
        assert tail.lines() == []
    assert not first_difference(followed, numbered(turns * count))
    assert not first_difference(everything(log).splitlines(), numbered(turns * count))
    assert len(archives(log)) == parts > 1


def test_what_is_archived_before_it_was_followed_comes_from_the_archive(log: Path) -> None:
    with Tail(log) as tail:
        followed = [line.data for line in tail.lines()]
        assert rotate(log, 50_000).archive is not None
        with log.open("ab") as file:
            file.write(b"\n".join(numbered(10_000, 10_000)) + b"\n")
        assert rotate(log, 50_000).archive is not None
        while lines := tail.lines():
            followed += [line.data for line in lines]
    assert not first_difference(followed, numbered(20_000))


@pytest.mark.parametrize("rotated_after", [1, 2, 3])
def test_what_is_given_back_while_it_is_read_comes_from_the_archive(log: Path, rotated_after: int) -> None:
    """The front goes between a reader's look at the file and its read, and is read as zeros at first."""
    reads = 0

    def pread(descriptor: int, size: int, at: int) -> bytes:
        nonlocal reads
        reads += 1
        if reads == rotated_after:
            rotate(log, 50_000)
        return os_pread(descriptor, size, at)

    os_pread = os.pread
    followed: list[bytes] = []
    with mock.patch.object(reader_module.os, "pread", pread), Tail(log) as tail:
        while lines := tail.lines():
            followed += [line.data for line in lines]
    assert len(archives(log)) == 1
    assert not first_difference(followed, numbered(10_000))


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
    assert reader.page_after(0, 1)[0].data == b"line 0 of the log, as long as lines are"
    with reader.snapshot() as snapshot:
        lines = list(snapshot.before(size))
        assert [line.offset for line in lines[:100]] == last
        assert lines[-1].offset == snapshot.start == 0
        assert not first_difference([line.data for line in reversed(lines)], numbered(10_000))
        assert not first_difference([line.data for line in snapshot.after(0)], numbered(10_000))
    for number in (1, 2, 5000, 9000, 10_000):
        line = reader.line_at(reader.offset_of_line(number))
        assert line is not None
        assert line.data == b"line %d of the log, as long as lines are" % (number - 1)
    with Tail(log) as tail:
        assert tail.chunk() == before
    assert rotate(log, 100_000) == (None, 0)


def test_without_its_archives_a_log_starts_behind_what_was_given_back(log: Path) -> None:
    before = log.read_bytes()
    first, second = rotate(log, 300_000).archive, rotate(log, 100_000).archive
    assert first is not None
    assert second is not None
    reader = LogReader(log)
    assert reader.page_after(0, 1)[0].offset == 0
    assert prune(log, first.path.stat().st_size + second.path.stat().st_size) == []
    assert prune(log, 1) == [first]
    assert archives(log) == [second]
    assert reader.page_after(0, 1)[0].offset == second.start
    with Tail(log) as tail:
        assert tail.chunk() == before[second.start :]
    second.path.unlink()
    assert reader.page_after(0, 1)[0].offset == second.end
    with reader.snapshot() as snapshot:
        lines = list(snapshot.before(len(before)))
        assert lines[-1].offset == second.end == snapshot.start
        assert snapshot.line_start(5) == snapshot.start
        assert len(lines) == len(list(snapshot.after(0)))
    assert reader.offset_of_line(2) == reader.page_after(0, 2)[1].offset


def test_an_archive_that_somebody_compressed_anew_is_read_and_a_damaged_one_is_named(log: Path) -> None:
    archive = rotate(log, 100_000).archive
    assert archive is not None
    archive.path.write_bytes(gzip.compress(gzip.decompress(archive.path.read_bytes())))
    reader = LogReader(log)
    assert not first_difference([line.data for line in reader.page_after(0, 20_000)], numbered(10_000))
    line = reader.line_at(reader.offset_of_line(7000))
    assert line is not None
    assert line.data.startswith(b"line 6999 ")
    data = bytearray(archive.path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    archive.path.write_bytes(data)
    with pytest.raises(LogError) as caught:
        reader.page_after(0, 20_000)
    assert archive.path.name in caught.value.why
    assert reader.last_page(3)[-1].data == b"line 9999 of the log, as long as lines are"


def test_a_log_that_was_truncated_after_a_rotation_is_left_alone(log: Path) -> None:
    rotate(log, 100_000)
    new = b"\n".join(numbered(20_000, 50_000)) + b"\n"
    os.truncate(log, 0)
    log.write_bytes(new)
    with pytest.raises(OSError, match="before it was truncated"):
        rotate(log, 100_000)
    with LogReader(log).snapshot() as snapshot:
        assert snapshot.read(0, snapshot.size) == new


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


def test_a_screen_a_search_and_a_command_go_back_into_the_archives(
    log: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    rotate(log, 300_000)
    last = rotate(log, 100_000).archive
    assert last is not None
    pager = Pager(log, height=10)
    pager.jump_to(last.end)
    for _turn in range(20):
        pager.cursor_up()
    above = [int(line.text.split()[1]) for line in pager.page.lines]
    assert above == list(range(above[0], above[0] + 10))
    assert pager.page.end < last.end
    pager.home()
    assert [line.text.encode() for line in pager.page.lines] == numbered(10)
    sieve = Sieve(Filter(), Pattern.of("99[0-9] "))
    pager.follow()
    seeker = Seeker(pager, sieve)
    found = []
    while seeker.previous():
        found.append(int(pager.page.current.text.split()[1]))  # type: ignore[union-attr]
    assert found == [number for number in range(9999, 0, -1) if number % 1000 > 989]
    survey = Survey(pager.reader, sieve)
    while survey.advance(1):
        pass
    assert survey.total == 100
    current = pager.page.current
    assert current is not None
    assert (current.text.split()[1], survey.number_of(current.offset)) == ("990", 1)
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    for words in (["--grep", " 10 "], ["--grep", " 10 ", "-n", "1"], ["--raw", "--grep", " 10 "]):
        assert command.print_log(log, parser.parse_args(["name", *words])) == 0
        assert capfdbinary.readouterr().out.splitlines() == numbered(1, 10)
    assert command.print_log(log, parser.parse_args(["name", "-n", "all"])) == 0
    assert not first_difference(capfdbinary.readouterr().out.splitlines(), numbered(10_000))


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
    some = export(log, tmp_path / "some.log", Filter().with_pattern("line 9?99[0-9] "))
    assert some.path.read_bytes().splitlines() == numbered(10, 990) + numbered(10, 9990)
    assert some.lines == 20


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
