"""Asks for a file with conversations in it."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widgets import Input

from qwen_tui.chat.import_files import path_note
from qwen_tui.chat.path_completion import common, completions
from qwen_tui.i18n import N_, _
from qwen_tui.ui.rooms import DO
from qwen_tui.ui.screens.profile_dialogs import AskName
from qwen_tui.ui.text import plain


class ImportPath(AskName):
    """Dismissed with the path of a file that is there, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "complete", N_("complete the path"), id="import_path.complete", group=DO, priority=True),
    ]

    def __init__(self) -> None:
        super().__init__(_("Import conversations: exported Markdown, or OpenAI's JSON"), "~/", path_note)

    def action_complete(self) -> None:
        field = self.query_one(Input)
        longer = common(completions(field.value))
        if len(longer) > len(field.value):
            field.value = plain(longer)
            field.cursor_position = len(field.value)
