"""What the Bench room writes: how far it is, the numbers, the latencies with their histograms, the ladder's levels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.cells import cell_len, set_cell_size
from textual.content import Content

from qwen_tui.bench.capacity import Capacity
from qwen_tui.bench.ledger import Run
from qwen_tui.bench.live import LatencyCounts
from qwen_tui.bench.price import HourlyPrice
from qwen_tui.bench.sentences import (
    capacity_sentence,
    confidence_text,
    doubts,
    failure_texts,
    level_text,
    load_text,
    server_texts,
    sweep_texts,
    tokens_source,
)
from qwen_tui.bench.statistics import LATENCIES
from qwen_tui.bench.sweep import Sweep
from qwen_tui.bench.words import KIND_WORDS
from qwen_tui.errors import QwenTuiError
from qwen_tui.i18n import N_, _
from qwen_tui.progress import format_seconds
from qwen_tui.server.metrics_words import UNKNOWN, format_latency, format_per_second, format_whole
from qwen_tui.ui.bench_desk import Job
from qwen_tui.ui.text import cut_middle, fit, one_line, plain
from qwen_tui.ui.widgets.phase_bar import bar

MUTED = "$foreground-muted"
_SPARKS = "▁▂▃▄▅▆▇█"
#: Tick.phase → what is being done.
_PHASES = {
    "": N_("beginning"),
    "preparing": N_("making prompts"),
    "probing": N_("asking once"),
    "opening": N_("opening connections"),
    "warmup": N_("warming up"),
    "running": N_("measuring"),
    "finishing": N_("working out the figures"),
}


def table(rows: Sequence[Sequence[str]], width: int, numbers_from: int = 1) -> list[str]:
    """Rows with their columns lined up, numbers to the right, none wider than `width` cells."""
    count = max(map(len, rows), default=0)
    widths = [max((cell_len(row[place]) for row in rows if place < len(row)), default=0) for place in range(count)]
    lines = []
    for row in rows:
        cells = []
        for place, text in enumerate(row):
            blank = " " * (widths[place] - cell_len(text))
            cells.append(blank + text if place >= numbers_from else text + blank)
        line = "  ".join(cells).rstrip()
        lines.append(line if cell_len(line) <= width else set_cell_size(line, max(0, width - 1)) + "…")
    return lines


def state_line(job: Job, width: int) -> Content:
    """The phase, a bar, done/total, and how long it will take yet."""
    if job.is_over:
        return _ended(job)
    live = job.live
    words = _("stopping") if job.stopping else _(_PHASES.get(live.phase, "beginning"))
    parts = [words]
    if job.level is not None:
        parts.insert(0, _step(job, level_text(job.level, job.order.by)))
    if live.phase == "running" and job.load is not None:
        done = live.completed + live.failed
        parts.append(f"{done:,} / {job.load.count:,}" if job.load.count else _("{n} answered").format(n=done))
        parts.append(format_seconds(live.at))
        if job.eta is not None:
            parts.append(_("{time} to go").format(time=format_seconds(job.eta)))
    text = "  ".join(parts)
    cells = max(0, min(24, width - cell_len(text) - 2))
    filled, rest = bar(job.fraction, cells)
    return Content.assemble((filled, "$primary on $surface-lighten-1"), (rest, "on $surface-lighten-1"), "  ", text)


def _step(job: Job, load: str) -> str:
    """The load under way, and in a search what it is for."""
    search = job.search
    if search is None:
        return load
    if search.is_probe:
        return _("looking at {load}").format(load=load)
    return _("{load}, full run {n} of {count}").format(load=load, n=search.number, count=search.repeats)


def _ended(job: Job) -> Content:
    if job.problem is not None:
        return Content.styled(_("It could not be measured"), "bold $text-error")
    partial = any(run.partial for run in job.runs) or (isinstance(job.result, Capacity) and job.result.stopped)
    if job.result is None or partial or job.stopping:
        words = _("stopped: what was measured is kept and marked as partial") if job.runs else _("stopped")
        return Content.styled(words, "bold $text-warning")
    return Content.styled(_("measured in {time}").format(time=format_seconds(_took(job))), "bold $text-success")


def _took(job: Job) -> float:
    return sum(run.figures.duration for run in _runs(job))


def _runs(job: Job) -> Sequence[Run]:
    return [trial.run for trial in job.search.trials] if job.search is not None else job.runs


def problem_text(error: Exception) -> Content:
    """What happened, why, and what to do; for a person, whoever wrote the words."""
    if not isinstance(error, QwenTuiError):
        return Content(plain(f"{type(error).__name__}: {error}"))
    lines = [Content.styled(plain(error.title), "$text-error")]
    lines += [Content(plain(part)) for part in (error.why, error.hint) if part]
    return Content("\n").join(lines)


def tiles(job: Job) -> list[tuple[str, str]]:
    """The big numbers: exact ones when the run has ended."""
    live = job.live
    run = job.runs[-1] if job.is_over and job.order.kind == "run" and job.runs else None
    if run is not None:
        figures = run.figures
        rate, requests = figures.output_throughput, figures.request_throughput
        times = (figures.ttft.median, figures.ttft.p99, figures.tpot.median, figures.tpot.p99)
        known = figures.completed > 0
    else:
        rate, requests = live.output_per_second, live.requests_per_second
        ttft, tpot = (live.latency(name).quantiles(0.5, 0.99) for name in ("ttft", "tpot"))
        times, known = (ttft[0], ttft[1], tpot[0], tpot[1]), ttft[0] > 0
    labels = ("TTFT p50", "TTFT p99", "TPOT p50", "TPOT p99")
    shown = [format_latency(value) if known and value else UNKNOWN for value in times]
    return [
        (_("output tok/s"), format_per_second(rate)),
        *zip(labels, shown, strict=True),
        (_("requests/s"), format_per_second(requests)),
    ]


def counts_line(job: Job, waiting: float | None, width: int) -> Content:
    """Running, waiting, answered, all tokens a second; then what failed, by kind."""
    live = job.live
    run = job.runs[-1] if job.is_over and job.order.kind == "run" and job.runs else None
    total = run.figures.total_token_throughput if run is not None else live.total_per_second
    parts = [
        _("running {n}").format(n=0 if job.is_over else live.running),
        _("waiting at the server {n}").format(n=format_whole(waiting)),
        _("answered {n}").format(n=f"{live.completed:,}"),
        _("all tokens {rate}/s").format(rate=format_per_second(total)),
    ]
    failures = [f"{count} × {_(KIND_WORDS.get(kind, kind))}" for kind, count in live.failures.most_common()]
    text = Content(cut_middle("  ".join(parts), width))
    if not failures:
        return text
    failed = _("failed {n}: {kinds}").format(n=live.failed, kinds=", ".join(failures))
    return Content("\n").join([text, Content.styled(cut_middle(failed, width), "$text-error")])


def latency_table(job: Job, width: int) -> Content:
    """p50, p90, p99 and mean of each latency, and how they are spread."""
    live = job.live
    run = job.runs[-1] if job.is_over and job.order.kind == "run" and job.runs else None
    spread_cells = max(0, min(44, width - 5 - 4 * 10 - 2))
    lines = [Content.styled(_row("", ["p50", "p90", "p99", _("mean")]), MUTED)]
    for name in LATENCIES:
        counts = live.latency(name)
        if run is not None and getattr(run.figures, name).count:
            exact = getattr(run.figures, name)
            values = [exact.median, exact.p90, exact.p99, exact.mean]
        elif counts.count:
            values = [*counts.quantiles(0.5, 0.9, 0.99), counts.mean]
        else:
            values = []
        texts = [format_latency(value) for value in values] or [UNKNOWN] * 4
        spread = spread_text(counts, spread_cells) if spread_cells >= 24 else ""
        lines.append(Content.assemble(_row(name.upper(), texts), "  ", (spread, MUTED)))
    return Content("\n").join(lines)


def _row(name: str, texts: Sequence[str]) -> str:
    return f"{name:<5}" + "".join(" " * max(1, 10 - cell_len(text)) + text for text in texts)


def spread_text(counts: LatencyCounts, width: int) -> str:
    """A histogram in one line: '12 ms ▁▃█▅▂▁ 80 ms'."""
    if not counts.count:
        return ""
    low, high = (format_latency(value) for value in counts.bars(1)[1:])
    cells = max(1, width - cell_len(low) - cell_len(high) - 2)
    steps = counts.bars(cells)[0]
    most = max(steps) or 1
    picture = "".join(" " if not step else _SPARKS[min(7, step * 8 // (most + 1))] for step in steps)
    return f"{low} {picture} {high}"


def levels_table(job: Job, width: int) -> Content:
    """A line for each run of a ladder or a search, then what it amounts to."""
    if job.order.kind == "sweep":
        rows = _sweep_rows(job)
    elif job.order.kind == "capacity":
        rows = _trial_rows(job)
    else:
        return Content("")
    head, *rest = table(rows, width)
    lines = [Content.styled(head, MUTED), *map(Content, rest)]
    return Content("\n").join(lines)


def _sweep_rows(job: Job) -> list[Sequence[str]]:
    has_limits = bool(job.order.plan.limits)
    within = [_("within")] if has_limits else []
    rows: list[Sequence[str]] = [
        (_("load"), "req/s", "tok/s", "TTFT p50", "TTFT p99", "TPOT p50", "TPOT p99", _("failed"), *within)
    ]
    for level, run in zip(sorted(set(job.order.levels)), job.runs, strict=False):
        figures = run.figures
        times = (figures.ttft.median, figures.ttft.p99, figures.tpot.median, figures.tpot.p99)
        share = [f"{figures.good_share or 0.0:.0%}"] if has_limits else []
        rows.append(
            (
                level_text(level, job.order.by), format_per_second(figures.request_throughput),
                format_per_second(figures.output_throughput), *map(format_latency, times), str(figures.failed), *share,
            )
        )  # fmt: skip
    return rows


def _trial_rows(job: Job) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = [(_("load"), _("within"), "TTFT p90", "TPOT p90", "tok/s")]
    for trial in job.search.trials if job.search is not None else ():
        figures = trial.run.figures
        share = f"< {job.order.share:.0%}" if trial.gave_up else f"{trial.share:.0%}"
        times = (figures.ttft.p90, figures.tpot.p90)
        name = level_text(trial.level, job.order.by)
        name = _("{load} (short)").format(load=name) if trial.is_probe else name
        rows.append(
            (name, share, *map(format_latency, times),
             format_per_second(figures.output_throughput))
        )  # fmt: skip
    return rows


def result_text(job: Job, price: HourlyPrice | None) -> Content:
    """What is to be said when it has ended: the answer, its price, and what qualifies it."""
    result, lines = job.result, []
    if job.problem is not None:
        return problem_text(job.problem)
    if isinstance(result, Capacity):
        lines.append(Content.styled(capacity_sentence(result, job.order.plan.limits), "bold"))
        if result.level:
            lines.append(Content(confidence_text(result)))
            text = _("{share:.1%} met them; with 95 % confidence it is {low:.0%} to {high:.0%}")
            lines.append(Content(text.format(share=result.share, low=result.low, high=result.high)))
        if result.is_most:
            lines.append(Content(_("That was the highest load to try")))
        if result.out_of_time:
            lines.append(Content(_("Its time was used up before the limit was found exactly")))
        lines += [Content(text) for text in _prices(result.best, price, result)]
    elif isinstance(result, Sweep):
        lines += [Content.styled(text, "bold") for text in sweep_texts(result, 0.9)] if result.runs else []
    elif isinstance(result, Run):
        lines += [Content(text) for text in _prices(result, price)]
        if source := tokens_source(result.figures):
            lines.append(Content(source))
        lines += [Content(text) for text in server_texts(result)]
        lines += [Content.styled(f"! {text}", "$text-warning") for text in doubts(result)]
        lines += [Content(f"{kind}: {one_line(text)[:300]}") for kind, text in result.figures.messages.items()]
    return Content("\n").join(lines)


def _prices(run: Run | None, price: HourlyPrice | None, found: Capacity | None = None) -> list[str]:
    if run is None or price is None:
        return []
    texts = []
    if found is not None and found.by == "users" and (cost := price.per_user(int(found.level))) is not None:
        texts.append(_("An hour of one user costs {price}").format(price=price.show(cost)))
    if (cost := price.per_million(run.figures.output_throughput)) is not None:
        texts.append(_("A million output tokens cost {price}").format(price=price.show(cost)))
    return texts


def run_text(run: Run, price: HourlyPrice | None, width: int) -> Content:
    """A run that was kept, whole."""
    figures = run.figures
    rows: list[Sequence[str]] = [
        (_("requests"), f"{figures.completed:,}", *(f"({text})" for text in failure_texts(figures))),
        (_("duration"), f"{figures.duration:.2f} s"),
        (_("requests per second"), f"{figures.request_throughput:,.2f}"),
        (_("output tokens per second"), f"{figures.output_throughput:,.1f}"),
        (_("all tokens per second"), f"{figures.total_token_throughput:,.1f}"),
    ]
    if figures.goodput is not None:
        rows.append((_("good requests per second"), f"{figures.goodput:,.2f}", f"({figures.good_share or 0:.0%})"))
    where = _("{model} at {url}").format(model=run.model, url=run.base_url) if run.base_url else run.model
    lines = [
        Content.styled(one_line(where), "bold"),
        Content(one_line(load_text(run))),
        Content(""),
        *map(Content, table(rows, width)),
    ]
    times = _latency_rows(figures, width)
    if len(times) > 1:
        head, *rest = table(times, width)
        lines += [Content(""), Content.styled(head, MUTED), *map(Content, rest)]
    notes = [*_prices(run, price), *server_texts(run), *(f"! {text}" for text in doubts(run))]
    notes += [f"{kind}: {one_line(text)[:300]}" for kind, text in figures.messages.items()]
    lines += [Content(""), *(Content(text) for text in notes)] if notes else []
    return Content("\n").join([*lines, Content(""), *_about(run)])


def _latency_rows(figures: Any, width: int) -> list[Sequence[str]]:
    names = ("mean", "median", "p90", "p95", "p99", "max") if width >= 62 else ("median", "p90", "p99", "mean")
    rows: list[Sequence[str]] = [("", *names)]
    for name in LATENCIES:
        values = getattr(figures, name)
        if values.count:
            rows.append((name.upper(), *(format_latency(getattr(values, key)) for key in names)))
    return rows


def _about(run: Run) -> list[Content]:
    """Where, with what, and when; and what a person noted."""
    about = run.about
    pairs = [
        (_("kept as"), run.id),
        (_("tags"), ", ".join(run.tags)),
        (_("note"), run.note),
        (_("engine"), f"vLLM {about['engine_version']}" if about.get("engine_version") else ""),
        ("GPU", ", ".join(map(str, about.get("gpus", ())))),
        (_("driver"), str(about.get("driver", ""))),
        (_("command"), " ".join(map(str, about.get("argv", ())))),
    ]
    width = max(cell_len(name) for name, _text in pairs) + 2
    return [Content.assemble((fit(name, width), MUTED), one_line(text)) for name, text in pairs if text]
