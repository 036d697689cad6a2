"""Progress on a stream: plain lines for a file or a pipe, bars that move in place on a terminal."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from qwen_tui.i18n import _
from qwen_tui.progress import Progress, format_count, format_rate, format_seconds

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def figures(progress: Progress) -> str:
    """'12.3 MB / 45.6 MB, 5.2 MB/s, 6 s to go, torch': what is known, and nothing else."""
    remaining = _("{time} to go").format(time=format_seconds(progress.eta)) if progress.eta is not None else ""
    parts = [format_count(progress), format_rate(progress), remaining, _CONTROL.sub("", progress.detail)]
    return ", ".join(part for part in parts if part)


class PlainProgress:
    """Shows the progress of a job's steps; call it with each `Progress`, and leave its block at the end.

    On a terminal each step is a bar, drawn at most 5 times a second. Elsewhere there is a line when a step begins,
    at most one a second while it runs (fewer in a long one), and none that repeats; no escape sequences.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._step = ""
        self._began = 0.0
        self._shown_at = 0.0
        self._shown = ""
        self._last: Progress | None = None
        self._bars: Bars | None = None
        self._task: TaskID | None = None
        self._is_terminal = stream.isatty()

    def __enter__(self) -> PlainProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(is_done=error is None)

    def __call__(self, progress: Progress) -> None:
        now = self._clock()
        if progress.step != self._step:
            self._end_step(is_done=True)
            self._step, self._began = progress.step, now
            self._last = progress
            self._show(progress, now)
            return
        self._last = progress
        if now - self._shown_at >= self._interval(now):
            self._show(progress, now)

    def close(self, *, is_done: bool = True) -> None:
        """Show the last state; the stream is free for other text afterwards."""
        self._end_step(is_done=is_done)
        self._step = ""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def _interval(self, now: float) -> float:
        if self._is_terminal:
            return 0.2
        elapsed = now - self._began
        return 1.0 if elapsed < 10 else 5.0 if elapsed < 120 else 15.0

    def _end_step(self, *, is_done: bool) -> None:
        if self._last is None:
            return
        last, self._last = self._last, None
        if self._is_terminal:
            self._end_bar(last, is_done)
        elif figures(last) != self._shown:
            self._show(last, self._clock())

    def _show(self, progress: Progress, now: float) -> None:
        self._shown_at = now
        if self._is_terminal:
            self._draw(progress)
            return
        text = figures(progress)
        if text == self._shown and now != self._began:
            return
        self._shown = text
        print(f"{progress.step}: {text}" if text else progress.step, file=self._stream, flush=True)

    # -- on a terminal ------------------------------------------------------------------------------

    def _draw(self, progress: Progress) -> None:
        bars = self._started_bars()
        if self._task is None:
            self._task = bars.add_task(progress.step, total=1.0, figures="")
        bars.update(self._task, completed=progress.fraction or 0.0, figures=figures(progress))
        bars.refresh()

    def _end_bar(self, last: Progress, is_done: bool) -> None:
        if self._bars is None or self._task is None:
            return
        took = format_seconds(self._clock() - self._began)
        counted = format_count(last) if last.unit in ("bytes", "items") else ""
        text = ", ".join(part for part in (counted, took) if part)
        self._bars.update(self._task, completed=1.0 if is_done else last.fraction or 0.0, figures=text)
        self._bars.refresh()
        self._task = None

    def _started_bars(self) -> Bars:
        if self._bars is None:
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as RichProgress

            self._bars = RichProgress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=20),
                TextColumn("{task.fields[figures]}", markup=False),
                console=Console(file=self._stream),
                auto_refresh=False,
            )
            self._bars.start()
        return self._bars
