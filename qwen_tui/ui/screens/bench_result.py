"""A result as a whole, a run's tags and note, and the question for a file to import."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from qwen_tui.bench.ledger import Run
from qwen_tui.i18n import N_, _
from qwen_tui.ui.rooms import DO, MOVE
from qwen_tui.ui.text import plain
from qwen_tui.ui.widgets.key_bar import KeyBar
from qwen_tui.ui.widgets.model_part import QuietInput


class ResultScreen(ModalScreen[None], inherit_bindings=False):
    """Shows what `draw` makes for a width in cells."""

    CSS_PATH = "bench_form.tcss"
    AUTO_FOCUS = None
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,q", "close", N_("close"), id="result.close", group=DO),
        Binding("y", "copy", N_("copy the text"), id="result.copy", group=DO),
        Binding("down,j", "scroll(1)", N_("down"), id="result.down", group=MOVE),
        Binding("up,k", "scroll(-1)", N_("up"), id="result.up", group=MOVE, show=False),
        Binding("pagedown", "scroll(20)", N_("page down"), id="result.page_down", group=MOVE, show=False),
        Binding("pageup", "scroll(-20)", N_("page up"), id="result.page_up", group=MOVE, show=False),
    ]

    def __init__(self, title: str, draw: Callable[[int], Content]) -> None:
        super().__init__()
        self._title, self._draw = title, draw

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Static(Content.styled(plain(self._title), "bold"), id="title")
            with VerticalScroll(id="body", can_focus=False):
                yield Static(id="text")
            yield KeyBar()

    def on_resize(self) -> None:
        self.call_after_refresh(self._show)

    def _show(self) -> None:
        width = self.query_one("#body", VerticalScroll).scrollable_content_region.width
        self.query_one("#text", Static).update(self._draw(max(40, width)))

    def action_scroll(self, lines: int) -> None:
        self.query_one("#body", VerticalScroll).scroll_relative(y=lines, animate=False)

    def action_copy(self) -> None:
        self.app.copy_to_clipboard(self._draw(100).plain)
        self.notify(_("Copied"), markup=False)

    def action_close(self) -> None:
        self.dismiss(None)


class NoteForm(ModalScreen[tuple[tuple[str, ...], str] | None], inherit_bindings=False):
    """Asks for a run's tags and its note; dismissed with both, or None."""

    CSS_PATH = "bench_form.tcss"
    AUTO_FOCUS = "#tags"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "accept", N_("keep"), id="bench_note.accept", group=DO, priority=True),
        Binding("escape", "cancel", N_("cancel"), id="bench_note.cancel", group=DO),
        Binding("tab,down", "app.focus_next", N_("next field"), id="bench_note.next", group=MOVE),
        Binding(
            "shift+tab,up", "app.focus_previous", N_("previous field"), id="bench_note.previous", group=MOVE, show=False
        ),
    ]

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._run = run

    def compose(self) -> ComposeResult:
        tags = " ".join(tag for tag in self._run.tags if not tag.startswith(("sweep-", "capacity-")))
        with Vertical(id="dialog", classes="small"):
            yield Static(Content.styled(_("Tags and note of {id}").format(id=self._run.id), "bold"), id="title")
            for name, label, text in (("tags", _("Tags"), tags), ("note-text", _("Note"), self._run.note)):
                with Horizontal(classes="row"):
                    yield Static(Content(label), classes="label")
                    yield QuietInput(plain(text), id=name, compact=True, select_on_focus=False)
            yield KeyBar()

    def action_accept(self) -> None:
        tags = self.query_one("#tags", Input).value.replace(",", " ").split()
        self.dismiss((tuple(dict.fromkeys(tags)), self.query_one("#note-text", Input).value.strip()))

    def action_cancel(self) -> None:
        self.dismiss(None)


class ImportForm(ModalScreen[Path | None], inherit_bindings=False):
    """Asks for a file of `vllm bench serve --save-result`; dismissed with one that is there, or None."""

    CSS_PATH = "bench_form.tcss"
    AUTO_FOCUS = "#file"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "accept", N_("import"), id="bench_import.accept", group=DO, priority=True),
        Binding("escape", "cancel", N_("cancel"), id="bench_import.cancel", group=DO),
    ]

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog", classes="small"):
            yield Static(Content.styled(_("Import a result of vllm bench serve"), "bold"), id="title")
            with Horizontal(classes="row"):
                yield Static(Content(_("File")), classes="label")
                yield QuietInput(placeholder=_("written with --save-result"), id="file", compact=True)
            yield Static(id="note")
            yield KeyBar()

    def action_accept(self) -> None:
        file = Path(self.query_one("#file", Input).value.strip()).expanduser()
        if file.is_file():
            self.dismiss(file)
        else:
            self.query_one("#note", Static).update(Content.styled(_("there is no such file"), "$text-error"))

    def action_cancel(self) -> None:
        self.dismiss(None)
