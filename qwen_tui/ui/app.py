"""The app: wiring, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from textual.binding import Binding, BindingType
from textual.command import Provider
from textual.screen import ModalScreen
from textual.worker import WorkerFailed

from qwen_tui import i18n
from qwen_tui.errors import QwenTuiError
from qwen_tui.i18n import N_, _
from qwen_tui.server.endpoint_status import EndpointStatus
from qwen_tui.server.status import ServerStatus
from qwen_tui.ui.alt_digits import read_alt_digits
from qwen_tui.ui.rooms import EVERYWHERE, GO, ROOMS, Room
from qwen_tui.ui.screens.room import RoomScreen
from qwen_tui.ui.services import Services
from qwen_tui.ui.typed_ahead import KeysInOrder

if TYPE_CHECKING:
    from qwen_tui.hardware.gpus import Gpu

#: Seconds between two looks at the servers.
REFRESH_INTERVAL = 1.0
#: Seconds between two looks at the GPUs for the header, at least.
GPU_INTERVAL = 2.0


def _commands() -> type[Provider]:
    """The palette's source, imported when the palette is first opened."""
    from qwen_tui.ui.commands import Commands

    return Commands


class QwenApp(KeysInOrder, inherit_bindings=False):
    """qwen-tui on a terminal.

    statuses: the servers as last seen; `looked` says whether they were looked at yet.
    target: the server that Logs and Chat are about: the chosen one, else the first that is ready, else the first that
    lives, else the first. endpoint: the one that Chat and Watch are about in its place.
    job, coming: one line about a long job, and about downloads, at the right of the tabs; `show_job` sets the first.
    """

    TITLE = "qwen-tui"
    CSS_PATH = "app.tcss"
    DEFAULT_MODE = ROOMS[0].id
    COMMANDS: ClassVar[set[Any]] = {_commands}
    # ctrl+p is bound below, with an id.
    COMMAND_PALETTE_BINDING = ""

    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(room.key, f"room('{room.id}')", room.title, id=f"room.{room.id}", show=False, group=GO)
            for room in ROOMS
        ),
        *(
            Binding(
                f"alt+{number}", f"room('{room.id}')", room.title, id=f"room.{room.id}.number", show=False,
                group=GO, priority=True,
            )
            for number, room in enumerate(ROOMS, 1)
        ),
        Binding("ctrl+p", "command_palette", N_("find anything"), id="app.palette", group=EVERYWHERE, priority=True),
        Binding("ctrl+t", "pick_theme", N_("theme"), id="app.theme", show=False, group=EVERYWHERE, priority=True),
        Binding("ctrl+g", "next_language", N_("中文/English"), id="app.language", show=False,
                group=EVERYWHERE, priority=True),
        Binding("q", "quit", N_("quit"), id="app.quit", group=EVERYWHERE),
        Binding("ctrl+q", "quit", N_("quit"), id="app.quit.typing", show=False, group=EVERYWHERE, priority=True),
        Binding("question_mark,f1", "help", N_("help"), id="app.help", group=EVERYWHERE),
    ]  # fmt: skip

    def __init__(self, services: Services, room: str = ROOMS[0].id) -> None:
        # The room to open first; read by App.__init__, per instance.
        vars(self)["DEFAULT_MODE"] = room
        # With the first room's style sheet beside the app's, all rules are read once and not twice.
        super().__init__(css_path=[self.CSS_PATH, *(entry.styles for entry in ROOMS if entry.id == room)])
        read_alt_digits()
        self.services = services
        self.statuses: Sequence[ServerStatus] = ()
        self.target: ServerStatus | None = None
        self.endpoint: EndpointStatus | None = None
        self.job, self.coming, self.looked = "", "", False
        #: What NVML found at the last look; empty without GPUs.
        self.gpus: Sequence[Gpu] = ()
        #: Exceptions that were not expected, the last one last.
        self.failures: list[BaseException] = []
        #: Room id → its screen; made when it is first shown, kept from then on.
        self.rooms: dict[str, RoomScreen] = {}
        for entry in ROOMS:
            self.add_mode(entry.id, partial(self._make_room, entry))
        self._chosen: tuple[str, str | None] = ("server", None)
        self._last_refresh_error = ""
        # Nothing slides or fades: every frame crosses an SSH connection.
        self.animation_level = "none"

    # Start

    def on_load(self) -> None:
        # Before the first screen is made, so that the first picture is a whole one in the right words and colours.
        settings = self.services.settings
        i18n.use(i18n.choose(settings.language))
        if settings.theme in self.available_themes:
            self.theme = settings.theme
        with contextlib.suppress(Exception):  # the look that follows reports what is wrong
            # What the state files say; the servers themselves are asked after the first paint.
            self.statuses, self.looked = tuple(self.services.servers.list()), True
            self.aim()

    def on_mount(self) -> None:
        settings = self.services.settings
        if settings.theme not in self.available_themes:
            self.warn(_("There is no theme “{theme}”").format(theme=settings.theme))
        self._apply_keys(settings.keys)
        self.call_after_refresh(self._start_watching)

    async def on_unmount(self) -> None:
        await self.services.close()

    def _apply_keys(self, keys: dict[str, str]) -> None:
        if not keys:
            return
        from qwen_tui.ui.keys import known_binding_ids

        unknown = sorted(set(keys) - known_binding_ids())
        if unknown:
            self.warn(_("Settings, keys: there is no binding {names}").format(names=", ".join(unknown)))
        self.set_keymap({name: key for name, key in keys.items() if name not in unknown})

    @property
    def room_keys(self) -> dict[str, str]:
        """Room id → its key, for those that the settings change."""
        keys = self.services.settings.keys
        return {room.id: keys[f"room.{room.id}"] for room in ROOMS if f"room.{room.id}" in keys}

    # Servers

    def _start_watching(self) -> None:
        from qwen_tui.ui.downloads_watch import watch_downloads

        for watch in (self._watch_servers(), self._watch_gpus(), watch_downloads(self)):
            self.run_worker(watch, group="watch")

    async def _watch_gpus(self) -> None:
        """Keep the header's GPU figures fresh; on a machine without GPUs look once."""
        while True:
            state = await self.services.machine.read()
            if tuple(state.gpus) != tuple(self.gpus):
                self.gpus = state.gpus
                if self.room is not None:
                    self.room.sync()
            if not state.gpus:
                return
            # Many cards take long to ask: never more than a two-hundredth of the time.
            await asyncio.sleep(max(GPU_INTERVAL, 200 * state.took))

    async def _watch_servers(self) -> None:
        while True:
            await self.refresh_servers()
            await asyncio.sleep(REFRESH_INTERVAL)

    async def refresh_servers(self) -> None:
        """Look at the servers now, and tell the room that is shown if something changed."""
        try:
            statuses = tuple(await self.services.servers.refresh())
        except Exception as error:  # noqa: BLE001 - whatever went wrong, the next look may work
            if str(error) != self._last_refresh_error:
                self._last_refresh_error = str(error)
                self.report(error)
            return
        self._last_refresh_error = ""
        if self.looked and statuses == tuple(self.statuses):
            return
        self.looked, self.statuses = True, statuses
        self.aim()

    def choose(self, name: str | None, kind: Literal["server", "endpoint"] = "server") -> None:
        """Make this server the one that Logs, Watch and Chat are about, or this endpoint of Watch and Chat."""
        if (kind, name) != self._chosen:
            self._chosen = kind, name
            self.aim()

    def aim(self) -> None:
        """See anew what the rooms are about, and tell the one that is shown."""
        kind, name = self._chosen
        self.endpoint = self.services.endpoints.get(name) if kind == "endpoint" else None
        ranked = sorted(
            self.statuses,
            key=lambda status: (status.name != name, status.state.value != "ready", not status.state.is_alive),
        )
        self.target = ranked[0] if ranked else None
        room = self.room
        if room is not None:
            room.sync()

    # Rooms

    @property
    def room(self) -> RoomScreen | None:
        """The room that is shown, dialogs over it or not; a room can lie over another, as a comparison over Chat."""
        stack = self.screen_stack if self.is_running else []
        return next((screen for screen in reversed(stack) if isinstance(screen, RoomScreen)), None)

    def _make_room(self, room: Room) -> RoomScreen:
        screen = self.rooms[room.id] = room.make()
        return screen

    def action_room(self, room: str) -> None:
        self.switch_mode(room)

    def show_job(self, text: str | None) -> None:
        """Show one line about a long job at the right of the tabs; None takes it away."""
        self.job = text or ""
        if self.room is not None:
            self.room.sync()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        # A dialog is answered first: leaving it open behind another room would lose it.
        if isinstance(self.screen, ModalScreen):
            return action not in ("room", "command_palette", "pick_theme", "next_language", "help", "quit")
        return True

    # Everywhere

    def action_help(self) -> None:
        from qwen_tui.ui.screens.help import HelpScreen

        self.push_screen(HelpScreen(self.screen, self.services.settings.keys))

    def action_command_palette(self) -> None:
        from textual.command import CommandPalette

        self.push_screen(CommandPalette(placeholder=_("Find an action, a room, a server…")))

    def action_pick_theme(self) -> None:
        from qwen_tui.ui.screens.themes import ThemePicker

        self.push_screen(ThemePicker())

    def action_next_language(self) -> None:
        codes = list(i18n.LANGUAGES)
        self.use_language(codes[(codes.index(i18n.language()) + 1) % len(codes)])

    def use_language(self, language: str) -> None:
        """Switch the language now and for the next start."""
        i18n.use(language)
        self.save_setting(language=language)
        for room in self.rooms.values():
            room.language_changed()

    def save_setting(self, **changes: Any) -> None:
        """Write some settings to the settings file; a failure is shown, not raised."""
        from qwen_tui import settings

        for name, value in changes.items():
            setattr(self.services.settings, name, value)
        try:
            settings.save(self.services.paths, **changes)
        except Exception as error:  # noqa: BLE001 - a read-only home must not end the program
            self.report(error)

    async def action_quit(self) -> None:
        from qwen_tui.ui.screens.stopping import ask_to_quit

        self.run_worker(ask_to_quit(self), group="quit", exclusive=True)

    # Trouble

    def warn(self, text: str) -> None:
        self.notify(text, severity="warning", timeout=10, markup=False)

    def copy_to_clipboard(self, text: str) -> None:
        """Copy, and through tmux, which by itself keeps it from the terminal."""
        super().copy_to_clipboard(text)
        if os.environ.get("TMUX"):
            from qwen_tui.ui.copying import copy_in_tmux

            self.run_worker(copy_in_tmux(text), group="copying", exit_on_error=False)

    def report(self, error: BaseException) -> None:
        """Show what went wrong; what was not expected also goes to the log."""
        from qwen_tui.ui.text import plain

        if isinstance(error, QwenTuiError):
            text = "\n".join(part for part in (error.why, error.hint) if part)
            self.notify(plain(text or error.title), title=plain(error.title) if text else "", severity="error",
                        timeout=10, markup=False)  # fmt: skip
            return
        self.failures.append(error)
        from qwen_tui.ui.failures import write_failure

        try:
            where = _("Details are in {file}").format(file=write_failure(self.services.paths.state, error))
        except OSError:
            where = ""
        text = plain(f"{type(error).__name__}: {error}\n{where}")
        self.notify(text, title=_("Something went wrong"), severity="error", timeout=15, markup=False)

    def _handle_exception(self, error: Exception) -> None:
        # The one place that sees every worker's exception; Textual's own answer is to end the app.
        if isinstance(error, WorkerFailed) and error.error is not None:
            self.report(error.error)
        else:
            super()._handle_exception(error)
