"""The downloads: a queue, with what each has done, how fast, and what holds it up."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content

from qwen_tui.errors import QwenTuiError
from qwen_tui.i18n import N_, _, ngettext
from qwen_tui.models.download_queue import Downloads
from qwen_tui.models.download_state import DownloadState, DownloadStatus, FileProgress, QueueOptions
from qwen_tui.progress import format_bytes
from qwen_tui.ui.rooms import COMING
from qwen_tui.ui.text import one_line
from qwen_tui.ui.widgets.download_detail import download_lines, summary_line
from qwen_tui.ui.widgets.model_part import Part
from qwen_tui.ui.widgets.model_rows import DOWNLOAD_LOOK, download_row

_MOST_CONNECTIONS, _MOST_JOBS = 16, 8


class ComingPart(Part):
    """What is coming."""

    TITLE = N_("Coming")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "main", N_("pause"), id="downloads.main", group=COMING),
        Binding("d", "delete", N_("cancel"), id="downloads.delete", group=COMING),
        Binding("K,shift+up", "move(-1)", N_("earlier"), id="downloads.earlier", group=COMING),
        Binding("J,shift+down", "move(1)", N_("later"), id="downloads.later", group=COMING),
        Binding("plus,equals_sign", "connections(1)", N_("more at once"), id="downloads.more", group=COMING),
        Binding("minus", "connections(-1)", N_("fewer at once"), id="downloads.fewer", show=False, group=COMING),
        Binding(
            "right_square_bracket",
            "jobs(1)",
            N_("more downloads at once"),
            id="downloads.more_jobs",
            show=False,
            group=COMING,
        ),
        Binding(
            "left_square_bracket",
            "jobs(-1)",
            N_("fewer downloads at once"),
            id="downloads.fewer_jobs",
            show=False,
            group=COMING,
        ),
        Binding("x", "pause", N_("pause"), id="downloads.pause", show=False, group=COMING),
        Binding("r", "resume", N_("resume"), id="downloads.resume", show=False, group=COMING),
        Binding("y", "copy", N_("copy id"), id="downloads.copy", show=False, group=COMING),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.states: Sequence[DownloadState] = ()
        self._files: tuple[str, Sequence[FileProgress]] = ("", ())
        self._options = QueueOptions()
        self._reading = False

    @property
    def downloads(self) -> Downloads:
        return self.qwen.services.downloads

    @property
    def chosen(self) -> DownloadState | None:
        """The download under the cursor."""
        key = self.listing.key if self.is_mounted else None
        return next((state for state in self.states if state.id == key), None)

    # Looking

    @property
    def is_alive(self) -> bool:
        """Whether something is being downloaded."""
        return any(state.status.is_alive for state in self.states)

    @property
    def folders(self) -> frozenset[Path]:
        """Where something arrives."""
        return frozenset(state.folder for state in self.states if state.status.is_alive and state.folder is not None)

    async def read(self) -> None:
        """Read how far everything is, and draw what changed."""
        if self._reading:
            return
        self._reading = True
        try:
            chosen = self.listing.key
            self.states, self._options, self._files = await asyncio.to_thread(self._read, chosen)
        except (QwenTuiError, OSError):
            return  # gone between two looks
        finally:
            self._reading = False
        if self.is_mounted:
            self.draw()

    def _read(self, chosen: str | None) -> tuple[Sequence[DownloadState], QueueOptions, tuple[str, Any]]:
        states = self.downloads.list()
        chosen = chosen if any(state.id == chosen for state in states) else states[0].id if states else None
        files = self.downloads.files(chosen) if chosen else ()
        return states, self.downloads.options, (chosen or "", files)

    def draw(self) -> None:
        """Show the downloads as last read."""
        self.listing.show([state.id for state in self.states], self._rows)
        self.changed()

    def _rows(self, width: int) -> list[Content]:
        return [download_row(state, width) for state in self.states]

    def summary(self) -> str:
        if self.is_alive:
            return summary_line(self.states).removeprefix("↓ ")
        if not self.states:
            return _("nothing; n downloads a model")
        counts = Counter(state.status for state in self.states)
        return " · ".join(f"{count} {_(DOWNLOAD_LOOK[status][2])}" for status, count in counts.items())

    def detail(self, width: int, height: int) -> Content:
        state = self.chosen
        if state is None:
            return Content.assemble(
                (_("Nothing is being downloaded."), "bold"), "\n\n", ("n", "bold $text-accent"), "  ",
                _("download a model by its id; it goes on when qwen-tui is closed"),
            )  # fmt: skip
        files = self._files[1] if self._files[0] == state.id else ()
        return download_lines(state, files, self._options, width, height)

    def binding_text(self, binding: Binding) -> str:
        state = self.chosen
        if state is None:
            return ""
        if binding.action == "main":
            if state.status.is_alive:
                return N_("pause")
            if state.status is DownloadStatus.DONE:
                return N_("serve")
            return N_("resume") if state.status.is_resumable else N_("start again")
        if binding.action == "delete":
            return N_("take it off the list") if state.status.is_over else N_("cancel")
        if binding.action.startswith("move") and len(self.states) < 2:
            return ""
        if binding.action.startswith("connections") and not self.is_alive:
            return ""
        return binding.description

    # Keys

    def action_main(self) -> None:
        state = self.chosen
        if state is None:
            return
        if state.status.is_alive:
            self._do(self.downloads.pause(state.id))
        elif state.status is DownloadStatus.DONE:
            from qwen_tui.ui.screens.models_work import serve_download

            self.run_worker(serve_download(self, state), group="serve", exclusive=True)
        elif state.status.is_resumable:
            self._do(self.downloads.resume(state.id))
        else:
            self._do(self.downloads.start(state.request))

    def action_pause(self) -> None:
        state = self.chosen
        if state is not None and state.status.is_alive:
            self._do(self.downloads.pause(state.id))

    def action_resume(self) -> None:
        state = self.chosen
        if state is not None and state.status.is_resumable:
            self._do(self.downloads.resume(state.id))

    def action_move(self, by: int) -> None:
        state = self.chosen
        if state is not None:
            self._do(asyncio.to_thread(self.downloads.move, state.id, by))

    def action_connections(self, by: int) -> None:
        count = min(_MOST_CONNECTIONS, max(1, self._options.connections + by))
        options = self._options = dataclasses.replace(self._options, connections=count)
        self._do(asyncio.to_thread(self.downloads.set_options, options))
        if self.is_alive:
            self.notify(_("Holds for what starts or resumes from now on"), markup=False)

    def action_jobs(self, by: int) -> None:
        count = min(_MOST_JOBS, max(1, self._options.jobs + by))
        options = self._options = dataclasses.replace(self._options, jobs=count)
        self._do(asyncio.to_thread(self.downloads.set_options, options))
        text = ngettext("{count} download at once", "{count} downloads at once", count)
        self.notify(text.format(count=count), markup=False)

    def action_copy(self) -> None:
        state = self.chosen
        if state is not None:
            self.app.copy_to_clipboard(state.model)
            self.notify(_("The id is copied"), markup=False)

    def action_delete(self) -> None:
        state = self.chosen
        if state is not None and state.status.is_over:
            self._do(self.downloads.remove(state.id))
        elif state is not None:
            self.run_worker(self._cancel(state), group=f"cancel {state.id}", exclusive=True)

    async def _cancel(self, state: DownloadState) -> None:
        from qwen_tui.ui.screens.dialogs import Answer, Choice

        text = _("Lost are the files that are not whole yet.")
        if state.done:
            text += "\n" + _("{size} are here.").format(size=format_bytes(state.done))
        question = Choice(
            _("Cancel the download of {model}?").format(model=one_line(state.model)),
            text,
            (
                Answer(("y",), "unfinished", _("stop it for good; whole files stay")),
                Answer(("a",), "all", _("stop it for good, and delete all that it fetched")),
            ),
        )
        answer = await self.app.push_screen_wait(question)
        if answer is None:
            return

        async def work() -> None:
            freed = await self.downloads.cancel(state.id, delete_files=answer == "all")
            await self.downloads.remove(state.id)
            self.notify(_("Cancelled; {size} freed").format(size=format_bytes(freed)), markup=False)

        await self._done(work())

    def _do(self, work: Coroutine[Any, Any, Any]) -> None:
        self.run_worker(self._done(work), group="downloads")

    async def _done(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do it, say what went wrong, and look."""
        try:
            await work
        except QwenTuiError as error:
            self.qwen.report(error)
        await self.read()
