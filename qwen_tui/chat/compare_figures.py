"""The figures of one side of a comparison, on one line, next to the other's."""

from __future__ import annotations

from qwen_tui.chat.compare import Side
from qwen_tui.chat.events import ReplyFigures
from qwen_tui.chat.figures import duration
from qwen_tui.chat.harmless import harmless
from qwen_tui.i18n import _

#: A difference smaller than this part is none: two runs of the same differ by as much.
_ALIKE = 0.05


def side_figures(side: Side, other: ReplyFigures | None) -> str:
    """'TTFT 52 ms ▲ · 41.3 tokens/s · 128 tokens · stop'; '▲' stands at what is better than the other side's by 5 %."""
    reply, figures = side.reply, side.figures
    if reply is None:
        return ""
    if reply.error is not None:
        return "✗ " + harmless(reply.error.title)
    if figures is None:
        return _("waiting for the first token…") if reply.state.is_open else ""
    parts = []
    if figures.ttft_s is not None:
        better = other is not None and other.ttft_s is not None and figures.ttft_s < other.ttft_s * (1 - _ALIKE)
        parts.append(f"TTFT {duration(figures.ttft_s)}{' ▲' if better else ''}")
    rate = figures.tokens_per_s
    if rate is not None:
        others = other.tokens_per_s if other is not None else None
        better = others is not None and rate > others * (1 + _ALIKE)
        shown = f"{rate:.1f}" if rate < 99.95 else f"{rate:,.0f}"
        parts.append(_("{rate} tokens/s").format(rate=shown) + (" ▲" if better else ""))
    parts.append(_("{count} tokens").format(count=f"{'~' if figures.estimated else ''}{figures.completion_tokens:,}"))
    if reply.state.value == "stopped":
        parts.append(_("stopped"))
    elif not reply.state.is_open and figures.finish_reason:
        parts.append(harmless(figures.finish_reason))
    return " · ".join(parts)
