"""The results of one batch as lines: the last ones, or those that a filter finds. Never the whole file in memory."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import ClassVar

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, Static

from qwen_tui.batch.results import ResultFile, ResultRow
from qwen_tui.i18n import N_, _
from qwen_tui.ui.rooms import DO
from qwen_tui.ui.text import fit, one_line
from qwen_tui.ui.widgets.keyed_list import KeyedList
from qwen_tui.ui.widgets.model_part import QuietInput

#: Rows that are shown at once.
SHOWN = 300


class BatchResults(Vertical):
    """The newest results of the file that `show` names, or the first ones that have all words of the filter."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", N_("open"), id="batch.open_result", group=DO),
    ]
    DEFAULT_CSS = """
    BatchResults > Static { height: 1; color: $text-muted; }
    BatchResults > Input { display: none; }
    BatchResults > Input.-shown { display: block; }
    BatchResults > KeyedList { height: 1fr; border: none; padding: 0; background: transparent; }
    """

    class Opened(Message):
        """A result is to be shown whole."""

        def __init__(self, row: ResultRow) -> None:
            super().__init__()
            self.row = row

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._file: ResultFile | None = None
        self._path: Path | None = None
        self._rows: list[tuple[int, ResultRow]] = []
        self._words = ""
        self._found = 0
        self._shown: tuple[object, ...] = ()

    def compose(self) -> ComposeResult:
        yield Static(id="results-title")
        yield QuietInput(placeholder=_("words that a result has"), id="filter", compact=True)
        yield KeyedList()

    @property
    def listing(self) -> KeyedList:
        return self.query_one(KeyedList)

    @property
    def chosen(self) -> ResultRow | None:
        """The result under the cursor."""
        key = self.listing.key
        return next((row for number, row in self._rows if str(number) == key), None)

    def retranslate(self) -> None:
        self.query_one("#filter", Input).placeholder = _("words that a result has")
        self._shown = ()

    async def show(self, path: Path | None) -> None:
        """Show the results in `path` as they are now."""
        if path != self._path:
            self._path, self._file = path, ResultFile(path) if path is not None else None
            self._shown = ()
        file, words = self._file, self._words
        if file is None:
            self._rows = []
        else:
            came = await asyncio.to_thread(file.update)
            if (file, len(file), words) == self._shown or file is not self._file:
                return
            rows, found = await asyncio.to_thread(_read, file, words)
            if file is not self._file or words != self._words or not self.is_mounted:
                return
            self._rows, self._found = rows, found
            self._shown = (file, len(file), words) if not came or len(rows) else ()
        self._draw()

    def _draw(self) -> None:
        count = len(self._file) if self._file is not None else 0
        if self._words:
            text = _("Results with “{words}”: {n} of {all}").format(
                words=one_line(self._words), n=f"{self._found:,}", all=f"{count:,}"
            )
        elif count > SHOWN:
            text = _("Results: the last {n} of {all}").format(n=SHOWN, all=f"{count:,}")
        else:
            text = _("Results: {n}").format(n=f"{count:,}")
        self.query_one("#results-title", Static).update(Content(text))
        self.listing.show([str(number) for number, _row in self._rows], self._lines)

    def _lines(self, width: int) -> list[Content]:
        return [_line(row, width) for _number, row in self._rows]

    # Keys

    def ask_filter(self) -> None:
        """Let the person type words."""
        field = self.query_one("#filter", Input)
        field.add_class("-shown")
        field.focus()

    def leave_filter(self) -> None:
        """Forget the words."""
        field = self.query_one("#filter", Input)
        field.value = ""
        field.remove_class("-shown")
        self._words = ""
        self.listing.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._words = event.value.strip()
        self.listing.focus()
        if not self._words:
            self.leave_filter()
        self.run_worker(self.show(self._path), group="results", exclusive=True)

    def action_open(self) -> None:
        row = self.chosen
        if row is not None:
            self.post_message(self.Opened(row))


def _read(file: ResultFile, words: str) -> tuple[list[tuple[int, ResultRow]], int]:
    """The rows to show, each with its number, and how many there are of that kind."""
    if words:
        matching = list(file.find(words))
        numbers, count = matching[:SHOWN], len(matching)
    else:
        numbers, count = list(range(max(0, len(file) - SHOWN), len(file))), len(file)
    rows = ((number, file.read(number)) for number in itertools.islice(numbers, SHOWN))
    return [(number, row) for number, row in rows if row is not None], count


def _line(row: ResultRow, width: int) -> Content:
    """id, prompt → text, tokens."""
    tokens = f" {row.output_tokens:>5,}"
    name = fit(one_line(row.id), min(10, max(4, cell_len(row.id))))
    room = max(10, width - cell_len(name) - len(tokens) - 4)
    asked = one_line(row.prompt)
    part = max(5, min(cell_len(asked), room * 2 // 5)) if asked else 0
    said = fit(_end_cut(one_line(row.text), room - part), room - part)
    question = f"{fit(_end_cut(asked, part), part)} → " if asked else "→ "
    return Content.assemble((name, "$text-muted"), " ", (question, "$text-muted"), said, (tokens, "$text-accent"))


def _end_cut(text: str, width: int) -> str:
    """`text` cut at its end to `width` cells; long ones are not measured whole."""
    text = text[: width * 2]
    while cell_len(text) > width:
        text = text[:-2] + "…" if len(text) > 1 else ""
    return text
