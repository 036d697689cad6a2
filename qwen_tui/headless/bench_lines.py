"""A run's figures as lines for a terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from qwen_tui.bench.sentences import doubts, failure_texts, load_text, server_texts, tokens_source
from qwen_tui.i18n import _

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
            (_("requests"), f"{figures.completed:,}", *_in_brackets(failure_texts(figures))),
            (_("duration"), f"{figures.duration:.2f} s"),
            (_("requests per second"), f"{figures.request_throughput:,.2f}"),
            *(
                [(_("good requests per second"), f"{figures.goodput:,.2f}", f"({figures.good_share or 0:.0%})")]
                if figures.goodput is not None
                else []
            ),
            (
                _("output tokens per second"),
                f"{figures.output_throughput:,.1f}",
                *filter(None, [tokens_source(figures)]),
            ),
            (_("all tokens per second"), f"{figures.total_token_throughput:,.1f}"),
        ]
    )
    if figures.completed:
        lines += ["", *latency_lines(figures)]
    cost = price.per_million(figures.output_throughput) if price else None
    if price is not None and cost is not None:
        lines += ["", _("A million output tokens cost {price}").format(price=price.show(cost))]
    return [*lines, *_notes(run), "", _("Kept as {id}").format(id=run.id)]


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


def _in_brackets(parts: Sequence[str]) -> list[str]:
    return ["({})".format(", ".join(parts))] if parts else []


def _notes(run: Run) -> list[str]:
    """What qualifies the figures, each in a line."""
    lines = [*(f"! {text}" for text in doubts(run)), *server_texts(run)]
    lines += [f"{kind}: {_harmless(text)}" for kind, text in run.figures.messages.items()]
    return ["", *lines] if lines else []


def _harmless(text: str) -> str:
    """A server's words in one line, without anything that a terminal obeys."""
    return "".join(letter if letter.isprintable() else " " for letter in text)[:300]
