"""The Servers room: the list, and the chosen server's start, numbers or failure."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from qwen_tui.errors import QwenTuiError
from qwen_tui.i18n import N_, _
from qwen_tui.server.spec import ServerSpec
from qwen_tui.server.status import ServerState, ServerStatus
from qwen_tui.ui.rooms import DO, MOVE
from qwen_tui.ui.screens.room import RoomScreen
from qwen_tui.ui.text import plain
from qwen_tui.ui.widgets import server_detail
from qwen_tui.ui.widgets.failure_card import Found, Run, failure_card, look, run_of
from qwen_tui.ui.widgets.phase_bar import PhaseBar
from qwen_tui.ui.widgets.server_list import ServerList

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
        Binding("d", "delete", N_("delete"), id="servers.delete", group=DO),
        Binding(
            "pagedown", "scroll_detail(1)", N_("scroll the details"), id="servers.page_down", show=False, group=MOVE
        ),
        Binding("pageup", "scroll_detail(-1)", N_("scroll them back"), id="servers.page_up", show=False, group=MOVE),
        Binding("o", "profiles", N_("profiles"), id="servers.profiles", group=DO),
        Binding("a", "again", N_("what worked last"), id="servers.again", group=DO),
        Binding("r", "refresh", N_("refresh"), id="servers.refresh", group=DO),
    ]

    def compose_room(self) -> ComposeResult:
        self.set_class(not self.qwen.statuses, "-empty", update=False)
        with Vertical(id="list-pane"):
            yield ServerList(id="servers")
        with VerticalScroll(id="detail", can_focus=False):
            yield Static(id="card")
            yield PhaseBar(id="phases")
            yield Static(id="facts")
            yield Static(id="command")
        yield Static(id="empty")

    def __init__(self) -> None:
        super().__init__()
        #: Run that failed → its diagnosis; None while its log is being read.
        self._found: dict[Run, Found | None] = {}

    def on_mount(self) -> None:
        self.set_interval(1.0, self._tick)

    # Drawing

    @property
    def chosen(self) -> ServerStatus | None:
        """The server under the cursor."""
        return self.query_one(ServerList).chosen

    def select(self, name: str) -> None:
        """Put the cursor on the server `name`."""
        self.query_one(ServerList).select(name)

    def servers_changed(self, statuses: Sequence[ServerStatus]) -> None:
        self.set_class(not statuses, "-empty")
        servers = self.query_one(ServerList)
        target = self.qwen.target
        servers.show(statuses, self.qwen.services.clock(), target.name if target else "")
        if not statuses:
            self._set("#empty", _empty_text())
        self._draw_detail()
        self.refresh_bindings()

    def on_server_list_chosen(self, event: ServerList.Chosen) -> None:
        self.qwen.choose(event.name)
        self._draw_detail()
        self.refresh_bindings()

    def _tick(self) -> None:
        """Let the uptimes grow; what says the same is not drawn again."""
        if self.is_current and self.qwen.looked:
            self.query_one(ServerList).show(self.qwen.statuses, self.qwen.services.clock())
            self._draw_detail()

    def _draw_detail(self) -> None:
        status = self.chosen
        starting = status is not None and status.state is ServerState.STARTING
        self.set_class(starting, "-starting")
        if status is None:
            return
        if status.state.is_alive:
            self._set("#card", server_detail.headline(status))
            self._set("#facts", server_detail.facts(status, self.qwen.services.clock(), self._detail_width))
        else:
            failed = status.state is ServerState.FAILED
            self._set("#card", failure_card(status, self._found_for(status)) if failed else server_detail.card(status))
            self._set("#facts", Content(""))
        self.query_one(PhaseBar).show(status.start if starting else None)
        command = plain(server_detail.command(status))
        self._set("#command", Content.assemble((_("command"), "$foreground-muted"), "\n", command))

    # Diagnosis

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
            found = await asyncio.to_thread(look, status, self.qwen.services.paths.servers)
        finally:
            self._found[run] = found
        self._draw_detail()
        self.refresh_bindings()

    @property
    def _found_now(self) -> Found:
        """What is known of the failure under the cursor."""
        status = self.chosen
        failed = status is not None and status.state is ServerState.FAILED
        return (self._found.get(run_of(status)) if failed and status else None) or Found()

    @property
    def _detail_width(self) -> int:
        return max(30, self.query_one("#facts", Static).size.width)

    def on_resize(self) -> None:
        self.call_after_refresh(self._draw_detail)

    def _set(self, selector: str, content: Content) -> None:
        widget = self.query_one(selector, Static)
        if not (isinstance(widget.content, Content) and widget.content.is_same(content)):
            widget.update(content)

    def binding_text(self, binding: Binding) -> str:
        status = self.chosen if self.is_mounted else None
        if status is None:
            return binding.description if binding.action in ("new", "refresh", "profiles") else ""
        alive = status.state.is_alive
        if binding.action == "main":
            if status.state is ServerState.READY:
                return N_("chat")
            return N_("log") if alive else N_("start")
        found = self._found_now
        if (binding.action == "mend" and found.mended is None) or (
            binding.action == "view_line" and not (found.diagnosis and found.diagnosis.line_number)
        ):
            return ""
        if (binding.action == "stop" and not alive) or (binding.action == "delete" and alive):
            return ""
        return binding.description

    # Doing

    async def action_main(self) -> None:
        status = self.chosen
        if status is None:
            self.action_new()
        elif not status.state.is_alive:
            self.run_worker(self._start(status.spec), group="start", exclusive=True)
        else:
            self.qwen.action_room("chat" if status.state is ServerState.READY else "logs")

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
            self._open_form(spec=outcome.spec)
        await self._started(outcome.name)

    def action_mend(self) -> None:
        mended = self._found_now.mended
        if mended is None:
            self.notify(_("There is no correction to start it with"), markup=False)
            return
        self.run_worker(self._start(mended, ask_about_warnings=False), group="start", exclusive=True)

    async def action_view_line(self) -> None:
        from qwen_tui.ui.widgets.log_view import LogView

        status, diagnosis = self.chosen, self._found_now.diagnosis
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
        if self.chosen is not None:
            self._open_form(self.chosen)

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

        if self.chosen is None or not self.chosen.state.is_alive:
            self.notify(_("It does not run"), markup=False)
            return
        self.run_worker(ask_and_stop(self.qwen, self.chosen), group="stop", exclusive=True)

    def action_delete(self) -> None:
        status = self.chosen
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
        if self.chosen is not None:
            self.app.copy_to_clipboard(server_detail.command(self.chosen))
            self.notify(_("The command is copied"), markup=False)

    def action_scroll_detail(self, pages: int) -> None:
        detail = self.query_one("#detail", VerticalScroll)
        detail.scroll_relative(y=pages * max(1, detail.size.height - 2), animate=False)

    async def action_refresh(self) -> None:
        await self.qwen.refresh_servers()


def _empty_text() -> Content:
    return Content.assemble(
        (_("No servers yet."), "bold"),
        "\n\n",
        ("n", "bold $text-accent"),
        "  ",
        _("start one: a model's folder or its hub id is all it needs"),
        "\n",
        ("o", "bold $text-accent"),
        "  ",
        _("begin with a profile: 24 GB card, long context, several GPUs, LoRA, tools, CPU…"),
        "\n\n",
        _("Nothing to serve? In a shell, {command} brings a small model and starts it.").format(
            command="qwen-tui demo"
        ),
    )
