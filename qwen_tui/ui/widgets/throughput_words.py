"""An offline speed test as lines for a screen: each backend with its progress or figure, the table, the bars."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from rich.cells import cell_len
from textual.content import Content

from qwen_tui.bench.throughput import Outcome
from qwen_tui.bench.throughput_words import as_progress, bars, outcome_text, table_rows, verdict, work_text
from qwen_tui.i18n import _
from qwen_tui.progress import Progress, format_count, format_rate, format_seconds
from qwen_tui.ui.text import one_line, plain
from qwen_tui.ui.throughput_desk import ThroughputJob

_COLOURS = ("$primary", "$secondary", "$warning", "$success")


def job_line(job: ThroughputJob) -> str:
    """One line about a test under way, for the frame."""
    if job.step is None:
        return _("speed test: {done} of {all}").format(done=len(job.outcomes), all=len(job.work.backends))
    progress = as_progress(job.step)
    share = f" {progress.fraction:.0%}" if progress.fraction is not None else ""
    return f"{progress.step}{share}"


def lines_of(job: ThroughputJob, width: int) -> list[Content]:
    """Everything that is known, `width` cells wide."""
    lines = [
        Content.styled(one_line(job.work.model), "bold"),
        Content.styled(work_text(job.work), "$text-muted"),
        Content(),
    ]
    for number, name in enumerate(job.work.backends):
        outcome = job.outcomes[number] if number < len(job.outcomes) else None
        lines += _backend_lines(job, number, name, outcome, width)
    if any(outcome.rounds for outcome in job.outcomes):
        lines += [Content(), *_table(job.outcomes), Content(), *_bars(job.outcomes, width)]
        said = verdict(job.outcomes)
        lines += [Content(), Content.styled(said, "bold $text-success")] if said else []
        kept = ", ".join(outcome.run for outcome in job.outcomes if outcome.run)
        lines += [Content.styled(_("Kept as {id}").format(id=kept), "$text-muted")] if kept else []
    if job.problem is not None:
        lines += [Content(), Content.styled(plain(str(job.problem)), "$text-error")]
    elif job.stopped:
        said = _("Stopped: its processes are gone and its memory is free") if job.is_over else _("Stopping…")
        lines += [Content(), Content.styled(said, "$text-warning")]
    return lines


def _backend_lines(job: ThroughputJob, number: int, name: str, outcome: Outcome | None, width: int) -> list[Content]:
    if outcome is None:
        is_next = number == len(job.outcomes) and not job.is_over
        if is_next and job.step is not None:
            return _progress_lines(as_progress(job.step), width)
        return [Content.assemble(("○ ", "$foreground-muted"), (name, "$foreground-muted"))]
    failure = outcome.failure
    if failure is None:
        return [Content.assemble(("✓ ", "$text-success"), one_line(outcome_text(outcome)))]
    lines = [Content.assemble(("✗ ", "$text-error"), (f"{name}: ", "bold"), (plain(failure.title), "$text-error"))]
    for text in (failure.why, failure.hint):
        lines += [Content(f"  {plain(line)}") for line in text.splitlines()]
    if failure.log is not None:
        lines.append(Content.styled("  " + _("The whole output is in {log}").format(log=failure.log), "$text-muted"))
    return lines


def _progress_lines(progress: Progress, width: int) -> list[Content]:
    """The step, and below it a bar where its end is known, with done / total, rate and ETA."""
    head = Content.assemble(("● ", "$text-accent"), (progress.step, "bold"))
    to_go = _("{time} to go").format(time=format_seconds(progress.eta)) if progress.eta is not None else ""
    figures = ", ".join(
        part for part in (format_count(progress), format_rate(progress), to_go, progress.detail) if part
    )
    if progress.fraction is None:
        return [Content.assemble(head, f"  {figures}")]
    cells = max(10, min(40, width // 3))
    full = round(cells * progress.fraction)
    bar = Content.assemble(("  ", ""), ("█" * full, "$primary"), ("░" * (cells - full), "$foreground-muted"))
    return [head, Content.assemble(bar, f" {progress.fraction:.0%}  {figures}")]


def _table(outcomes: Sequence[Outcome]) -> list[Content]:
    rows = table_rows(outcomes)
    widths = [max(map(cell_len, column)) for column in zip_longest(*rows, fillvalue="")]
    lines = []
    for number, row in enumerate(rows):
        cells = [
            text + " " * (widths[column] - cell_len(text))
            if column == 0
            else " " * (widths[column] - cell_len(text)) + text
            for column, text in enumerate(row)
        ]
        style = "bold $text-muted" if number == 0 else "bold" if row[0] == "diff" else ""
        lines.append(Content.styled("   ".join(cells), style))
    return lines


def _bars(outcomes: Sequence[Outcome], width: int) -> list[Content]:
    rows = bars(outcomes, max(10, width - 30))
    names = max(cell_len(name) for name, _bar, _figure in rows)
    return [
        Content.assemble(f"{name:<{names}}  ", (bar, _COLOURS[number % len(_COLOURS)]), f" {figure}")
        for number, (name, bar, figure) in enumerate(rows)
    ]


def as_markdown(outcomes: Sequence[Outcome]) -> str:
    """The table for pasting into a document."""
    head, *rows = table_rows(outcomes)
    lines = [head, tuple(":---" if column == 0 else "---:" for column in range(len(head))), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines) + "\n"
