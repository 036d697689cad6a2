"""Following a log: every complete line once, in order, across truncation and replacement."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from qwen_tui.logs.follow import BATCH_LINES, Tail, end_of_lines, follow
from qwen_tui.logs.parse import LogLine
from qwen_tui.logs.reader import LogError


async def take(batches: AsyncIterator[list[LogLine]], count: int) -> list[str]:
    """The next `count` lines."""
    lines: list[str] = []
    while len(lines) < count:
        lines += [line.text for line in await asyncio.wait_for(anext(batches), 10)]
    return lines


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


async def test_it_waits_for_the_file_and_hands_over_complete_lines_only(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    batches = follow(log, 0, interval=0.01)
    waiting = asyncio.ensure_future(anext(batches))
    append(log, b"one\ntwo\nthr")
    assert [line.text for line in await asyncio.wait_for(waiting, 10)] == ["one", "two"]
    append(log, b"ee\n")
    assert await take(batches, 1) == ["three"]
    await batches.aclose()


async def test_without_a_start_it_hands_over_what_is_new(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    append(log, b"old\nhalf")
    assert end_of_lines(log) == 4
    batches = follow(log, interval=0.01)
    waiting = asyncio.ensure_future(anext(batches))
    # When exactly it begins can't be seen from here, so write until it answers.
    for number in range(1000):
        append(log, b"new %d\n" % number)
        if (await asyncio.wait([waiting], timeout=0.01))[0]:
            break
    lines = [line.text for line in waiting.result()]
    assert "old" not in lines
    assert lines[-1].startswith(("new", "halfnew"))
    await batches.aclose()


async def test_it_goes_on_after_a_truncation(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    append(log, b"a rather long line\n")
    batches = follow(log, 0, interval=0.01)
    assert await take(batches, 1) == ["a rather long line"]
    os.truncate(log, 0)
    append(log, b"new\n")
    assert await take(batches, 1) == ["new"]
    await batches.aclose()


async def test_it_finishes_a_replaced_file_and_goes_on_with_the_new_one(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    append(log, b"one\n")
    batches = follow(log, 0, interval=0.01)
    assert await take(batches, 1) == ["one"]
    append(log, b"two\nunfinished")
    log.rename(tmp_path / "server.log.1")
    append(log, b"three\n")
    assert await take(batches, 3) == ["two", "unfinished", "three"]
    await batches.aclose()


def test_a_large_backlog_comes_in_batches(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    append(log, b"".join(b"line %d\n" % number for number in range(2 * BATCH_LINES + 1)))
    with Tail(log) as tail:
        sizes = [len(tail.lines()) for _turn in range(4)]
    assert sizes == [BATCH_LINES, BATCH_LINES, 1, 0]


def test_bytes_come_as_they_are(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    data = bytes(range(256)) * 9000
    append(log, data)
    with Tail(log) as tail:
        read = b""
        while part := tail.chunk():
            read += part
        assert read == data
        append(log, b"more")
        assert tail.chunk() == b"more"


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with Tail(tmp_path) as tail, pytest.raises(LogError):
        tail.lines()
