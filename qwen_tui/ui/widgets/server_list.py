"""The list of servers: one line each, as many columns as fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from qwen_tui.i18n import N_, _
from qwen_tui.progress import format_seconds
from qwen_tui.server.status import STATE_WORDS, ServerStatus
from qwen_tui.ui.rooms import MOVE
from qwen_tui.ui.text import cut_middle, fit, one_line
from qwen_tui.ui.theme import STATE_LOOK

_STATE_WIDTH, _PORT_WIDTH, _UPTIME_WIDTH = 15, 6, 12


def uptime(status: ServerStatus, now: float) -> str:
    """How long `status` has run at the Unix time `now`: whole seconds in the first minute, then whole minutes."""
    if status.started_at is None or not status.state.is_alive:
        return ""
    seconds = max(0.0, now - status.started_at)
    if seconds < 60:
        return format_seconds(seconds)
    if seconds < 3600:
        return _("{minutes} min").format(minutes=int(seconds // 60))
    return format_seconds(seconds // 60 * 60)


def row(status: ServerStatus, width: int, now: float) -> Content:
    """One server in `width` cells: name and state always; port, uptime and model as they fit."""
    symbol, colour = STATE_LOOK[status.state]
    room = width - 2 - _STATE_WIDTH
    show_port, show_uptime = room >= 12 + _PORT_WIDTH, room >= 14 + _PORT_WIDTH + _UPTIME_WIDTH
    room -= _PORT_WIDTH * show_port + _UPTIME_WIDTH * show_uptime
    name_width = room if room < 40 else min(32, room // 2)
    parts: list[Content | str | tuple[str, str]] = [
        (f"{symbol} ", colour),
        fit(one_line(status.name), name_width - 1) + " ",
        (fit(_(STATE_WORDS[status.state]), _STATE_WIDTH), colour),
    ]
    if room >= 40:
        parts.append(fit(one_line(status.spec.model), room - name_width - 1) + " ")
    if show_port:
        parts.append(f"{status.spec.port:<{_PORT_WIDTH}}")
    if show_uptime:
        parts.append((f"{cut_middle(uptime(status, now), _UPTIME_WIDTH):>{_UPTIME_WIDTH}}", "$foreground-muted"))
    return Content.assemble(*parts)


class ServerList(OptionList, inherit_bindings=False):
    """Keeps its place by the server's name while the list changes under it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "cursor_down", N_("down"), id="servers.down", show=False, group=MOVE),
        Binding("up,k", "cursor_up", N_("up"), id="servers.up", show=False, group=MOVE),
        Binding("home", "first", N_("to the first"), id="servers.first", show=False, group=MOVE),
        Binding("end", "last", N_("to the last"), id="servers.last", show=False, group=MOVE),
    ]

    class Chosen(Message):
        """The cursor went to another server; name None when the list is empty."""

        def __init__(self, name: str | None) -> None:
            super().__init__()
            self.name = name

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, markup=False, compact=True)
        self._statuses: Sequence[ServerStatus] = ()
        self._rows: list[Content] = []
        self._now = 0.0

    @property
    def chosen(self) -> ServerStatus | None:
        """The server under the cursor."""
        index = self.highlighted
        return self._statuses[index] if index is not None and index < len(self._statuses) else None

    def show(self, statuses: Sequence[ServerStatus], now: float, begin_at: str = "") -> None:
        """Draw `statuses` at the Unix time `now`; lines that say the same are left alone.

        begin_at: the server to put the cursor on while it stands on none.
        """
        before = self.chosen.name if self.chosen else begin_at
        same_servers = [status.name for status in statuses] == [status.name for status in self._statuses]
        self._statuses, self._now = statuses, now
        rows = [row(status, self._row_width, now) for status in statuses]
        if not same_servers or len(rows) != self.option_count:
            self.clear_options()
            self.add_options([Option(content) for content in rows])
            names = [status.name for status in statuses]
            if names:
                self.highlighted = names.index(before) if before in names else 0
        else:
            for index, (new, old) in enumerate(zip(rows, self._rows, strict=True)):
                if not new.is_same(old):
                    self.replace_option_prompt_at_index(index, new)
        self._rows = rows

    @property
    def _row_width(self) -> int:
        return max(30, self.scrollable_content_region.width)

    def on_resize(self, event: events.Resize) -> None:
        self.show(self._statuses, self._now)

    def select(self, name: str) -> None:
        """Put the cursor on the server `name`, if it is there."""
        for index, status in enumerate(self._statuses):
            if status.name == name:
                self.highlighted = index

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        self.post_message(self.Chosen(self.chosen.name if self.chosen else None))
