"""A run's figures as lines for a terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from qwen_tui.i18n import _, ngettext

if TYPE_CHECKING:
    from qwen_tui.bench.ledger import Run
    from qwen_tui.bench.price import HourlyPrice
    from qwen_tui.bench.statistics import Distribution, Figures

_STATISTICS = ("mean", "median", "p90", "p95", "p99", "max")


def run_lines(run: Run, price: HourlyPrice | None = None) -> list[str]:
    """Everything that a person wants to know of a run."""
    figures = run.figures
    lines = [_("{model} at {url}").format(model=run.model, url=run.base_url), load_text(run), ""]
    lines += table(
        [
            (_("requests"), f"{figures.completed:,}", *_failed(figures)),
            (_("duration"), f"{figures.duration:.2f} s"),
            (_("requests per second"), f"{figures.request_throughput:,.2f}"),
            *(
                [(_("good requests per second"), f"{figures.goodput:,.2f}", f"({figures.good_share or 0:.0%})")]
                if figures.goodput is not None
                else []
            ),
            (_("output tokens per second"), f"{figures.output_throughput:,.1f}", *_source(figures)),
            (_("all tokens per second"), f"{figures.total_token_throughput:,.1f}"),
        ]
    )
    if figures.completed:
        lines += ["", *latency_lines(figures)]
    cost = price.per_million(figures.output_throughput) if price else None
    if price is not None and cost is not None:
        lines += ["", _("A million output tokens cost {price}").format(price=price.show(cost))]
    return [*lines, *_notes(run), "", _("Kept as {id}").format(id=run.id)]


def load_text(run: Run) -> str:
    """The work and the load in one line: 'random 64 in, 128 out · 25 requests · 25 streams · seed 7'."""
    load, work = run.load, run.workload
    lengths = _("{input} in, {output} out").format(input=work.input_len, output=work.output_len)
    parts = [f"{work.kind} {lengths}" if work.kind == "random" else work.kind]
    count = run.figures.completed + run.figures.failed + run.figures.cancelled
    parts.append(ngettext("{n} request", "{n} requests", count).format(n=count))
    if load.is_open_loop:
        parts.append(_("{rate} requests/s").format(rate=f"{load.rate:g}"))
        if load.most_at_once:
            parts.append(_("at most {n} at once").format(n=load.most_at_once))
    else:
        parts.append(ngettext("{n} stream", "{n} streams", load.streams).format(n=load.streams))
    return " · ".join([*parts, _("seed {seed}").format(seed=run.seed)])


def latency_lines(figures: Figures) -> list[str]:
    """TTFT, TPOT, ITL and E2EL in ms, a row each."""
    rows: list[Sequence[str]] = [("ms", *_STATISTICS)]
    for name in ("ttft", "tpot", "itl", "e2el"):
        values: Distribution = getattr(figures, name)
        if values.count:
            rows.append((name.upper(), *(f"{getattr(values, key) * 1e3:,.1f}" for key in _STATISTICS)))
    return table(rows)


def table(rows: Sequence[Sequence[str]], numbers_from: int = 1) -> list[str]:
    """Rows with their columns lined up, numbers to the right; Chinese letters are two cells wide."""
    from rich.cells import cell_len

    count = max(map(len, rows), default=0)
    widths = [max((cell_len(row[column]) for row in rows if column < len(row)), default=0) for column in range(count)]
    lines = []
    for row in rows:
        cells = []
        for column, text in enumerate(row):
            blank = " " * (widths[column] - cell_len(text))
            cells.append(blank + text if column >= numbers_from else text + blank)
        lines.append("  ".join(cells).rstrip())
    return lines


def list_lines(runs: Sequence[Run]) -> list[str]:
    """A line for each run of the ledger."""
    if not runs:
        return [_("No run was kept yet. `qwen-tui bench` makes one")]
    rows = [(_("RUN"), _("DATE"), _("MODEL"), _("REQUESTS/S"), _("TOKENS/S"), "TTFT ms", "TPOT ms", _("LOAD"))]
    for run in runs:
        figures = run.figures
        load = f"{run.load.rate:g}/s" if run.load.is_open_loop else f"×{run.load.streams}"
        rows.append(
            (
                run.id,
                time.strftime("%Y-%m-%d %H:%M", time.localtime(run.created)),
                run.model,
                f"{figures.request_throughput:.2f}",
                f"{figures.output_throughput:,.1f}",
                f"{figures.ttft.mean * 1e3:,.1f}",
                f"{figures.tpot.mean * 1e3:,.1f}",
                _("{load} (stopped)").format(load=load) if run.partial else load,
            )
        )
    return table(rows, numbers_from=3)


def compare_lines(a: Run, b: Run) -> list[str]:
    """Both runs' figures side by side."""
    from qwen_tui.bench.compare import caveats, rows

    shown: list[Sequence[str]] = [("", a.id, b.id, _("difference"))]
    for row in rows(a.figures, b.figures):
        change = f"{row.change:+.1%}" if row.change is not None else ""
        if row.is_better is not None and row.change is not None and abs(row.change) >= 0.005:
            change += " " + (_("better") if row.is_better else _("worse"))
        shown.append((f"{_(row.name)} {row.unit}".strip(), f"{row.a:,.2f}", f"{row.b:,.2f}", change))
    return [*table(shown), *(f"! {text}" for text in caveats(a, b))]


def _failed(figures: Figures) -> list[str]:
    from qwen_tui.bench.words import KIND_WORDS

    parts = [f"{count} × {_(KIND_WORDS.get(kind, kind))}" for kind, count in figures.failures.items()]
    if figures.cancelled:
        parts.append(_("{n} stopped").format(n=figures.cancelled))
    return ["({})".format(", ".join(parts))] if parts else []


def _source(figures: Figures) -> list[str]:
    if figures.tokens_from == "usage":
        return []
    if figures.tokens_from == "tokenizer":
        return [_("(counted with the tokenizer: the server does not tell)")]
    return [_("(chunks, for the server does not tell tokens)")]


def _notes(run: Run) -> list[str]:
    """What qualifies the figures, each in a line."""
    figures = run.figures
    notes = list(run.health.doubts())
    if run.partial:
        notes.append(_("It was stopped before its end: the figures are those of what was answered"))
    if figures.tokens_per_chunk > 1.05:
        notes.append(
            _("{n:.1f} tokens came in a chunk: ITL is the time between chunks, TPOT that of a token").format(
                n=figures.tokens_per_chunk
            )
        )
    if run.repeats:
        notes.append(_("Prompts were repeated: the server's prefix cache may have helped"))
    if run.workload.kind == "random" and not run.tokenizer:
        notes.append(_("Nothing could count the prompts' tokens: their lengths are words, the totals the server's"))
    queries = run.server.get("prefix_queries", 0)
    lines = [f"! {text}" for text in notes]
    if queries:
        share = run.server.get("prefix_hits", 0) / queries
        lines.append(_("Of the prompts' tokens {share:.0%} came from the prefix cache").format(share=share))
    if run.server.get("preemptions"):
        lines.append(_("The server preempted {n:.0f} times: its KV cache was full").format(n=run.server["preemptions"]))
    lines += [f"{kind}: {_harmless(text)}" for kind, text in figures.messages.items()]
    return ["", *lines] if lines else []


def _harmless(text: str) -> str:
    """A server's words in one line, without anything that a terminal obeys."""
    return "".join(letter if letter.isprintable() else " " for letter in text)[:300]
