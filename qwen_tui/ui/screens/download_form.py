"""The form of a download: what and where to, and its plan before the first byte."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.timer import Timer
from textual.widgets import Checkbox, Input, Static

from qwen_tui.errors import QwenTuiError
from qwen_tui.i18n import N_, _
from qwen_tui.models.download_state import DownloadPlan, DownloadRequest
from qwen_tui.models.hub import HUGGINGFACE, MODELSCOPE, is_hub_id
from qwen_tui.models.tokens import TokenNeeded, Tokens
from qwen_tui.ui.rooms import DO, MOVE
from qwen_tui.ui.screens.models_work import remember_folder
from qwen_tui.ui.screens.server_form_view import FormSwitch
from qwen_tui.ui.text import plain
from qwen_tui.ui.widgets.download_detail import plan_lines
from qwen_tui.ui.widgets.key_bar import KeyBar
from qwen_tui.ui.widgets.model_part import QuietInput
from qwen_tui.ui.widgets.prose import Prose

if TYPE_CHECKING:
    from qwen_tui.ui.app import QwenApp

#: Field → its label.
_FIELDS: dict[str, str] = {
    "model": N_("Model"),
    "cache_dir": N_("Folder"),
    "revision": N_("Revision"),
    "include": N_("Only files"),
    "exclude": N_("Without files"),
    "endpoint": N_("Address"),
    "token": N_("Token"),
}
_HINTS: dict[str, str] = {
    "model": N_("its id, such as qwen/Qwen2-7B-Instruct"),
    "include": N_("patterns such as *.safetensors *.json; empty: all"),
    "exclude": N_("patterns such as *.bin"),
    "token": N_("only for private and gated models; kept for you alone"),
}
#: Seconds after the last letter until the hub is asked.
_PAUSE = 0.8


class DownloadForm(ModalScreen[str | None], inherit_bindings=False):
    """Begins a download; dismissed with its id, or None. first: what the form begins with."""

    CSS_PATH = "models_dialogs.tcss"
    AUTO_FOCUS = "#field-model"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "start", N_("download"), id="download.start", group=DO, priority=True),
        Binding("escape", "cancel", N_("cancel"), id="download.cancel", group=DO),
        Binding("tab,down", "app.focus_next", N_("next field"), id="download.next", group=MOVE),
        Binding(
            "shift+tab,up", "app.focus_previous", N_("previous field"), id="download.previous", group=MOVE, show=False
        ),
    ]

    def __init__(self, first: DownloadRequest) -> None:
        super().__init__()
        self._first = first
        self._plan: DownloadPlan | None = None
        self._pause: Timer | None = None
        self._starting = False

    @property
    def _qwen(self) -> QwenApp:
        return cast("QwenApp", self.app)

    def compose(self) -> ComposeResult:
        first = {
            "model": self._first.model, "cache_dir": self._first.cache_dir, "revision": self._first.revision,
        }  # fmt: skip
        with Vertical(id="dialog"):
            yield Static(Content.styled(_("New download"), "bold"), id="title")
            with VerticalScroll(id="fields", can_focus=False):
                for field, label in _FIELDS.items():
                    with Horizontal(classes="row"):
                        yield Static(Content(_(label)), classes="label")
                        yield QuietInput(
                            plain(first.get(field, "")),
                            placeholder=_(_HINTS.get(field, "")),
                            password=field == "token",
                            id=f"field-{field}",
                            compact=True,
                            select_on_focus=False,
                        )
                with Horizontal(classes="row"):
                    yield Static(Content(""), classes="label")
                    is_huggingface = self._first.hub == HUGGINGFACE.key
                    yield FormSwitch(Content(_("from Hugging Face")), is_huggingface, id="huggingface", compact=True)
            yield Prose(id="plan")
            yield KeyBar()

    def on_mount(self) -> None:
        self._hint_defaults()
        self._say(_("What will be fetched is shown here first."), "$foreground-muted")
        self._ask_soon()

    # What is filled in

    def _value(self, field: str) -> str:
        return self.query_one(f"#field-{field}", Input).value.strip()

    @property
    def request(self) -> DownloadRequest:
        """What the fields ask for."""
        is_huggingface = self.query_one("#huggingface", Checkbox).value
        return DownloadRequest(
            model=self._value("model"),
            hub=HUGGINGFACE.key if is_huggingface else MODELSCOPE.key,
            revision=self._value("revision"),
            cache_dir=self._value("cache_dir"),
            include=tuple(self._value("include").split()),
            exclude=tuple(self._value("exclude").split()),
            endpoint=self._value("endpoint"),
        )

    def _hint_defaults(self) -> None:
        facts = self.request.hub_facts
        for field, text in (
            ("cache_dir", str(facts.cache())),
            ("revision", facts.revision),
            ("endpoint", facts.endpoint()),
        ):
            self.query_one(f"#field-{field}", Input).placeholder = text
        self._hint_token()

    def _hint_token(self) -> None:
        """Say at the token's field whether one is kept, and whether the hub has refused it."""
        request, tokens = self.request, Tokens(self._qwen.services.paths)
        hint = _(_HINTS["token"])
        if tokens.is_refused(request.hub_facts, request.endpoint):
            hint = _("the one that is kept was refused; another one replaces it")
        elif tokens.kept(request.hub_facts, request.endpoint):
            hint = _("one is kept for {hub}; another one replaces it").format(
                hub=request.hub_facts.host(request.endpoint)
            )
        self.query_one("#field-token", Input).placeholder = hint

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        # A token is only sent when it is finished: with enter or ctrl+s.
        if event.input.id != "field-token":
            self._ask_soon()

    def on_checkbox_changed(self, event: Checkbox.Changed) -> None:
        event.stop()
        self._hint_defaults()
        self._ask_soon()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter asks for the plan at the token, else goes on to the next field."""
        event.stop()
        if event.input.id == "field-token":
            self._ask_now()
        else:
            self.focus_next()

    # The plan

    def _ask_soon(self) -> None:
        if self._plan is not None and self._plan.request != self.request:
            self._plan = None
            self._say("", "")
        if self._pause is not None:
            self._pause.stop()
        if is_hub_id(self._value("model")):
            self._pause = self.set_timer(_PAUSE, self._ask_now)

    def _ask_now(self) -> None:
        if not self._starting and (self._plan is None or self._plan.request != self.request):
            self.run_worker(self._make_plan(), group="plan", exclusive=True)

    async def _make_plan(self) -> DownloadPlan | None:
        """Ask the hub, and show what it says; None where that is not a plan."""
        request = self.request
        services = self._qwen.services
        self._say(_("asking {hub}…").format(hub=request.hub_facts.host(request.endpoint)), "$foreground-muted")
        try:
            token = self._value("token")
            if token:
                tokens = Tokens(services.paths)
                await asyncio.to_thread(tokens.save, request.hub_facts, token, request.endpoint)
            plan = await services.downloads.plan(request)
        except TokenNeeded as error:
            self._fail(error)
            if self.is_attached:
                self._hint_token()
            if self.is_attached and not self._value("token"):
                self.query_one("#field-token", Input).focus()
            return None
        except QwenTuiError as error:
            self._fail(error)
            return None
        if not self.is_attached or request != self.request:
            return None
        self._plan = plan
        self.query_one("#plan", Prose).update(plan_lines(plan))
        return plan

    def _fail(self, error: QwenTuiError) -> None:
        self._say(str(error), "$text-error")

    def _say(self, text: str, colour: str) -> None:
        if self.is_attached:
            self.query_one("#plan", Prose).update(Content.styled(plain(text), colour))

    # Doing

    def action_start(self) -> None:
        if not self._starting:
            self._starting = True
            self.run_worker(self._start(), group="plan", exclusive=True)

    async def _start(self) -> None:
        """Begin, if there is a plan and room for it; else show the plan, and begin at the next press."""
        try:
            if self._plan is None or self._plan.request != self.request:
                await self._make_plan()
                return
            if not self._plan.fits:
                return  # the plan says so
            id = await self._qwen.services.downloads.start(self._plan.request)
        except QwenTuiError as error:
            self._fail(error)
        else:
            if self._plan.request.cache_dir:
                remember_folder(self._qwen, Path(self._plan.request.cache_dir))
            self.dismiss(id)
        finally:
            self._starting = False

    def action_cancel(self) -> None:
        self.dismiss(None)
