"""The Servers room: the list, and the chosen server's start, numbers or failure."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import ClassVar

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
from qwen_tui.ui.widgets.phase_bar import PhaseBar
from qwen_tui.ui.widgets.server_list import ServerList


class ServersScreen(RoomScreen):
    """Start, look at and stop servers."""

    ROOM = "servers"
    CSS_PATH = "servers.tcss"
    AUTO_FOCUS = "ServerList"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "new", N_("new"), id="servers.new", group=DO),
        Binding("enter", "main", N_("start, or chat"), id="servers.main", group=DO),
        Binding("x", "stop", N_("stop"), id="servers.stop", group=DO),
        Binding("e", "edit", N_("edit"), id="servers.edit", group=DO),
        Binding("y", "copy_command", N_("copy command"), id="servers.copy_command", group=DO),
        Binding("d", "delete", N_("delete"), id="servers.delete", group=DO),
        Binding(
            "pagedown", "scroll_detail(1)", N_("scroll the details"), id="servers.page_down", show=False, group=MOVE
        ),
        Binding("pageup", "scroll_detail(-1)", N_("scroll them back"), id="servers.page_up", show=False, group=MOVE),
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
            self._set("#card", server_detail.card(status))
            self._set("#facts", Content(""))
        self.query_one(PhaseBar).show(status.start if starting else None)
        command = plain(server_detail.command(status))
        self._set("#command", Content.assemble((_("command"), "$foreground-muted"), "\n", command))

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
            return binding.description if binding.action in ("new", "refresh") else ""
        alive = status.state.is_alive
        if binding.action == "main":
            if status.state is ServerState.READY:
                return N_("chat")
            return N_("log") if alive else N_("start")
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

    async def _start(self, spec: ServerSpec) -> None:
        services = self.qwen.services
        try:
            engine = await asyncio.to_thread(services.find_engine, services.paths, services.settings.engine)
            await services.servers.start(spec, engine)
        except QwenTuiError as error:
            from qwen_tui.ui.screens.dialogs import ErrorDialog

            self.app.push_screen(ErrorDialog(error))
        await self.qwen.refresh_servers()

    def action_new(self) -> None:
        from qwen_tui.ui.screens.server_form import ServerForm

        self.app.push_screen(ServerForm(), self._started)

    def action_edit(self) -> None:
        from qwen_tui.ui.screens.server_form import ServerForm

        if self.chosen is not None:
            self.app.push_screen(ServerForm(self.chosen), self._started)

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
        "\n\n",
        _("Nothing to serve? In a shell, {command} brings a small model and starts it.").format(
            command="qwen-tui demo"
        ),
    )
