"""Tokens one after the other as they make up a text, each in the colour of its probability, with a cursor."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import ClassVar

from rich.cells import cell_len, chop_cells
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from qwen_tui.chat.harmless import harmless
from qwen_tui.chat.logprobs import TokenChance, least_certain, token_texts
from qwen_tui.i18n import N_
from qwen_tui.ui.rooms import MOVE

#: From which probability on a token has which look; the last one takes the rest.
LEVELS: tuple[tuple[float, str], ...] = ((0.9, "sure"), (0.5, "likely"), (0.1, "unsure"), (0.0, "unlikely"))
#: More tokens than this are laid out in a thread.
_MANY = 3000

#: One row: for each piece, which token it belongs to and what is drawn.
Row = list[tuple[int, str]]


def level(chance: TokenChance) -> str:
    """The look of a token."""
    share = chance.share
    return "unknown" if share is None else next(name for least, name in LEVELS if share >= least)


def drawn_text(text: str, data: bytes | None) -> str:
    """A token as it is drawn: newlines as ↵, half a character by its bytes, nothing at all as ‹›."""
    if not text:
        return f"‹{data.hex(' ')}›" if data else "‹›"
    return harmless(text).replace("\n", "↵\n").replace("\t", "→   ")


def lay_out(texts: Sequence[str], width: int) -> tuple[list[Row], list[int]]:
    """The rows of the tokens' drawn texts in `width` cells, and the row in which each token begins."""
    width = max(2, width)
    rows: list[Row] = [[]]
    places: list[int] = []
    used = 0
    for index, text in enumerate(texts):
        begins = True
        for number, part in enumerate(text.split("\n")):
            if number:
                rows.append([])
                used = 0
            if not part:
                continue
            size = cell_len(part)
            if used + size > width and used:
                rows.append([])
                used = 0
            *whole, rest = chop_cells(part, width) if size > width else [part]
            if begins:
                places.append(len(rows) - 1)
                begins = False
            for piece in whole:
                rows[-1].append((index, piece))
                rows.append([])
            rows[-1].append((index, rest))
            used += size if not whole else cell_len(rest) - used
        if begins:
            places.append(len(rows) - 1)
    return rows, places


class TokenText(ScrollView, can_focus=True, inherit_bindings=False):
    """`show` tokens; says `Moved` when the cursor is on another one. Only the rows in view are drawn."""

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "token-text--sure",
        "token-text--likely",
        "token-text--unsure",
        "token-text--unlikely",
        "token-text--unknown",
        "token-text--cursor",
    }
    # The colour is never alone: what is less likely is underlined, then bold too, then reversed.
    DEFAULT_CSS = """
    TokenText {
        height: 1fr; background: $background; color: $foreground;
        overflow-x: hidden; overflow-y: auto; scrollbar-size-vertical: 1;
        & .token-text--sure { color: $text-success; }
        & .token-text--likely { color: $text-accent; text-style: underline; }
        & .token-text--unsure { color: $text-warning; text-style: bold underline; }
        & .token-text--unlikely { color: $text-error; text-style: bold reverse; }
        & .token-text--unknown { color: $text-muted; }
        & .token-text--cursor { color: $background; background: $foreground; text-style: bold; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "move(-1)", N_("the token before"), id="tokens.left", show=False, group=MOVE),
        Binding("right,l", "move(1)", N_("the token after"), id="tokens.right", show=False, group=MOVE),
        Binding("up,k", "row(-1)", N_("up"), id="tokens.up", show=False, group=MOVE),
        Binding("down,j", "row(1)", N_("down"), id="tokens.down", show=False, group=MOVE),
        Binding("pageup", "page(-1)", N_("page up"), id="tokens.page_up", show=False, group=MOVE),
        Binding("pagedown,space", "page(1)", N_("page down"), id="tokens.page_down", show=False, group=MOVE),
        Binding("home,g", "go(0)", N_("to the first"), id="tokens.first", show=False, group=MOVE),
        Binding("end,G", "go(-1)", N_("to the last"), id="tokens.last", show=False, group=MOVE),
        Binding("n", "uncertain(1)", N_("least certain"), id="tokens.uncertain", group=MOVE),
        Binding("N", "uncertain(-1)", N_("less uncertain"), id="tokens.uncertain_back", show=False, group=MOVE),
    ]

    class Moved(Message):
        """The cursor is on another token; others: there are other tokens."""

        def __init__(self, others: bool = False) -> None:
            super().__init__()
            self.others = others

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.chances: Sequence[TokenChance] = ()
        self.texts: Sequence[str] = ()
        self.cursor = 0
        self._levels: list[str] = []
        self._drawn: list[str] = []
        self._rows: list[Row] = []
        self._places: list[int] = []
        self._width = 0
        self._uncertain: list[int] = []
        self._rank = -1
        self._styles: dict[str, Style] = {}

    @property
    def rows(self) -> Sequence[str]:
        """What is drawn, for tests and for looking."""
        return ["".join(text for _index, text in row) for row in self._rows]

    async def show(self, chances: Sequence[TokenChance]) -> None:
        """Show these tokens, with the cursor on the first."""

        def prepare() -> tuple[list[str], list[str], list[str], list[int]]:
            texts = token_texts(chances)
            drawn = [drawn_text(text, chance.data) for text, chance in zip(texts, chances, strict=True)]
            return texts, drawn, [level(chance) for chance in chances], least_certain(chances)

        found = await asyncio.to_thread(prepare) if len(chances) > _MANY else prepare()
        self.texts, self._drawn, self._levels, self._uncertain = found
        self.chances, self.cursor, self._rank, self._width = chances, 0, -1, 0
        await self._lay_out()
        self.post_message(self.Moved(others=True))

    async def _lay_out(self) -> None:
        width = self.scrollable_content_region.width
        if width < 1 or width == self._width:
            return
        self._width = width
        texts = self._drawn
        rows, places = await asyncio.to_thread(lay_out, texts, width) if len(texts) > _MANY else lay_out(texts, width)
        if texts is not self._drawn or width != self._width:
            return  # meanwhile there are others
        self._rows, self._places = rows, places
        self.virtual_size = Size(width, len(rows))
        self._show_cursor()
        self.refresh()

    async def on_resize(self, event: events.Resize) -> None:
        await self._lay_out()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._styles.clear()

    def _style(self, name: str) -> Style:
        style = self._styles.get(name)
        if style is None:
            if name == "base":
                style = Style(color=self.rich_style.color, bgcolor=self.rich_style.bgcolor)
            else:
                style = self.get_component_rich_style(f"token-text--{name}")
            self._styles[name] = style
        return style

    def render_line(self, y: int) -> Strip:
        width, number = self.size.width, self.scroll_offset.y + y
        base = self._style("base")
        if not 0 <= number < len(self._rows):
            return Strip.blank(width, base)
        segments = [
            Segment(text, self._style("cursor" if index == self.cursor else self._levels[index]))
            for index, text in self._rows[number]
        ]
        return Strip(segments).adjust_cell_length(width, base)

    # The cursor

    def binding_text(self, binding: Binding) -> str:
        """What the footer says for `binding`, as a msgid."""
        return binding.description if self.chances else ""

    def _show_cursor(self) -> None:
        if len(self._places) == len(self.chances) and self.cursor < len(self._places):
            row = self._places[self.cursor]
            self.scroll_to_region(Region(0, row, 1, 1), animate=False, immediate=True, force=True, x_axis=False)

    def go_to(self, index: int) -> None:
        """Put the cursor on a token."""
        if not self.chances or len(self._places) != len(self.chances):
            return
        index = min(max(0, index), len(self.chances) - 1)
        if index != self.cursor:
            before, top = self.cursor, self.scroll_offset.y
            self.cursor = index
            self._show_cursor()
            if self.scroll_offset.y == top:
                self.refresh(*self._regions(before), *self._regions(index))
            self.post_message(self.Moved())

    def _regions(self, index: int) -> list[Region]:
        """The rows of a token, as far as they are in view."""
        last = self._places[index + 1] if index + 1 < len(self._places) else len(self._rows) - 1
        top = self.scroll_offset.y
        first = max(self._places[index], top)
        return [Region(0, row - top, self.size.width, 1) for row in range(first, min(last, top + self.size.height) + 1)]

    def action_move(self, direction: int) -> None:
        self.go_to(self.cursor + direction)

    def action_go(self, index: int) -> None:
        self.go_to(index if index >= 0 else len(self.chances) - 1)

    def action_row(self, direction: int) -> None:
        """To the token above or below."""
        if not self._places:
            return
        number = self._places[self.cursor]
        before = 0
        for index, text in self._rows[number]:
            if index == self.cursor:
                break
            before += cell_len(text)
        number += direction
        while 0 <= number < len(self._rows):
            found = self._token_at(number, before)
            if found is not None and found != self.cursor:
                self.go_to(found)
                return
            number += direction

    def _token_at(self, number: int, column: int) -> int | None:
        used, found = 0, None
        for index, text in self._rows[number]:
            found = index
            used += cell_len(text)
            if used > column:
                break
        return found

    def action_page(self, direction: int) -> None:
        if not self._places:
            return
        number = self._places[self.cursor] + direction * max(1, self.size.height - 1)
        number = min(max(0, number), len(self._rows) - 1)
        while number > 0 and not self._rows[number]:
            number -= 1
        found = self._token_at(number, 0)
        if found is not None:
            self.go_to(found)

    def action_uncertain(self, direction: int) -> None:
        """To the least certain token, then the one after it, and so on; or back."""
        if self._uncertain:
            self._rank = min(max(0, self._rank + direction), len(self._uncertain) - 1)
            self.go_to(self._uncertain[self._rank])
