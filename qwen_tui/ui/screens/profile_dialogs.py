"""Asking for a profile's name, and for a shell command to make one of."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static, TextArea

from qwen_tui.errors import QwenTuiError
from qwen_tui.i18n import N_, _
from qwen_tui.server.profile_files import file_of, save_profile
from qwen_tui.server.profiles import Profile
from qwen_tui.server.shell_import import import_command
from qwen_tui.server.spec import name_for
from qwen_tui.ui.rooms import DO, MOVE
from qwen_tui.ui.text import plain
from qwen_tui.ui.widgets.key_bar import KeyBar

if TYPE_CHECKING:
    from qwen_tui.ui.app import QwenApp


class AskName(ModalScreen[str | None], inherit_bindings=False):
    """Asks for a name; dismissed with one that `refuse` has nothing against, or None."""

    CSS_PATH = "profiles.tcss"
    AUTO_FOCUS = "#name"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "accept", N_("keep"), id="profile_name.accept", group=DO, priority=True),
        Binding("escape", "cancel", N_("cancel"), id="profile_name.cancel", group=DO),
    ]

    def __init__(self, title: str, name: str, note: Callable[[str], str]) -> None:
        """title: translated. note: what to say about a name as it is typed. Raises UsageError for a wrong one."""
        super().__init__()
        self._title = title
        self._name_first = name
        self._note = note

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Static(Content.styled(plain(self._title), "bold"), id="title")
            yield Input(self._name_first, id="name", compact=True)
            yield Static(id="note")
            yield KeyBar()

    def on_mount(self) -> None:
        self.query_one(Input).cursor_blink = False
        self._look()

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self._look()

    def _look(self) -> bool:
        """Say what is to be said about the name; whether it will do."""
        try:
            text, is_right = self._note(self.query_one(Input).value.strip()), True
        except QwenTuiError as error:
            text, is_right = str(error), False
        self.query_one("#note", Static).update(
            Content.styled(plain(text), "$text-warning" if is_right else "$text-error")
        )
        return is_right

    def action_accept(self) -> None:
        if self._look():
            self.dismiss(self.query_one(Input).value.strip())

    def action_cancel(self) -> None:
        self.dismiss(None)


async def ask_and_save(qwen: QwenApp, profile: Profile, title: str = "") -> Profile | None:
    """Ask for the profile's name and write it; the profile as it is now, None if it was called off."""
    paths = qwen.services.paths

    def note(name: str) -> str:
        exists = file_of(paths, name).exists()
        return _("“{name}” is there: it is written over").format(name=name) if exists else ""

    name = await qwen.push_screen_wait(AskName(title or _("Keep as a profile"), profile.name, note))
    if name is None:
        return None
    kept = dataclasses.replace(profile, name=name, is_starter=False)
    if profile.is_starter:
        kept = dataclasses.replace(kept, description=_(profile.description))
    try:
        file = await asyncio.to_thread(save_profile, paths, kept)
    except QwenTuiError as error:
        qwen.report(error)
        return None
    qwen.notify(str(file), title=_("The profile is kept"), markup=False)
    return kept


class ImportScreen(ModalScreen[Profile | None], inherit_bindings=False):
    """A field to paste a shell command into; dismissed with the profile that it makes, which is not kept yet."""

    CSS_PATH = "profiles.tcss"
    AUTO_FOCUS = "#command"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "read", N_("make a profile of it"), id="import.read", group=DO, priority=True),
        Binding("escape", "cancel", N_("cancel"), id="import.cancel", group=DO, priority=True),
        Binding("tab", "app.focus_next", N_("next field"), id="import.next", group=MOVE, show=False),
    ]

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog", classes="wide"):
            yield Static(Content.styled(_("Paste a command that starts vLLM"), "bold"), id="title")
            yield Static(
                Content.styled("vllm serve …   python -m vllm.entrypoints.openai.api_server …", "$foreground-muted")
            )
            yield TextArea(id="command", compact=True, soft_wrap=True, tab_behavior="focus")
            yield Static(id="note")
            yield KeyBar()

    def on_mount(self) -> None:
        self.query_one(TextArea).cursor_blink = False

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        event.stop()
        self.query_one("#note", Static).update(Content(""))

    def action_read(self) -> None:
        try:
            profile = import_command(self.query_one(TextArea).text, "imported")
        except QwenTuiError as error:
            self.query_one("#note", Static).update(Content.styled(plain(str(error)), "$text-error"))
            return
        served = profile.flags.get("served-model-name", "")
        name = name_for(profile.model, served if isinstance(served, str) else "")
        self.dismiss(dataclasses.replace(profile, name=name))

    def action_cancel(self) -> None:
        self.dismiss(None)
