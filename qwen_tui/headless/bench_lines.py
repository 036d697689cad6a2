"""A run's figures as lines for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qwen_tui.bench.sentences import doubts, failure_texts, load_text, server_texts, tokens_source
from qwen_tui.i18n import _

if TYPE_CHECKING:
    from qwen_tui.bench.compare import Row, Side
    from qwen_tui.bench.ledger import Run
    from qwen_tui.bench.price import HourlyPrice
    from qwen_tui.bench.statistics import Distribution, Figures

#: Tags that hold the runs of one ladder or one search together: `runs --tag` finds them, no one wants to read them.
_OWN_TAGS = ("sweep-", "capacity-")
_STATISTICS = ("mean", "median", "p90", "p95", "p99", "max")


def run_lines(run: Run, price: HourlyPrice | None = None) -> list[str]:
    """Everything that a person wants to know of a run."""
    figures = run.figures
    what = f"{run.model}, {_load_cell(run)}" if run.kind == "offline" else ""
    lines = [what or _("{model} at {url}").format(model=_harmless(run.model), url=run.base_url), load_text(run), ""]
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
    if figures.e2el.count or figures.ttft.count:
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
            told = (getattr(values, key) for key in _STATISTICS)
            rows.append((name.upper(), *(f"{value * 1e3:,.1f}" if value else "" for value in told)))
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
    rows = [(_("RUN"), _("MODEL"), _("REQUESTS/S"), _("TOKENS/S"), "TTFT ms", "TPOT ms", _("LOAD"), _("TAGS"))]
    for run in runs:
        figures = run.figures
        times = [f"{values.mean * 1e3:,.1f}" if values.count else "" for values in (figures.ttft, figures.tpot)]
        rows.append(
            (
                run.id,
                _model_cell(run.model),
                f"{figures.request_throughput:.2f}",
                f"{figures.output_throughput:,.1f}",
                times[0],
                times[1],
                _load_cell(run),
                _harmless(" ".join(f"#{tag}" for tag in run.tags if not tag.startswith(_OWN_TAGS))),
            )
        )
    return table(rows, numbers_from=2)


def _model_cell(model: str) -> str:
    """The name; of a folder, its last part."""
    return _harmless(model.rstrip("/").rpartition("/")[2] if model.startswith("/") else model)


def _load_cell(run: Run) -> str:
    if run.kind == "offline":
        return _("offline, {backend}").format(backend=run.about.get("backend", "?"))
    load = f"{run.load.rate:g}/s" if run.load.is_open_loop else f"×{run.load.streams}"
    if run.about.get("imported_from"):
        return _("{load} (imported)").format(load=load)
    return _("{load} (stopped)").format(load=load) if run.partial else load


def compare_lines(sides: Sequence[Side]) -> list[str]:
    """The first side's figures, and each other's beside it, with the difference from the first in percent."""
    from qwen_tui.bench.compare import caveats, side_rows
    from qwen_tui.bench.confidence import METHOD

    base, *others = sides
    names = [_side_name(base)]
    for side in others:
        names += [_side_name(side), _("difference")]
    shown: list[Sequence[str]] = [("", *names)]
    is_sure = False
    for rows in zip(*(side_rows(base, side) for side in others), strict=True):
        cells = [f"{rows[0].a:,.2f}"]
        for row in rows:
            cells += [f"{row.b:,.2f}", change_text(row)]
            is_sure = is_sure or row.interval is not None
        if any(row.a or row.b for row in rows):
            shown.append((f"{_(rows[0].name)} {rows[0].unit}".strip(), *cells))
    lines = table(shown)
    notes = dict.fromkeys(text for side in others for text in caveats(base.run, side.run))
    if not is_sure:
        notes[_("Each was run once: how far they differ by chance is not known. Repeat them for an interval")] = None
    return [*lines, *([_(METHOD)] if is_sure else []), *(f"! {text}" for text in notes)]


def change_text(row: Row) -> str:
    """“+3.2% [+1.0% +5.5%] better”; “noise” where the interval holds 0."""
    if row.change is None:
        return ""
    parts = [f"{row.change:+.1%}"]
    if row.interval is not None:
        parts.append(f"[{row.interval.low:+.1%} {row.interval.high:+.1%}]")
        if not row.interval.is_clear:
            parts.append(_("noise"))
    if row.is_better is not None and abs(row.change) >= 0.005:
        parts.append(_("better") if row.is_better else _("worse"))
    return " ".join(parts)


def _side_name(side: Side) -> str:
    """The end of its id, which names it too: the whole would not leave room for two on a small terminal."""
    name = side.run.id[9:]
    return name if len(side.repeats) == 1 else f"{name} ×{len(side.repeats)}"


def trend_lines(runs: Sequence[Run], key: str) -> list[str]:
    """A line for each run, the oldest first, with a bar, the change from the run before, and what else changed."""
    from qwen_tui.bench.compare import changed_since, value

    most = max((value(run, key) for run in runs), default=0.0)
    rows: list[Sequence[str]] = [(_("RUN"), key, "", "")]
    notes: list[str] = []
    before: Run | None = None
    for run in runs:
        now = value(run, key)
        old = value(before, key) if before is not None else 0.0
        step = f"{now / old - 1:+.1%}" if old else ""
        bar = "█" * round(20 * now / most) if most else ""
        rows.append((run.id, f"{now:,.2f}", step, bar))
        if before is not None and (changes := changed_since(before, run)):
            notes.append(f"{run.id}: " + _harmless("; ".join(changes)))
        before = run
    lined = table([row[:3] for row in rows])
    width = max((len(line) for line in lined), default=0)
    lines = [f"{line:<{width}}  {row[3]}".rstrip() for line, row in zip(lined, rows, strict=True)]
    return [*lines, *(["", *notes] if notes else [])]


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
