"""The Servers room: servers, endpoints and what was left over; the chosen one's start, numbers or failure."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical

from qwen_tui.errors import QwenTuiError
from qwen_tui.i18n import N_, _
from qwen_tui.server.endpoint_status import EndpointStatus
from qwen_tui.server.spec import ServerSpec
from qwen_tui.server.status import ServerState, ServerStatus
from qwen_tui.ui.rooms import DO, MOVE
from qwen_tui.ui.screens.room import RoomScreen
from qwen_tui.ui.text import one_line
from qwen_tui.ui.widgets import server_detail
from qwen_tui.ui.widgets.entry_detail import EntryDetail
from qwen_tui.ui.widgets.failure_card import Found
from qwen_tui.ui.widgets.other_details import empty_text
from qwen_tui.ui.widgets.prose import Prose
from qwen_tui.ui.widgets.server_list import Entry, ServerList

if TYPE_CHECKING:
    from qwen_tui.server.profiles import Profile


class ServersScreen(RoomScreen):
    """Start, look at and stop servers."""

    ROOM = "servers"
    CSS_PATH = "servers.tcss"
    AUTO_FOCUS = "ServerList"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "new", N_("new"), id="servers.new", group=DO),
        Binding("enter", "main", N_("start, or chat"), id="servers.main", group=DO),
        Binding("1", "mend", N_("start it mended"), id="servers.mend", group=DO),
        Binding("v", "view_line", N_("see the line"), id="servers.view_line", group=DO),
        Binding("x", "stop", N_("stop"), id="servers.stop", group=DO),
        Binding("e", "edit", N_("edit"), id="servers.edit", group=DO),
        Binding("y", "copy_command", N_("copy command"), id="servers.copy_command", group=DO),
        Binding("Y", "copy_ssh", N_("copy the ssh line"), id="servers.copy_ssh", group=DO, show=False),
        Binding("K", "copy_key", N_("copy the API key"), id="servers.copy_key", group=DO, show=False),
        Binding("d", "delete", N_("delete"), id="servers.delete", group=DO),
        Binding(
            "pagedown", "scroll_detail(1)", N_("scroll the details"), id="servers.page_down", show=False, group=MOVE
        ),
        Binding("pageup", "scroll_detail(-1)", N_("scroll them back"), id="servers.page_up", show=False, group=MOVE),
        Binding("o", "profiles", N_("profiles"), id="servers.profiles", group=DO),
        Binding("E", "endpoint", N_("add endpoint"), id="servers.endpoint", group=DO),
        Binding("a", "again", N_("what worked last"), id="servers.again", group=DO),
        Binding("r", "refresh", N_("refresh"), id="servers.refresh", group=DO),
    ]

    def compose_room(self) -> ComposeResult:
        self.set_class(not self._entries(), "-empty", update=False)
        with Vertical(id="list-pane"):
            yield ServerList(id="servers")
        yield EntryDetail(self.qwen.services, id="detail")
        yield Prose(id="empty")

    def on_mount(self) -> None:
        self.set_interval(1.0, self._tick)
        self.call_after_refresh(self._look_around)

    def leave_field(self) -> None:
        self.query_one(ServerList).focus()  # its keys go on working

    # Looking

    def _entries(self) -> list[Entry]:
        """What the list has: servers, endpoints, and what was left over."""
        services = self.qwen.services
        return [*self.qwen.statuses, *services.endpoints.statuses, *services.leftovers.orphans]

    def _look_around(self) -> None:
        """See to the endpoints and the left-over processes, where it is time to."""
        if self.qwen.services.endpoints.is_due:
            self.run_worker(self._ask_endpoints(), group="endpoints")
        if self.qwen.services.leftovers.is_due:
            self.run_worker(self._find_left_over(), group="left over")

    async def _ask_endpoints(self) -> None:
        endpoints = self.qwen.services.endpoints
        problem = endpoints.problem
        await endpoints.read()
        self.qwen.aim()  # they can be seen before the last of them has answered
        if endpoints.problem is not None and str(endpoints.problem) != str(problem):
            self.qwen.report(endpoints.problem)
        await endpoints.ask()
        self.qwen.aim()

    async def _find_left_over(self) -> None:
        if await self.qwen.services.leftovers.look(self.qwen.gpus):
            self.qwen.aim()

    # Drawing

    @property
    def entry(self) -> Entry | None:
        """What is under the cursor."""
        return self.query_one(ServerList).chosen

    @property
    def chosen(self) -> ServerStatus | None:
        """The server under the cursor; None where it is on something else."""
        entry = self.entry
        return entry if isinstance(entry, ServerStatus) else None

    def select(self, name: str) -> None:
        """Put the cursor on the server `name`."""
        self.query_one(ServerList).select(("server", name))

    def servers_changed(self, statuses: Sequence[ServerStatus]) -> None:
        entries = self._entries()
        self.set_class(not entries, "-empty")
        target = self.qwen.target
        begin_at = ("server", target.name) if target else None
        self.query_one(ServerList).show(entries, self.qwen.services.clock(), begin_at)
        if not entries:
            self.query_one("#empty", Prose).update(empty_text())
        self._draw_detail()
        self.refresh_bindings()

    def on_server_list_chosen(self, event: ServerList.Chosen) -> None:
        if isinstance(event.entry, EndpointStatus):
            self.qwen.choose(event.entry.name, "endpoint")
        elif event.entry is None or isinstance(event.entry, ServerStatus):
            self.qwen.choose(event.entry.name if event.entry else None)
        self._draw_detail()
        self.refresh_bindings()

    def _tick(self) -> None:
        """Let the uptimes grow; what says the same is not drawn again."""
        if self.is_current and self.qwen.looked:
            self.query_one(ServerList).show(self._entries(), self.qwen.services.clock())
            self._draw_detail()
            self._look_around()

    def _draw_detail(self) -> None:
        self.query_one(EntryDetail).show(self.entry)

    @property
    def _found(self) -> Found:
        """What is known of the failure under the cursor."""
        return self.query_one(EntryDetail).found

    def binding_text(self, binding: Binding) -> str:
        entry = self.entry if self.is_mounted else None
        if binding.action in ("new", "refresh", "profiles", "endpoint"):
            return binding.description
        if isinstance(entry, EndpointStatus):
            words = {"main": N_("chat"), "edit": N_("edit"), "delete": N_("remove"), "copy_command": N_("copy URL")}
            return words.get(binding.action, "")
        if entry is not None and not isinstance(entry, ServerStatus):
            return N_("end it") if binding.action == "stop" and entry.is_this_users else ""
        return self._text_for_server(binding, entry) if entry is not None else ""

    def _text_for_server(self, binding: Binding, status: ServerStatus) -> str:
        alive = status.state.is_alive
        if binding.action == "main":
            if status.state is ServerState.READY:
                return N_("chat")
            return N_("log") if alive else N_("start")
        found = self._found
        if (binding.action == "mend" and found.mended is None) or (
            binding.action == "view_line" and not (found.diagnosis and found.diagnosis.line_number)
        ):
            return ""
        if (binding.action == "stop" and not alive) or (binding.action == "delete" and alive):
            return ""
        return binding.description

    # Doing

    async def action_main(self) -> None:
        entry, status = self.entry, self.chosen
        if entry is None:
            self.action_new()
        elif isinstance(entry, EndpointStatus):
            self.qwen.action_room("chat")
        elif status is not None and not status.state.is_alive:
            self.run_worker(self._start_again(status), group="start", exclusive=True)
        elif status is not None:
            self.qwen.action_room("chat" if status.state is ServerState.READY else "logs")

    async def _start_again(self, status: ServerStatus) -> None:
        await self._start(status.spec, await self._engine_of(status))

    async def _engine_of(self, status: ServerStatus) -> str:
        """The engine that it ran with; empty, and a word about it, where that is gone."""
        python = status.engine_python
        if not python or await asyncio.to_thread(Path(python).exists):
            return python
        text = _("The engine that {name} ran with is gone: {python}. It is started with the one of the settings.")
        self.qwen.warn(text.format(name=one_line(status.name), python=one_line(python)))
        return ""

    async def _start(self, spec: ServerSpec, engine_setting: str = "", *, ask_about_warnings: bool = True) -> None:
        """Start `spec` with its plan before it; the plan may end in the form."""
        from qwen_tui.ui.screens.starting import plan_and_start

        try:
            outcome = await plan_and_start(
                self.qwen, spec, engine_setting=engine_setting, ask_about_warnings=ask_about_warnings
            )
        except QwenTuiError as error:
            from qwen_tui.ui.screens.dialogs import ErrorDialog

            self.app.push_screen(ErrorDialog(error))
            await self.qwen.refresh_servers()
            return
        if outcome.edit:
            known = (status for status in self.qwen.statuses if status.name == outcome.spec.name)
            self._open_form(next(known, None), spec=outcome.spec)
        await self._started(outcome.name)

    def action_mend(self) -> None:
        mended, status = self._found.mended, self.chosen
        if mended is None or status is None:
            self.notify(_("There is no correction to start it with"), markup=False)
            return
        self.run_worker(self._mend(status, mended), group="start", exclusive=True)

    async def _mend(self, status: ServerStatus, mended: ServerSpec) -> None:
        await self._start(mended, await self._engine_of(status), ask_about_warnings=False)

    async def action_view_line(self) -> None:
        from qwen_tui.ui.widgets.log_view import LogView

        status, diagnosis = self.chosen, self._found.diagnosis
        if status is None or diagnosis is None or not diagnosis.line_number:
            self.notify(_("No line of its log says why"), markup=False)
            return
        self.qwen.choose(status.name)
        await self.qwen.switch_mode("logs")
        room = self.qwen.room
        if room is not None:
            view = room.query_one(LogView)
            view.show(status.log)
            view.jump_to_line(diagnosis.line_number)

    def action_again(self) -> None:
        self.run_worker(self._again(), group="start", exclusive=True)

    async def _again(self) -> None:
        """Start what answered last, or go to it if it runs."""
        from qwen_tui.server.registry import last_working

        found = await asyncio.to_thread(last_working, self.qwen.services.paths.servers)
        if found is None:
            self.notify(_("No server has been ready yet"), markup=False)
            return
        spec, python = found
        if any(status.name == spec.name and status.state.is_alive for status in self.qwen.statuses):
            self.select(spec.name)
            self.notify(_("“{name}” runs already").format(name=spec.name), markup=False)
            return
        await self._start(spec, python if await asyncio.to_thread(Path(python).exists) else "")

    def action_new(self) -> None:
        self._open_form()

    def action_edit(self) -> None:
        if isinstance(self.entry, EndpointStatus):
            self._open_endpoint(self.entry)
        elif self.chosen is not None:
            self._open_form(self.chosen)

    def action_endpoint(self) -> None:
        self._open_endpoint(None)

    def _open_endpoint(self, edit: EndpointStatus | None) -> None:
        from qwen_tui.ui.screens.endpoint_form import EndpointForm

        def kept(name: str | None) -> None:
            if name is not None:
                self.query_one(ServerList).select(("endpoint", name))
                self.run_worker(self._ask_endpoints(), group="endpoints")

        self.app.push_screen(EndpointForm(edit.endpoint if edit else None), kept)

    def _open_form(
        self, edit: ServerStatus | None = None, *, spec: ServerSpec | None = None, profile: Profile | None = None
    ) -> None:
        from qwen_tui.ui.screens.server_form import ServerForm

        self.app.push_screen(ServerForm(edit, spec=spec, profile=profile), self._started)

    def action_profiles(self) -> None:
        from qwen_tui.ui.screens.profiles import ProfilesScreen

        def picked(profile: Profile | None) -> None:
            if profile is not None:
                self._open_form(profile=profile)

        self.app.push_screen(ProfilesScreen(), picked)

    async def _started(self, name: str | None) -> None:
        if name is not None:
            self.qwen.choose(name)
            await self.qwen.refresh_servers()
            self.select(name)

    def action_stop(self) -> None:
        from qwen_tui.ui.screens.stopping import ask_and_stop

        if self.entry is not None and not isinstance(self.entry, (ServerStatus, EndpointStatus)):
            from qwen_tui.ui.screens.servers_others import end_left_over

            self.run_worker(end_left_over(self.qwen, self.entry), group="stop", exclusive=True)
            return
        if isinstance(self.entry, EndpointStatus):
            self.notify(_("qwen-tui did not start it, and can't stop it"), markup=False)
            return
        if self.chosen is None or not self.chosen.state.is_alive:
            self.notify(_("It does not run"), markup=False)
            return
        self.run_worker(ask_and_stop(self.qwen, self.chosen), group="stop", exclusive=True)

    def action_delete(self) -> None:
        status = self.chosen
        if isinstance(self.entry, EndpointStatus):
            from qwen_tui.ui.screens.servers_others import remove_endpoint

            self.run_worker(remove_endpoint(self.qwen, self.entry), group="delete", exclusive=True)
        if status is None:
            return
        if status.state.is_alive:
            self.notify(_("It runs: stop it first (x)"), severity="warning", markup=False)
            return
        self.run_worker(self._delete(status), group="delete", exclusive=True)

    async def _delete(self, status: ServerStatus) -> None:
        from qwen_tui.ui.screens.dialogs import Confirm, ErrorDialog

        question = Confirm(
            _("Delete {name}?").format(name=status.name),
            _("Lost are its settings and its logs in\n{folder}").format(folder=status.log.parent),
            _("delete them"),
        )
        if await self.app.push_screen_wait(question) != "yes":
            return
        try:
            await asyncio.to_thread(self.qwen.services.servers.forget, status.name)
        except QwenTuiError as error:
            self.app.push_screen(ErrorDialog(error))
        await self.qwen.refresh_servers()

    def action_copy_command(self) -> None:
        if isinstance(self.entry, EndpointStatus):
            self.app.copy_to_clipboard(self.entry.endpoint.base_url)
            self.notify(_("The URL is copied"), markup=False)
        elif self.chosen is not None:
            self.app.copy_to_clipboard(server_detail.command(self.chosen))
            self.notify(_("The command is copied"), markup=False)

    def action_copy_ssh(self) -> None:
        from qwen_tui.server.reach import ssh_line

        if self.chosen is not None:
            self.app.copy_to_clipboard(ssh_line(self.chosen.spec))
            self.notify(_("The ssh line is copied: run it on your own machine"), markup=False)

    def action_copy_key(self) -> None:
        key = self.chosen.api_key if self.chosen is not None else None
        if key:
            self.app.copy_to_clipboard(key)
        self.notify(_("The API key is copied") if key else _("It needs no API key"), markup=False)

    def action_scroll_detail(self, pages: int) -> None:
        detail = self.query_one(EntryDetail)
        detail.scroll_relative(y=pages * max(1, detail.size.height - 2), animate=False)

    async def action_refresh(self) -> None:
        self.run_worker(self._ask_endpoints(), group="endpoints", exclusive=True)
        self.run_worker(self._find_left_over(), group="left over", exclusive=True)
        await self.qwen.refresh_servers()
