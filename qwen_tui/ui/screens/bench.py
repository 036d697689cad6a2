"""The Bench room: the workload, the run under way, and the runs that were kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from qwen_tui.bench.price import HourlyPrice
from qwen_tui.errors import QwenTuiError
from qwen_tui.i18n import N_, _
from qwen_tui.progress import format_seconds
from qwen_tui.server.status import ServerStatus
from qwen_tui.ui.bench_desk import BenchDesk, Job, Order
from qwen_tui.ui.bench_places import Place, observer, places
from qwen_tui.ui.rooms import DO, MOVE
from qwen_tui.ui.screens.bench_kept import KeptRuns
from qwen_tui.ui.text import one_line, plain
from qwen_tui.ui.widgets import bench_words
from qwen_tui.ui.widgets.bench_ledger import BenchLedger, comparison
from qwen_tui.ui.widgets.bench_live import BenchLive
from qwen_tui.ui.widgets.keyed_list import KeyedList
from qwen_tui.ui.widgets.prose import Prose

#: Seconds between two pictures of a run under way, and between two changes of the line about it in other rooms.
_DRAW_EVERY, _TELL_EVERY = 0.25, 1.0


class BenchScreen(KeptRuns):
    """Left the workload, right the live run, below the runs that were kept. The run itself belongs to the services."""

    ROOM = "bench"
    CSS_PATH = "bench.tcss"
    AUTO_FOCUS = "#runs"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("B", "speed_test", N_("vLLM against transformers"), id="bench.speed_test", group=DO),
        Binding("pageup", "scroll(-1)", N_("page up"), id="bench.page_up", show=False, group=MOVE),
        Binding("pagedown", "scroll(1)", N_("page down"), id="bench.page_down", show=False, group=MOVE),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._unsubscribe: Callable[[], None] | None = None
        self._drawn_at = self._told_at = 0.0
        self._ended: Job | None = None
        self._counted = 0
        self._phase = ""
        #: What was filled in the last time.
        self._filled: dict[str, str] = {}

    def compose_room(self) -> ComposeResult:
        with Horizontal(id="upper"):
            with VerticalScroll(id="work", can_focus=False):
                yield Prose(id="workload")
            yield BenchLive(id="live")
        with Horizontal(id="lower"):
            yield BenchLedger(id="ledger")
            with VerticalScroll(id="beside", can_focus=False):
                yield Static(id="beside-text")

    @property
    def desk(self) -> BenchDesk:
        return self.qwen.services.bench

    @property
    def price(self) -> HourlyPrice | None:
        """Of an hour of the box; None where the setting has none, or nonsense."""
        try:
            return HourlyPrice.parse(self.qwen.services.settings.hourly_price)
        except QwenTuiError:
            return None

    @property
    def _places(self) -> Sequence[Place]:
        return places(self.qwen.statuses, self.qwen.services.endpoints.statuses)

    # Life

    def on_mount(self) -> None:
        self._unsubscribe = self.desk.subscribe(self._changed)
        self.look_again()

    def on_unmount(self) -> None:
        if self._unsubscribe is not None:
            self._unsubscribe()

    def on_screen_resume(self) -> None:
        super().on_screen_resume()
        if not self.is_mounted:
            return
        self.look_again()
        if self.qwen.services.endpoints.is_due:
            self.run_worker(self.qwen.services.endpoints.ask(), group="bench endpoints")
        self.call_after_refresh(self.draw)

    def on_resize(self) -> None:
        self.call_after_refresh(self.draw)

    def retranslate(self) -> None:
        self.draw()

    def servers_changed(self, statuses: Sequence[ServerStatus]) -> None:
        if self.desk.job is None:
            self.draw()

    def _changed(self) -> None:
        """Called at every tick: must be quick."""
        job = self.desk.job
        if not self.is_mounted or job is None:
            return
        now = time.monotonic()
        if now - self._told_at >= _TELL_EVERY or job.is_over:
            self._told_at = now
            self.qwen.show_job(None if job.is_over else _job_line(job, self.app.size.width))
        is_over = job.is_over and job is not self._ended
        if is_over:
            self._ended = job
            self._tell_end(job)
        kept = len(job.search.trials) if job.search is not None else len(job.runs)
        if kept != self._counted or is_over:
            self._counted = kept
            self.look_again()
        # A new phase is drawn at once: after its beginning nothing may be told for long.
        is_new, self._phase = job.live.phase != self._phase, job.live.phase
        if self.qwen.room is self and (is_over or is_new or now - self._drawn_at >= _DRAW_EVERY):
            self.draw()

    def _tell_end(self, job: Job) -> None:
        """Whoever is in another room is told."""
        if self.qwen.room is self:
            return
        if job.problem is not None:
            self.qwen.report(job.problem)
        else:
            self.qwen.notify(_("The benchmark has ended; b shows what it found"), markup=False)

    # Drawing

    def draw(self) -> None:
        """Draw everything that differs."""
        if not self.is_mounted or not self.query(BenchLive):
            return
        self._drawn_at = time.monotonic()
        job, ledger = self.desk.job, self.query_one(BenchLedger)
        self.set_class(job is None, "-idle")
        self.set_class(bool(ledger.all), "-kept")
        live = self.query_one(BenchLive)
        # Where there is no place beside the list for the run under the cursor, it is shown above.
        is_alone = job is None and self.has_class("-narrow") and ledger.chosen is not None
        below = self.shown_content(max(20, live.scrollable_content_region.width - 2)) if is_alone else None
        live.draw(job, self.desk.series, self.price, self._empty(bool(ledger.all)), below)
        if job is not None:
            self._set("#workload", _order_text(job.order, self.price))
        self._draw_beside()
        self.refresh_bindings()

    def _empty(self, has_runs: bool) -> Content:
        """What to press first."""
        if self._places:
            first = _("Press n: choose what to measure, enter measures it.")
        else:
            first = _(
                "No server is ready. Press s and start one, or add an endpoint there; then come back and press n."
            )
        if has_runs:
            return Content(f"{first}\n")
        more = _("You will see tokens per second, TTFT, TPOT and what the server and the GPU do, live;")
        kept = _("each run is kept below, to be compared with the next one.")
        return Content("\n".join([_("Nothing was measured yet."), "", first, "", more, kept]))

    def _draw_beside(self) -> None:
        """The marked runs compared, else the run under the cursor."""
        pane = self.query_one("#beside", VerticalScroll)
        if not pane.display or not pane.size.width:
            return
        width = max(20, pane.scrollable_content_region.width)
        self._set("#beside-text", self.shown_content(width))

    def shown_content(self, width: int) -> Content:
        """The comparison of the marked runs, or the whole run under the cursor."""
        ledger = self.query_one(BenchLedger)
        if len(ledger.compared) > 1:
            return comparison(ledger.compared, ledger.all, width)
        run = ledger.chosen
        if run is None:
            return Content("")
        return bench_words.run_text(run, self.price, width)

    def _set(self, selector: str, content: Content) -> None:
        widget = self.query_one(selector, Static)
        before = widget.content
        if not (isinstance(before, Content) and before.is_same(content)):
            widget.update(content)

    @on(KeyedList.Moved)
    def _moved(self, event: KeyedList.Moved) -> None:
        event.stop()
        if self.desk.job is None:
            self.draw()
        self._draw_beside()
        self.refresh_bindings()

    @on(BenchLedger.Searched)
    def _searched(self, event: BenchLedger.Searched) -> None:
        event.stop()
        self._draw_beside()

    def binding_text(self, binding: Binding) -> str:
        if not self.query(BenchLedger):
            return binding.description  # not made yet
        ledger = self.query_one(BenchLedger)
        if binding.id == "bench.stop" and not self.desk.is_busy:
            return ""
        if binding.id == "bench.new" and self.desk.is_busy:
            return ""
        needs_run = ("bench.open", "bench.mark", "bench.again", "bench.delete", "bench.copy", "bench.export")
        if binding.id in (*needs_run, "bench.note", "bench.find") and not ledger.all:
            return ""
        if binding.id == "bench.again" and self.desk.is_busy:
            return ""
        if binding.id == "bench.open" and len(ledger.compared) > 1:
            return N_("compare")
        return binding.description

    # Doing

    def action_new(self) -> None:
        from qwen_tui.ui.screens.bench_form import BenchForm

        if self.desk.is_busy:
            self.notify(_("A run is under way: x stops it"), severity="warning", markup=False)
            return
        target = self.qwen.endpoint or self.qwen.target
        kind = "endpoint" if self.qwen.endpoint is not None else "server"
        form = BenchForm(
            self._places, self._filled, self.qwen.services.settings.hourly_price,
            f"{kind}:{target.name}" if target is not None else "",
        )  # fmt: skip

        def filled(order: Order | None) -> None:
            if order is not None:
                self._filled = dict(form.values)
                self.begin(order)

        self.app.push_screen(form, filled)

    def begin(self, order: Order) -> None:
        """Measure, unless something is measured already."""
        if self.desk.is_busy:
            self.notify(_("A run is under way: x stops it"), severity="warning", markup=False)
            return
        self._counted = 0
        self.desk.start(order, observer(order.plan.target))
        self.query_one(BenchLive).scroll_home(animate=False)
        self._changed()
        self.draw()

    def action_speed_test(self) -> None:
        from qwen_tui.ui.screens.throughput import open_throughput

        open_throughput(self.qwen)

    def action_stop(self) -> None:
        self.desk.stop()

    def action_scroll(self, pages: int) -> None:
        live = self.query_one(BenchLive)
        live.scroll_relative(y=pages * max(1, live.size.height - 2), animate=False)


def _job_line(job: Job, width: int) -> str:
    """One line for every room: how far the benchmark is."""
    percent = f"{job.fraction:.0%}"
    if job.eta is None or width < 120:
        return _("bench {percent}").format(percent=percent)
    return _("bench {percent}, {time} to go").format(percent=percent, time=format_seconds(job.eta))


def _order_text(order: Order, price: HourlyPrice | None) -> Content:
    """What is measured, and the same on a command line."""
    plan, work, load = order.plan, order.plan.workload, order.plan.load
    pairs = [
        (_("model"), plan.target.model),
        (_("at"), plan.target.base_url),
        (_("endpoint"), plan.target.api),
        (_("prompts"), work.kind),
    ]
    if work.kind == "random":
        spread = f" ±{work.spread:.0%}" if work.spread else ""
        shared = f" + {work.prefix_len}" if work.prefix_len else ""
        pairs += [
            (_("tokens in"), f"{work.input_len}{shared}{spread}"),
            (_("tokens out"), f"{work.output_len}{spread}"),
        ]
    if order.kind == "sweep":
        pairs.append((_("loads"), " ".join(f"{level:g}" for level in order.levels)))
    elif order.kind == "run":
        pairs.append((_("load"), f"{load.rate:g}/s" if load.is_open_loop else f"×{load.streams}"))
        pairs.append((_("requests"), f"{load.count:,}") if load.count else (_("time"), format_seconds(load.seconds)))
        pairs += [(_("warm-up"), str(load.warmup))] if load.warmup else []
    limits = [
        f"{name.upper()} {value * 1e3:g} ms" for name, value in plan.limits.to_json().items() if value is not None
    ]
    pairs += [(_("limits"), ", ".join(limits))] if limits else []
    pairs += [(_("seed"), str(plan.seed))] if plan.seed is not None else []
    pairs += [(_("an hour"), price.show(price.amount))] if price is not None else []
    lines = [Content.assemble((f"{name}  ", "$foreground-muted"), one_line(text)) for name, text in pairs]
    if order.command:
        lines += [Content(""), Content.styled(plain(f"$ {order.command}"), "$foreground-muted")]
    return Content("\n").join(lines)
