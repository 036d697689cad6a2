"""Runs for others: JSON with vLLM's field names, CSV, a Markdown table, a report in HTML or SVG."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from qwen_tui.bench.charts import run_charts, several_charts
from qwen_tui.bench.compare import FIGURES, value
from qwen_tui.bench.ledger import Ledger, Run
from qwen_tui.bench.price import HourlyPrice
from qwen_tui.bench.result import result_json
from qwen_tui.bench.series import Series
from qwen_tui.bench.statistics import output_tokens, tpot
from qwen_tui.bench.svg import document
from qwen_tui.bench.target import BenchError
from qwen_tui.i18n import _
from qwen_tui.workers.bench_record import Record

#: The end of a file's name → its format.
FORMAT_OF_SUFFIX: Mapping[str, str] = {
    ".json": "json",
    ".csv": "csv",
    ".md": "markdown",
    ".html": "html",
    ".htm": "html",
    ".svg": "svg",
}
#: What a spreadsheet would take for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def exported(
    runs: Sequence[Run], ledger: Ledger, form: str, *, detailed: bool = False, price: HourlyPrice | None = None
) -> str:
    """The runs as one text. form: of FORMAT_OF_SUFFIX. detailed: JSON and CSV tell of each request too.

    Reads records and draws: for a thread. Raises BenchError where records that are needed can't be read.
    """
    if form == "json":
        found = [_json(run, ledger, detailed) for run in runs]
        return json.dumps(found[0] if len(found) == 1 else found, ensure_ascii=False, indent=1) + "\n"
    if form == "csv":
        return _requests_csv(runs, ledger) if detailed else _csv([_flat(run) for run in runs])
    if form == "markdown":
        return markdown(runs, price)
    if form == "svg":
        return document(charts_of(runs, ledger), ", ".join(run.id for run in runs))
    from qwen_tui.bench.report import html_report

    return html_report(runs, ledger, price)


def charts_of(runs: Sequence[Run], ledger: Ledger) -> list[str]:
    """Of one run its course, of several a comparison."""
    if len(runs) > 1:
        return several_charts(runs)
    records, series = what_is_there(runs[0], ledger)
    return run_charts(records, series)


def what_is_there(run: Run, ledger: Ledger) -> tuple[Sequence[Record], Series]:
    """A run's records and series; empty where they are gone, for a report can do without."""
    try:
        return ledger.records(run), ledger.series(run)
    except BenchError:
        return [], Series()


def _json(run: Run, ledger: Ledger, detailed: bool) -> dict[str, Any]:
    if not detailed or run.kind == "offline" or run.about.get("imported_from"):
        return result_json(run)
    return result_json(run, ledger.records(run)) | {"series": ledger.series(run).to_json()}


def _flat(run: Run) -> dict[str, Any]:
    """The result without what is nested; lists of words as one text."""
    found: dict[str, Any] = {}
    for name, told in result_json(run).items():
        if isinstance(told, list):
            found[name] = " ".join(map(str, told))
        elif not isinstance(told, dict):
            found[name] = told
    found |= {f"workload_{name}": told for name, told in run.workload.to_json().items() if name != "messages"}
    return found


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow([_cell(row.get(name)) for name in names])
    return stream.getvalue()


def _cell(told: Any) -> Any:
    """Texts are others' words: none is to be a formula where it is opened."""
    if told is None or (isinstance(told, float) and math.isnan(told)):
        return ""
    if isinstance(told, str):
        return f"'{told}" if told.startswith(_FORMULA) else told
    return told


def _requests_csv(runs: Sequence[Run], ledger: Ledger) -> str:
    rows = []
    for run in runs:
        for record in sorted(ledger.records(run), key=lambda one: one.index):
            time_per_token = tpot(record) if record.is_ok else None
            rows.append(
                {
                    "run_id": run.id,
                    "index": record.index,
                    "outcome": record.kind,
                    "status": record.status,
                    "due_s": record.due,
                    "sent_s": record.sent,
                    "ttft_ms": record.ttft * 1e3,
                    "tpot_ms": None if time_per_token is None else time_per_token * 1e3,
                    "e2el_ms": record.e2el * 1e3,
                    "prompt_tokens": max(0, record.prompt_tokens),
                    "output_tokens": output_tokens(record) if record.is_ok else 0,
                    "message": record.message,
                }
            )
    return _csv(rows)


def table_rows(runs: Sequence[Run], price: HourlyPrice | None) -> list[tuple[str, list[str]]]:
    """What a report tells in its table: a name, translated, and a text for each run."""
    rows: list[tuple[str, list[str]]] = [
        (_("model"), [run.model for run in runs]),
        (_("work"), [_work(run) for run in runs]),
        (_("load"), [_load(run) for run in runs]),
        (_("requests"), [_requests(run) for run in runs]),
        (_("duration"), [f"{run.figures.duration:,.2f} s" for run in runs]),
    ]
    for key, name, unit, _more in FIGURES:
        values = [value(run, key) for run in runs]
        if any(values):
            rows.append((f"{_(name)} {unit}".strip(), [f"{number:,.2f}" if number else "" for number in values]))
    if any(run.figures.goodput is not None for run in runs):
        shares = [run.figures.good_share for run in runs]
        rows.append((_("within the limits"), ["" if share is None else f"{share:.0%}" for share in shares]))
    if price is not None:
        costs = [price.per_million(run.figures.output_throughput) for run in runs]
        rows.append((_("a million output tokens"), ["" if cost is None else price.show(cost) for cost in costs]))
    for name, title in (("engine_version", _("engine")), ("gpus", "GPU"), ("driver", _("driver"))):
        told = [run.about.get(name) or "" for run in runs]
        if any(told):
            rows.append((title, [", ".join(map(str, one)) if isinstance(one, list) else str(one) for one in told]))
    for title, texts in ((_("tags"), [" ".join(run.tags) for run in runs]), (_("note"), [run.note for run in runs])):
        if any(texts):
            rows.append((title, texts))
    return rows


def _work(run: Run) -> str:
    work = run.workload
    lengths = _("{input} in, {output} out").format(input=work.input_len, output=work.output_len)
    return f"{work.kind} {lengths}" if work.kind in ("random", "imported") else work.kind


def _load(run: Run) -> str:
    if run.kind == "offline":
        return _("offline, {backend}").format(backend=run.about.get("backend", "?"))
    if run.load.is_open_loop:
        return _("{rate} requests/s").format(rate=f"{run.load.rate:g}")
    return _("{n} at once").format(n=run.load.streams)


def _requests(run: Run) -> str:
    figures = run.figures
    failed = _("{n} failed").format(n=figures.failed) if figures.failed else ""
    return f"{figures.completed:,}" + (f" ({failed})" if failed else "")


def markdown(runs: Sequence[Run], price: HourlyPrice | None = None) -> str:
    """A table: a row for each figure, a column for each run."""
    lines = ["| | " + " | ".join(run.id for run in runs) + " |", "|---|" + "---:|" * len(runs)]
    for name, texts in table_rows(runs, price):
        lines.append(f"| {_plain(name)} | " + " | ".join(map(_plain, texts)) + " |")
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """Without anything that Markdown or HTML would take for more than letters, in one line."""
    kept = "".join(letter if letter.isprintable() else " " for letter in text)
    return "".join(f"\\{letter}" if letter in "\\|`*_[]<>#!&" else letter for letter in kept)
