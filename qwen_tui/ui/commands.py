"""What the command palette finds: actions, rooms, servers, models, languages, themes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from rich.text import Text
from textual.command import DiscoveryHit, Hit, Hits, Provider

from qwen_tui import i18n
from qwen_tui.i18n import _
from qwen_tui.server.status import STATE_WORDS
from qwen_tui.ui.rooms import ROOMS
from qwen_tui.ui.text import one_line

if TYPE_CHECKING:
    from qwen_tui.ui.app import QwenApp

Command = tuple[str, Callable[[], Any]]


class Commands(Provider):
    """Everything by name; an empty search shows all but the themes."""

    @property
    def _qwen(self) -> QwenApp:
        return cast("QwenApp", self.app)

    async def discover(self) -> Hits:
        for text, run in self._all():
            yield DiscoveryHit(Text(text), run, text)

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for text, run in [*self._all(), *self._themes()]:
            score = matcher.match(text)
            if score > 0:
                # Rich's Text, built here: the names of servers are not markup.
                yield Hit(score, Text(text), run, text)

    def _all(self) -> Iterable[Command]:
        yield from self._actions()
        for room in ROOMS:
            yield _("Go to: {room}").format(room=_(room.title)), partial(self._qwen.action_room, room.id)
        for status in self._qwen.statuses:
            state = _(STATE_WORDS[status.state])
            text = _("Server: {name} ({state})").format(name=one_line(status.name), state=state)
            yield text, partial(self._show_server, status.name)
        for model in self._qwen.services.shelf.models:
            yield _("Model: {id}").format(id=one_line(model.id)), partial(self._show_model, str(model.path))
        for code, name in i18n.LANGUAGES.items():
            yield f"Language: {name}" if code == "en" else f"语言：{name}", partial(self._qwen.use_language, code)
        yield _("Speed test: vLLM against transformers…"), self._speed_test
        yield _("Theme…"), self._qwen.action_pick_theme
        yield _("Help: the keys of this screen"), self._qwen.action_help
        yield _("Quit"), partial(self._qwen.run_action, "quit")

    def _actions(self) -> Iterable[Command]:
        """What can be done on the screen below the palette."""
        screen = self.screen
        for active in screen.active_bindings.values():
            binding = active.binding
            if active.node is self._qwen or not binding.show or not active.enabled:
                continue
            describe = getattr(active.node, "binding_text", None)
            text = describe(binding) if describe else binding.description
            if text:
                yield _(text)[:1].upper() + _(text)[1:], partial(self._qwen.run_action, binding.action, active.node)

    def _speed_test(self) -> None:
        from qwen_tui.ui.screens.throughput import open_throughput

        open_throughput(self._qwen)

    async def _show_model(self, path: str) -> None:
        from qwen_tui.ui.screens.models import ModelsScreen

        await self._qwen.switch_mode("models")
        room = self._qwen.room
        if isinstance(room, ModelsScreen):
            room.go_to_model(path)

    def _themes(self) -> Iterable[Command]:
        for name in sorted(self._qwen.available_themes):
            yield _("Theme: {name}").format(name=name), partial(self._use_theme, name)

    def _use_theme(self, name: str) -> None:
        self._qwen.theme = name
        self._qwen.save_setting(theme=name)

    async def _show_server(self, name: str) -> None:
        from qwen_tui.ui.screens.servers import ServersScreen

        self._qwen.choose(name)
        await self._qwen.switch_mode("servers")
        room = self._qwen.room
        if isinstance(room, ServersScreen):
            room.select(name)
