"""Reading a log by byte offset agrees with reading all of it, whatever is in it and whatever happens to it."""

from __future__ import annotations

import os
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen_tui.logs import reader as reader_module
from qwen_tui.logs.reader import LogError, LogReader, RawLine

BLOCK = 16
LIMIT = 8

#: Few kinds of bytes, so that newlines, blocks without any, and carriage returns meet often.
contents = st.lists(
    st.sampled_from([b"\n", b"\r", b"a", b"bc", b"\x00", b"x" * 7, b"y" * 16, b"z" * 33, b"\xff"]), max_size=40
).map(b"".join)


def line_starts(data: bytes, block: int) -> list[int]:
    """Every start of a line, by the definition: after newlines, and where a whole block before holds none."""
    starts = {0} | {at + 1 for at, byte in enumerate(data) if byte == 10}
    starts |= {edge for edge in range(block, len(data), block) if b"\n" not in data[edge - block : edge]}
    return sorted(start for start in starts if start < len(data))


def spans(lines: list[RawLine]) -> list[tuple[int, int]]:
    return [(line.offset, line.next_offset) for line in lines]


def all_spans(data: bytes, block: int = BLOCK) -> list[tuple[int, int]]:
    starts = line_starts(data, block)
    return list(zip(starts, [*starts, len(data)][1:], strict=True))


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs") / "server.log"


@settings(max_examples=300, deadline=None)
@given(data=contents, rows=st.integers(0, 12), offset=st.integers(0, 300), chunk=st.sampled_from([1, 5, 16, 64]))
def test_pages_agree_with_reading_everything(log: Path, data: bytes, rows: int, offset: int, chunk: int) -> None:
    log.write_bytes(data)
    expected = all_spans(data)
    with mock.patch.object(reader_module, "CHUNK", chunk):
        reader = LogReader(log, block=BLOCK, limit=LIMIT)
        assert spans(reader.last_page(rows)) == (expected[-rows:] if rows else [])
        inside = [span for span in expected if span[1] > offset]
        assert spans(reader.page_after(offset, rows)) == inside[:rows]
        outside = [span for span in expected if span[1] <= offset]
        assert spans(reader.page_before(offset, rows)) == (outside[-rows:] if rows else [])
        line = reader.line_at(offset)
        assert (line and (line.offset, line.next_offset)) == (inside[0] if inside else None)


@settings(max_examples=100, deadline=None)
@given(data=contents)
def test_a_line_keeps_its_bytes_or_counts_what_it_hides(log: Path, data: bytes) -> None:
    log.write_bytes(data)
    for line in LogReader(log, block=BLOCK, limit=LIMIT).page_after(0, 1000):
        whole = data[line.offset : line.next_offset]
        assert line.complete == whole.endswith(b"\n")
        content = whole[: -1 if line.complete else None]
        if len(content) <= LIMIT:
            assert line.data == content
            assert line.hidden == 0
        elif line.hidden:
            assert content.startswith(line.data)
            assert len(line.data) + line.hidden == len(content)
        else:
            assert content.rstrip(b"\r").endswith(line.data)
            assert len(line.data) <= LIMIT


@settings(max_examples=100, deadline=None)
@given(data=contents, rows=st.integers(1, 7))
def test_paging_forward_and_back_meets_the_same_lines(log: Path, data: bytes, rows: int) -> None:
    log.write_bytes(data)
    reader = LogReader(log, block=BLOCK, limit=LIMIT)
    pages = []
    position = 0
    while page := reader.page_after(position, rows):
        pages.append(page)
        position = page[-1].next_offset
    assert position == len(data)
    for page in reversed(pages):
        assert reader.page_before(position, len(page)) == page
        position = page[0].offset


@settings(max_examples=100, deadline=None)
@given(data=contents, more=contents)
def test_starts_of_lines_stay_where_they_are_while_the_file_grows(log: Path, data: bytes, more: bytes) -> None:
    log.write_bytes(data)
    reader = LogReader(log, block=BLOCK, limit=LIMIT)
    before = [line.offset for line in reader.page_after(0, 1000)]
    with log.open("ab") as file:
        file.write(more)
    assert [line.offset for line in reader.page_after(0, 1000)][: len(before)] == before


@settings(max_examples=100, deadline=None)
@given(data=contents, number=st.integers(1, 30))
def test_line_numbers_count_newlines(log: Path, data: bytes, number: int) -> None:
    log.write_bytes(data)
    reader = LogReader(log)
    starts = line_starts(data, 1 << 20)
    expected = starts[min(number, len(starts)) - 1] if starts else 0
    assert reader.offset_of_line(number) == expected


def test_a_file_that_is_not_there_reads_as_an_empty_one(tmp_path: Path) -> None:
    reader = LogReader(tmp_path / "none" / "server.log")
    assert reader.size() == 0
    assert reader.state().identity is None
    assert reader.last_page(10) == []
    assert reader.page_after(0, 10) == []
    assert reader.line_at(0) is None
    assert reader.offset_of_line(5) == 0


def test_a_folder_and_a_pipe_are_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="not a file"):
        LogReader(tmp_path).last_page(1)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(LogError, match="not a file"):
        LogReader(pipe).last_page(1)


def test_replacing_and_truncating_are_noticed_and_growing_is_not_mistaken_for_them(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_bytes(b"one\ntwo\n")
    reader = LogReader(log)
    first = reader.state()
    with log.open("ab") as file:
        file.write(b"three\n")
    grown = reader.state()
    assert first.is_continued_by(grown)
    assert not grown.is_continued_by(first)
    other = tmp_path / "other"
    other.write_bytes(b"another file, longer than the first was\n")
    other.replace(log)
    assert not grown.is_continued_by(reader.state())


def test_a_file_truncated_while_it_is_read_ends_early_and_does_no_harm(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_bytes(b"a line of the log\n" * 100_000)
    reader = LogReader(log)
    with reader.snapshot() as snapshot:
        os.truncate(log, 40)
        lines = list(snapshot.after(0))
        assert lines[0].data == b"a line of the log"
        assert sum(len(line.data) for line in lines) <= 1_800_000
        assert len(list(snapshot.before(snapshot.size))) <= 100_001


def test_megabytes_of_progress_in_one_line_read_only_their_end(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    bars = b"".join(b"\rLoading: %3d%%|#####     |" % (100 * number // 20_000) for number in range(20_000))
    log.write_bytes(b"before\n" + bars + b"\rLoading: 100%|##########|\nafter\n")
    assert len(bars) < 1 << 20
    page = LogReader(log).last_page(3)
    assert [line.data for line in (page[0], page[2])] == [b"before", b"after"]
    assert page[1].data.endswith(b"\rLoading: 100%|##########|")
    assert page[1].hidden == 0
    assert len(page[1].data) <= reader_module.LIMIT


def test_a_file_of_one_endless_line_is_read_in_bounded_pieces(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    with log.open("wb") as file:
        file.write(b"x")
        file.truncate(200 << 20)  # NUL bytes that take no room on the disk
    page = LogReader(log).last_page(20)
    assert len(page) == 20
    assert all(len(line.data) == reader_module.LIMIT for line in page)
    assert page[-1].hidden == reader_module.BLOCK - reader_module.LIMIT
    assert page[-1].next_offset == 200 << 20
