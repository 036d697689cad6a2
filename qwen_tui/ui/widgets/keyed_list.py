"""A list that keeps its place by an entry's key while the entries change under it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from qwen_tui.i18n import N_
from qwen_tui.ui.rooms import MOVE

#: Draws all entries, each in so many cells.
DrawRows = Callable[[int], Sequence[Content]]


class KeyedList(OptionList, inherit_bindings=False):
    """One line per entry; lines that say the same are not drawn again."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "cursor_down", N_("down"), id="models.down", show=False, group=MOVE),
        Binding("up,k", "cursor_up", N_("up"), id="models.up", show=False, group=MOVE),
        Binding("home", "first", N_("to the first"), id="models.first", show=False, group=MOVE),
        Binding("end", "last", N_("to the last"), id="models.last", show=False, group=MOVE),
    ]

    class Moved(Message):
        """The cursor is on another entry."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, markup=False, compact=True)
        self._keys: Sequence[str] = ()
        self._rows: Sequence[Content] = ()
        self._draw: DrawRows = lambda _width: ()
        #: Where the cursor is to go as soon as that entry is there.
        self._awaited: str | None = None

    @property
    def key(self) -> str | None:
        """The key of the entry under the cursor."""
        index = self.highlighted
        return self._keys[index] if index is not None and index < len(self._keys) else None

    def show(self, keys: Sequence[str], draw: DrawRows) -> None:
        """Show the entries of these keys, as many as `draw` gives rows."""
        before, place = self.key, self.highlighted or 0
        same_entries = list(keys) == list(self._keys)
        self._keys, self._draw = keys, draw
        rows = draw(max(24, self.scrollable_content_region.width))
        if not same_entries or len(rows) != self.option_count:
            if self._awaited in keys:
                before, self._awaited = self._awaited, None
            self.clear_options()
            self.add_options([Option(content) for content in rows])
            if keys:
                self.highlighted = (
                    list(keys).index(before) if before is not None and before in keys else min(place, len(keys) - 1)
                )
        else:
            for index, (new, old) in enumerate(zip(rows, self._rows, strict=True)):
                if not new.is_same(old):
                    self.replace_option_prompt_at_index(index, new)
        self._rows = rows

    def on_resize(self, event: events.Resize) -> None:
        self.show(self._keys, self._draw)

    def select(self, key: str) -> None:
        """Put the cursor on this entry; if it is not there, as soon as it is."""
        if key in self._keys:
            self.highlighted, self._awaited = list(self._keys).index(key), None
        else:
            self._awaited = key

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        self.post_message(self.Moved())
