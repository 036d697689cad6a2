"""A report of one run or several as one HTML file: no script, nothing fetched, everything escaped, dark and light."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from qwen_tui import __version__
from qwen_tui.bench.charts import run_charts, several_charts
from qwen_tui.bench.compare import caveats, side_rows, sides
from qwen_tui.bench.confidence import METHOD
from qwen_tui.bench.export import table_rows, what_is_there
from qwen_tui.bench.ledger import Ledger, Run
from qwen_tui.bench.price import HourlyPrice
from qwen_tui.bench.result import result_json
from qwen_tui.bench.sentences import doubts, failure_texts, load_text, server_texts
from qwen_tui.bench.svg import STYLE, escaped, inline
from qwen_tui.i18n import _

_PAGE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 60em; padding: 0 1em; color: #222;
  background: #fff; }
table { border-collapse: collapse; margin: 1em 0; }
th, td { padding: .25em .8em; border-bottom: 1px solid #ddd; text-align: right; vertical-align: top; }
th:first-child, td:first-child { text-align: left; }
svg.chart { max-width: 100%; height: auto; display: block; margin: 1em 0; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #f4f4f4; padding: .8em; }
.doubt { color: #a33; }
@media (prefers-color-scheme: dark) {
body { color: #ddd; background: #161616; } th, td { border-color: #3a3a3a; } pre { background: #222; }
.doubt { color: #f88; } }
"""
#: More than this many runs get no section of their own.
_MOST_SECTIONS = 8


def html_report(runs: Sequence[Run], ledger: Ledger, price: HourlyPrice | None = None) -> str:
    """The whole file. Reads the runs' records and draws: for a thread."""
    title = _("Benchmark: {model}").format(model=", ".join(dict.fromkeys(run.model for run in runs)))
    parts = [f"<h1>{escaped(title)}</h1>", _table(runs, price)]
    if len(runs) > 1:
        parts += [_differences(runs, ledger), *map(inline, several_charts(runs))]
    for run in runs[:_MOST_SECTIONS]:
        parts.append(_section(run, ledger))
    made = _("Made by qwen-tui {version}, {when}").format(
        version=__version__, when=time.strftime("%Y-%m-%d %H:%M", time.localtime())
    )
    return (
        '<!DOCTYPE html>\n<html><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escaped(title)}</title><style>{_PAGE}{STYLE}</style></head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + f"\n<p>{escaped(made)}</p>\n</body></html>\n"
    )


def _table(runs: Sequence[Run], price: HourlyPrice | None) -> str:
    head = "".join(f"<th>{escaped(run.id)}</th>" for run in runs)
    rows = "\n".join(
        f"<tr><td>{escaped(name)}</td>" + "".join(f"<td>{escaped(text)}</td>" for text in texts) + "</tr>"
        for name, texts in table_rows(runs, price)
    )
    return f"<table><tr><th></th>{head}</tr>\n{rows}</table>"


def _differences(runs: Sequence[Run], ledger: Ledger) -> str:
    """Each run against the first, in percent, with the interval where there were repeats."""
    base, *others = sides(runs, ledger.list())
    head = "".join(f"<th>{escaped(side.run.id)}</th>" for side in others)
    rows, is_sure = [], False
    for figures in zip(*(side_rows(base, side) for side in others), strict=True):
        if not any(row.change for row in figures):
            continue
        cells = []
        for row in figures:
            text = f"{row.change:+.1%}" if row.change is not None else ""
            if row.interval is not None:
                is_sure = True
                text += f" [{row.interval.low:+.1%} {row.interval.high:+.1%}]"
            cells.append(f"<td>{escaped(text)}</td>")
        rows.append(f"<tr><td>{escaped(f'{_(figures[0].name)} {figures[0].unit}'.strip())}</td>{''.join(cells)}</tr>")
    notes = dict.fromkeys(text for side in others for text in caveats(base.run, side.run))
    lines = [*([_(METHOD)] if is_sure else []), *notes]
    heading = escaped(_("Difference from {id}").format(id=base.run.id))
    return f"<h2>{heading}</h2><table><tr><th></th>{head}</tr>\n{chr(10).join(rows)}</table>" + "".join(
        f"<p>{escaped(line)}</p>" for line in lines
    )


def _section(run: Run, ledger: Ledger) -> str:
    records, series = what_is_there(run, ledger)
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run.created))
    parts = [f"<h2>{escaped(run.id)}</h2>", f"<p>{escaped(when)} · {escaped(load_text(run))}</p>"]
    parts += [f'<p class="doubt">{escaped(text)}</p>' for text in (*doubts(run), *failure_texts(run.figures))]
    parts += [f"<p>{escaped(text)}</p>" for text in server_texts(run)]
    parts += map(inline, run_charts(records, series))
    if argv := run.about.get("argv"):
        started = _("The server was started by")
        parts.append(f"<p>{escaped(started)}</p><pre>{escaped(' '.join(map(str, argv)))}</pre>")
    everything = json.dumps(result_json(run), ensure_ascii=False, indent=1)
    summary = escaped(_("Everything, as JSON"))
    parts.append(f"<details><summary>{summary}</summary><pre>{escaped(everything)}</pre></details>")
    return "\n".join(parts)
