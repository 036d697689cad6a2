"""What was said, scrolling: a line-API widget whose cost does not grow with the conversation."""

from __future__ import annotations

import time
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.timer import Timer

from qwen_tui.chat.conversation import Conversation, Turn
from qwen_tui.i18n import N_
from qwen_tui.ui.rooms import MOVE
from qwen_tui.ui.widgets.block_list import BlockList
from qwen_tui.ui.widgets.markdown_rows import Look, RowRenderer
from qwen_tui.ui.widgets.turn_view import TurnView

#: Seconds between two drawings of a reply that streams; longer when drawing is dear.
INTERVAL = 0.11
#: The next drawing comes no sooner than this many times what the last one took.
_REST = 4.0
#: What drawing may send to the terminal, bytes per second: it may be at the far end of a slow SSH connection.
_TRAFFIC = 80_000
#: About what one run of text of one style costs in bytes beside the text itself.
_STYLE_BYTES = 42
#: Seconds of measuring at a time after the width has changed.
_MEASURING = 0.008


class Transcript(ScrollView, can_focus=True, inherit_bindings=False):
    """Shows a Conversation; `follow` it once, then `wake` whenever it may have changed."""

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "transcript--you",
        "transcript--model",
        "transcript--heading",
        "transcript--code",
        "transcript--link",
        "transcript--muted",
        "transcript--error",
        "transcript--code-block",
    }
    DEFAULT_CSS = """
    Transcript {
        height: 1fr; background: $background; color: $foreground;
        overflow-x: hidden; overflow-y: scroll; scrollbar-size-vertical: 0;
        & .transcript--you { color: $text-accent; text-style: bold; }
        & .transcript--model { color: $text-primary; text-style: bold; }
        & .transcript--heading { color: $text-primary; text-style: bold; }
        & .transcript--code { color: $text-warning; }
        & .transcript--link { color: $text-accent; text-style: underline; }
        & .transcript--muted { color: $text-muted; }
        & .transcript--error { color: $text-error; text-style: bold; }
        & .transcript--code-block { background: $surface; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "scroll_up", N_("up"), id="chat.line_up", show=False, group=MOVE),
        Binding("down,j", "scroll_down", N_("down"), id="chat.line_down", show=False, group=MOVE),
        Binding("pageup", "page_up", N_("page up"), id="chat.page_up", show=False, group=MOVE),
        Binding("pagedown,space", "page_down", N_("page down"), id="chat.page_down", show=False, group=MOVE),
        Binding(
            "left_square_bracket", "turn(-1)", N_("the turn before"), id="chat.turn_before", show=False, group=MOVE
        ),
        Binding("right_square_bracket", "turn(1)", N_("turn after"), id="chat.turn_after", show=False, group=MOVE),
        Binding("z", "fold", N_("fold or unfold the thinking"), id="chat.fold", show=False, group=MOVE),
        Binding("home,g", "scroll_home", N_("to the beginning"), id="chat.home", show=False, group=MOVE),
        Binding("end,G", "scroll_end", N_("to the end, and follow"), id="chat.end", show=False, group=MOVE),
    ]

    class Chosen(Message):
        """The cursor went to another turn, or to none."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._chosen: Turn | None = None
        self._chosen_rows = range(0)
        self._conversation = Conversation()
        self._views: list[TurnView] = []
        self._look = Look()
        self._thumb = Strip([Segment("▐")])
        self._mark = Strip([Segment("▌")])
        self._blocks = BlockList(RowRenderer(self._look))
        self._stick = True
        self._drawing: Timer | None = None
        self._measuring: Timer | None = None
        self._last_drawn = 0.0
        self._cost = 0.0
        self._sent = 0  # about how many bytes the last drawing sent to the terminal
        self.retry_key = "r"

    # What it shows

    def follow(self, conversation: Conversation) -> None:
        """Show this conversation from now on."""
        if conversation is not self._conversation:
            self._conversation = conversation
            self._stick = True
        self.wake()

    def wake(self) -> None:
        """Something may have changed: draw it soon, and no more often than is good."""
        if self._drawing is None and self.is_mounted:
            due = self._last_drawn + max(INTERVAL, _REST * self._cost, self._sent / _TRAFFIC)
            self._drawing = self.set_timer(max(0.001, due - time.monotonic()), self._draw)

    def scroll_to_end(self) -> None:
        """Show the end, and follow what comes."""
        self._stick = True
        self.wake()

    def redraw(self) -> None:
        """Draw everything again: another language, another look."""
        self._reset(self._blocks.width)

    @property
    def is_behind(self) -> bool:
        """Whether something that was said is not drawn yet."""
        return self._drawing is not None

    @property
    def at_end(self) -> bool:
        """Whether the last row is in view, and stays so as more comes."""
        return self._stick

    @property
    def text(self) -> str:
        """The rows as text, without trailing spaces; for tests and for looking at what is drawn."""
        rows = (self._blocks.row(number).text.rstrip() for number in range(self._blocks.height))
        return "\n".join(rows)

    # The turn under the cursor

    @property
    def chosen(self) -> Turn | None:
        """The turn that the cursor is on; None until somebody moves it."""
        return self._chosen if self._chosen in self._conversation.turns else None

    @property
    def selected(self) -> Turn | None:
        """The turn to act on: the one that the cursor is on, else the last reply with any text."""
        return self.chosen or self._conversation.last_reply

    def choose(self, turn: Turn | None) -> None:
        """Put the cursor on a turn, or away."""
        if turn is not self._chosen:
            self._chosen = turn
            self._mark_chosen()
            self.refresh()
            self.post_message(self.Chosen())

    def action_turn(self, direction: int) -> None:
        """To the turn before or after; below the last one is none."""
        turns = self._conversation.turns
        place = (turns.index(self.chosen) if self.chosen else len(turns)) + direction
        if place < len(turns):
            self.choose(turns[max(0, place)] if turns else None)
            self._show_chosen()
        else:
            self.choose(None)
            self.scroll_to_end()

    def action_fold(self) -> None:
        """Fold or unfold the thinking of the chosen turn, or of the last that has some."""
        views = [view for view in self._views if view.has_thinking and self.chosen in (None, view.turn)]
        if views:
            views[-1].fold_thinking()
            self._return_to(self._place())
            if self._measuring is None:
                self._measuring = self.set_timer(0.02, self._measure_some)

    def _show_chosen(self) -> None:
        """Scroll so that the chosen turn is in view: whole, or its beginning."""
        view = next((view for view in self._views if view.turn is self._chosen), None)
        if view is None:
            return
        top, height = self.scroll_offset.y, self.size.height
        self._blocks.measure_range(self._blocks.top(view.first_block), self._blocks.top(view.first_block) + height)
        self._mark_chosen()
        rows = self._chosen_rows
        if rows.start < top or rows.stop > top + height:
            over = max(0, rows.stop - rows.start - height)
            self._stick = False
            self.scroll_to(
                y=rows.start if rows.start < top or over else rows.stop - height, animate=False, immediate=True
            )

    def _mark_chosen(self) -> None:
        """Find the rows of the chosen turn."""
        self._chosen_rows = range(0)
        if self._chosen is None:
            return
        for number, view in enumerate(self._views):
            if view.turn is self._chosen:
                after = self._views[number + 1].first_block if number + 1 < len(self._views) else None
                end = self._blocks.height if after is None else self._blocks.top(after) - self._blocks.blocks[after].gap
                self._chosen_rows = range(self._blocks.top(view.first_block), end)

    # Drawing

    def _draw(self) -> None:
        self._drawing = None
        began = time.perf_counter()
        top, thumb = self.scroll_offset.y, self._thumb_rows()
        more = self._catch_up()
        self._settle()
        if self.scroll_offset.y != top:  # all of it is painted anyway
            self._sent = self._bytes_in_view()
        else:
            self._sent = 0
            width, height = self.size
            self.refresh(
                Region(0, max(0, self._blocks.changed_from() - top), width, height).intersection(self.size.region)
            )
            if thumb != self._thumb_rows():
                self.refresh(Region(width - 1, 0, 1, height))
        self._cost = time.perf_counter() - began
        self._last_drawn = time.monotonic()
        if more:
            self.wake()

    def _bytes_in_view(self) -> int:
        first, (width, height) = self.scroll_offset.y, self.size
        runs = sum(len(self._blocks.row(number)) for number in range(first, first + height))
        return runs * _STYLE_BYTES + width * height

    def _catch_up(self) -> bool:
        """Take over turns and a portion of text; True if there is more to take."""
        turns = self._conversation.turns
        same = 0
        for view, turn in zip(self._views, turns, strict=False):
            if view.turn is not turn or view.is_stale:
                break
            same += 1
        if same < len(self._views):
            self._blocks.truncate(self._views[same].first_block)
            del self._views[same:]
            self._stick = True
        if self._views and self._views[-1].catch_up():
            return True
        for turn in turns[len(self._views) :]:
            names = {call.id: call.name for turn in turns for call in turn.tool_calls} if turn.tool_call_id else {}
            caption = names.get(turn.tool_call_id, "")
            self._views.append(TurnView(turn, self._blocks, self.retry_key, caption))
            if self._views[-1].catch_up():
                return True
        return False

    def _settle(self) -> None:
        """Take over the new height, and keep the end in view if it was."""
        height = self._blocks.height
        self._mark_chosen()
        if height != self.virtual_size.height or self._blocks.width != self.virtual_size.width:
            self.virtual_size = Size(self._blocks.width, height)
        if self._stick:
            self.scroll_end(animate=False, immediate=True, x_axis=False)

    def render_line(self, y: int) -> Strip:
        row = self._blocks.row(self.scroll_offset.y + y)
        if self.scroll_offset.y + y in self._chosen_rows:
            row = Strip.join([self._mark, row.crop(1)])
        return Strip.join([row.crop(0, row.cell_length - 1), self._thumb]) if y in self._thumb_rows() else row

    def _thumb_rows(self) -> range:
        """The rows of the view that show where in the whole it is.

        A part of the text's own rows: a scroll bar beside them would be sent again with every row that scrolls.
        """
        view, whole = self.size.height, self._blocks.height
        if not 0 < view < whole:
            return range(0)
        length = max(1, view * view // whole)
        top = round(self.scroll_offset.y * (view - length) / (whole - view))
        return range(top, top + length)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        self._stick = round(new_value) >= self.max_scroll_y

    # Width and look

    def on_resize(self, event: events.Resize) -> None:
        width = self.scrollable_content_region.width
        if width > 0 and width != self._blocks.width:
            self._reset(width)
        elif self._stick:
            self.scroll_end(animate=False, immediate=True, x_axis=False)

    def notify_style_update(self) -> None:
        super().notify_style_update()
        if self.is_mounted:
            look = self._make_look()
            if look != self._look:
                self._wear(look)
                self._reset(self._blocks.width)

    def on_mount(self) -> None:
        self._wear(self._make_look())
        self._blocks.reset(RowRenderer(self._look), self._blocks.width)

    def _wear(self, look: Look) -> None:
        self._look = look
        self._thumb = Strip([Segment("▐", look.base + look.muted)], 1)
        self._mark = Strip([Segment("▌", look.base + look.you)], 1)

    def _make_look(self) -> Look:
        def style(name: str) -> Style:
            found = self.get_component_rich_style(f"transcript--{name}", partial=True)
            return Style(color=found.color, bold=found.bold or None, underline=found.underline or None)

        block = self.get_component_rich_style("transcript--code-block")
        colour = block.bgcolor.get_truecolor().hex if block.bgcolor and not block.bgcolor.is_default else "default"
        return Look(
            base=Style(color=self.rich_style.color, bgcolor=self.rich_style.bgcolor),
            heading=style("heading"),
            code=style("code"),
            link=style("link"),
            muted=style("muted"),
            you=style("you"),
            model=style("model"),
            error=style("error"),
            code_theme="github-dark" if self.app.current_theme.dark else "friendly",
            code_background=colour,
        )

    def _reset(self, width: int) -> None:
        """All rows are void: draw what is in view at once, and measure the rest in small portions."""
        place = self._place()
        self._blocks.reset(RowRenderer(self._look), width)
        if self._measuring is None:
            self._measuring = self.set_timer(0.02, self._measure_some)
        self._return_to(place)

    def _place(self) -> tuple[int, int]:
        """The block at the top of the view, and the row within it."""
        row = self.scroll_offset.y
        index = self._blocks.index_at(row)
        return (index, row - self._blocks.top(index)) if index >= 0 else (-1, 0)

    def _return_to(self, place: tuple[int, int]) -> None:
        """Show the same block at the top as before, or the end if that was in view."""
        blocks, view = self._blocks, max(1, self.size.height)
        index, offset = place
        if self._stick:
            for number in range(len(blocks.blocks) - 1, -1, -1):
                blocks.measure(number)
                if blocks.height - blocks.top(number) > view:
                    break
        elif index >= 0:
            blocks.measure_range(blocks.top(index), blocks.top(index) + view)
        stick = self._stick
        self._settle()
        self.refresh()
        if not stick and 0 <= index < len(blocks.blocks):
            offset = min(offset, blocks.blocks[index].height - 1)
            self.scroll_to(y=blocks.top(index) + offset, animate=False, immediate=True)

    def _measure_some(self) -> None:
        self._measuring = None
        place = self._place()
        end = time.perf_counter() + _MEASURING
        while (index := self._blocks.next_unmeasured()) is not None:
            self._blocks.measure(index)
            if time.perf_counter() > end:
                self._measuring = self.set_timer(0.03, self._measure_some)
                break
        self._return_to(place)
