"""The Watch room: what the chosen server and this machine are doing, second by second."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Reversible, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Horizontal, VerticalScroll
from textual.content import Content
from textual.widgets import Static
from textual.worker import Worker

from qwen_tui.i18n import N_, _
from qwen_tui.server.endpoint_status import EndpointStatus
from qwen_tui.server.metrics_words import format_latency, format_per_second, format_share, format_whole
from qwen_tui.server.status import ServerStatus
from qwen_tui.server.watch import Point, Source, Watch, can_be_asked
from qwen_tui.ui.rooms import DO, MOVE
from qwen_tui.ui.screens.room import RoomScreen
from qwen_tui.ui.widgets import watch_panels
from qwen_tui.ui.widgets.charts import Chart, Columns, Drawing
from qwen_tui.ui.widgets.watch_state import state_line

#: Seconds that the charts can span.
SPANS = (60, 180, 600)
#: Lines of the terminal from which the room draws larger and shows the machine's charts too.
_TALL = 38


@dataclass(frozen=True)
class _Plan:
    """One chart: its title, the Points' fields it stacks, how a value is written, and its scale.

    by_max: a column shows the highest value of its seconds, not the mean. in_numbers: it is among the numbers above.
    """

    id: str
    title: str
    fields: tuple[str, ...]
    words: Callable[[float | None], str]
    ceiling: float | None = None
    least: float = 1.0
    by_max: bool = False
    in_numbers: bool = False


_OF_SERVER = (
    _Plan("output", N_("output tok/s"), ("generation_rate",), format_per_second, least=10, in_numbers=True),
    _Plan(
        "queue", N_("running + waiting"), ("running", "waiting"), format_whole, least=5, by_max=True, in_numbers=True
    ),
    _Plan("kv", N_("KV cache"), ("kv_usage",), format_share, ceiling=1, in_numbers=True),
    _Plan("prompt", N_("prompt tok/s"), ("prompt_rate",), format_per_second, least=10, in_numbers=True),
    _Plan("ttft", N_("TTFT p95"), ("ttft",), format_latency, least=0.001, by_max=True),
    _Plan("itl", N_("ITL p95"), ("itl",), format_latency, least=0.001, by_max=True),
)
_OF_MACHINE_CPU = (
    _Plan("cpu", N_("CPU"), ("cpu",), format_share, ceiling=1),
    _Plan("ram", N_("RAM"), ("ram",), format_share, ceiling=1),
    _Plan("requests", N_("requests/s"), ("request_rate",), format_per_second),
)
_OF_MACHINE_GPU = (
    _Plan("cpu", N_("GPU"), ("gpu",), format_share, ceiling=1),
    _Plan("ram", N_("GPU memory"), ("gpu_memory",), format_share, ceiling=1),
    _Plan("requests", N_("GPU power, W"), ("gpu_power",), format_whole, least=100),
)


def columns(points: Reversible[Point], field: str, now: int, width: int, per_column: int, *, by_max: bool) -> Columns:
    """`field` of the points in `width` columns of `per_column` seconds, the last one holding the tick `now`.

    Columns stand on whole multiples of their seconds, so that a picture moves as a whole and does not shimmer.
    """
    last = now // per_column
    buckets: list[list[float]] = [[] for _column in range(width)]
    for point in reversed(points):
        place = width - 1 - (last - point.tick // per_column)
        if place < 0:
            break
        value = getattr(point, field)
        if value is not None and place < width:
            buckets[place].append(value)
    return [(max(seen) if by_max else sum(seen) / len(seen)) if seen else None for seen in buckets]


class WatchScreen(RoomScreen):
    """Big numbers, charts, percentiles, GPUs and host; looks only while it is shown."""

    ROOM = "watch"
    CSS_PATH = "watch.tcss"
    AUTO_FOCUS = None
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("plus,equals_sign", "span(1)", N_("longer"), id="watch.longer", group=DO),
        Binding("minus", "span(-1)", N_("shorter"), id="watch.shorter", group=DO),
        Binding("right", "server(1)", N_("next server"), id="watch.next", group=DO),
        Binding("left", "server(-1)", N_("server before"), id="watch.previous", show=False, group=DO),
        Binding("y", "copy", N_("copy the numbers"), id="watch.copy", group=DO),
        Binding("up,k", "scroll(-1)", N_("up"), id="watch.up", show=False, group=MOVE),
        Binding("down,j", "scroll(1)", N_("down"), id="watch.down", show=False, group=MOVE),
        Binding("pageup", "scroll(-10)", N_("page up"), id="watch.page_up", show=False, group=MOVE),
        Binding("pagedown", "scroll(10)", N_("page down"), id="watch.page_down", show=False, group=MOVE),
    ]

    def __init__(self) -> None:
        super().__init__()
        #: Place in SPANS; None until somebody chose one: as long as it looks well.
        self._span: int | None = None
        self._looking: Worker[None] | None = None

    def compose_room(self) -> ComposeResult:
        self.set_class(self.app.size.height >= _TALL, "-tall", update=False)
        with VerticalScroll(id="watch", can_focus=False):
            yield Static(id="state")
            yield Static(id="numbers")
            with Container(id="charts"):
                for plan in _OF_SERVER:
                    yield Chart(id=f"chart-{plan.id}", classes="of-server")
                for plan in _OF_MACHINE_CPU:
                    yield Chart(id=f"chart-{plan.id}", classes="of-machine")
            with Horizontal(id="below"):
                yield Static(id="latencies")
                yield Static(id="machine")

    @property
    def _watch(self) -> Watch:
        return self.qwen.services.watch

    @property
    def _target(self) -> ServerStatus | EndpointStatus | None:
        """What is watched: the endpoint or server that the app is about."""
        return self.qwen.endpoint or self.qwen.target

    # Looking: only while this room is shown, a dialog over it or not

    def on_screen_resume(self) -> None:
        super().on_screen_resume()
        if self._looking is None or self._looking.is_finished:
            self._aim()
            self._looking = self.run_worker(self._watch.run(self._seen), group="watch")

    def on_screen_suspend(self) -> None:
        if self.qwen.room is not self and self._looking is not None:
            self._looking.cancel()
            self._looking = None

    def servers_changed(self, statuses: Sequence[ServerStatus]) -> None:
        self._aim()
        self._draw()

    def _aim(self) -> None:
        """Watch the server that the app is about."""
        target = self._target
        self._watch.look_at(Source.of(target) if target is not None else None, alive=can_be_asked(target))

    def _seen(self) -> None:
        if self.is_mounted:
            self._draw()

    # Drawing

    def on_resize(self) -> None:
        self.set_class(self.app.size.height >= _TALL, "-tall")
        self.call_after_refresh(self._draw)

    def retranslate(self) -> None:
        self._draw()

    @property
    def is_faded(self) -> bool:
        """Whether the numbers are from before: the server does not answer now."""
        return not can_be_asked(self._target) or self._watch.problem is not None

    def _draw(self) -> None:
        if not self.query(Chart):
            return  # the room is being closed
        watch, target = self._watch, self._target
        self.set_class(target is None, "-idle")
        faded = self.is_faded
        tall = self.has_class("-tall")
        self._set("#state", state_line(target, watch, self._seconds_shown, self.qwen.services.clock()))
        if target is not None:
            numbers = self.query_one("#numbers", Static).content_size.width
            self._set("#numbers", watch_panels.numbers(watch.figures, numbers, large=tall, faded=faded))
            width = self.query_one("#latencies", Static).content_size.width
            self._set("#latencies", watch_panels.latencies(watch.figures, width, faded=faded))
        width = self.query_one("#machine", Static).content_size.width
        self._set("#machine", watch_panels.machine(watch.machine, width, processes=tall))
        self._draw_charts(faded)

    def _draw_charts(self, faded: bool) -> None:
        now = self._watch.points[-1].tick if self._watch.points else 0
        has_gpus = self._watch.machine is not None and bool(self._watch.machine.gpus)
        self.set_class(not has_gpus, "-without-gpus")
        for plan in _OF_SERVER:
            self._draw_chart(plan, now, faded)
        for plan in _OF_MACHINE_GPU if has_gpus else _OF_MACHINE_CPU:
            self._draw_chart(plan, now, faded and plan.id == "requests" and not has_gpus)

    def _draw_chart(self, plan: _Plan, now: int, faded: bool) -> None:
        chart = self.query_one(f"#chart-{plan.id}", Chart)
        width = chart.columns_wide
        if not width or not chart.display:
            return
        per_column = self._per_column
        points = self._watch.points
        newest = points[-1] if points else None
        # Rates as the numbers above have them: over a few seconds, so that they can be read.
        values = [getattr(self._watch.figures, field, getattr(newest, field, None)) for field in plan.fields]
        series = tuple(columns(points, field, now, width, per_column, by_max=plan.by_max) for field in plan.fields)
        chart.show(
            Drawing(
                title=_(plan.title),
                # Where there is little room, the numbers above say it.
                value=" + ".join(map(plan.words, values)) if width >= 40 or not plan.in_numbers else "",
                series=series,
                ceiling=plan.ceiling,
                least=plan.least,
                show_top=plan.words,
                span=self._seconds_shown,
                faded=faded,
            )
        )

    @property
    def _per_column(self) -> int:
        """Seconds in a column: the same in every chart, though one may be a column wider than another."""
        return max(1, -(-SPANS[self._place] // (self._chart_width or 1)))

    @property
    def _place(self) -> int:
        if self._span is not None:
            return self._span
        return 0 if self._chart_width < 40 else 1

    @property
    def _chart_width(self) -> int:
        return self.query_one("#chart-cpu" if self.has_class("-idle") else "#chart-output", Chart).columns_wide

    @property
    def _seconds_shown(self) -> int:
        return self._per_column * self._chart_width or SPANS[self._place]

    def _set(self, selector: str, content: Content) -> None:
        widget = self.query_one(selector, Static)
        before = widget.content
        if isinstance(before, Content) and before.is_same(content):
            return
        same_height = isinstance(before, Content) and before.plain.count("\n") == content.plain.count("\n")
        widget.update(content, layout=not same_height)

    def binding_text(self, binding: Binding) -> str:
        if binding.action.startswith("server(") and len(self._all()) < 2:
            return ""
        if binding.action == "copy" and self._watch.seen_at is None:
            return ""
        return binding.description

    # Doing

    def action_span(self, direction: int) -> None:
        self._span = min(len(SPANS) - 1, max(0, self._place + direction))
        self._draw()

    def _all(self) -> list[tuple[Literal["server", "endpoint"], str]]:
        """Every server and endpoint, in the order of the arrows."""
        endpoints = self.qwen.services.endpoints.statuses
        return [
            *(("server", status.name) for status in self.qwen.statuses),
            *(("endpoint", status.name) for status in endpoints),
        ]

    def action_server(self, direction: int) -> None:
        every, target = self._all(), self._target
        if target is not None and len(every) > 1:
            kind: Literal["server", "endpoint"] = "endpoint" if isinstance(target, EndpointStatus) else "server"
            kind, name = every[(every.index((kind, target.name)) + direction) % len(every)]
            self.qwen.choose(name, kind)

    def action_copy(self) -> None:
        watch = self._watch
        if watch.seen_at is None or watch.source is None:
            self.notify(_("There are no numbers yet"), severity="warning", markup=False)
            return
        at = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(watch.seen_at))
        self.app.copy_to_clipboard(json.dumps({"server": watch.source.name, "at": at, **watch.figures.to_json()}))
        self.notify(_("The numbers are copied as JSON"), markup=False)

    def action_scroll(self, lines: int) -> None:
        self.query_one("#watch", VerticalScroll).scroll_relative(y=lines, animate=False)
