"""What the Bench room does with the runs that were kept: open, mark, run again, note, export, delete."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content

from qwen_tui.bench.ledger import Ledger, Run
from qwen_tui.bench.price import HourlyPrice
from qwen_tui.bench.run import plan_again
from qwen_tui.bench.target import BenchError, Target
from qwen_tui.errors import QwenTuiError
from qwen_tui.i18n import N_, _, ngettext
from qwen_tui.paths import write_private
from qwen_tui.ui.bench_desk import BenchDesk, Order
from qwen_tui.ui.bench_places import Place, place_of, places
from qwen_tui.ui.rooms import DO
from qwen_tui.ui.screens.dialogs import Confirm
from qwen_tui.ui.screens.room import RoomScreen
from qwen_tui.ui.text import one_line
from qwen_tui.ui.widgets.bench_ledger import BenchLedger, load_words

if TYPE_CHECKING:
    from collections.abc import Awaitable


class KeptRuns(RoomScreen):
    """The part of the Bench room that is about the list."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "new", N_("new run"), id="bench.new", group=DO),
        Binding("x", "stop", N_("stop"), id="bench.stop", group=DO),
        Binding("enter", "open", N_("open"), id="bench.open", group=DO),
        Binding("space", "mark", N_("mark, to compare"), id="bench.mark", group=DO),
        Binding("r", "again", N_("run again"), id="bench.again", group=DO),
        Binding("y", "copy", N_("copy command"), id="bench.copy", group=DO),
        Binding("o", "export", N_("export"), id="bench.export", group=DO),
        Binding("e", "note", N_("tags and note"), id="bench.note", group=DO),
        Binding("slash", "find", N_("search"), id="bench.find", group=DO),
        Binding("d", "delete", N_("delete"), id="bench.delete", group=DO),
        Binding("i", "import_file", N_("import"), id="bench.import", group=DO),
    ]

    @property
    def desk(self) -> BenchDesk:
        raise NotImplementedError

    @property
    def price(self) -> HourlyPrice | None:
        raise NotImplementedError

    def draw(self) -> None:
        raise NotImplementedError

    def begin(self, order: Order) -> None:
        raise NotImplementedError

    def shown_content(self, width: int) -> Content:
        raise NotImplementedError

    @property
    def ledger(self) -> BenchLedger:
        return self.query_one(BenchLedger)

    def leave_field(self) -> None:
        self.ledger.end_search()

    # Reading

    def look_again(self) -> None:
        """Read what was kept; it is drawn when it is there."""
        self.run_worker(self._read_runs(), group="bench ledger", exclusive=True)

    async def _read_runs(self) -> None:
        runs = await asyncio.to_thread(self.desk.ledger.list)
        if self.is_attached and self.query(BenchLedger):
            self.ledger.show(runs)
            self.draw()

    async def _try(self, call: Callable[[], Any]) -> Any:
        """What a call gives, in a thread; None if it fails, which is told."""
        try:
            return await asyncio.to_thread(call)
        except QwenTuiError as error:
            self.qwen.report(error)
            return None

    def _work(self, work: Awaitable[Any]) -> None:
        self.run_worker(work, group="bench kept")

    # Keys

    def action_open(self) -> None:
        from qwen_tui.ui.screens.bench_result import ResultScreen

        if self.ledger.chosen is not None:
            is_comparison = len(self.ledger.compared) > 1
            title = _("The marked runs") if is_comparison else _("A run")
            self.app.push_screen(ResultScreen(title, self.shown_content))

    def action_mark(self) -> None:
        self.ledger.mark()
        self.draw()

    def action_find(self) -> None:
        if self.ledger.all:
            self.ledger.search()

    def _known_places(self) -> Sequence[Place]:
        return places(self.qwen.statuses, self.qwen.services.endpoints.statuses)

    def order_of(self, run: Run) -> Order:
        """The same work and load once more, with prompts of its own: those of before may be in the server's cache.

        Raises UsageError.
        """
        from qwen_tui.ui.screens.bench_fields import command_of, work_words

        place = place_of(run, self._known_places())
        target = Target(
            place.base_url, place.model, place.api_key, "completions" if run.api == "completions" else "chat"
        )
        plan = plan_again(run, target, place.about, place.tokenizer_file)
        plan = replace(plan, tags=tuple(tag for tag in plan.tags if not tag.startswith(("sweep-", "capacity-"))))
        order = Order("run", plan, by="rate" if run.load.is_open_loop else "users")
        words = [*place.words, *(["--api", run.api] if run.api != "chat" else []), *work_words(run.workload)]
        return replace(order, command=command_of(order, words))

    def action_again(self) -> None:
        run = self.ledger.chosen
        if run is None:
            return
        try:
            self.begin(self.order_of(run))
        except QwenTuiError as error:
            self.qwen.report(error)

    def action_copy(self) -> None:
        """The command of the run under the cursor; while one is under way and none is kept, of that one."""
        run, job = self.ledger.chosen, self.desk.job
        try:
            if run is not None and run.kind == "online" and run.base_url:
                command = self.order_of(run).command
            else:
                command = job.order.command if job is not None else ""
        except QwenTuiError as error:
            self.qwen.report(error)
            return
        if command:
            self.app.copy_to_clipboard(command)
            self.notify(_("Copied: {text}").format(text=one_line(command)), markup=False)

    def action_delete(self) -> None:
        run = self.ledger.chosen
        if run is None:
            return
        title = _("Delete the run {id}?").format(id=run.id)
        lost = _("Its figures and each request's record are lost: {model}, {load}.").format(
            model=one_line(run.model), load=load_words(run)
        )

        def answered(answer: str | None) -> None:
            if answer == "yes":
                self._work(self._delete(run))

        self.app.push_screen(Confirm(title, lost, _("delete it")), answered)

    async def _delete(self, run: Run) -> None:
        await self._try(lambda: self.desk.ledger.delete(run))
        self.ledger.marked = [id for id in self.ledger.marked if id != run.id]
        await self._read_runs()

    def action_note(self) -> None:
        from qwen_tui.ui.screens.bench_result import NoteForm

        run = self.ledger.chosen
        if run is None:
            return

        def filled(found: tuple[tuple[str, ...], str] | None) -> None:
            if found is not None:
                self._work(self._change(run, *found))

        self.app.push_screen(NoteForm(run), filled)

    async def _change(self, run: Run, tags: tuple[str, ...], note: str) -> None:
        kept = tuple(tag for tag in run.tags if tag.startswith(("sweep-", "capacity-")))
        await self._try(lambda: self.desk.ledger.change(run, tags=(*tags, *kept), note=note))
        await self._read_runs()

    def action_export(self) -> None:
        """Write the marked runs, or the one under the cursor, into a file."""
        from qwen_tui.ui.screens.dialogs import Answer, Choice

        runs = self.ledger.compared or [run for run in (self.ledger.chosen,) if run is not None]
        if not runs:
            return
        answers = (
            Answer(("h",), "html", _("a report to look at, with charts (HTML)")),
            Answer(("v",), "svg", _("its charts alone (SVG)")),
            Answer(("j",), "json", _("JSON with the field names of vllm bench serve")),
            Answer(("c",), "csv", _("a table for a spreadsheet (CSV)")),
            Answer(("m",), "markdown", _("a Markdown table")),
        )
        title = ngettext("Export this run as", "Export these {n} runs as", len(runs)).format(n=len(runs))

        def answered(form: str | None) -> None:
            if form is not None:
                self._work(self._export(runs, form))

        self.app.push_screen(Choice(title, ", ".join(run.id for run in runs), answers, default="html"), answered)

    async def _export(self, runs: Sequence[Run], form: str) -> None:
        price, folder = self.price, self.qwen.services.paths.data / "exports"
        file = await self._try(lambda: _write(runs, self.desk.ledger, form, price, folder))
        if file is not None:
            self.notify(_("Written to {file}").format(file=one_line(str(file))), timeout=12, markup=False)

    def action_import_file(self) -> None:
        from qwen_tui.ui.screens.bench_result import ImportForm

        def chosen(file: Path | None) -> None:
            if file is not None:
                self._work(self._import(file))

        self.app.push_screen(ImportForm(), chosen)

    async def _import(self, file: Path) -> None:
        from qwen_tui.bench.imported import import_file

        found = await self._try(lambda: import_file(file, self.desk.ledger))
        if found is None:
            return
        count = len(found.runs)
        text = ngettext("{n} result is imported", "{n} results are imported", count).format(n=count)
        if found.known:
            text += _(", {n} were here already").format(n=found.known)
        self.notify(text, markup=False)
        await self._read_runs()


def _write(runs: Sequence[Run], ledger: Ledger, form: str, price: HourlyPrice | None, folder: Path) -> Path:
    """The runs in a file of their own. Raises BenchError."""
    from qwen_tui.bench.export import exported

    name = runs[0].id if len(runs) == 1 else f"{runs[0].id}-and-{len(runs) - 1}"
    file = folder / f"bench-{name}.{ {'markdown': 'md'}.get(form, form) }"
    text = exported(runs, ledger, form, price=price)
    try:
        write_private(file, text)
    except OSError as error:
        raise BenchError(_("Can't write {file}").format(file=file), error.strerror or str(error)) from None
    return file
