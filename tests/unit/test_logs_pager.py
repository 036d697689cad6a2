"""Moving through a log by keys, without a screen."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen_tui.logs.pager import Pager
from qwen_tui.logs.reader import LogError


def write(path: Path, count: int, start: int = 0) -> Path:
    with path.open("ab") as file:
        file.writelines(b"line %d\n" % number for number in range(start, start + count))
    return path


def texts(pager: Pager) -> list[str]:
    return [row.text for row in pager.page.rows]


def current(pager: Pager) -> str | None:
    if pager.page.cursor is None:
        return None
    line = pager.page.current
    return line.text if line else None


@pytest.fixture
def pager(tmp_path: Path) -> Pager:
    pager = Pager(write(tmp_path / "server.log", 100), width=20, height=5)
    pager.refresh()
    return pager


def numbers(first: int, last: int) -> list[str]:
    return [f"line {number}" for number in range(first, last + 1)]


def test_it_opens_at_the_end_and_follows(pager: Pager, tmp_path: Path) -> None:
    assert texts(pager) == numbers(95, 99)
    write(tmp_path / "server.log", 1000, 100)
    pager.refresh()
    assert texts(pager) == numbers(1095, 1099)
    assert pager.page.following
    assert pager.page.end == pager.page.size


def test_a_move_up_pauses_and_what_is_appended_does_not_move_it(pager: Pager, tmp_path: Path) -> None:
    pager.cursor_up()
    assert not pager.page.following
    assert current(pager) == "line 98"
    write(tmp_path / "server.log", 10, 100)
    pager.refresh()
    assert texts(pager) == numbers(95, 99)
    assert pager.page.size > pager.page.end


def test_the_cursor_scrolls_at_the_edges_and_follows_again_behind_the_last_line(pager: Pager) -> None:
    for _step in range(6):
        pager.cursor_up()
    assert current(pager) == "line 93"
    assert texts(pager) == numbers(93, 97)
    for _step in range(6):
        pager.cursor_down()
    assert current(pager) == "line 99"
    assert not pager.page.following
    pager.cursor_down()
    assert pager.page.following


def test_pages_keep_one_line_and_the_row_of_the_cursor(pager: Pager) -> None:
    pager.cursor_up()
    pager.page_up()
    assert texts(pager) == numbers(91, 95)
    assert current(pager) == "line 94"
    pager.page_down()
    assert texts(pager) == numbers(95, 99)
    assert current(pager) == "line 98"
    pager.page_down()
    assert current(pager) == "line 99"
    pager.page_down()
    assert pager.page.following


def test_home_and_the_start_of_the_log(pager: Pager) -> None:
    pager.home()
    assert texts(pager) == numbers(0, 4)
    assert current(pager) == "line 0"
    pager.page_up()
    pager.cursor_up()
    assert texts(pager) == numbers(0, 4)
    assert current(pager) == "line 0"


def test_jumps_show_the_line_with_what_is_around_it(pager: Pager) -> None:
    pager.jump_to_line(51)
    assert texts(pager) == numbers(49, 53)
    assert current(pager) == "line 50"
    pager.jump_to(2)
    assert current(pager) == "line 0"
    pager.jump_to(10**9)
    assert current(pager) == "line 99"
    assert texts(pager) == numbers(95, 99)
    pager.jump_to_fraction(0.5)
    assert current(pager) == texts(pager)[0]


def test_wrapping_keeps_the_current_line_and_moves_by_rows(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_text("".join(f"{number} " + "x" * 38 + "\n" for number in range(10)))
    pager = Pager(log, width=10, height=6)
    pager.refresh()
    pager.cursor_up()
    pager.toggle_wrap()
    assert current(pager) == f"8 {'x' * 38}"
    # The current line stays on the fifth row of the screen; what is above it is in parts now.
    assert [(row.line.text[0], row.part) for row in pager.page.rows] == [
        ("7", 0), ("7", 1), ("7", 2), ("7", 3), ("8", 0), ("8", 1)
    ]  # fmt: skip
    pager.scroll(-1)
    before = texts(pager)
    pager.scroll(-1)
    assert texts(pager)[1:] == before[:-1]
    pager.toggle_wrap()
    assert {row.part for row in pager.page.rows} == {0}


def test_a_line_higher_than_the_screen_can_be_read_to_its_end(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_text("first\n" + "".join(f"{number:04}" for number in range(100)) + "\nlast\n")
    pager = Pager(log, width=4, height=5, wrap=True)
    pager.refresh()
    pager.home()
    seen = list(texts(pager))
    for _step in range(200):
        if pager.page.following:
            break
        pager.cursor_down()
        seen.append(texts(pager)[-1])
    assert set(seen) >= {f"{number:04}" for number in range(100)} | {"last"}
    pager.pause()
    seen = list(texts(pager))
    for _step in range(200):
        pager.cursor_up()
        seen.append(texts(pager)[0])
    assert set(seen) >= {f"{number:04}" for number in range(100)} | {"firs"}


def test_wide_characters_wrap_by_cells(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_text("你好世界吗\n", encoding="utf-8")
    pager = Pager(log, width=5, height=5, wrap=True)
    pager.refresh()
    assert texts(pager) == ["你好", "世界", "吗"]


@pytest.mark.parametrize("paused", [False, True])
def test_a_truncated_or_replaced_file_is_shown_from_its_end(pager: Pager, tmp_path: Path, paused: bool) -> None:
    log = tmp_path / "server.log"
    if paused:
        pager.home()
    os.truncate(log, 0)
    write(log, 3)
    pager.refresh()
    assert texts(pager) == numbers(0, 2)
    assert pager.page.following
    if paused:
        pager.home()
    write(tmp_path / "new", 500).replace(log)
    pager.refresh()
    assert texts(pager) == numbers(495, 499)
    log.unlink()
    pager.refresh()
    assert texts(pager) == []
    assert not pager.page.exists


def test_an_unfinished_line_grows_where_it_stands(tmp_path: Path) -> None:
    log = write(tmp_path / "server.log", 10)
    with log.open("ab", buffering=0) as file:
        file.write(b"\r  0%")
        pager = Pager(log, width=20, height=3)
        pager.refresh()
        assert texts(pager) == ["line 8", "line 9", "  0%"]
        pager.cursor_up()
        file.write(b"\r 50%")
        pager.refresh()
        assert texts(pager) == ["line 8", "line 9", " 50%"]
        assert not pager.page.following


def test_what_cannot_be_read_is_an_error_until_it_can(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.mkdir()
    pager = Pager(log, height=3)
    with pytest.raises(LogError) as caught:
        pager.refresh()
    pager.fail(caught.value)
    assert pager.page.error is caught.value
    log.rmdir()
    pager.refresh()
    assert pager.page.error is None
    write(log, 2)
    pager.refresh()
    assert texts(pager) == numbers(0, 1)


MOVES = [
    "cursor_up",
    "cursor_down",
    "page_up",
    "page_down",
    "home",
    "follow",
    "toggle_follow",
    "toggle_wrap",
    "refresh",
]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs") / "server.log"


@settings(max_examples=150, deadline=None)
@given(
    lines=st.lists(st.text("ab中\u0301 \t", max_size=25), max_size=20),
    width=st.integers(1, 12),
    height=st.integers(1, 6),
    moves=st.lists(st.one_of(st.sampled_from(MOVES), st.integers(-9, 9), st.tuples(st.integers(0, 400))), max_size=25),
)
def test_whatever_keys_are_pressed_the_window_is_full_and_in_order(
    log: Path, lines: list[str], width: int, height: int, moves: list[str | int | tuple[int]]
) -> None:
    log.write_text("\n".join(lines), encoding="utf-8")
    pager = Pager(log, width=width, height=height)
    pager.refresh()
    for move in moves:
        if isinstance(move, str):
            getattr(pager, move)()
        elif isinstance(move, int):
            pager.scroll(move)
        else:
            pager.jump_to(move[0])
        page = pager.page
        places = [(row.line.offset, row.part) for row in page.rows]
        assert places == sorted(set(places))
        assert len(places) <= height
        if page.following:
            assert page.cursor is None
            assert page.end == page.size
        else:
            assert page.cursor in [offset for offset, _part in places]
        whole = Pager(log, width=width, height=1000, wrap=pager.wrap)
        whole.refresh()
        assert len(places) == min(height, len(whole.page.rows))
