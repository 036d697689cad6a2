"""The first line of the Watch room: whose numbers these are, and how old."""

from __future__ import annotations

import time

from textual.content import Content

from qwen_tui.i18n import _
from qwen_tui.progress import format_seconds
from qwen_tui.server.endpoint_status import ENDPOINT_WORDS, EndpointStatus
from qwen_tui.server.status import PHASE_WORDS, ServerState, ServerStatus
from qwen_tui.server.watch import Watch, can_be_asked
from qwen_tui.ui.text import one_line
from qwen_tui.ui.theme import ENDPOINT_LOOK, STATE_LOOK
from qwen_tui.ui.widgets.charts import span_words
from qwen_tui.ui.widgets.server_list import state_words

_MUTED = "$foreground-muted"


def state_line(target: ServerStatus | EndpointStatus | None, watch: Watch, span: int, now: float) -> Content:
    """Name and state, why there are no newer numbers, and what the charts span (seconds). now: Unix time."""
    shown = _("charts: last {span}").format(span=span_words(span))
    if target is None:
        return Content.assemble(
            (_("No server to watch."), "bold"), " ", _("Press s, then n, to start one."), (f"   {shown}", _MUTED)
        )
    if isinstance(target, EndpointStatus):
        (symbol, colour), word = ENDPOINT_LOOK[target.state], _(ENDPOINT_WORDS[target.state])
    else:
        (symbol, colour), word = STATE_LOOK[target.state], state_words(target)
    parts: list[Content | str | tuple[str, str]] = [
        (f"{symbol} ", colour), (one_line(target.name), "bold"), (f"  {word}", colour),
    ]  # fmt: skip
    if isinstance(target, EndpointStatus):
        if target.problem is not None:
            parts.append(f"  {one_line(target.problem.why or target.problem.title)}")
    elif target.state is ServerState.STARTING:
        parts.append("  " + _starting(target))
    if can_be_asked(target) and watch.problem is not None:
        parts.append((f"  {one_line(watch.problem.title)}", "$text-warning"))
        if watch.problem.why:
            parts.append(f": {one_line(watch.problem.why)}")
    if watch.seen_at is not None and (not can_be_asked(target) or watch.problem is not None):
        at = time.strftime("%H:%M:%S", time.localtime(watch.seen_at))
        ago = format_seconds(max(0.0, now - watch.seen_at))
        parts.append("  " + _("last seen at {time}, {ago} ago").format(time=at, ago=ago))
    elif watch.figures.kv_tokens:
        holds = _("KV cache holds {count} tokens").format(count=f"{watch.figures.kv_tokens:,}")
        parts.append((f"  {holds}", _MUTED))
    return Content.assemble(*parts, (f"   {shown}", _MUTED))


def _starting(target: ServerStatus) -> str:
    """The phase, and about how long to go."""
    start = target.start
    if start is None:
        return _("its numbers come when it is ready")
    text = _(PHASE_WORDS[start.phase])
    if start.total:
        text += f" {start.done:,}/{start.total:,}"
    if start.eta is not None:
        text += " · " + _("about {time} to go").format(time=format_seconds(start.eta))
    return text
