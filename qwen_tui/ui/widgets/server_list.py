"""The list of servers, endpoints and left-over processes: one line each, as many columns as fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from qwen_tui.i18n import N_, _
from qwen_tui.progress import format_bytes, format_seconds
from qwen_tui.server.endpoint_status import ENDPOINT_WORDS, EndpointStatus
from qwen_tui.server.status import STATE_WORDS, ServerStatus
from qwen_tui.ui.rooms import MOVE
from qwen_tui.ui.text import cut_middle, fit, one_line
from qwen_tui.ui.theme import ENDPOINT_LOOK, LEFT_OVER_LOOK, STATE_LOOK

if TYPE_CHECKING:
    from qwen_tui.server.orphans import Orphan

_STATE_WIDTH, _PORT_WIDTH, _UPTIME_WIDTH = 15, 6, 12

Entry: TypeAlias = "ServerStatus | EndpointStatus | Orphan"
#: Names an entry while its state changes: its kind and its name.
Key = tuple[str, str]


def key_of(entry: Entry) -> Key:
    """Names this entry among all of them."""
    if isinstance(entry, ServerStatus):
        return "server", entry.name
    if isinstance(entry, EndpointStatus):
        return "endpoint", entry.name
    return "left over", f"{entry.pid} {entry.started}"


def uptime(status: ServerStatus, now: float) -> str:
    """How long `status` has run at the Unix time `now`: whole seconds in the first minute, then whole minutes."""
    if status.started_at is None or not status.state.is_alive or status.next_try is not None:
        return ""
    return in_minutes(max(0.0, now - status.started_at))


def in_minutes(seconds: float) -> str:
    """Whole seconds in the first minute, then whole minutes."""
    if seconds < 60:
        return format_seconds(seconds)
    if seconds < 3600:
        return _("{minutes} min").format(minutes=int(seconds // 60))
    return format_seconds(seconds // 60 * 60)


def state_words(status: ServerStatus) -> str:
    """The state, or when the next try is."""
    if status.next_try is None:
        return _(STATE_WORDS[status.state])
    return _("again in {seconds:.0f} s").format(seconds=status.next_try)


def row(entry: Entry, width: int, now: float) -> Content:
    """One entry in `width` cells: name and state always; port, uptime and model as they fit."""
    if isinstance(entry, ServerStatus):
        parts = (entry.name, state_words(entry), entry.spec.model, str(entry.spec.port), uptime(entry, now))
        return _columns(STATE_LOOK[entry.state], parts, width)
    if isinstance(entry, EndpointStatus):
        address = entry.endpoint.base_url.partition("://")[2]
        parts = (entry.name, _(ENDPOINT_WORDS[entry.state]), address, "", "")
        return _columns(ENDPOINT_LOOK[entry.state], parts, width)
    held = format_bytes(entry.gpu_memory or entry.memory)
    # Of a command only the program: the list is narrow.
    program = entry.command.partition(" ")[0].rpartition("/")[2]
    parts = (f"{entry.pid} {program}", _("left over"), "", "", held)
    return _columns(LEFT_OVER_LOOK, parts, width)


def _columns(look: tuple[str, str], parts: tuple[str, str, str, str, str], width: int) -> Content:
    """parts: name, state, model, port, and what stands at the right."""
    symbol, colour = look
    name, state, model, port, right = parts
    room = width - 2 - _STATE_WIDTH
    show_port, show_right = room >= 12 + _PORT_WIDTH, room >= 14 + _PORT_WIDTH + _UPTIME_WIDTH
    room -= _PORT_WIDTH * show_port + _UPTIME_WIDTH * show_right
    name_width = room if room < 40 else min(32, room // 2)
    drawn: list[Content | str | tuple[str, str]] = [
        (f"{symbol} ", colour),
        fit(one_line(name), name_width - 1) + " ",
        (fit(state, _STATE_WIDTH - 1) + " ", colour),
    ]
    if room >= 40:
        drawn.append(fit(one_line(model), room - name_width - 1) + " ")
    if show_port:
        drawn.append(f"{port:<{_PORT_WIDTH}}")
    if show_right:
        drawn.append((fit_right(right, _UPTIME_WIDTH), "$foreground-muted"))
    return Content.assemble(*drawn)


def fit_right(text: str, width: int) -> str:
    """`text` cut in the middle or padded at its left to exactly `width` cells."""
    cut = cut_middle(text, width)
    padded = fit(cut, width)
    return " " * (len(padded) - len(cut)) + cut


class ServerList(OptionList, inherit_bindings=False):
    """Keeps its place by the entry's key while the list changes under it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "cursor_down", N_("down"), id="servers.down", show=False, group=MOVE),
        Binding("up,k", "cursor_up", N_("up"), id="servers.up", show=False, group=MOVE),
        Binding("home", "first", N_("to the first"), id="servers.first", show=False, group=MOVE),
        Binding("end", "last", N_("to the last"), id="servers.last", show=False, group=MOVE),
    ]

    class Chosen(Message):
        """The cursor went to another entry; None when the list is empty."""

        def __init__(self, entry: Entry | None) -> None:
            super().__init__()
            self.entry = entry

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, markup=False, compact=True)
        self._entries: Sequence[Entry] = ()
        self._rows: list[Content] = []
        self._now = 0.0
        #: Where the cursor is to go as soon as that entry is there.
        self._awaited: Key | None = None

    @property
    def chosen(self) -> Entry | None:
        """What is under the cursor."""
        index = self.highlighted
        return self._entries[index] if index is not None and index < len(self._entries) else None

    def show(self, entries: Sequence[Entry], now: float, begin_at: Key | None = None) -> None:
        """Draw `entries` at the Unix time `now`; lines that say the same are left alone.

        begin_at: the entry to put the cursor on while it stands on none.
        """
        before = key_of(self.chosen) if self.chosen else begin_at
        place = self.highlighted or 0
        keys = [key_of(entry) for entry in entries]
        same_entries = keys == [key_of(entry) for entry in self._entries]
        self._entries, self._now = entries, now
        rows = [row(entry, self._row_width, now) for entry in entries]
        if not same_entries or len(rows) != self.option_count:
            if self._awaited in keys:
                before, self._awaited = self._awaited, None
            self.clear_options()
            self.add_options([Option(content) for content in rows])
            if keys:
                # What stood there may be gone: then the one that took its place.
                self.highlighted = keys.index(before) if before in keys else min(place, len(keys) - 1)
        else:
            for index, (new, old) in enumerate(zip(rows, self._rows, strict=True)):
                if not new.is_same(old):
                    self.replace_option_prompt_at_index(index, new)
        self._rows = rows

    @property
    def _row_width(self) -> int:
        return max(30, self.scrollable_content_region.width)

    def on_resize(self, event: events.Resize) -> None:
        self.show(self._entries, self._now)

    def select(self, key: Key) -> None:
        """Put the cursor on this entry; if it is not there, as soon as it is."""
        self._awaited = key
        for index, entry in enumerate(self._entries):
            if key_of(entry) == key:
                self.highlighted, self._awaited = index, None

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        self.post_message(self.Chosen(self.chosen))
