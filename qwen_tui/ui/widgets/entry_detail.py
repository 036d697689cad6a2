"""The right side of the Servers room: what is known of the entry under the cursor, a failure's diagnosis too."""

from __future__ import annotations

import asyncio

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from qwen_tui.i18n import _
from qwen_tui.server.endpoint_status import EndpointStatus
from qwen_tui.server.status import ServerState, ServerStatus
from qwen_tui.ui.services import Services
from qwen_tui.ui.text import plain
from qwen_tui.ui.widgets import server_detail
from qwen_tui.ui.widgets.failure_card import Found, Run, failure_card, look, run_of
from qwen_tui.ui.widgets.other_details import endpoint_card, left_over_card
from qwen_tui.ui.widgets.phase_bar import PhaseBar
from qwen_tui.ui.widgets.prose import Prose
from qwen_tui.ui.widgets.server_list import Entry


class EntryDetail(VerticalScroll, can_focus=False):
    """Draws an entry; texts that say the same are left alone."""

    DEFAULT_CSS = """
    EntryDetail PhaseBar { display: none; margin: 1 0; }
    EntryDetail.-starting PhaseBar { display: block; }
    EntryDetail Static { height: auto; }
    EntryDetail #command { margin-top: 1; }
    """

    def __init__(self, services: Services, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._services = services
        self._entry: Entry | None = None
        #: Run that failed → its diagnosis; None while its log is being read.
        self._found: dict[Run, Found | None] = {}

    def compose(self) -> ComposeResult:
        yield Prose(id="card")
        yield PhaseBar(id="phases")
        yield Prose(id="facts")
        yield Static(id="command")  # broken at spaces only: it is for copying

    def show(self, entry: Entry | None) -> None:
        """Draw this entry."""
        self._entry = entry
        if self.is_mounted:
            self._draw()

    def on_resize(self) -> None:
        self.call_after_refresh(self._draw)

    def _draw(self) -> None:
        entry = self._entry
        if isinstance(entry, ServerStatus):
            self._draw_server(entry)
        elif entry is not None:
            self.set_class(False, "-starting")
            self._set("#card", endpoint_card(entry) if isinstance(entry, EndpointStatus) else left_over_card(entry))
            self._set("#facts", Content(""))
            self._set("#command", Content(""))

    def _draw_server(self, status: ServerStatus) -> None:
        starting = status.state is ServerState.STARTING and status.next_try is None
        self.set_class(starting, "-starting")
        facts = Content("")
        if status.next_try is not None:
            card = server_detail.waiting_card(status)
        elif status.state.is_alive:
            card = server_detail.headline(status)
            width = max(30, self.query_one("#facts", Prose).size.width)
            facts = server_detail.facts(status, self._services.clock(), width)
        elif status.state is ServerState.FAILED:
            card = failure_card(status, self._found_for(status))
        else:
            card = server_detail.card(status)
        self._set("#card", card)
        self.query_one(PhaseBar).show(status.start if starting else None)
        self._set("#facts", facts)
        command = plain(server_detail.command(status))
        self._set("#command", Content.assemble((_("command"), "$foreground-muted"), "\n", command))

    def _set(self, selector: str, content: Content) -> None:
        widget = self.query_one(selector, Static)
        if not (isinstance(widget.content, Content) and widget.content.is_same(content)):
            widget.update(content)

    # Diagnosis

    @property
    def found(self) -> Found:
        """What is known of the failure that is shown; nothing for anything else."""
        entry = self._entry
        failed = isinstance(entry, ServerStatus) and entry.state is ServerState.FAILED
        return (self._found.get(run_of(entry)) if failed and isinstance(entry, ServerStatus) else None) or Found()

    def _found_for(self, status: ServerStatus) -> Found | None:
        """The diagnosis of this run; asked for once, None until it is there."""
        run = run_of(status)
        if run not in self._found:
            self._found[run] = None
            self.run_worker(self._diagnose(run, status), group="diagnose")
        return self._found[run]

    async def _diagnose(self, run: Run, status: ServerStatus) -> None:
        found = Found()
        try:
            found = await asyncio.to_thread(look, status, self._services.paths.servers)
        finally:
            self._found[run] = found
        self._draw()
        self.screen.refresh_bindings()
