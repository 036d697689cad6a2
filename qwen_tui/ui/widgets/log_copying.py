"""The part of a log view that copies: a line, what shows, or all that passes the filter, by OSC 52."""

from __future__ import annotations

from qwen_tui.i18n import _, ngettext
from qwen_tui.logs.pager import Pager
from qwen_tui.logs.search import Cancelled
from qwen_tui.progress import format_bytes
from qwen_tui.ui.widgets.log_seeking import LogSeeking

#: Bytes. A terminal drops a longer OSC 52 without a word: some take 100,000 characters of base64 and no more.
MOST_COPIED = 72_000


class LogCopying(LogSeeking):
    """What a LogView can copy. The view gives the keys, and calls `put_on_clipboard` after it has read."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._collected: tuple[str, int] | None = None

    def action_copy_line(self) -> None:
        """The text marked with the mouse; else the current line."""
        selection = self.text_selection
        marked = None if selection is None else self.get_selection(selection)
        if marked is not None and marked[0]:
            self.app.copy_to_clipboard(marked[0])
            self.notify(_("Copied what is marked"), markup=False)
            return
        line = self._page.current
        if line is None:
            self.notify(_("There is no line to copy"), severity="warning", markup=False)
            return
        self.app.copy_to_clipboard(line.text)
        title = _("Copied this line")
        if line.hidden:
            title = _("Copied the first part of this line; o writes all of it to a file")
        self.notify(line.text[:200], title=title, markup=False)

    def action_copy_page(self) -> None:
        """With a filter, all lines that pass; else those that show."""
        if self._filter.is_all:
            lines = self._page.lines
            self._copy_lines("\n".join(line.text for line in lines), len(lines))
        else:
            self._do(self._collect)

    def _collect(self, pager: Pager) -> None:
        """In the thread that reads the log."""
        try:
            self._collected = pager.passing_text(MOST_COPIED)
        except Cancelled:
            self._news.append(_("Nothing was copied: another key came before all lines were found"))
            return
        if self._collected is None:
            words = _("More than {size} pass the filter, too much for the clipboard: o writes them to a file")
            self._news.append(words.format(size=format_bytes(MOST_COPIED)))

    def put_on_clipboard(self) -> None:
        """Copy what was collected meanwhile."""
        if self._collected is not None:
            self._copy_lines(*self._collected)
            self._collected = None

    def _copy_lines(self, text: str, count: int) -> None:
        if not count:
            self.notify(_("There is no line to copy"), severity="warning", markup=False)
            return
        self.app.copy_to_clipboard(text)
        self.notify(ngettext("Copied {count} line", "Copied {count} lines", count).format(count=count), markup=False)
