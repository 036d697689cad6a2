"""Filters and searches over bytes agree with reading and judging every line."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen_tui.logs import search as search_module
from qwen_tui.logs.filters import Filter, Pattern, Sieve
from qwen_tui.logs.pager import Pager
from qwen_tui.logs.parse import Level, LogLine, parse
from qwen_tui.logs.reader import LogReader
from qwen_tui.logs.search import Cancelled, Finder, Gaps
from qwen_tui.logs.seek import Seeker
from qwen_tui.logs.survey import Survey

PIECES = [
    b"(APIServer pid=7) INFO 11-22 16:24:49 [x.py:1] Resolved",
    b"(EngineCore_DP0 pid=8) ERROR 11-22 16:24:49 [x.py:1] broke",
    b"(EngineCore_DP0 pid=8) WARNING 11-22 16:24:49 [x.py:1] careful",
    b'(EngineCore pid=8)   File "x.py", line 3, in f',
    b'INFO:     127.0.0.1:1 - "GET /health HTTP/1.1" 200 OK',
    b'(APIServer pid=7) INFO:     127.0.0.1:1 - "POST /v1/chat/completions HTTP/1.1" 500',
    b"\x1b[36m(EngineCore pid=8)\x1b[0;0m ERROR coloured",
    b"INFO x\r(EngineCore pid=8) ERROR y",
    b"INFO started\x1b[2K\x1b[1GERROR over it",
    b"ERR\x1b[0mOR split",
    b"loading  50%\rloading 100%",
    b"DEBUG detail",
    b"\tTraceback (most recent call last):",
    b"plain text, Error in the middle",
    "一行中文 error".encode(),
    b"bad \xff\xfe bytes",
    b"",
    b"x" * 40,
]
logs = st.tuples(st.lists(st.sampled_from(PIECES), max_size=30), st.booleans()).map(
    lambda drawn: b"\n".join(drawn[0]) + (b"\n" if drawn[1] and drawn[0] else b"")
)
filters = st.builds(
    Filter,
    level=st.sampled_from(list(Level)),
    process=st.sampled_from(["", "", "EngineCore", "apiserver", "Worker"]),
    hide_access=st.booleans(),
    pattern=st.sampled_from(
        [None, None, "error", "ERROR", "o.*e", "^plain", "中文", "(", "rr", " {4}", "e$", "[^a]x", "(?=r)r"]
    ).map(lambda source: source and Pattern.of(source)),
)
searches = st.sampled_from([None, "err", "E", "[0-9]+%", "x$"]).map(lambda source: source and Pattern.of(source))


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs") / "server.log"


def passing(log: Path, sieve: Sieve) -> list[LogLine]:
    with LogReader(log).snapshot() as snapshot:
        return [line for line in map(parse, snapshot.after(0)) if sieve.accepts(line)]


@settings(max_examples=200, deadline=None)
@given(data=logs, wanted=filters, search=searches, window=st.sampled_from([1, 20, 100, 4096]), at=st.floats(0, 1))
def test_both_directions_find_exactly_what_passes(
    log: Path, data: bytes, wanted: Filter, search: Pattern | None, window: int, at: float
) -> None:
    log.write_bytes(data)
    sieve = Sieve(wanted, search)
    expected = passing(log, sieve)
    position = int(at * len(data))
    with (
        mock.patch.object(search_module, "WINDOW", window),
        mock.patch.object(search_module, "SHORTEST_GAP", 8),
        LogReader(log).snapshot() as snapshot,
    ):
        start = snapshot.line_start(position)
        finder = Finder(sieve)
        for _turn in range(2):  # the second time with what the first has learned
            assert list(finder.after(snapshot, position)) == [line for line in expected if line.offset >= start]
            assert list(finder.before(snapshot, position)) == [line for line in expected if line.offset < start][::-1]


@settings(max_examples=100, deadline=None)
@given(data=logs, more=logs, wanted=filters)
def test_what_was_learned_of_a_log_holds_while_it_grows(log: Path, data: bytes, more: bytes, wanted: Filter) -> None:
    log.write_bytes(data)
    sieve = Sieve(wanted)
    finder = Finder(sieve)
    with mock.patch.object(search_module, "SHORTEST_GAP", 1), LogReader(log).snapshot() as snapshot:
        list(finder.before(snapshot, snapshot.size))
        list(finder.after(snapshot, 0))
    with log.open("ab") as file:
        file.write(more)
    with LogReader(log).snapshot() as snapshot:
        assert list(finder.after(snapshot, 0)) == passing(log, sieve)


@settings(max_examples=100, deadline=None)
@given(data=logs, wanted=filters)
def test_a_survey_counts_what_passes(log: Path, data: bytes, wanted: Filter) -> None:
    log.write_bytes(data)
    sieve = Sieve(wanted)
    expected = [line for line in passing(log, sieve) if line.complete]
    survey = Survey(LogReader(log), sieve)
    with mock.patch("qwen_tui.logs.survey.FIRST_PART", 16), mock.patch("qwen_tui.logs.survey.MOST_PARTS", 4):
        survey._clear()
        while survey.advance(0.0001):
            pass
        assert survey.total == len(expected)
        for number, line in enumerate(expected, 1):
            assert survey.number_of(line.offset) == number
        marks = survey.levels(len(data) or 1, len(data))
        assert max(marks) == max((line.level for line in expected), default=Level.NONE)


def test_a_survey_goes_on_with_a_log_that_grows_and_starts_anew_with_another(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_bytes(b"ERROR one\nINFO\nERROR tw")
    survey = Survey(LogReader(log), Sieve(Filter(level=Level.WARNING)))
    while survey.advance(1):
        pass
    assert survey.total == 1
    with log.open("ab") as file:
        file.write(b"o\nWARNING three\n")
    while survey.advance(1):
        pass
    assert survey.total == 3
    assert survey.levels(3, survey.size)[0] is Level.ERROR
    log.write_bytes(b"ERROR\n")
    while survey.advance(1):
        pass
    assert survey.total == 1


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), max_size=12))
def test_gaps_are_the_union_of_what_was_added(pieces: list[tuple[int, int]]) -> None:
    gaps, empty = Gaps(), set()
    with mock.patch.object(search_module, "SHORTEST_GAP", 1):
        for start, length in pieces:
            gaps.add(start, start + length)
            empty |= set(range(start, start + length))
    for at in range(90):
        around = gaps.around(at)
        assert (around is not None) == (at in empty)
        if around is not None:
            assert set(range(*around)) <= empty
            assert around[0] - 1 not in empty
            assert around[1] not in empty


def test_a_text_that_is_no_regular_expression_is_taken_letter_by_letter() -> None:
    assert Pattern.of("a(b").is_literal
    assert Pattern.of("a(b").regex.search("xA(B")
    assert not Pattern.of("a.b").is_literal
    assert Pattern.of("abc").regex.search("ABC")
    assert not Pattern.of("Abc").regex.search("abc")


def test_a_search_stops_when_asked_and_keeps_what_it_learned(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_bytes(b"ERROR first\n" + b"INFO nothing here\n" * 60_000)
    looks = []
    finder = Finder(Sieve(Filter(level=Level.ERROR)), lambda: len(looks) > 3)
    finder.on_look = lambda: looks.append(finder.done)
    with LogReader(log).snapshot() as snapshot:
        with pytest.raises(Cancelled):
            next(finder.before(snapshot, snapshot.size))
        assert 0 < finder.done < finder.total == snapshot.size
        looks.clear()
        looks_before = finder.gaps.around(snapshot.size - 1)
        assert looks_before is not None
        finder = finder_without_end(finder)
        assert next(finder.before(snapshot, snapshot.size)).text == "ERROR first"
        assert finder.gaps.around(snapshot.size - 1) == (12, snapshot.size)


def finder_without_end(finder: Finder) -> Finder:
    finder._is_cancelled = None
    return finder


# The pager with a filter


@pytest.fixture
def errors(tmp_path: Path) -> Path:
    """1000 lines; each hundredth is an error of two lines."""
    log = tmp_path / "server.log"
    lines = [
        f"ERROR {number}\nERROR {number} more" if number % 100 == 50 else f"INFO {number}" for number in range(1000)
    ]
    log.write_text("\n".join(lines) + "\n")
    return log


def texts(pager: Pager) -> list[str]:
    return [row.text for row in pager.page.rows]


def test_a_filtered_pager_pages_and_follows(errors: Path) -> None:
    pager = Pager(errors, 40, 4)
    pager.refresh()
    pager.use_filter(Filter(level=Level.ERROR))
    assert texts(pager) == ["ERROR 850", "ERROR 850 more", "ERROR 950", "ERROR 950 more"]
    assert pager.page.following
    assert not pager.page.is_partial
    pager.page_up()
    assert texts(pager) == ["ERROR 650 more", "ERROR 750", "ERROR 750 more", "ERROR 850"]
    pager.home()
    assert texts(pager)[0] == "ERROR 50"
    pager.follow()
    with errors.open("a") as file:
        file.write("INFO x\nERROR new\nINFO y\n")
    pager.refresh()
    assert texts(pager)[-1] == "ERROR new"
    pager.cursor_up()
    pager.use_filter(Filter())
    pager.cursor_up()
    assert current(pager) == "ERROR 950"
    pager.use_filter(Filter())
    assert current(pager) == "ERROR 950"
    assert "INFO 949" in texts(pager)


def test_the_cursor_goes_to_the_nearest_line_that_passes(errors: Path) -> None:
    pager = Pager(errors, 40, 6)
    pager.jump_to_line(61)
    assert pager.page.current is not None
    assert pager.page.current.text == "INFO 59"
    pager.use_filter(Filter(level=Level.ERROR))
    assert pager.page.current is not None
    assert pager.page.current.text == "ERROR 150"


def test_a_filter_that_nothing_passes_shows_nothing_and_takes_new_lines(errors: Path) -> None:
    pager = Pager(errors, 40, 6)
    pager.use_filter(Filter().with_pattern("no such thing"))
    assert (texts(pager), pager.page.following, pager.page.exists) == ([], True, True)
    with errors.open("a") as file:
        file.write("no such thing, but now\n")
    pager.refresh()
    assert texts(pager) == ["no such thing, but now"]


def test_a_log_that_is_replaced_is_filtered_anew(errors: Path) -> None:
    pager = Pager(errors, 40, 6)
    pager.use_filter(Filter().with_pattern("special"))
    assert texts(pager) == []
    other = errors.with_name("other")
    other.write_bytes(b"special\n" + b"x\n" * 30_000)
    os.replace(other, errors)
    pager.refresh()
    assert texts(pager) == ["special"]


def test_a_cancelled_filter_goes_on_at_the_next_look(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_bytes(b"ERROR first\n" + b"INFO nothing here\n" * 60_000)
    pager = Pager(log, 40, 6)
    pager.refresh()
    pager.cancelled.set()
    with pytest.raises(Cancelled):
        pager.use_filter(Filter(level=Level.ERROR))
    pager.cancelled.clear()
    pager.refresh()
    assert texts(pager) == ["ERROR first"]


def test_what_is_found_shows_while_more_is_looked_for(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_bytes(b"ERROR first\n" + b"INFO nothing here\n" * 60_000 + b"ERROR last\n")
    pager = Pager(log, 40, 6)
    seen = threading.Event()
    with mock.patch("qwen_tui.logs.pager.PUBLISH_INTERVAL", 0):
        original = Pager._set

        def spy(self: Pager, *arguments: object, **options: object) -> None:
            original(self, *arguments, **options)  # type: ignore[arg-type]
            if self.page.is_partial and texts(self) == ["ERROR last"]:
                seen.set()

        with mock.patch.object(Pager, "_set", spy):
            pager.use_filter(Filter(level=Level.ERROR))
    assert seen.is_set()
    assert texts(pager) == ["ERROR first", "ERROR last"]


def current(pager: Pager) -> str:
    assert pager.page.current is not None
    return pager.page.current.text


def test_seeking_goes_to_matches_and_to_blocks_of_errors(errors: Path) -> None:
    pager = Pager(errors, 40, 10)
    pager.refresh()
    seeker = Seeker(pager, Sieve(Filter(level=Level.ERROR)), by_block=True)
    assert not seeker.next()
    assert seeker.previous()
    assert current(pager) == "ERROR 950"
    assert seeker.previous()
    assert current(pager) == "ERROR 850"
    pager.cursor_down()
    assert current(pager) == "ERROR 850 more"
    assert seeker.previous()
    assert current(pager) == "ERROR 850"
    assert seeker.next()
    assert current(pager) == "ERROR 950"
    assert not seeker.next()
    assert seeker.first()
    assert current(pager) == "ERROR 50"
    assert not seeker.previous()
    found = Seeker(pager, Sieve(Filter(level=Level.ERROR), Pattern.of("more")))
    assert found.nearest()
    assert current(pager) == "ERROR 50 more"
    assert found.next()
    assert current(pager) == "ERROR 150 more"
    pager.follow()
    assert found.nearest()
    assert current(pager) == "ERROR 950 more"
    assert not Seeker(pager, Sieve(Filter(), Pattern.of("nowhere"))).nearest()
