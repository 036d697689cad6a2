"""The form of a server: its fields, what is wrong with them, and the exact command, as one types."""

from __future__ import annotations

import asyncio
import dataclasses
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Static

from qwen_tui.engine.find import Engine
from qwen_tui.errors import QwenTuiError
from qwen_tui.i18n import N_, _
from qwen_tui.server.spec import FieldError, ServerSpec, check_fields, name_for
from qwen_tui.server.status import ServerStatus
from qwen_tui.ui.rooms import DO, MOVE
from qwen_tui.ui.text import one_line, plain
from qwen_tui.ui.widgets.key_bar import KeyBar

if TYPE_CHECKING:
    from qwen_tui.ui.app import QwenApp

#: Field → its label.
FIELDS: dict[str, str] = {
    "model": N_("Model"),
    "name": N_("Name"),
    "served_model_name": N_("Served model name"),
    "host": N_("Host"),
    "port": N_("Port"),
    "max_model_len": N_("Max model len"),
    "chat_template": N_("Chat template"),
    "extra_args": N_("Extra arguments"),
}
_PLACEHOLDERS: dict[str, str] = {
    "model": N_("a folder, or a hub id such as qwen/Qwen2-7B-Instruct"),
    "served_model_name": N_("what clients ask for; empty: the model itself"),
    "host": "127.0.0.1",
    "port": "8000",
    "max_model_len": N_("tokens; empty: what the model allows"),
    "chat_template": N_("a Jinja file; empty: the model's own"),
    "extra_args": "--gpu-memory-utilization 0.9",
}


def fields_of(spec: ServerSpec) -> dict[str, str]:
    """The texts that stand in the form for `spec`."""
    return {
        "model": spec.model,
        "name": spec.name,
        "served_model_name": spec.served_model_name,
        "host": spec.host,
        "port": str(spec.port),
        "max_model_len": "" if spec.max_model_len is None else str(spec.max_model_len),
        "chat_template": spec.chat_template,
        "extra_args": shlex.join(spec.extra_args),
    }


class ServerForm(ModalScreen[str | None], inherit_bindings=False):
    """Makes a ServerSpec and starts it; dismissed with the server's name, or None.

    edit: the server whose fields the form begins with; if it lives, starting asks to stop it first.
    """

    CSS_PATH = "server_form.tcss"
    AUTO_FOCUS = "#field-model"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "start", N_("start"), id="form.start", group=DO, priority=True),
        Binding("ctrl+y", "copy_command", N_("copy command"), id="form.copy_command", group=DO, priority=True),
        Binding("tab,down", "app.focus_next", N_("next field"), id="form.next", group=MOVE),
        Binding("shift+tab,up", "app.focus_previous", N_("previous field"), id="form.previous", group=MOVE, show=False),
        Binding("escape", "cancel", N_("cancel"), id="form.cancel", group=DO),
    ]

    def __init__(self, edit: ServerStatus | None = None) -> None:
        super().__init__()
        self._edit = edit
        self._engine: Engine | None = None
        self._engine_error: QwenTuiError | None = None
        self._touched: set[str] = set()
        self._begun: dict[str, str] = {}
        self._values: dict[str, Any] = {}
        self._errors: list[FieldError] = []
        self._starting = False

    @property
    def _qwen(self) -> QwenApp:
        return cast("QwenApp", self.app)

    def compose(self) -> ComposeResult:
        begun = fields_of(self._edit.spec) if self._edit else {"host": "127.0.0.1"}
        with Vertical(id="form"):
            title = _("Edit {name}").format(name=one_line(self._edit.name)) if self._edit else _("New server")
            yield Static(Content.styled(title, "bold"), id="title")
            with VerticalScroll(id="fields", can_focus=False):
                for field, label in FIELDS.items():
                    with Horizontal(classes="row"):
                        yield Static(Content(_(label)), classes="label")
                        yield Input(
                            plain(begun.get(field, "")),
                            placeholder=_(_PLACEHOLDERS.get(field, "")),
                            id=f"field-{field}",
                            compact=True,
                            select_on_focus=False,
                        )
                    yield Static(id=f"error-{field}", classes="error")
                yield Static(id="warning")
                yield Static(id="engine")
                yield Static(id="command")
            yield Static(id="trouble")
            yield Button(_("Start"), id="start", compact=True, variant="primary")
            yield KeyBar()

    def on_mount(self) -> None:
        for field in self.query(Input):
            field.cursor_blink = False  # each blink would cross the SSH connection
        if self._edit is None:
            self._offer_port()
        self._begun = self._fields()
        self._check()
        self.run_worker(self._find_engine(), group="engine")

    def _offer_port(self) -> None:
        used = {status.spec.port for status in self._qwen.statuses if status.state.is_alive}
        first = 8000
        try:
            port = self._qwen.services.free_port("127.0.0.1", first)
            while port in used:
                port = self._qwen.services.free_port("127.0.0.1", port + 1)
        except QwenTuiError:
            return  # the field stays empty; starting says why
        self.query_one("#field-port", Input).value = str(port)

    async def _find_engine(self) -> None:
        services = self._qwen.services
        try:
            self._engine = await asyncio.to_thread(services.find_engine, services.paths, services.settings.engine)
            self._engine_error = None
        except QwenTuiError as error:
            self._engine_error = error
        if self.is_attached:
            self._draw()

    # As one types

    def _fields(self) -> dict[str, str]:
        return {field: self.query_one(f"#field-{field}", Input).value for field in FIELDS}

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self._touched.add((event.input.id or "").removeprefix("field-"))
        self._set("#trouble", Content(""))
        self._check()

    def on_descendant_blur(self, event: events.DescendantBlur) -> None:
        # An empty field is only complained about once it was left.
        if isinstance(event.widget, Input) and event.widget.value:
            self._touched.add((event.widget.id or "").removeprefix("field-"))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.focus_next()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        event.stop()
        self.action_start()

    def _check(self) -> None:
        """Read the fields; draw what is wrong and the command."""
        fields = self._fields()
        others = [status for status in self._qwen.statuses if self._edit is None or status.name != self._edit.name]
        living = {status.name: status for status in others if status.state.is_alive}
        self._values, self._errors = check_fields(fields, tuple(living))
        name, port = self._values.get("name"), self._values.get("port")
        if name in living:
            self._errors.append(FieldError("name", _("Name: “{name}” runs already").format(name=name)))
        for status in living.values():
            if status.spec.port == port:
                self._errors.append(
                    FieldError("port", _("Port: {port} is used by “{name}”").format(port=port, name=status.name))
                )
        self._draw()

    def _draw(self) -> None:
        by_field = {error.field: error for error in reversed(self._errors)}
        for field in FIELDS:
            error = by_field.get(field) if field in self._touched else None
            text = "\n".join(part for part in (error.title, error.hint) if part) if error else ""
            self._set(f"#error-{field}", Content(plain(text)))
        name = self.query_one("#field-name", Input)
        model = self._values.get("model", "")
        name.placeholder = name_for(model, self._values.get("served_model_name", "")) if model else ""
        self._set("#warning", self._warning())
        self._set("#engine", self._engine_line())
        self._set("#command", Content.assemble((_("command"), "$foreground-muted"), "\n", plain(self.command)))

    def _set(self, selector: str, content: Content) -> None:
        widget = self.query_one(selector, Static)
        widget.display = bool(content.plain)
        if not (isinstance(widget.content, Content) and widget.content.is_same(content)):
            widget.update(content)

    def _warning(self) -> Content:
        host = self._values.get("host", "")
        lines: list[str] = []
        if host and not ServerSpec(name="-", model="-", host=host).is_loopback:
            lines.append(
                _(
                    "{host} can be reached from other machines: an API key will be made, and asked of every client"
                ).format(host=one_line(host))
            )
        name = self._values.get("name")
        known = {status.name for status in self._qwen.statuses if not status.state.is_alive}
        if self._edit is None and name in known:
            lines.append(_("“{name}” is known and does not run: it is replaced").format(name=name))
        if self._edit is not None and self._edit.state.is_alive:
            lines.append(_("It runs: starting it with these values stops it first"))
        return Content.styled("\n".join(lines), "$text-warning")

    def _engine_line(self) -> Content:
        if self._engine_error is not None:
            return Content.styled(plain(str(self._engine_error)), "$text-error")
        if self._engine is None:
            return Content.styled(_("looking for an engine…"), "$foreground-muted")
        return Content.assemble(
            (_("engine"), "$foreground-muted"), f"  vLLM {self._engine.version} ({self._engine.platform})"
        )

    @property
    def command(self) -> str:
        """The exact command of what is in the fields now."""
        python = str(self._engine.python) if self._engine else "python"
        return self._spec({"name": "-", "model": "MODEL", **self._values}).shell_command(python)

    def _spec(self, values: Mapping[str, Any]) -> ServerSpec:
        spec = ServerSpec(**values)
        if self._edit is None:
            return spec
        # What the form does not show stays as it was.
        return dataclasses.replace(spec, env=self._edit.spec.env, restart=self._edit.spec.restart)

    # Doing

    def action_copy_command(self) -> None:
        self.app.copy_to_clipboard(self.command)
        self.notify(_("The command is copied"), markup=False)

    def action_start(self) -> None:
        self._touched.update(FIELDS)
        self._check()
        if self._errors:
            self.query_one(f"#field-{self._errors[0].field}", Input).focus()
            return
        if not self._starting:
            self._starting = True
            self.run_worker(self._start(self._spec(self._values)), group="start")

    async def _start(self, spec: ServerSpec) -> None:
        from qwen_tui.ui.screens.stopping import ask_and_stop

        try:
            if self._engine is None:
                await self._find_engine()
            if self._engine is None:
                return  # the form says so
            if self._edit is not None and self._edit.state.is_alive and not await ask_and_stop(self._qwen, self._edit):
                return
            self._set("#trouble", Content.styled(_("starting…"), "$foreground-muted"))
            status = await self._qwen.services.servers.start(spec, self._engine)
        except QwenTuiError as error:
            self._set("#trouble", Content.styled(plain(str(error)), "$text-error"))
        else:
            self.dismiss(status.name)
        finally:
            self._starting = False

    def action_cancel(self) -> None:
        self.run_worker(self._cancel(), group="cancel", exclusive=True)

    async def _cancel(self) -> None:
        from qwen_tui.ui.screens.dialogs import Confirm

        if self._fields() != self._begun:
            question = Confirm(_("Close the form?"), _("What you typed is lost."), _("close it"))
            if await self.app.push_screen_wait(question) != "yes":
                return
        self.dismiss(None)
