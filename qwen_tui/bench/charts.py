"""What a report draws of a run, and of several: as SVG elements."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from qwen_tui.bench.ledger import Run
from qwen_tui.bench.series import SERIES_WORDS, Series
from qwen_tui.bench.statistics import gaps, output_tokens, tpot
from qwen_tui.bench.svg import Line, bar_chart, line_chart
from qwen_tui.i18n import N_, _
from qwen_tui.workers.bench_record import Record

#: Charts of the server and the GPUs: title, the ends of the series' names in it, their unit.
_AROUND: Sequence[tuple[str, tuple[str, ...], str]] = (
    (N_("The server's KV cache, and its prefix cache"), ("kv_usage", "prefix_hit_rate"), "%"),
    (N_("Requests in the server"), ("running", "waiting", "preemptions"), ""),
    (N_("GPU: busy, slowed down"), ("utilization", "throttled"), "%"),
    (N_("GPU: memory"), ("memory",), "GiB"),
    (N_("GPU: power"), ("power",), "W"),
    (N_("GPU: clock"), ("clock_sm",), "MHz"),
)
_FACTORS: Mapping[str, float] = {"%": 100.0, "GiB": 2.0**-30}
_MOST_VALUES = 2000


def run_charts(records: Sequence[Record], series: Series) -> list[str]:
    """Of one run, those that there is something to draw for."""
    good = [record for record in records if record.is_ok]
    found = []
    if good:
        found += [_throughput(good), _under_way(records), _first_tokens(good), *_shares(good)]
    for title, ends, unit in _AROUND:
        names = [name for name in series.values if name.partition(".")[2] in ends]
        lines = [
            Line(
                _series_name(name),
                series.at,
                [math.nan if value is None else value * _FACTORS.get(unit, 1.0) for value in series.values[name]],
            )
            for name in names
        ]
        found.append(line_chart(_(title), lines, _("seconds"), unit))
    return [chart for chart in found if chart]


def _series_name(name: str) -> str:
    place, _dot, end = name.partition(".")
    words = _(SERIES_WORDS.get(end, (end, ""))[0])
    return words if place == "server" else f"{place.upper()} {words}"


def _throughput(good: Sequence[Record]) -> str:
    """Output tokens in each second."""
    seconds = max(1, math.ceil(max(record.end for record in good)))
    step = max(1.0, seconds / 600) if seconds > 10 else seconds / 40
    counts = [0.0] * (int(seconds / step) + 1)
    for record in good:
        each = output_tokens(record) / len(record.stamps)
        for stamp in record.stamps:
            if stamp >= 0:
                counts[min(len(counts) - 1, int(stamp / step))] += each
    line = Line("", [(number + 0.5) * step for number in range(len(counts))], [count / step for count in counts])
    return line_chart(_("Output tokens per second"), [line], _("seconds"), _("tokens/s"))


def _under_way(records: Sequence[Record]) -> str:
    changes = [(record.sent, 1) for record in records if math.isfinite(record.sent)]
    changes += [(record.end, -1) for record in records if math.isfinite(record.sent) and math.isfinite(record.end)]
    xs, ys, now = [], [], 0
    for at, change in sorted(changes):
        xs += [at, at]  # a step, not a slope
        ys += [float(now), float(now + change)]
        now += change
    return line_chart(_("Requests under way"), [Line("", xs, ys)], _("seconds"), "")


def _first_tokens(good: Sequence[Record]) -> str:
    dots = Line("", [record.sent for record in good], [record.ttft * 1e3 for record in good], is_dots=True)
    return line_chart(_("Time to the first token, by when it was asked"), [dots], _("seconds"), "ms")


def _shares(good: Sequence[Record]) -> list[str]:
    """Which share of the values lies below."""
    values = {
        "TTFT": [record.ttft for record in good],
        "E2EL": [record.e2el for record in good],
        "TPOT": [value for value in map(tpot, good) if value is not None],
        "ITL": [gap for record in good for gap in gaps(record)],
    }
    charts = []
    for names in (("TTFT", "E2EL"), ("TPOT", "ITL")):
        lines = []
        for name in names:
            ordered = sorted(value * 1e3 for value in values[name] if value > 0)
            step = math.ceil(len(ordered) / _MOST_VALUES) or 1
            places = range(0, len(ordered), step)
            ys = [100 * (place + 1) / len(ordered) for place in places]
            lines.append(Line(name, [ordered[place] for place in places], ys))
        title = _("Share of the requests within a time") if "TTFT" in names else _("Share of the tokens within a time")
        charts.append(line_chart(title, [line for line in lines if line.xs], "ms", "%", log_x=True))
    return charts


def several_charts(runs: Sequence[Run]) -> list[str]:
    """Runs beside each other; and where they are one work under several loads, throughput against the load."""
    labels = [run.id for run in runs]
    found = [_against_load(runs)]
    throughputs = [(label, [run.figures.output_throughput]) for label, run in zip(labels, runs, strict=True)]
    found.append(bar_chart(_("Output tokens per second"), throughputs, [""], _("tokens/s")))
    for latency in ("ttft", "tpot", "e2el"):
        groups = [
            (label, [getattr(run.figures, latency).median * 1e3, getattr(run.figures, latency).p99 * 1e3])
            for label, run in zip(labels, runs, strict=True)
        ]
        found.append(bar_chart(latency.upper(), groups, ["p50", "p99"], "ms"))
    return [chart for chart in found if chart]


def _against_load(runs: Sequence[Run]) -> str:
    first = runs[0]
    levels = {run.load.streams or run.load.rate: run for run in runs if run.is_same_work_as(first)}
    if len(levels) < 3 or len(levels) < len(runs):
        return ""
    points = sorted(levels.items())
    name = _("requests/s") if first.load.is_open_loop else _("at once")
    lines = [
        Line(
            _("output tokens/s"),
            [level for level, _run in points],
            [run.figures.output_throughput for _l, run in points],
        )
    ]
    return line_chart(_("Throughput against the load"), lines, name, _("tokens/s"))
