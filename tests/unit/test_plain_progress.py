"""Progress in plain lines and on a terminal."""

from __future__ import annotations

import io

from qwen_tui.headless.plain import PlainProgress
from qwen_tui.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def show_all(stream: io.StringIO, *moments: tuple[float, Progress]) -> str:
    now = 0.0
    with PlainProgress(stream, clock=lambda: now) as show:
        for now, progress in moments:  # noqa: B007 - the clock reads it
            show(progress)
    return stream.getvalue()


def loading(done: int, detail: str = "") -> Progress:
    return Progress("Loading", done * 1e6, 10e6, "bytes", 2e6, (10 - done) / 2, detail)


def test_at_most_a_line_a_second_and_the_last_state_of_each_step() -> None:
    moments = [(i / 10, loading(i)) for i in range(11)]
    text = show_all(io.StringIO(), *moments, (2.0, Progress("Saving")))
    assert text.splitlines() == [
        "Loading: 0 B / 10 MB, 2 MB/s, 5 s to go",
        "Loading: 10 MB / 10 MB, 2 MB/s, 0 s to go",
        "Saving",
    ]


def test_a_step_that_stands_still_is_not_repeated() -> None:
    text = show_all(io.StringIO(), *[(float(i), loading(3)) for i in range(9)])
    assert len(text.splitlines()) == 1


def test_no_escape_sequence_reaches_a_file_and_none_from_a_detail_reaches_a_terminal() -> None:
    hostile = "\x1b]52;c;aGk=\x07[bold]x[/bold]\r\n\u202eevil"
    plain = show_all(io.StringIO(), (0.0, loading(1, hostile)))
    assert "\x1b" not in plain
    assert "[bold]x[/bold]" in plain
    assert len(plain.splitlines()) == 1
    drawn = show_all(Terminal(), (0.0, loading(1, hostile)))
    assert "\x1b]52" not in drawn
    assert "\u202e" not in drawn


def test_on_a_terminal_a_step_is_one_bar_that_ends_full() -> None:
    drawn = show_all(Terminal(), (0.0, loading(1)), (1.0, loading(9)), (2.0, Progress("Saving")))
    assert "Loading" in drawn
    assert "Saving" in drawn
    assert "━" in drawn
