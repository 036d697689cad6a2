"""Draw a piece of Markdown, or plain text, as terminal rows of a given width."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from markdown_it.tree import SyntaxTreeNode
from rich import box
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text
from textual.strip import Strip

from qwen_tui.chat.harmless import harmless
from qwen_tui.ui.widgets.code_cuts import lexer_for
from qwen_tui.ui.widgets.markdown_blocks import Piece, markdown_parser
from qwen_tui.ui.widgets.wrapping import chop, wrap

Row = list[Segment]

_BULLETS = "•◦▪"
_MIN_WIDTH = 8


@dataclass(frozen=True)
class Look:
    """The styles to draw with; each is laid over `base`.

    code_theme: a Pygments style. code_background: a colour that Rich knows.
    """

    base: Style = field(default_factory=Style)
    heading: Style = field(default_factory=lambda: Style(bold=True))
    code: Style = field(default_factory=lambda: Style(bold=True))
    link: Style = field(default_factory=lambda: Style(underline=True))
    muted: Style = field(default_factory=lambda: Style(dim=True))
    you: Style = field(default_factory=lambda: Style(bold=True))
    model: Style = field(default_factory=lambda: Style(bold=True))
    error: Style = field(default_factory=lambda: Style(bold=True))
    code_theme: str = "monokai"
    code_background: str = "default"


class RowRenderer:
    """Renders with one look; keep one per look, it holds a parser and a console."""

    def __init__(self, look: Look) -> None:
        self.look = look
        self._parser = markdown_parser()
        self._console = Console(
            file=io.StringIO(),
            width=80,
            height=25,
            force_terminal=True,
            color_system="truecolor",
            legacy_windows=False,
            markup=False,
            highlight=False,
            emoji=False,
        )
        self._bold = Style(bold=True)
        self._inline_styles = {
            "em": Style(italic=True),
            "strong": Style(bold=True),
            "s": Style(strike=True),
        }

    def markdown(self, piece: Piece, width: int) -> list[Strip]:
        """The rows of one piece of Markdown, each exactly `width` cells wide."""
        indent = min(piece.indent, max(0, width - _MIN_WIDTH))
        tree = SyntaxTreeNode(self._parser.parse(harmless(piece.source)))
        rows = self._blocks(tree.children, max(2, width - indent), gaps=True)
        if indent:
            pad = Segment(" " * indent, self.look.base)
            rows = [[pad, *row] for row in rows]
        return [self._strip(row, width) for row in rows]

    def plain(self, text: str, width: int, style: Style | None = None, prefix: str = "") -> list[Strip]:
        """The rows of a text that is no Markdown; `prefix` stands before each."""
        style = self.look.base + style if style else self.look.base
        body = wrap(Text(harmless(text), style), max(2, width - len(prefix)))
        lead = [Segment(prefix, self.look.base + self.look.muted)] if prefix else []
        return [self._strip([*lead, *self._segments(line)], width) for line in body]

    def _strip(self, row: Row, width: int) -> Strip:
        safe = [
            segment if segment.text.isprintable() else Segment(_one_line(segment.text), segment.style)
            for segment in row
            if segment.text and not segment.control
        ]
        return Strip(safe).adjust_cell_length(width, self.look.base)

    def _segments(self, line: Text) -> Row:
        if not line.spans:
            # Rich leaves the text's own style out where there are no spans.
            style = Style.parse(line.style) if isinstance(line.style, str) else line.style
            return [Segment(line.plain, style)] if line.plain else []
        return [segment for segment in line.render(self._console, end="") if segment.text]

    def _blocks(self, nodes: Sequence[SyntaxTreeNode], width: int, gaps: bool, depth: int = 0) -> list[Row]:
        rows: list[Row] = []
        for number, node in enumerate(nodes):
            apart = gaps or (node.type == "paragraph" and not node.hidden)
            if number and apart:
                rows.append([])
            rows.extend(self._block(node, max(2, width), depth))
        return rows

    def _block(self, node: SyntaxTreeNode, width: int, depth: int) -> list[Row]:
        kind = node.type
        if kind == "heading":
            style = self.look.heading + (Style(underline=True) if node.tag == "h1" else Style())
            return self._wrapped(self._inline(node, style), width)
        if kind in ("fence", "code_block"):
            return self._code(node.content, node.info if kind == "fence" else "", width)
        if kind in ("bullet_list", "ordered_list"):
            return self._list(node, width, depth)
        if kind == "blockquote":
            bar = Segment("▌ ", self.look.base + self.look.muted)
            return [[bar, *row] for row in self._blocks(node.children, max(_MIN_WIDTH, width - 2), True, depth)]
        if kind == "hr":
            return [[Segment("─" * width, self.look.base + self.look.muted)]]
        if kind == "table":
            return self._table(node, width)
        if kind == "paragraph":
            return self._wrapped(self._inline(node), width)
        return self._wrapped(Text(harmless(node.content), self.look.base), width)

    def _wrapped(self, text: Text, width: int) -> list[Row]:
        return [self._segments(line) for line in wrap(text, width)]

    def _list(self, node: SyntaxTreeNode, width: int, depth: int) -> list[Row]:
        start = int(node.attrs.get("start", 1)) if node.type == "ordered_list" else None
        column = 2 if start is None else len(str(start + len(node.children) - 1)) + 2
        inner = max(_MIN_WIDTH, width - column)
        mark_style = self.look.base + self.look.heading
        rows: list[Row] = []
        for number, item in enumerate(node.children):
            mark = _BULLETS[depth % 3] + " " if start is None else f"{start + number}. ".rjust(column)
            lead = Segment(mark, mark_style)
            rest = Segment(" " * column, self.look.base)
            for row in self._blocks(item.children, inner, False, depth + 1) or [[]]:
                rows.append([lead, *row])
                lead = rest
        return rows

    def _code(self, code: str, info: str, width: int) -> list[Row]:
        lexer = lexer_for(info)
        syntax = Syntax(
            "", lexer or "text", theme=self.look.code_theme, background_color=self.look.code_background, tab_size=4
        )
        background = self.look.base + Style.parse(f"on {self.look.code_background}")
        code = code.rstrip("\n")
        text = syntax.highlight(code) if lexer else Text(code)
        if text.plain.rstrip("\n") != code:  # a lexer that eats text may colour nothing
            text = Text(code)
        text.rstrip()
        text.style = background
        edge = Segment(" ", background)
        rows = []
        for line in chop(text, width - 2):
            body = Strip(self._segments(line)).adjust_cell_length(width - 2, background)
            rows.append([edge, *body, edge])
        return rows

    def _table(self, node: SyntaxTreeNode, width: int) -> list[Row]:
        table = Table(
            box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, border_style=self.look.base + self.look.muted
        )
        table.style = self.look.base
        cells = [list(row.children) for section in node.children for row in section.children]
        for cell in cells[0] if cells else []:
            justify = str(cell.attrs.get("style", "")).removeprefix("text-align:")
            table.add_column(
                self._inline(cell, self._bold),
                justify="right" if justify == "right" else "center" if justify == "center" else "left",
                overflow="fold",
            )
        for row in cells[1:]:
            table.add_row(*(self._inline(cell) for cell in row[: len(table.columns)]))
        options = self._console.options.update(width=max(width, _MIN_WIDTH), height=None)
        base = self.look.base
        return [
            [Segment(segment.text, base + segment.style if segment.style else base) for segment in line]
            for line in self._console.render_lines(table, options, pad=False)
        ]

    def _inline(self, node: SyntaxTreeNode, style: Style | None = None) -> Text:
        text = Text(style=self.look.base + style if style else self.look.base)
        for child in node.children:
            self._add_inline(text, child, Style())
        return text

    def _add_inline(self, text: Text, node: SyntaxTreeNode, style: Style) -> None:
        kind = node.type
        if kind == "softbreak":
            after = node.next_sibling.content if node.next_sibling else ""
            # Chinese needs no space where a line of the source ended.
            wide = text.plain[-1:] >= "\u2e80" and after[:1] >= "\u2e80"
            text.append("" if wide else " ", style)
        elif kind == "hardbreak":
            text.append("\n")
        elif kind == "code_inline":
            text.append(harmless(node.content), style + self.look.code)
        elif kind == "image":
            text.append(harmless(f"▣ {node.content} ({node.attrs.get('src', '')})"), style + self.look.link)
        elif kind == "link":
            begin = len(text)
            for child in node.children:
                self._add_inline(text, child, style + self.look.link)
            target = harmless(str(node.attrs.get("href", "")))
            if target and target not in (shown := text.plain[begin:]) and target != f"mailto:{shown}":
                text.append(f" ({target})", style + self.look.muted)
        elif node.children:
            inner = style + self._inline_styles.get(kind, Style())
            for child in node.children:
                self._add_inline(text, child, inner)
        else:
            text.append(harmless(node.content), style)


def merged(segments: Iterable[Segment]) -> list[Segment]:
    """The same row out of fewer segments: spaces take the style of their neighbour where that can't be seen.

    Each change of style costs some forty bytes on the way to the terminal, every time the row scrolls.
    """
    found: list[Segment] = []
    for segment in segments:
        if found:
            text, style, _control = found[-1]
            if style == segment.style or (segment.text.isspace() and _alike_as_spaces(style, segment.style)):
                found[-1] = Segment(text + segment.text, style)
                continue
            if text.isspace() and _alike_as_spaces(style, segment.style):
                found[-1] = Segment(text + segment.text, segment.style)
                continue
        found.append(segment)
    return found


def _alike_as_spaces(one: Style | None, other: Style | None) -> bool:
    if one is None or other is None or one.bgcolor != other.bgcolor:
        return False
    return not any(style.underline or style.strike or style.reverse for style in (one, other))


def _one_line(text: str) -> str:
    return harmless(text).replace("\n", " ").replace("\t", "    ")
