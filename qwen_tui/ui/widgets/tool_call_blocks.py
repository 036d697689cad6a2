"""A call of a tool as blocks of a transcript: while it streams, and when it is whole."""

from __future__ import annotations

from collections.abc import Sequence

from textual.strip import Strip

from qwen_tui.chat.events import ToolCall
from qwen_tui.chat.tools import arguments_problem, pretty_arguments
from qwen_tui.i18n import _
from qwen_tui.ui.widgets.block_list import Block, Draw
from qwen_tui.ui.widgets.markdown_blocks import MarkdownSplitter, Piece, PlainSplitter
from qwen_tui.ui.widgets.markdown_rows import RowRenderer

#: Characters of a streaming call's arguments that are shown: it is drawn again with every piece.
_SHOWN = 1_000


def drawing_open_call(call: ToolCall) -> Draw:
    """A call whose arguments still come: its name, and the end of what is there."""

    def draw(renderer: RowRenderer, width: int) -> list[Strip]:
        shown = call.arguments if len(call.arguments) <= _SHOWN else "…" + call.arguments[-_SHOWN:]
        return _head(call, renderer, width) + renderer.plain(shown, width, renderer.look.muted)

    return draw


def call_blocks(call: ToolCall, indent: int) -> Sequence[Block]:
    """A whole call: its name, and its arguments with their indentation; if they are no JSON, that is said."""
    pretty = pretty_arguments(call.arguments)
    blocks = [Block(lambda renderer, width: _head(call, renderer, width), gap=1, indent=indent)]
    if arguments_problem(call.arguments):
        blocks.append(Block(lambda renderer, width: _draw_problem(call, renderer, width), indent=indent))
    if pretty is not None:
        # In JSON no line begins with a fence: line breaks inside of texts are escaped.
        splitter = MarkdownSplitter()
        pieces = [*splitter.feed(f"```json\n{pretty}\n```\n"), *splitter.finish()]
        return blocks + [Block(_markdown(piece), indent=indent) for piece in pieces]
    plain = PlainSplitter()
    return blocks + [Block(_plain(piece), indent=indent) for piece in (*plain.feed(call.arguments), *plain.finish())]


def _markdown(piece: Piece) -> Draw:
    return lambda renderer, width: renderer.markdown(piece, width)


def _plain(piece: Piece) -> Draw:
    return lambda renderer, width: renderer.plain(piece.source, width)


def _head(call: ToolCall, renderer: RowRenderer, width: int) -> list[Strip]:
    return renderer.plain(_("→ calls {name}").format(name=call.name or "?"), width, renderer.look.heading)


def _draw_problem(call: ToolCall, renderer: RowRenderer, width: int) -> list[Strip]:
    return renderer.plain("✗ " + arguments_problem(call.arguments), width, renderer.look.error)
