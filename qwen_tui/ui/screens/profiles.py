"""The profiles: those of this user and those that ship; picked, made, cloned, imported, exported and deleted."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from qwen_tui.errors import QwenTuiError, SettingsError
from qwen_tui.i18n import N_, _
from qwen_tui.server.profile_files import delete_profile, file_of, list_profiles
from qwen_tui.server.profiles import Profile
from qwen_tui.server.spec import is_secret
from qwen_tui.ui.rooms import DO, MOVE
from qwen_tui.ui.screens.profile_dialogs import ImportScreen, ask_and_save
from qwen_tui.ui.text import one_line, plain
from qwen_tui.ui.widgets.key_bar import KeyBar

if TYPE_CHECKING:
    from qwen_tui.ui.app import QwenApp


class ProfileList(OptionList, inherit_bindings=False):
    """The list; its keys are the screen's, which stand in the footer."""


class ProfilesScreen(ModalScreen[Profile | None], inherit_bindings=False):
    """Dismissed with the profile that a form is to be filled with, or None."""

    CSS_PATH = "profiles.tcss"
    AUTO_FOCUS = "#profiles"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "use", N_("into the form"), id="profiles.use", group=DO),
        Binding("n", "new", N_("new"), id="profiles.new", group=DO),
        Binding("e", "edit", N_("edit"), id="profiles.edit", group=DO),
        Binding("C", "clone", N_("clone"), id="profiles.clone", group=DO),
        Binding("i", "import_command", N_("import"), id="profiles.import", group=DO),
        Binding("y", "copy_command", N_("copy command"), id="profiles.copy_command", group=DO),
        Binding("d", "delete", N_("delete"), id="profiles.delete", group=DO),
        Binding("escape", "cancel", N_("cancel"), id="profiles.cancel", group=DO),
        Binding("down,j", "cursor(1)", N_("down"), id="profiles.down", group=MOVE, show=False),
        Binding("up,k", "cursor(-1)", N_("up"), id="profiles.up", group=MOVE, show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._profiles: list[Profile] = []
        self._errors: list[SettingsError] = []

    @property
    def _qwen(self) -> QwenApp:
        return cast("QwenApp", self.app)

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog", classes="wide"):
            yield Static(Content.styled(_("Profiles"), "bold"), id="title")
            yield ProfileList(id="profiles", markup=False, compact=True)
            with VerticalScroll(id="about", can_focus=False):
                yield Static(id="details")
            yield Static(id="note")
            yield KeyBar()

    async def on_mount(self) -> None:
        await self._read()

    async def _read(self, choose: str = "") -> None:
        """Read the files and draw; the cursor goes to the profile `choose`."""
        self._profiles, self._errors = await asyncio.to_thread(list_profiles, self._qwen.services.paths)
        listing = self.query_one("#profiles", OptionList)
        listing.clear_options()
        width = max((len(profile.name) for profile in self._profiles), default=0)
        listing.add_options([Option(self._row(profile, width)) for profile in self._profiles])
        names = [profile.name for profile in self._profiles]
        listing.highlighted = names.index(choose) if choose in names else 0 if names else None
        note = "\n".join(plain(str(error)) for error in self._errors)
        self.query_one("#note", Static).update(Content.styled(note, "$text-error"))
        self._draw()

    def _row(self, profile: Profile, width: int) -> Content:
        text = _(profile.description) if profile.is_starter else profile.description or profile.model
        mark = ("○ ", "$foreground-muted") if profile.is_starter else ("● ", "$text-success")
        return Content.assemble(mark, (f"{profile.name:<{width}}", "bold"), "  ", (one_line(text), "$foreground-muted"))

    @property
    def chosen(self) -> Profile | None:
        """The profile under the cursor."""
        index = self.query_one("#profiles", OptionList).highlighted
        return self._profiles[index] if index is not None and index < len(self._profiles) else None

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        self._draw()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.action_use()

    def _draw(self) -> None:
        profile = self.chosen
        if profile is None:
            self.query_one("#details", Static).update(Content(""))
            return
        origin = (
            _("comes with qwen-tui") if profile.is_starter else str(file_of(self._qwen.services.paths, profile.name))
        )
        description = _(profile.description) if profile.is_starter else profile.description
        lines = [Content.styled(plain(description), "bold")] if description else []
        lines += [Content.styled(plain(origin), "$foreground-muted"), Content(plain(profile.shell_command()))]
        if profile.restart != "no":
            lines.append(Content(_("is started again when it fails")))
        if profile.idle_minutes:
            lines.append(Content(_("ends after {count} minutes without use").format(count=profile.idle_minutes)))
        self.query_one("#details", Static).update(Content("\n").join(lines))

    # Keys

    def action_cursor(self, rows: int) -> None:
        listing = self.query_one("#profiles", OptionList)
        if rows > 0:
            listing.action_cursor_down()
        else:
            listing.action_cursor_up()

    def action_use(self) -> None:
        if self.chosen is not None:
            self.dismiss(self.chosen)

    def action_new(self) -> None:
        self.dismiss(Profile(""))

    def action_edit(self) -> None:
        if self.chosen is not None:
            self.run_worker(self._edit(self.chosen), group="profile", exclusive=True)

    async def _edit(self, profile: Profile) -> None:
        from qwen_tui.ui.screens.profile_form import ProfileForm

        if profile.is_starter:  # what is kept of it is this user's own
            profile = dataclasses.replace(profile, description=_(profile.description))
        kept = await self.app.push_screen_wait(ProfileForm(profile))
        if kept is not None:
            await self._read(kept)

    def action_cancel(self) -> None:
        self.dismiss(None)

    def action_clone(self) -> None:
        if self.chosen is not None:
            self.run_worker(self._clone(self.chosen), group="profile", exclusive=True)

    async def _clone(self, profile: Profile) -> None:
        names = {other.name for other in self._profiles}
        number = 2
        while f"{profile.name}-{number}" in names:
            number += 1
        copy = dataclasses.replace(profile, name=f"{profile.name}-{number}")
        kept = await ask_and_save(self._qwen, copy, _("Clone {name}").format(name=profile.name))
        if kept is not None:
            await self._read(kept.name)

    def action_import_command(self) -> None:
        self.run_worker(self._import(), group="profile", exclusive=True)

    async def _import(self) -> None:
        profile = await self.app.push_screen_wait(ImportScreen())
        if profile is None:
            return
        kept = await ask_and_save(self._qwen, profile)
        if kept is not None:
            await self._read(kept.name)

    def action_copy_command(self) -> None:
        profile = self.chosen
        if profile is None:
            return
        self.app.copy_to_clipboard(profile.shell_command())
        secrets = [name for name in profile.environment if is_secret(name)]
        text = _("The command is copied")
        if secrets:
            text += "\n" + _("Not written out: {names}").format(names=", ".join(secrets))
        self.notify(text, markup=False)

    def action_delete(self) -> None:
        profile = self.chosen
        if profile is None:
            return
        if profile.is_starter:
            self.notify(_("It comes with qwen-tui and stays"), markup=False)
            return
        self.run_worker(self._delete(profile), group="profile", exclusive=True)

    async def _delete(self, profile: Profile) -> None:
        from qwen_tui.ui.screens.dialogs import Confirm

        file = file_of(self._qwen.services.paths, profile.name)
        question = Confirm(
            _("Delete {name}?").format(name=profile.name),
            _("Lost is the file\n{file}").format(file=file),
            _("delete it"),
        )
        if await self.app.push_screen_wait(question) != "yes":
            return
        try:
            await asyncio.to_thread(delete_profile, self._qwen.services.paths, profile.name)
        except QwenTuiError as error:
            self._qwen.report(error)
        await self._read()
