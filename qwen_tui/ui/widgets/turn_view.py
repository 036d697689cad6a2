"""One turn of a conversation as blocks of a transcript, kept up with while it streams."""

from __future__ import annotations

from dataclasses import dataclass

from rich.style import Style
from textual.strip import Strip

from qwen_tui.chat.attachments import Attachment
from qwen_tui.chat.conversation import ReplyState, Turn
from qwen_tui.chat.figures import figures_line, thinking_line
from qwen_tui.i18n import _
from qwen_tui.progress import format_bytes
from qwen_tui.ui.widgets.block_list import Block, BlockList, Draw
from qwen_tui.ui.widgets.markdown_blocks import MarkdownSplitter, Piece, PlainSplitter
from qwen_tui.ui.widgets.markdown_rows import RowRenderer
from qwen_tui.ui.widgets.tool_call_blocks import call_blocks, drawing_open_call

#: Empty columns left of who speaks, and left of what is said.
MARGIN = 1
INDENT = 3
#: Characters taken over at a time, so that a long text does not hold up the keys.
PORTION = 6_000


@dataclass(eq=False)
class _Thought:
    """A run of thinking: its head's block, the block after its last one (None while it streams), and how it is shown.

    by_hand: somebody folded or unfolded it.
    """

    head: int
    end: int | None = None
    folded: bool = False
    by_hand: bool = False


class TurnView:
    """Adds blocks to a list until all of `turn` is there; a finished block is not drawn again, at most folded away."""

    def __init__(self, turn: Turn, blocks: BlockList, retry_key: str = "r", called: str = "") -> None:
        """called: of a tool's result, the name of the function."""
        self.turn = turn
        self.first_block = len(blocks.blocks)
        self._called = called
        self._revision = turn.revision
        self._thoughts: list[_Thought] = []
        self.closed = False
        self._blocks = blocks
        self._retry_key = retry_key
        self._taken = {"reasoning": 0, "text": 0}
        self._segment = ""
        self._splitter: MarkdownSplitter | PlainSplitter | None = None
        self._open_blocks = 0  # blocks at the end that will be drawn again
        blocks.append(Block(self._draw_speaker, gap=1 if blocks.blocks else 0, indent=MARGIN))
        for attachment in turn.attachments:
            blocks.append(Block(_drawing_attachment(attachment), indent=INDENT))

    @property
    def is_stale(self) -> bool:
        """Whether the turn is no longer what was drawn with something more at its end."""
        return self.turn.revision != self._revision

    @property
    def has_thinking(self) -> bool:
        return bool(self._thoughts)

    def fold_thinking(self) -> None:
        """Fold the thinking away, or unfold it; from now on it stays as it is put here."""
        folded = not all(thought.folded for thought in self._thoughts)
        for thought in self._thoughts:
            thought.by_hand = True
            self._fold(thought, folded)

    def _fold(self, thought: _Thought, folded: bool) -> None:
        end = len(self._blocks.blocks) if thought.end is None else thought.end
        thought.folded = folded
        self._blocks.fold(thought.head + 1, end, folded)
        self._blocks.redraw(thought.head)

    def catch_up(self) -> bool:
        """Take over a portion of what is new; True if there is more."""
        if self.closed:
            return False
        turn, blocks = self.turn, self._blocks
        blocks.truncate(len(blocks.blocks) - self._open_blocks)
        self._open_blocks = 0
        room = PORTION
        for segment in ("reasoning", "text"):
            whole: str = getattr(turn, segment)
            new = whole[self._taken[segment] : self._taken[segment] + room]
            if new:
                self._taken[segment] += len(new)
                room -= len(new)
                self._take(segment, new)
        if self._taken["text"] < len(turn.text) or self._taken["reasoning"] < len(turn.reasoning):
            self._show_tail()
            return True
        if turn.state.is_open:
            self._show_tail()
        else:
            self._close()
        return False

    def _take(self, segment: str, text: str) -> None:
        if segment != self._segment:
            self._end_segment()
            self._segment = segment
            is_markdown = segment == "text" and self.turn.is_reply
            self._splitter = MarkdownSplitter() if is_markdown else PlainSplitter()
            if segment == "reasoning":
                self._begin_thought()
        assert self._splitter is not None
        for piece in self._splitter.feed(text):
            self._blocks.append(self._block(piece))

    def _end_segment(self) -> None:
        if self._splitter is not None:
            for piece in self._splitter.finish():
                self._blocks.append(self._block(piece))
        self._splitter = None
        if self._thoughts and self._thoughts[-1].end is None:
            thought = self._thoughts[-1]
            thought.end = len(self._blocks.blocks)
            # Of a turn that brought nothing else, the thinking is what there is to see.
            keeps_open = not (self.turn.text or self.turn.tool_calls)
            self._fold(thought, thought.folded if thought.by_hand else not keeps_open)

    def _begin_thought(self) -> None:
        thought = _Thought(len(self._blocks.blocks))
        self._thoughts.append(thought)
        gap = 0 if thought.head == self.first_block + 1 else 1
        self._blocks.append(
            Block(lambda renderer, width: self._draw_thought(thought, renderer, width), gap=gap, indent=INDENT)
        )

    def _show_tail(self) -> None:
        before = len(self._blocks.blocks)
        tail = self._splitter.tail if self._splitter else None
        if tail is not None:
            self._blocks.append(self._block(tail))
        elif self.turn.state is ReplyState.WAITING:
            self._blocks.append(Block(_draw_waiting, indent=INDENT))
        for call in self.turn.tool_calls:
            self._blocks.append(Block(drawing_open_call(call), gap=1, indent=INDENT))
        if self._thoughts and self._thoughts[-1].folded and self._segment == "reasoning":
            self._blocks.fold(self._thoughts[-1].head + 1, before + (tail is not None), True)
        self._open_blocks = len(self._blocks.blocks) - before

    def _close(self) -> None:
        self._end_segment()
        self.closed = True
        turn = self.turn
        for call in turn.tool_calls:
            for block in call_blocks(call, INDENT):
                self._blocks.append(block)
        if turn.figures is not None and turn.is_reply:
            self._blocks.append(Block(self._draw_figures, gap=1, indent=INDENT))
        elif turn.state is ReplyState.STOPPED:
            self._blocks.append(Block(self._draw_stopped, gap=1, indent=INDENT))
        if turn.error is not None:
            self._blocks.append(Block(self._draw_error, gap=1, indent=INDENT))

    def _block(self, piece: Piece) -> Block:
        is_first = len(self._blocks.blocks) == self.first_block + 1
        if self._segment == "reasoning" and self._thoughts[-1].head == len(self._blocks.blocks) - 1:
            is_first = True
        return Block(self._drawing(piece), gap=0 if piece.follows or is_first else 1, indent=INDENT)

    def _drawing(self, piece: Piece) -> Draw:
        if self._segment == "text" and self.turn.is_reply:
            return lambda renderer, width: renderer.markdown(piece, width)
        if self._segment == "reasoning":
            return lambda renderer, width: renderer.plain(
                piece.source.rstrip("\n"), width, renderer.look.muted + Style(italic=True), prefix="│ "
            )
        return lambda renderer, width: renderer.plain(piece.source, width)

    # What is drawn around the text; translated when drawn.

    def _draw_speaker(self, renderer: RowRenderer, width: int) -> list[Strip]:
        turn, look = self.turn, renderer.look
        after = " · " + _("not sent") if turn.left_out else ""
        if turn.is_reply:
            return renderer.plain((turn.model or _("Model")) + after, width, look.model)[:1]
        if turn.role == "tool":
            return renderer.plain(_("Result of {name}").format(name=self._called) + after, width, look.you)[:1]
        return renderer.plain(_("You") + after, width, look.you)[:1]

    def _draw_thought(self, thought: _Thought, renderer: RowRenderer, width: int) -> list[Strip]:
        if thought.end is None:
            text = "▾ " + _("Thinking…")
        else:
            text = f"{'▸' if thought.folded else '▾'} " + thinking_line(
                self.turn.reasoning_s, self.turn.reasoning_tokens
            )
            text += " · " + (_("z unfolds") if thought.folded else _("z folds"))
        return renderer.plain(text, width, renderer.look.muted)

    def _draw_figures(self, renderer: RowRenderer, width: int) -> list[Strip]:
        assert self.turn.figures is not None
        line = figures_line(self.turn.figures, stopped=self.turn.state is ReplyState.STOPPED)
        return renderer.plain(line, width, renderer.look.muted)

    def _draw_stopped(self, renderer: RowRenderer, width: int) -> list[Strip]:
        return renderer.plain(_("stopped"), width, renderer.look.muted)

    def _draw_error(self, renderer: RowRenderer, width: int) -> list[Strip]:
        error = self.turn.error
        assert error is not None
        rows = renderer.plain(f"✗ {error.title}", width, renderer.look.error)
        if error.why:
            rows += renderer.plain(error.why, width)
        if error.hint:
            rows += renderer.plain(error.hint, width)
        return rows + renderer.plain(_("{key} asks again").format(key=self._retry_key), width, renderer.look.muted)


def _draw_waiting(renderer: RowRenderer, width: int) -> list[Strip]:
    return renderer.plain(_("waiting for the first token…"), width, renderer.look.muted)


def _drawing_attachment(attachment: Attachment) -> Draw:
    sign = "▣" if attachment.kind == "image" else "≡"
    text = f"{sign} {attachment.name} · {format_bytes(attachment.size)} · {attachment.path}"
    return lambda renderer, width: renderer.plain(text, width, renderer.look.muted)[:1]
