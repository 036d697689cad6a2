"""The form of a server, for changing a profile: it is written to its file, and nothing is started."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widget import Widget

from qwen_tui.engine.find import Engine
from qwen_tui.errors import QwenTuiError
from qwen_tui.i18n import N_, _
from qwen_tui.server.profile_files import save_profile
from qwen_tui.server.profiles import Profile
from qwen_tui.server.spec import FieldError
from qwen_tui.server.status import ServerStatus
from qwen_tui.ui.rooms import DO, MOVE
from qwen_tui.ui.screens.server_form import ServerForm


class ProfileForm(ServerForm, inherit_bindings=False):
    """Dismissed with the profile's name once it is written, or None."""

    CSS_PATH = "server_form.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "start", N_("keep it"), id="profile_form.keep", group=DO, priority=True),
        Binding("ctrl+f", "flags", N_("all arguments"), id="profile_form.flags", group=DO, priority=True),
        Binding("ctrl+y", "copy_command", N_("copy command"), id="profile_form.copy", group=DO, priority=True),
        Binding("escape", "cancel", N_("cancel"), id="profile_form.cancel", group=DO),
        Binding("tab,down", "app.focus_next", N_("next field"), id="profile_form.next", group=MOVE),
        Binding(
            "shift+tab,up", "app.focus_previous", N_("previous field"), id="profile_form.previous", group=MOVE,
            show=False,
        ),
    ]  # fmt: skip

    def __init__(self, profile: Profile) -> None:
        super().__init__(profile=profile)
        self._edited = profile

    def _title(self) -> str:
        return _("Edit the profile {name}").format(name=self._edited.name)

    def _button(self) -> str:
        return _("Keep")

    def on_mount(self) -> None:
        # A profile names itself, not its servers.
        row = self.query_one("#field-name").parent
        if isinstance(row, Widget):
            row.display = False

    def _offer_port(self) -> None:
        """A profile need not have one."""

    def _check(self) -> None:
        super()._check()
        # It may leave its model open.
        may_lack = {"name"} if self._state().fields["model"].strip() else {"name", "model"}
        self._errors = [error for error in self._errors if error.field not in may_lack]
        self._draw()

    def _conflicts(self, living: Mapping[str, ServerStatus]) -> list[FieldError]:
        return []  # nothing is started

    async def _make_verdict(self, engine: Engine) -> None:
        """There is nothing to plan."""

    def action_start(self) -> None:
        if self._is_right():
            self.run_worker(self._write(), group="keep", exclusive=True)

    def _profile_now(self) -> Profile:
        """The profile that the fields amount to; an address that nobody chose is not part of it."""
        spec, fields = self._read.spec, self._state().fields
        profile = Profile.of_spec(self._edited.name, spec, self._read.engine)
        flags = dict(profile.flags)
        if not fields["port"].strip():
            flags.pop("port", None)
        if "host" not in self._edited.flags and spec.host == "127.0.0.1":
            flags.pop("host", None)
        model = spec.model if fields["model"].strip() else ""
        return dataclasses.replace(
            profile, model=model, flags=flags, description=self._edited.description, is_starter=False
        )

    async def _write(self) -> None:
        kept = self._profile_now()
        try:
            file = await asyncio.to_thread(save_profile, self._qwen.services.paths, kept)
        except QwenTuiError as error:
            self._qwen.report(error)
            return
        self.notify(str(file), title=_("The profile is kept"), markup=False)
        self.dismiss(kept.name)
