"""Throughput against latency over the loads of a ladder, drawn with characters; the knee is marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from textual.content import Content

from qwen_tui.bench.ledger import Run
from qwen_tui.bench.sweep import By, Sweep
from qwen_tui.i18n import _
from qwen_tui.server.metrics_words import format_latency, format_per_second
from qwen_tui.ui.bench_desk import Job
from qwen_tui.ui.widgets.charts import nice_ceiling

_MUTED = "$foreground-muted"
_LEFT = 9


@dataclass(frozen=True)
class Dot:
    """One load. across: output tokens/s. up: seconds that half of the answers took at most."""

    level: float
    across: float
    up: float


def dots_of(levels: Sequence[float], runs: Sequence[Run]) -> list[Dot]:
    """A dot for each run that answered something."""
    return [
        Dot(level, run.figures.output_throughput, run.figures.e2el.median)
        for level, run in zip(levels, runs, strict=False)
        if run.figures.completed
    ]


def curve(job: Job, width: int, rows: int) -> Content:
    """The picture of a ladder or a search with two loads at least; empty before."""
    by: By = job.order.by
    knee = None
    if job.search is not None:
        newest = {trial.level: trial.run for trial in job.search.trials if not trial.gave_up}
        dots = dots_of(sorted(newest), [newest[level] for level in sorted(newest)])
    else:
        levels = sorted(set(job.order.levels))
        dots = dots_of(levels, job.runs)
        knee = Sweep(by, levels, job.runs).knee if len(dots) > 1 else None
    return picture(dots, knee, width, rows) if len(dots) > 1 else Content("")


def picture(dots: Sequence[Dot], knee: float | None, width: int, rows: int) -> Content:
    """`dots` in `width` × `rows` cells, axes with their ends included."""
    across, up = nice_ceiling(max(dot.across for dot in dots)), nice_ceiling(max(dot.up for dot in dots), 1e-3)
    columns, height = max(10, width - _LEFT - 1), max(3, rows - 3)
    grid = [[(" ", "")] * columns for _row in range(height)]
    for dot in dots:
        x = min(columns - 1, round(dot.across / across * (columns - 1)))
        y = height - 1 - min(height - 1, round(dot.up / up * (height - 1)))
        is_knee = dot.level == knee
        look = "bold $warning" if is_knee else "bold $primary"
        grid[y][x] = ("◆" if is_knee else "●", look)
        _write(grid[y], x, f"{dot.level:g}", look)
    title = _("half of the answers within, over output tok/s; a dot is a load, ◆ the knee")
    lines = [Content.styled(title, _MUTED)]
    for number, row in enumerate(grid):
        label = format_latency(up) if number == 0 else ("0" if number == height - 1 else "")
        head = " " * max(0, _LEFT - 1 - cell_len(label)) + label + "│"
        lines.append(Content.assemble((head, _MUTED), *row))
    end = format_per_second(across)
    axis = " " * _LEFT + "0" + " " * max(1, columns - 1 - cell_len(end)) + end
    return Content("\n").join([*lines, Content.styled(axis, _MUTED)])


def _write(row: list[tuple[str, str]], x: int, text: str, look: str) -> None:
    """The load's number beside its dot: at the right where there is room, else at the left."""
    places = range(x + 1, x + 1 + len(text))
    if places.stop > len(row) or any(row[place][0] != " " for place in places):
        places = range(x - len(text), x)
    if places.start >= 0 and all(row[place][0] == " " for place in places):
        for place, letter in zip(places, text, strict=True):
            row[place] = (letter, look)
