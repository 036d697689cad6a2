"""Choose whom one side of a comparison asks: a model at a server that is ready, or at an endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, cast

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from qwen_tui.chat.compare import Place
from qwen_tui.chat.events import Target
from qwen_tui.errors import QwenTuiError
from qwen_tui.i18n import N_, _
from qwen_tui.server.endpoint_status import ENDPOINT_WORDS, EndpointStatus
from qwen_tui.server.status import STATE_WORDS, ServerState, ServerStatus
from qwen_tui.ui.rooms import DO
from qwen_tui.ui.text import one_line
from qwen_tui.ui.widgets.key_bar import KeyBar
from qwen_tui.ui.widgets.prose import Prose

if TYPE_CHECKING:
    from qwen_tui.ui.app import QwenApp


def server_place(status: ServerStatus, model: str = "") -> Place:
    """A model at a server that qwen-tui started: its own, or another that it serves."""
    target = Target(status.spec.base_url, model or status.model_name, status.api_key)
    return Place("server", status.name, target, status.engine_version or "")


def endpoint_place(status: EndpointStatus, model: str = "") -> Place:
    """A model at an endpoint."""
    endpoint = status.endpoint
    return Place("endpoint", status.name, Target(endpoint.base_url, model or status.model_name, endpoint.api_key))


def known_places(app: QwenApp) -> list[Place]:
    """Everywhere that can be asked as far as is known now: where the app is first, then by name."""
    found = [server_place(status) for status in app.statuses if status.state is ServerState.READY]
    for status in app.services.endpoints.statuses:
        models = dict.fromkeys(filter(None, (status.model_name, *status.models)))
        found += [endpoint_place(status, model) for model in models]
    first = app.endpoint or app.target
    return sorted(found, key=lambda place: (first is None or place.name != first.name, place.kind, place.name))


class CompareTarget(ModalScreen[Place | None], inherit_bindings=False):
    """Dismissed with the place that was chosen, or None."""

    CSS_PATH = "compare_target.tcss"
    AUTO_FOCUS = "#places"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "choose", N_("ask this one"), id="compare_target.choose", group=DO, priority=True),
        Binding("escape,q", "cancel", N_("cancel"), id="compare_target.cancel", group=DO),
    ]

    def __init__(self, current: Place | None) -> None:
        super().__init__()
        self._current = current
        self._served: dict[str, list[str]] = {}  # a server's name → every model that it says it serves
        self._shown: list[Place] = []

    @property
    def _qwen(self) -> QwenApp:
        return cast("QwenApp", self.app)

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Static(Content.styled(_("Whom this side asks"), "bold"), id="title")
            yield OptionList(id="places", markup=False, compact=True)
            yield Prose(id="note")
            yield KeyBar()

    def on_mount(self) -> None:
        self._show()
        self.run_worker(self._look(), group="places")

    async def _look(self) -> None:
        """Ask the endpoints, and the servers for what else they serve (adapters), and show it as it comes."""
        ready = [status for status in self._qwen.statuses if status.state is ServerState.READY]
        await asyncio.gather(self._ask_endpoints(), *(self._ask_server(status) for status in ready))

    async def _ask_endpoints(self) -> None:
        endpoints = self._qwen.services.endpoints
        if endpoints.is_due:
            await endpoints.ask()
            self._show()

    async def _ask_server(self, status: ServerStatus) -> None:
        from qwen_tui.chat.served import served_models

        try:
            self._served[status.name] = await served_models(status.spec.base_url, status.api_key)
        except QwenTuiError:
            return  # its own model is in the list already
        self._show()

    def _places(self) -> Iterable[Place]:
        statuses = {status.name: status for status in self._qwen.statuses}
        for place in known_places(self._qwen):
            yield place
            if place.kind == "server":
                for model in self._served.get(place.name, ()):
                    if model != place.target.model:
                        yield server_place(statuses[place.name], model)

    def _show(self) -> None:
        if not self.is_attached:
            return
        options = self.query_one(OptionList)
        chosen = self._shown[options.highlighted] if options.highlighted is not None and self._shown else self._current
        places = list(self._places())
        if places != self._shown or not places:
            self._shown = places
            options.clear_options()
            options.add_options([Option(self._row(place)) for place in places])
            if places:
                options.highlighted = places.index(chosen) if chosen in places else 0
        self.query_one("#note", Prose).update(Content(self._note()))

    def _row(self, place: Place) -> Content:
        kind = _("server") if place.kind == "server" else _("endpoint")
        mark = ("● ", "$text-success") if place == self._current else "  "
        return Content.assemble(
            mark, one_line(place.target.model), (f"  {one_line(place.name)}  ({kind})", "$text-muted")
        )

    def _note(self) -> str:
        """What is there and can't be asked; how to compare a model with itself."""
        waiting = [
            _("{name} is {state}").format(name=one_line(status.name), state=_(STATE_WORDS[status.state]))
            for status in self._qwen.statuses
            if status.state.is_alive and status.state is not ServerState.READY
        ]
        waiting += [
            _("{name} is {state}").format(name=one_line(status.name), state=_(ENDPOINT_WORDS[status.state]))
            for status in self._qwen.services.endpoints.statuses
            if not status.models and not status.model_name
        ]
        if not self._shown:
            waiting.append(_("No server is ready: start one in Servers, or add an endpoint there"))
        else:
            waiting.append(_("The same one on both sides is fine: , changes how a side's replies are drawn"))
        return "\n".join(waiting)

    @on(OptionList.OptionSelected)
    def _clicked(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.action_choose()

    def action_choose(self) -> None:
        index = self.query_one(OptionList).highlighted
        if index is not None and index < len(self._shown):
            self.dismiss(self._shown[index])

    def action_cancel(self) -> None:
        self.dismiss(None)
