"""An offline speed test while it runs, and what has come of it; it goes on when this is put away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Literal

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from qwen_tui.errors import QwenTuiError
from qwen_tui.i18n import N_, _
from qwen_tui.ui.rooms import DO, MOVE
from qwen_tui.ui.screens.dialogs import Confirm, ErrorDialog
from qwen_tui.ui.throughput_desk import ThroughputDesk
from qwen_tui.ui.widgets.key_bar import KeyBar
from qwen_tui.ui.widgets.prose import Prose
from qwen_tui.ui.widgets.throughput_words import as_markdown, job_line, lines_of

if TYPE_CHECKING:
    from qwen_tui.bench.throughput_backends import ServerBackend
    from qwen_tui.ui.app import QwenApp

#: Seconds between two pictures of what counts seconds, such as loading.
_TICK = 0.5

After = Literal["new", "again", "close"]


class ThroughputScreen(ModalScreen[After], inherit_bindings=False):
    """Shows the desk's job; dismissed with what is wanted next."""

    CSS_PATH = "throughput.tcss"
    AUTO_FOCUS = "#body"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "new", N_("new test"), id="throughput.new", group=DO),
        Binding("r", "again", N_("measure again"), id="throughput.again", group=DO),
        Binding("x", "stop", N_("stop it"), id="throughput.stop", group=DO),
        Binding("y", "copy", N_("copy the table"), id="throughput.copy", group=DO),
        Binding("Y", "copy_command", N_("copy the command"), id="throughput.copy_command", group=DO),
        Binding("down,j", "scroll(1)", N_("down"), id="throughput.down", group=MOVE, show=False),
        Binding("up,k", "scroll(-1)", N_("up"), id="throughput.up", group=MOVE, show=False),
        Binding("escape", "close", N_("close"), id="throughput.close", group=DO),
    ]

    def __init__(self, desk: ThroughputDesk) -> None:
        super().__init__()
        self._desk = desk
        self._unsubscribe: Callable[[], None] | None = None
        self._drawn_at = 0.0

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Static(Content.styled(_("Speed test: vLLM against transformers"), "bold"), id="title")
            with VerticalScroll(id="body", can_focus=True):
                yield Prose(id="text")
            yield KeyBar()

    def on_mount(self) -> None:
        self._unsubscribe = self._desk.subscribe(self._changed)
        self.call_after_refresh(self._draw)
        self.set_interval(_TICK, self._tick)

    def on_unmount(self) -> None:
        if self._unsubscribe is not None:
            self._unsubscribe()

    def on_resize(self) -> None:
        self.call_after_refresh(self._draw)

    def _changed(self) -> None:
        # Ticks come up to four times a second; what ends something is drawn at once.
        self.call_later(self._draw)

    def _tick(self) -> None:
        if self._desk.is_busy:
            self._draw()

    def _draw(self) -> None:
        job = self._desk.job
        if job is None or not self.is_attached:
            return
        width = max(40, self.query_one("#body").size.width - 3)
        self.query_one("#text", Prose).update(Content("\n").join(lines_of(job, width)))
        self.refresh_bindings()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        job = self._desk.job
        if action == "stop":
            return self._desk.is_busy and job is not None and not job.stopped
        if action in ("new", "again"):
            return not self._desk.is_busy
        if action == "copy":
            return job is not None and any(outcome.rounds for outcome in job.outcomes)
        return True

    def binding_text(self, binding: Binding) -> str:
        """What the footer says for `binding`: it goes on when this is closed."""
        if binding.action == "close" and self._desk.is_busy:
            return N_("put this away; it goes on")
        return binding.description

    def action_stop(self) -> None:
        self.run_worker(self._stop(), group="stop", exclusive=True)

    async def _stop(self) -> None:
        question = Confirm(
            _("Stop the speed test?"), _("What is measured already stays; what runs has no figure."), _("stop it")
        )
        if await self.app.push_screen_wait(question) == "yes":
            self._desk.stop()

    def action_copy(self) -> None:
        if self._desk.job is not None:
            self.app.copy_to_clipboard(as_markdown(self._desk.job.outcomes))
            self.notify(_("Copied"), markup=False)

    def action_copy_command(self) -> None:
        if self._desk.job is not None:
            self.app.copy_to_clipboard(self._desk.job.command)
            self.notify(_("The command is copied"), markup=False)

    def action_scroll(self, rows: int) -> None:
        self.query_one("#body", VerticalScroll).scroll_relative(y=rows, animate=False)

    def action_new(self) -> None:
        self.dismiss("new")

    def action_again(self) -> None:
        self.dismiss("again")

    def action_close(self) -> None:
        self.dismiss("close")


def open_throughput(qwen: QwenApp, model: str = "") -> None:
    """The speed test: what runs or was measured last, else the form of a new one. model: what the form begins with."""
    qwen.run_worker(_open(qwen, model), group="throughput", exclusive=True)


async def _open(qwen: QwenApp, model: str) -> None:
    from qwen_tui.ui.screens.throughput_form import ThroughputForm

    desk = qwen.services.throughput
    after: After = "close" if desk.job is not None and (desk.is_busy or not model) else "new"
    if after == "close":
        after = await qwen.push_screen_wait(ThroughputScreen(desk))
    while after != "close":
        try:
            engine = await asyncio.to_thread(
                qwen.services.find_engine, qwen.services.paths, qwen.services.settings.engine
            )
        except QwenTuiError as error:
            qwen.push_screen(ErrorDialog(error))
            return
        work = desk.job.work if after == "again" and desk.job is not None else None
        if work is None:
            values = {**desk.values, **({"model": model} if model else {})}
            values.setdefault("model", _first_model(qwen))
            form = ThroughputForm(values, _("with vLLM {version} of {python}").format(
                version=engine.version, python=engine.python))  # fmt: skip
            work = await qwen.push_screen_wait(form)
            desk.values = dict(form.values)
        if work is None:
            return
        try:
            url = desk.values.get("base_url", "").strip()
            server = await _server(url) if "server" in work.backends else None
            desk.start(work, engine, server, url)
        except (QwenTuiError, OSError) as error:
            qwen.report(error)
            after, model = "new", ""
            continue
        _show_in_frame(qwen, desk)
        after, model = await qwen.push_screen_wait(ThroughputScreen(desk)), ""


def _first_model(qwen: QwenApp) -> str:
    """The model that the app is about: the chosen server's, else the first one that is here."""
    if qwen.target is not None:
        return qwen.target.spec.model
    return next((str(model.path) for model in qwen.services.shelf.models if model.is_whole), "")


async def _server(url: str) -> ServerBackend:
    """The server at this URL, with the key that VLLM_API_KEY holds. Raises UsageError, ChatError."""
    import os

    from qwen_tui.bench.target import Target
    from qwen_tui.bench.throughput_backends import ServerBackend
    from qwen_tui.chat.served import served_models
    from qwen_tui.errors import ServerError
    from qwen_tui.server.endpoints import checked_url

    url = checked_url(url)
    key = os.environ.get("VLLM_API_KEY") or None
    models = await served_models(url, key)
    if not models:
        raise ServerError(_("{url} serves no model").format(url=url))
    return ServerBackend(Target(url, models[0], key, "completions"))


def _show_in_frame(qwen: QwenApp, desk: ThroughputDesk) -> None:
    """A line beside the tabs while it runs, and a word when it is over."""
    last = [""]

    def changed() -> None:
        job = desk.job
        if job is None:
            return
        if not job.is_over:
            line = job_line(job)
            if line != last[0]:
                last[0] = line
                qwen.show_job(line)
            return
        unsubscribe()
        qwen.show_job(None)
        if not job.stopped and not isinstance(qwen.screen, ThroughputScreen):
            qwen.notify(_("The speed test is over"), markup=False)

    unsubscribe = desk.subscribe(changed)
    changed()
