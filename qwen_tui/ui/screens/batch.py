"""The Batch room: prompts in, completions out; what runs, what ran, and its results."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content

from qwen_tui.batch.export import export
from qwen_tui.batch.jobs import Batches
from qwen_tui.batch.results import ResultRow
from qwen_tui.batch.state import BatchState, BatchStatus
from qwen_tui.errors import QwenTuiError
from qwen_tui.i18n import N_, _
from qwen_tui.progress import format_seconds
from qwen_tui.server.phases import PhaseReader
from qwen_tui.server.status import PHASE_WORDS
from qwen_tui.ui.rooms import DO, MOVE
from qwen_tui.ui.screens.dialogs import Answer, Choice, Confirm, Dialog, ErrorDialog
from qwen_tui.ui.screens.room import RoomScreen
from qwen_tui.ui.text import one_line
from qwen_tui.ui.widgets.batch_detail import batch_lines, batch_row
from qwen_tui.ui.widgets.batch_results import BatchResults
from qwen_tui.ui.widgets.keyed_list import KeyedList
from qwen_tui.ui.widgets.prose import Prose

#: Seconds between two looks: while one runs, and while none does.
_BUSY, _IDLE = 0.5, 2.0


class BatchScreen(RoomScreen):
    """Left the batches, right the chosen one and its results."""

    ROOM = "batch"
    CSS_PATH = "batch.tcss"
    AUTO_FOCUS = "#batches"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "new", N_("new batch"), id="batch.new", group=DO),
        Binding("x", "cancel", N_("cancel"), id="batch.cancel", group=DO),
        Binding("r", "again", N_("go on"), id="batch.again", group=DO),
        Binding("e", "edit", N_("edit"), id="batch.edit", show=False, group=DO),
        Binding("slash", "filter", N_("filter"), key_display="/", id="batch.filter", group=DO),
        Binding("o", "export", N_("export"), id="batch.export", group=DO),
        Binding("y", "copy", N_("copy the output's path"), id="batch.copy", show=False, group=DO),
        Binding("d", "forget", N_("forget"), id="batch.forget", show=False, group=DO),
        Binding("B", "speed_test", N_("vLLM against transformers"), id="batch.speed_test", show=False, group=DO),
        Binding("right,left", "other_side", N_("list or results"), id="batch.side", show=False, group=MOVE),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._states: list[BatchState] = []
        self._phases: dict[str, PhaseReader] = {}
        self._is_looking = False

    def compose_room(self) -> ComposeResult:
        yield KeyedList(id="batches")
        with Vertical(id="right"):
            with VerticalScroll(id="about", can_focus=False):
                yield Prose(id="words")
            yield BatchResults(id="results")

    def on_mount(self) -> None:
        self._tick()

    @property
    def batches(self) -> Batches:
        return self.qwen.services.batches

    @property
    def listing(self) -> KeyedList:
        return self.query_one("#batches", KeyedList)

    @property
    def results(self) -> BatchResults:
        return self.query_one(BatchResults)

    @property
    def chosen(self) -> BatchState | None:
        """The batch under the cursor."""
        key = self.listing.key if self.is_mounted else None
        return next((state for state in self._states if state.id == key), None)

    # Looking

    def _tick(self) -> None:
        is_shown = self.qwen.room is self
        if is_shown:
            self.run_worker(self.look(), group="tick")
        is_busy = any(state.status.is_alive for state in self._states)
        self.set_timer(_BUSY if is_shown and is_busy else _IDLE, self._tick)

    def on_screen_resume(self) -> None:
        if self.is_mounted:
            self.run_worker(self.look(), group="tick")

    async def look(self) -> None:
        """Read how far every batch is, and draw what changed."""
        if self._is_looking:
            return
        self._is_looking = True
        try:
            self._states = await asyncio.to_thread(self._read)
        except (QwenTuiError, OSError):
            return  # gone between two looks
        finally:
            self._is_looking = False
        if self.is_mounted:
            self.listing.show([state.id for state in self._states], self._rows)
            await self._draw()

    def _read(self) -> list[BatchState]:
        states = [self.batches.explained(state) for state in self.batches.list()]
        for state in states:
            if state.status is BatchStatus.STARTING and not state.order.get("server"):
                self._phases.setdefault(state.id, PhaseReader(state.log)).update()
        return states

    def _rows(self, width: int) -> list[Content]:
        return [batch_row(state, width) for state in self._states]

    async def _draw(self) -> None:
        state = self.chosen
        self.set_class(state is None, "-empty")
        words = self.query_one("#words", Prose)
        if state is None:
            text = _("No batch yet.\n\nn answers a file of prompts, or some that you type, without a server.")
            content = Content(text)
        else:
            content = batch_lines(state, self._phase(state), max(30, words.size.width))
        if not (isinstance(words.content, Content) and words.content.is_same(content)):
            words.update(content)
        self.refresh_bindings()
        await self.results.show(state.output if state is not None else None)

    def _phase(self, state: BatchState) -> str:
        reader = self._phases.get(state.id) if state.status is BatchStatus.STARTING else None
        if reader is None:
            return ""
        counted = f" {reader.done}/{reader.total}" if reader.total else ""
        return _(PHASE_WORDS[reader.phase]) + counted

    def on_keyed_list_moved(self, event: KeyedList.Moved) -> None:
        event.stop()
        self.run_worker(self._draw(), group="draw", exclusive=True)

    def retranslate(self) -> None:
        self.listing.show([state.id for state in self._states], self._rows)
        self.run_worker(self._draw(), group="draw", exclusive=True)

    def leave_field(self) -> None:
        self.results.leave_filter()
        self.run_worker(self._draw(), group="draw", exclusive=True)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        state = self.chosen
        if action in ("cancel", "again", "export", "filter", "copy", "forget", "edit", "other_side"):
            if state is None:
                return False
            if action == "cancel":
                return state.status.is_alive
            if action in ("again", "forget", "edit"):
                return not state.status.is_alive and (action != "again" or state.status is not BatchStatus.DONE)
        return True

    # Keys

    def action_new(self) -> None:
        """The form, with the last batch's model in it."""
        self._ask(self._states[0] if self._states else None, as_it_was=False)

    def action_edit(self) -> None:
        """The form, as it was for the chosen batch."""
        self._ask(self.chosen, as_it_was=True)

    def _ask(self, first: BatchState | None, *, as_it_was: bool) -> None:
        from qwen_tui.ui.screens.batch_form import BatchForm

        def started(id: str | None) -> None:
            if id is not None:
                self.listing.select(id)
                self.run_worker(self.look(), group="tick")

        self.app.push_screen(BatchForm(first, as_it_was=as_it_was), started)

    def action_speed_test(self) -> None:
        from qwen_tui.ui.screens.throughput import open_throughput

        open_throughput(self.qwen)

    def action_cancel(self) -> None:
        state = self.chosen
        if state is not None:
            self._do(self.batches.cancel(state.id))

    def action_again(self) -> None:
        state = self.chosen
        if state is not None:
            self._do(self._again(state))

    async def _again(self, state: BatchState) -> None:
        new = await self.batches.again(state.id)
        self.listing.select(new.id)

    def action_forget(self) -> None:
        state = self.chosen
        if state is None:
            return

        def answered(answer: str | None) -> None:
            if answer == "yes":
                self._do(asyncio.to_thread(self.batches.remove, state.id))

        words = _("Its log and its record are deleted; {file} stays.").format(file=one_line(str(state.output)))
        self.app.push_screen(Confirm(_("Forget this batch?"), words, _("forget it")), answered)

    def action_filter(self) -> None:
        self.results.ask_filter()

    def action_other_side(self) -> None:
        in_list = self.focused is self.listing
        (self.results.listing if in_list else self.listing).focus()

    def action_copy(self) -> None:
        state = self.chosen
        if state is not None:
            self.app.copy_to_clipboard(str(state.output))
            self.notify(_("Copied"), markup=False)

    def action_export(self) -> None:
        state = self.chosen
        if state is None:
            return
        answers = (
            Answer(("c",), "csv", "CSV"),
            Answer(("m",), "markdown", "Markdown"),
            Answer(("t",), "text", _("lines: Prompt, Generated text")),
        )

        def chosen(how: str | None) -> None:
            if how is not None:
                self._do(self._export(state, how))

        self.app.push_screen(Choice(_("Export the results as"), "", answers), chosen)

    async def _export(self, state: BatchState, how: str) -> None:
        try:
            path = await asyncio.to_thread(export, state.output, how)
        except (OSError, ValueError, KeyError) as error:
            raise QwenTuiError(_("The results could not be exported"), str(error)) from None
        self.notify(_("Written: {path}").format(path=one_line(str(path))), markup=False)

    def _do(self, work: Coroutine[Any, Any, Any]) -> None:
        self.run_worker(self._done(work))

    async def _done(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do it, tell what went wrong, and look again."""
        try:
            await work
        except QwenTuiError as error:
            self.app.push_screen(ErrorDialog(error))
        await self.look()

    def on_batch_results_opened(self, event: BatchResults.Opened) -> None:
        event.stop()
        row = event.row

        def answered(answer: str | None) -> None:
            if answer == "copy":
                self.app.copy_to_clipboard(row.text)
                self.notify(_("Copied"), markup=False)

        self.app.push_screen(ResultDialog(row), answered)


class ResultDialog(Dialog):
    """One result, whole."""

    CLOSING_KEYS = ("escape", "enter", "q")

    def __init__(self, row: ResultRow) -> None:
        super().__init__(_result_title(row), _result_text(row), (Answer(("y",), "copy", _("copy the text")),))

    def cancel_text(self) -> str:
        return _("close")


def _result_title(row: ResultRow) -> str:
    parts = [row.id, row.finish_reason, _("{n} tokens").format(n=f"{row.output_tokens:,}")]
    if row.seconds is not None:
        parts.append(f"{row.seconds:.2f} s" if row.seconds < 60 else format_seconds(row.seconds))
    return one_line(" · ".join(part for part in parts if part))


def _result_text(row: ResultRow) -> str:
    """As the results are printed: the prompt, and what was generated."""
    asked = "{label}\n{text}\n\n".format(label=_("Prompt"), text=row.prompt) if row.prompt else ""
    return "{asked}{label}\n{text}".format(asked=asked, label=_("Generated text"), text=row.text)
