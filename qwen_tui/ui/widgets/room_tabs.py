"""The second line: the rooms with their letters, and at the right the long job that runs, if one does."""

from __future__ import annotations

from rich.cells import cell_len
from textual.content import Content
from textual.widget import Widget

from qwen_tui.i18n import _
from qwen_tui.ui.rooms import ROOMS
from qwen_tui.ui.text import cut_middle, one_line

#: Cells that a job gets at least where it is longer.
_LEAST_JOB = 20


class RoomTabs(Widget):
    """Names the rooms; `job` is one line about a running long job."""

    ALLOW_SELECT = False
    DEFAULT_CSS = """
    RoomTabs { height: 1; padding: 0 1; background: $panel; color: $foreground; }
    """

    def __init__(self, current: str, keys: dict[str, str]) -> None:
        """current: the room this line stands in. keys: room id → the key that opens it, where it was changed."""
        super().__init__()
        self._current = current
        self._keys = keys
        self._job = ""

    def show_job(self, text: str) -> None:
        if text != self._job:
            self._job = text
            self.refresh()

    def retranslate(self) -> None:
        self.refresh()

    def render(self) -> Content:
        tabs = self._tabs(short=False)
        if not self._job:
            return tabs
        width = self.content_size.width
        job = one_line(self._job)
        if tabs.cell_length + 2 + min(cell_len(job), _LEAST_JOB) > width:
            tabs = self._tabs(short=True)
        job = cut_middle(job, width - tabs.cell_length - 2)
        gap = " " * max(2, width - tabs.cell_length - cell_len(job))
        return Content.assemble(tabs, gap, (job, "$text-accent"))

    def _tabs(self, *, short: bool) -> Content:
        """short: of the rooms that are not shown only the letters, to leave room for the job."""
        tabs = []
        for room in ROOMS:
            title = "" if short and room.id != self._current else _(room.title).lower()
            tabs.append(self._tab(room.id, self._keys.get(room.id, room.key), title))
        return Content("" if short else " ").join(tabs)

    def _tab(self, room: str, key: str, word: str) -> Content:
        rest = word[len(key) :] if word.startswith(key) else f" {word}" if word else ""
        style = "bold reverse" if room == self._current else ""
        return Content.assemble(
            ("[", style or "$foreground-muted"),
            (key, style or "bold $text-accent"),
            ("]", style or "$foreground-muted"),
            (rest, style),
        )
