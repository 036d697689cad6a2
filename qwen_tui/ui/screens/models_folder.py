"""Asks for the folder that a model is to be moved to."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from qwen_tui.i18n import N_, _
from qwen_tui.models.local_model import LocalModel
from qwen_tui.progress import format_bytes
from qwen_tui.ui.rooms import DO
from qwen_tui.ui.text import one_line, plain
from qwen_tui.ui.widgets.key_bar import KeyBar
from qwen_tui.ui.widgets.model_part import QuietInput
from qwen_tui.ui.widgets.prose import Prose


class AskFolder(ModalScreen[Path | None], inherit_bindings=False):
    """Dismissed with the folder, or None."""

    CSS_PATH = "models_dialogs.tcss"
    AUTO_FOCUS = "Input"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "keep", N_("move it there"), id="folder.keep", group=DO, priority=True),
        Binding("escape", "cancel", N_("cancel"), id="folder.cancel", group=DO),
    ]

    def __init__(self, model: LocalModel) -> None:
        super().__init__()
        self._model = model

    def compose(self) -> ComposeResult:
        model = self._model
        with Vertical(id="dialog"):
            title = _("Move {model}").format(model=one_line(model.id))
            yield Static(Content.styled(title, "bold"), id="title")
            text = _("{size} in {folder}").format(size=format_bytes(model.size), folder=model.root)
            yield Prose(Content(plain(text)), id="about")
            yield QuietInput(placeholder=_("a folder, such as /root/autodl-tmp"), compact=True, id="folder")
            yield Prose(id="note")
            yield KeyBar()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_keep()

    def action_keep(self) -> None:
        text = self.query_one("#folder", Input).value.strip()
        try:
            folder = Path(text).expanduser()
        except RuntimeError:  # a user that does not exist
            folder = Path()
        if not folder.is_absolute():
            note = _("Give the whole path of a folder, from / or ~ on")
            self.query_one("#note", Prose).update(Content.styled(note, "$text-error"))
            return
        self.dismiss(folder)

    def action_cancel(self) -> None:
        self.dismiss(None)
