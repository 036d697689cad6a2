"""The run under way, or the last one: big numbers, latencies, charts on one time axis, the server and the GPUs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from textual.app import ComposeResult
from textual.containers import Container, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from qwen_tui.bench.live import Live
from qwen_tui.bench.price import HourlyPrice
from qwen_tui.bench.series import Series
from qwen_tui.hardware.gpus import THROTTLE_REASONS
from qwen_tui.i18n import N_, _
from qwen_tui.server.metrics_words import format_latency, format_per_second, format_share, format_whole
from qwen_tui.ui.bench_desk import Job
from qwen_tui.ui.text import cut_middle
from qwen_tui.ui.widgets import bench_words
from qwen_tui.ui.widgets.bench_curve import curve
from qwen_tui.ui.widgets.charts import Chart, Columns, Drawing, nice_ceiling
from qwen_tui.ui.widgets.prose import Prose
from qwen_tui.ui.widgets.watch_panels import tile_lines

#: Rows of this part from which the numbers are drawn large, and from which there is a second row of charts.
_LARGE, _TALL = 26, 30
_TEXTS = ("state", "numbers", "counts", "said", "levels", "curve", "latencies", "around")


@dataclass(frozen=True)
class _Plan:
    """One chart: its title, the lines it stacks by name, how a value is written, and its scale."""

    id: str
    title: str
    lines: tuple[str, ...]
    words: Callable[[float | None], str]
    ceiling: float | None = None
    least: float = 1.0


_PLANS = (
    _Plan("output", N_("output tok/s"), ("output",), format_per_second, least=10),
    _Plan("queue", N_("running + waiting"), ("running", "server.waiting"), format_whole, least=5),
    _Plan("ttft", N_("TTFT mean"), ("ttft",), format_latency, least=0.001),
    _Plan("kv", N_("KV cache"), ("server.kv_usage",), format_share, ceiling=1),
    _Plan("gpu", N_("GPU"), ("gpu.utilization",), format_share, ceiling=1),
    _Plan("power", N_("GPU power, W"), ("gpu.power",), format_whole, least=100),
)


def per_second(live: Live, series: Series, span: int) -> Mapping[str, Columns]:
    """What happened in each of `span` seconds of a run, by name; the GPUs together."""
    found: dict[str, list[float | None]] = {name: [None] * span for name in ("output", "running", "ttft")}
    # The second that is not over yet would look like a slump.
    whole = int(live.at) // live.step + (live.phase != "running")
    for number, second in enumerate(live.seconds[:whole]):
        for place in range(number * live.step, min(span, (number + 1) * live.step)):
            found["output"][place] = second.chunks * live.tokens_per_chunk / live.step
            found["running"][place] = second.running
            found["ttft"][place] = second.ttft / second.completed if second.completed else None
    zero = live.zero or 0.0
    for name, column in series.values.items():
        kind, _dot, end = name.partition(".")
        shown = f"gpu.{end}" if kind.startswith("gpu") else name
        into = found.setdefault(shown, [None] * span)
        for at, value in zip(series.at, column, strict=False):
            place = math.floor(at - zero)
            if value is not None and 0 <= place < span:
                # Cards: power adds up, the busiest one counts otherwise.
                known = into[place]
                is_other_card = known is not None and kind.startswith("gpu")
                into[place] = (known or 0.0) + value if is_other_card and end == "power" else max(known or 0.0, value)
    return found


def stretched(seconds: Columns, width: int) -> Columns:
    """`seconds` in `width` columns: the mean of what falls into one, or the same second in several."""
    span = len(seconds)
    found: list[float | None] = []
    for column in range(width):
        first = column * span // width
        seen = [value for value in seconds[first : max(first + 1, (column + 1) * span // width)] if value is not None]
        found.append(sum(seen) / len(seen) if seen else None)
    return found


class BenchLive(VerticalScroll, can_focus=False):
    """Draws one Job, or what to press first."""

    DEFAULT_CSS = """
    BenchLive { scrollbar-size-vertical: 1; scrollbar-gutter: stable; }
    BenchLive Static { height: auto; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    BenchLive #charts { layout: grid; grid-size: 3; height: 1fr; min-height: 6; }
    BenchLive.-tall.-with-server #charts, BenchLive.-tall.-with-gpus #charts { min-height: 14; }
    BenchLive #chart-kv, BenchLive #chart-gpu, BenchLive #chart-power { display: none; }
    BenchLive.-tall.-with-server #chart-kv { display: block; }
    BenchLive.-tall.-with-gpus #chart-gpu, BenchLive.-tall.-with-gpus #chart-power { display: block; }
    BenchLive.-without #charts { display: none; }
    """

    def compose(self) -> ComposeResult:
        for name in _TEXTS:
            yield Prose(id=name) if name == "said" else Static(id=name)
        with Container(id="charts"):
            for plan in _PLANS:
                yield Chart(id=f"chart-{plan.id}")

    def draw(
        self, job: Job | None, series: Series, price: HourlyPrice | None, empty: Content, below: Content | None = None
    ) -> None:
        """Show `job`; without one, `empty`, and `below` it what is not to be broken into other lines."""
        width, height = max(20, self.scrollable_content_region.width - 2), self.size.height
        is_ladder = job is not None and job.order.kind != "run"
        is_without = job is not None and job.is_over and (is_ladder or (job.problem is not None and not job.runs))
        self.set_class(job is None or is_without, "-without")
        self.set_class(height >= _TALL, "-tall")
        if job is None:
            for name in _TEXTS:
                if name != "levels":
                    self._set(name, empty if name == "said" else Content(""))
            self._set("levels", below or Content(""))
            return
        self._set("state", bench_words.state_line(job, width))
        failed = job.problem is not None and not job.runs
        large = height >= _LARGE and not is_ladder
        tiles = tile_lines(bench_words.tiles(job), width, large=large, faded=False)
        # The numbers of a ladder's last run are none of the ladder.
        failed = failed or (is_ladder and job.is_over)
        self._set("numbers", Content("") if failed else tiles)
        waiting = _newest(series, "server.waiting") if not job.is_over else None
        self._set("counts", Content("") if failed else bench_words.counts_line(job, waiting, width))
        self._set("said", bench_words.result_text(job, price) if job.is_over else Content(""))
        self._set("levels", bench_words.levels_table(job, width))
        self._set("curve", curve(job, width, 14 if height >= _TALL else 10) if is_ladder else Content(""))
        self._set("latencies", Content("") if failed else bench_words.latency_table(job, width))
        self._set("around", Content("") if failed else around(series, width))
        self._draw_charts(job, series)

    def _draw_charts(self, job: Job, series: Series) -> None:
        live = job.live
        self.set_class(any(name.startswith("gpu") for name in series.values), "-with-gpus")
        self.set_class("server.kv_usage" in series.values, "-with-server")
        last = len(live.seconds) * live.step
        span = last if job.is_over and last else round(nice_ceiling(max(last, live.at + 1), 10))
        seconds = per_second(live, series, max(1, span))
        for plan in _PLANS:
            chart = self.query_one(f"#chart-{plan.id}", Chart)
            width = chart.columns_wide
            if not width or not chart.display:
                continue
            columns = [seconds.get(name, [None] * span) for name in plan.lines]
            newest = [next((value for value in reversed(one) if value is not None), None) for one in columns]
            chart.show(
                Drawing(
                    title=_(plan.title),
                    # Where there is little room, the numbers above say it.
                    value=" + ".join(map(plan.words, newest)) if width >= 34 else "",
                    series=tuple(stretched(one, width) for one in columns),
                    ceiling=plan.ceiling,
                    least=plan.least,
                    show_top=plan.words,
                    axis=("0 s", f"{span} s"),
                )
            )

    def _set(self, name: str, content: Content) -> None:
        widget = self.query_one(f"#{name}", Static)
        before = widget.content
        if isinstance(before, Content) and before.is_same(content):
            return
        is_empty = not content.plain
        same_height = isinstance(before, Content) and before.plain.count("\n") == content.plain.count("\n")
        same_height = same_height and widget.display is not is_empty and name != "said"
        widget.display = not is_empty
        widget.update(content, layout=not same_height)


def _newest(series: Series, name: str) -> float | None:
    column = series.values.get(name, ())
    return column[-1] if column else None


def around(series: Series, width: int) -> Content:
    """What the server and the cards say of themselves now, a line each."""
    lines: list[Content] = []
    server = [
        _("KV cache {share}").format(share=format_share(_newest(series, "server.kv_usage"))),
        _("running {n}").format(n=format_whole(_newest(series, "server.running"))),
        _("waiting {n}").format(n=format_whole(_newest(series, "server.waiting"))),
        _("preemptions {n}").format(n=format_whole(_newest(series, "server.preemptions"))),
        _("prefix hits {share}").format(share=format_share(_newest(series, "server.prefix_hit_rate"))),
    ]
    if any(name.startswith("server.") for name in series.values):
        lines.append(Content(cut_middle(_("server: ") + "  ".join(server), width)))
    for card in sorted({name.partition(".")[0] for name in series.values if name.startswith("gpu")}):
        lines.append(Content(cut_middle(_card(series, card), width)))
        if bits := series.reasons.get(card, 0):
            words = ", ".join(_(word) for bit, word in THROTTLE_REASONS.items() if bits & bit)
            text = _("slowed down by: {reasons}").format(reasons=words)
            lines += [Content.styled(cut_middle(f"  ! {text}", width), "$text-warning")] if words else []
    return Content("\n").join(lines)


def _card(series: Series, card: str) -> str:
    told: Sequence[tuple[str, Callable[[float], str]]] = (
        ("utilization", format_share),
        ("memory", lambda value: f"{value / 1e9:.1f} GB"),
        ("power", lambda value: f"{value:.0f} W"),
        ("clock_sm", lambda value: f"{value:,.0f} MHz"),
        ("temperature", lambda value: f"{value:.0f} °C"),
    )
    parts = [card.upper()]
    for name, words in told:
        value = _newest(series, f"{card}.{name}")
        if value is not None:
            parts.append(words(value))
    return "  ".join(parts)
