"""The form of a server: its fields, what is wrong with them, and the exact command, as one types."""

from __future__ import annotations

import asyncio
import dataclasses
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.timer import Timer
from textual.widgets import Button, Checkbox, Input, Static

from qwen_tui.engine.find import Engine
from qwen_tui.errors import QwenTuiError
from qwen_tui.i18n import N_, _
from qwen_tui.server.profiles import Profile
from qwen_tui.server.quiet import is_decided
from qwen_tui.server.spec import FieldError, ServerSpec, name_for
from qwen_tui.server.status import ServerStatus
from qwen_tui.ui.rooms import DO, MOVE
from qwen_tui.ui.screens.server_form_engine import EngineOfForm
from qwen_tui.ui.screens.server_form_fields import (
    FIELDS,
    SWITCHES,
    FormState,
    Reading,
    read,
    state_of_profile,
    state_of_spec,
)
from qwen_tui.ui.screens.server_form_view import rows, warnings
from qwen_tui.ui.text import one_line, plain
from qwen_tui.ui.widgets.key_bar import KeyBar
from qwen_tui.ui.widgets.prose import Prose

if TYPE_CHECKING:
    from qwen_tui.ui.app import QwenApp

#: Seconds after the last letter until the engine is looked for and the plan is made.
_PAUSE = 0.5


class ServerForm(ModalScreen[str | None], inherit_bindings=False):
    """Makes a ServerSpec and starts it; dismissed with the server's name, or None.

    edit: the server whose fields the form begins with; if it lives, starting asks to stop it first.
    spec, profile: what the form begins with otherwise.
    """

    CSS_PATH = "server_form.tcss"
    AUTO_FOCUS = "#field-model"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "start", N_("start"), id="form.start", group=DO, priority=True),
        Binding("ctrl+f", "flags", N_("all arguments"), id="form.flags", group=DO, priority=True),
        Binding("ctrl+o", "profiles", N_("profiles"), id="form.profiles", group=DO, priority=True),
        Binding("ctrl+r", "keep", N_("keep as a profile"), id="form.keep", group=DO, priority=True),
        Binding("ctrl+y", "copy_command", N_("copy command"), id="form.copy_command", group=DO, priority=True),
        Binding("escape", "cancel", N_("cancel"), id="form.cancel", group=DO),
        Binding("tab,down", "app.focus_next", N_("next field"), id="form.next", group=MOVE),
        Binding("shift+tab,up", "app.focus_previous", N_("previous field"), id="form.previous", group=MOVE, show=False),
    ]

    def __init__(
        self, edit: ServerStatus | None = None, *, spec: ServerSpec | None = None, profile: Profile | None = None
    ) -> None:
        super().__init__()
        self._edit = edit
        self._profile = profile
        if profile is not None:
            self._first = state_of_profile(profile)
        elif spec is not None or edit is not None:
            self._first = state_of_spec(spec or edit.spec)  # type: ignore[union-attr]
        else:
            self._first = FormState({"host": "127.0.0.1"})
        self._secrets = self._first.secrets
        self._engine = EngineOfForm()
        self._ran_with = edit.engine_python if edit is not None else ""
        self._touched: set[str] = set()
        self._begun = self._first
        self._read = Reading(ServerSpec("-", "MODEL"), "", frozenset(), ())
        self._errors: list[FieldError] = []
        self._verdict = Content("")
        self._settling: Timer | None = None
        self._said: dict[str, Static] = {}  # what is written beside the fields, by selector: a query walks the form
        self._starting = False
        #: The engine that is being asked, or was asked, for its arguments.
        self._learning: Engine | None = None

    @property
    def _qwen(self) -> QwenApp:
        return cast("QwenApp", self.app)

    def compose(self) -> ComposeResult:
        with Vertical(id="form"):
            yield Static(Content.styled(self._title(), "bold"), id="title")
            with VerticalScroll(id="fields", can_focus=False):
                yield from rows(self._first)
            yield Prose(id="verdict")
            yield Prose(id="trouble")
            yield Button(self._button(), id="start", compact=True, variant="primary")
            yield KeyBar()

    def _button(self) -> str:
        return _("Start")

    def _title(self) -> str:
        if self._edit is not None:
            return _("Edit {name}").format(name=one_line(self._edit.name))
        if self._profile is not None and self._profile.name:
            return _("New server, from the profile {name}").format(name=self._profile.name)
        return _("New server")

    def on_mount(self) -> None:
        for field in self.query(Input):
            field.cursor_blink = False  # each blink would cross the SSH connection
        if not self._first.fields.get("port"):
            self._offer_port()
        self._begun = self._state()
        self._check()
        self._settle()

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

    # As one types

    def _state(self) -> FormState:
        fields = {field: self.query_one(f"#field-{field}", Input).value for field in FIELDS}
        on = frozenset(switch for switch in SWITCHES if self.query_one(f"#switch-{switch}", Checkbox).value)
        return FormState(fields, on, self._secrets)

    def _fill(self, state: FormState) -> None:
        """Put other texts into the fields."""
        self._secrets = state.secrets
        for field in FIELDS:
            self.query_one(f"#field-{field}", Input).value = plain(state.fields.get(field, ""))
        for switch in SWITCHES:
            self.query_one(f"#switch-{switch}", Checkbox).value = switch in state.switches
        if not state.fields.get("port"):
            self._offer_port()

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self._touched.add((event.input.id or "").removeprefix("field-"))
        self._changed()

    def on_checkbox_changed(self, event: Checkbox.Changed) -> None:
        event.stop()
        self._changed()

    def _changed(self) -> None:
        self._set("#trouble", Content(""))
        self._verdict = Content("")
        self._check()
        if self._settling is not None:
            self._settling.stop()
        self._settling = self.set_timer(_PAUSE, self._settle)

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
        others = [status for status in self._qwen.statuses if self._edit is None or status.name != self._edit.name]
        living = {status.name: status for status in others if status.state.is_alive}
        self._read = read(self._state(), tuple(living))
        self._errors = [*self._read.errors, *self._conflicts(living)]
        self._draw()

    def _conflicts(self, living: Mapping[str, ServerStatus]) -> list[FieldError]:
        """What the fields ask for that other servers have."""
        errors = []
        spec, known = self._read.spec, self._read.known
        if "name" in known and spec.name in living:
            errors.append(FieldError("name", _("Name: “{name}” runs already").format(name=spec.name)))
        for status in living.values():
            if "port" in known and status.spec.port == spec.port:
                text = _("Port: {port} is used by “{name}”").format(port=spec.port, name=status.name)
                errors.append(FieldError("port", text))
        return errors

    def _settle(self) -> None:
        """Typing has paused: do what takes longer."""
        self.run_worker(self._look_further(), group="engine", exclusive=True)

    async def _look_further(self) -> None:
        """Find the engine, make the plan, and learn the engine's arguments, in the order of how long each takes."""
        services = self._qwen.services
        await self._engine.find(services, self._read.engine)
        if not self.is_attached:
            return
        if await self._name_engine():
            return  # the field has changed, and it is looked for anew
        self._draw()
        engine = self._engine.engine
        if engine is None:
            return
        if self._engine.schema is None and self._learning is not engine:
            # A worker of its own: what is typed meanwhile does not begin it anew.
            self._learning = engine
            self.run_worker(self._learn(), group="learn", exclusive=True)
        await self._make_verdict(engine)

    async def _name_engine(self) -> bool:
        """Put the engine that the edited server ran with into its field, where that is another than the usual one."""
        python, self._ran_with = self._ran_with, ""
        usual = str(self._engine.engine.python) if self._engine.engine is not None else ""
        if not python or python == usual or self._read.engine or not await asyncio.to_thread(Path(python).exists):
            return False
        untouched = self._state() == self._begun
        self.query_one("#field-engine", Input).value = plain(python)
        if untouched:
            self._begun = self._state()
        return True

    async def _learn(self) -> None:
        await self._engine.learn(self._qwen.services.paths, self._draw_engine)
        self._draw()

    async def _make_verdict(self, engine: Engine) -> None:
        if self._errors:
            return
        from qwen_tui.ui.screens.plan import plan_of, verdict

        is_alive = self._edit is not None and self._edit.state.is_alive
        paths, schema = self._qwen.services.paths, self._engine.schema
        plan = await plan_of(self._read.spec, engine, paths, schema, before_stop=is_alive)
        if self.is_attached:
            self._verdict = verdict(plan)
            self._draw()

    # Drawing

    def _draw(self) -> None:
        # A form that is being closed is still attached when its fields are gone already.
        if not self.is_attached or not self.query("#error-model"):
            return
        by_field = {error.field: error for error in reversed(self._errors)}
        for field in FIELDS:
            error = by_field.get(field) if field in self._touched else None
            text = "\n".join(part for part in (error.title, error.hint) if part) if error else ""
            if field == "extra_args" and not text:
                text = "\n".join(map(str, self._engine.problems(self._read.spec.extra_args)))
            self._set(f"#error-{field}", Content(plain(text)))
        model = self._read.spec.model if "model" in self._read.known else ""
        name = self.query_one("#field-name", Input)
        name.placeholder = name_for(model, self._read.spec.served_model_name) if model else ""
        self._set("#warning", warnings(self._read, self._edit, self._qwen.statuses))
        self._draw_engine()
        self._set("#differs", self._engine.differences(self._read.spec.extra_args))
        self._set("#command", Content.assemble((_("command"), "$foreground-muted"), "\n", plain(self.command)))
        self._set("#verdict", self._verdict)

    def _draw_engine(self) -> None:
        if self.is_attached:
            self._set("#engine", self._engine.line())

    def _set(self, selector: str, content: Content) -> None:
        widget = self._said.get(selector)
        if widget is None:
            widget = next(iter(self.query(selector).results(Static)), None)
            if widget is None:
                return  # the form is being closed
            self._said[selector] = widget
        widget.display = bool(content.plain)
        if not (isinstance(widget.content, Content) and widget.content.is_same(content)):
            widget.update(content)

    @property
    def command(self) -> str:
        """The exact command of what is in the fields now."""
        engine, spec = self._engine.engine, self._read.spec
        if not is_decided(spec.extra_args):
            spec = dataclasses.replace(spec, extra_args=(*spec.extra_args, *self._engine.quiet))
        return spec.shell_command(str(engine.python) if engine else "python")

    # Doing

    def action_copy_command(self) -> None:
        self.app.copy_to_clipboard(self.command)
        self.notify(_("The command is copied"), markup=False)

    def _is_right(self) -> bool:
        """Whether the fields can be read; else the first that can't has the focus."""
        self._touched.update(FIELDS)
        self._check()
        if self._errors:
            self.query_one(f"#field-{self._errors[0].field}", Input).focus()
        return not self._errors

    def action_start(self) -> None:
        if self._is_right() and not self._starting:
            self._starting = True
            self.run_worker(self._start(self._read.spec), group="start")

    async def _start(self, spec: ServerSpec) -> None:
        from qwen_tui.ui.screens.starting import plan_and_start, plan_before_stop
        from qwen_tui.ui.screens.stopping import ask_and_stop

        asked = spec
        try:
            await self._engine.find(self._qwen.services, self._read.engine)
            self._draw_engine()
            if self._engine.engine is None:
                return  # the form says so
            if self._edit is not None and self._edit.state.is_alive:
                answer = await plan_before_stop(self._qwen, spec, self._engine.engine, self._engine.schema)
                spec = answer.spec
                if answer.action != "start" or not await ask_and_stop(self._qwen, self._edit):
                    return
                self._edit = self._qwen.services.servers.get(self._edit.name)
            self._set("#trouble", Content.styled(_("starting…"), "$foreground-muted"))
            outcome = await plan_and_start(self._qwen, spec, engine=self._engine.engine, schema=self._engine.schema)
        except QwenTuiError as error:
            self._set("#trouble", Content.styled(plain(str(error)), "$text-error"))
        else:
            if outcome.name is not None:
                self.dismiss(outcome.name)
                return
            self._set("#trouble", Content(""))
            spec = outcome.spec
        finally:
            self._starting = False
            if self.is_attached and spec != asked:
                self._fill(state_of_spec(spec, self._read.engine))

    def action_flags(self) -> None:
        self.run_worker(self._choose_flags(), group="flags", exclusive=True)

    async def _choose_flags(self) -> None:
        from qwen_tui.ui.screens.flags import FlagsScreen

        if self._engine.engine is None:
            self.notify(_("The engine tells what arguments there are, and none is found"), markup=False)
            return
        words = await self.app.push_screen_wait(FlagsScreen(self._engine, self._read.spec.extra_args))
        if words is not None:
            self.query_one("#field-extra_args", Input).value = shlex.join(words)

    def action_profiles(self) -> None:
        from qwen_tui.ui.screens.profiles import ProfilesScreen

        def picked(profile: Profile | None) -> None:
            if profile is not None:
                self._profile = profile
                self._fill(state_of_profile(profile))

        self.app.push_screen(ProfilesScreen(), picked)

    def action_keep(self) -> None:
        if self._is_right():
            self.run_worker(self._keep(), group="keep", exclusive=True)

    async def _keep(self) -> None:
        from qwen_tui.ui.screens.profile_dialogs import ask_and_save

        known = self._profile.name if self._profile else self._read.spec.name
        profile = Profile.of_spec(known, self._read.spec, self._read.engine)
        kept = await ask_and_save(self._qwen, profile)
        if kept is not None:
            self._profile = kept
            self._begun = self._state()

    def action_cancel(self) -> None:
        self.run_worker(self._cancel(), group="cancel", exclusive=True)

    async def _cancel(self) -> None:
        from qwen_tui.ui.screens.dialogs import Confirm

        if self._state() != self._begun:
            question = Confirm(_("Close the form?"), _("What you typed is lost."), _("close it"))
            if await self.app.push_screen_wait(question) != "yes":
                return
        self.dismiss(None)
