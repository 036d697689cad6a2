"""What is known of one token: how likely it was, and what else could have stood in its place."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from textual.content import Content

from qwen_tui.chat.harmless import harmless_json
from qwen_tui.chat.logprobs import TokenChance, perplexity, share
from qwen_tui.i18n import _
from qwen_tui.ui.text import cut_middle
from qwen_tui.ui.widgets.token_text import level

_BLOCKS = " ▏▎▍▌▋▊▉█"
_COLOURS = {
    "sure": "$text-success",
    "likely": "$text-accent",
    "unsure": "$text-warning",
    "unlikely": "$text-error",
    "unknown": "$text-muted",
}
_BAR = 12


def bar(part: float, width: int = _BAR) -> str:
    """A bar of `width` cells, filled to `part` (0 to 1), exact to an eighth of a cell."""
    eighths = round(min(max(part, 0.0), 1.0) * width * 8)
    whole, rest = divmod(eighths, 8)
    return ("█" * whole + (_BLOCKS[rest] if rest else "")).ljust(width)


def percent(part: float) -> str:
    """'62.1 %', '<0.1 %': seven cells."""
    return f"{part * 100:5.1f} %" if part >= 0.001 or part == 0 else " <0.1 %"


def token_content(chances: Sequence[TokenChance], texts: Sequence[str], place: int, width: int) -> Content:
    """The lines about the token at `place`."""
    chance = chances[place]
    colour = _COLOURS[level(chance)]
    head = _("token {place} of {count}").format(place=f"{place + 1:,}", count=f"{len(chances):,}")
    lines = [Content.styled(head, "$text-muted"), Content.styled(_quoted(texts[place], width), f"bold {colour}")]
    if chance.data and not texts[place]:
        part = _("part of a character: {bytes}").format(bytes=chance.data.hex(" "))
        lines.append(Content.styled(part, "$text-muted"))
    if chance.share is None:
        lines.append(Content.styled(_("nothing came before it: no probability"), "$text-muted"))
        return Content("\n").join(lines)
    found = [(token, logprob) for token, logprob in chance.alternatives if logprob != chance.logprob]
    rows = [(texts[place] or chance.token, chance.share, True)]
    rows += [(token, share(logprob), False) for token, logprob in found]
    rows.sort(key=lambda row: -row[1])
    lines.append(Content())
    for token, likely, is_it in rows:
        lead = Content.assemble(("▸ " if is_it else "  ", "bold"), (bar(likely), colour if is_it else "$text-muted"))
        name = _quoted(token, width - _BAR - 11)
        lines.append(Content.assemble(lead, f" {percent(likely)}  ", (name, "bold" if is_it else "")))
    if not found:
        lines.append(Content.styled(_("No alternatives were asked for"), "$text-muted"))
    return Content("\n").join(lines)


def summary(chances: Sequence[TokenChance]) -> str:
    """One line about them all."""
    known = [chance.share for chance in chances if chance.share is not None]
    parts = [_("{count} tokens").format(count=f"{len(chances):,}")]
    value = perplexity(chances)
    if value is not None:
        parts.append(_("perplexity {value}").format(value=f"{value:,.2f}"))
        low = sum(1 for part in known if part < 0.1)
        parts.append(_("{percent} of them below 10 %").format(percent=f"{low / len(known) * 100:.0f} %"))
    return " · ".join(parts)


def _quoted(text: str, width: int) -> str:
    name = harmless_json(text)
    return name if cell_len(name) <= width else cut_middle(name, max(4, width))
