"""One line about a reply: how fast it came, and why it ended."""

from __future__ import annotations

from qwen_tui.chat.events import ReplyFigures
from qwen_tui.i18n import _, ngettext


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


def file_size(size: int) -> str:
    """'812 bytes', '34.2 kB', '1.2 MB'."""
    if size < 1000:
        return ngettext("{count} byte", "{count} bytes", size).format(count=size)
    return (
        _("{size} kB").format(size=f"{size / 1e3:,.1f}")
        if size < 1e6
        else _("{size} MB").format(size=f"{size / 1e6:,.1f}")
    )
