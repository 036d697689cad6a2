"""One line about a reply: how fast it came, and why it ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qwen_tui.chat.events import ReplyFigures
from qwen_tui.i18n import _, ngettext

if TYPE_CHECKING:
    from qwen_tui.chat.conversation import Turn


def duration(seconds: float) -> str:
    """'52 ms', '1.34 s', '75 s'."""
    if seconds < 0.9995:
        return _("{ms} ms").format(ms=f"{seconds * 1000:.0f}")
    return _("{s} s").format(s=f"{seconds:.2f}" if seconds < 9.995 else f"{seconds:,.0f}")


def figures_line(figures: ReplyFigures, stopped: bool = False) -> str:
    """'TTFT 52 ms · 41.3 tokens/s · 128 tokens (+20 prompt) · stop'; what is unknown is left out."""
    parts: list[str] = []
    if figures.ttft_s is not None:
        parts.append(f"TTFT {duration(figures.ttft_s)}")
    if figures.tokens_per_s is not None:
        rate = figures.tokens_per_s
        parts.append(_("{rate} tokens/s").format(rate=f"{rate:.1f}" if rate < 99.95 else f"{rate:,.0f}"))
    count = f"{'~' if figures.estimated else ''}{figures.completion_tokens:,}"
    if figures.prompt_tokens is not None:
        parts.append(_("{count} tokens (+{prompt} prompt)").format(count=count, prompt=f"{figures.prompt_tokens:,}"))
    else:
        parts.append(_("{count} tokens").format(count=count))
    if stopped:
        parts.append(_("stopped"))
    elif figures.finish_reason:
        # The API's own word; "length" needs saying what it means.
        parts.append(
            _("length (cut at the most tokens allowed)") if figures.finish_reason == "length" else figures.finish_reason
        )
    return " · ".join(parts)


def thinking_line(seconds: float | None, tokens: int | None) -> str:
    """'Thought for 3.20 s, 120 tokens'; what is unknown is left out."""
    if not seconds and not tokens:
        return _("Thought")
    if not tokens:
        return _("Thought for {duration}").format(duration=duration(seconds or 0.0))
    if not seconds:  # it came all at once
        return ngettext("Thought, {count} token", "Thought, {count} tokens", tokens).format(count=f"{tokens:,}")
    text = ngettext("Thought for {duration}, {count} token", "Thought for {duration}, {count} tokens", tokens)
    return text.format(duration=duration(seconds), count=f"{tokens:,}")


def details(turn: Turn) -> Sequence[tuple[str, str]]:
    """Everything that is known of how a reply came: what it is, and how much."""
    figures, rows = turn.figures, [(_("model"), turn.model)]
    if figures is None:
        return rows
    if figures.ttft_s is not None:
        rows.append(("TTFT", duration(figures.ttft_s)))
    if figures.queue_s is not None:
        rows.append((_("of that, waiting in the server's queue"), duration(figures.queue_s)))
    rows.append((_("whole reply"), duration(figures.elapsed_s)))
    if figures.tokens_per_s is not None:
        rate = _("{rate} tokens/s").format(rate=f"{figures.tokens_per_s:,.1f}")
        rows.append((_("after the first token"), rate))
    if figures.prompt_tokens is not None:
        rows.append((_("prompt tokens"), f"{figures.prompt_tokens:,}"))
    if figures.cached_tokens is not None:
        rows.append((_("of them in the prefix cache"), f"{figures.cached_tokens:,}"))
    about = "~" if figures.estimated else ""
    rows.append((_("output tokens"), f"{about}{figures.completion_tokens:,}"))
    if turn.reasoning_tokens:
        about = "" if figures.reasoning_tokens else "~"
        rows.append((_("of them thinking"), f"{about}{turn.reasoning_tokens:,}"))
    if turn.reasoning_s:
        rows.append((_("time it thought"), duration(turn.reasoning_s)))
    rows.append((_("chunks of the stream"), f"{figures.chunks:,}"))
    if figures.finish_reason:
        rows.append((_("finish reason"), figures.finish_reason))
    return rows
