"""A batch as text: a row of the list, and all that is known of one."""

from __future__ import annotations

from pathlib import Path

from textual.content import Content

from qwen_tui.batch.state import STATUS_WORDS, BatchState, BatchStatus
from qwen_tui.i18n import _, ngettext
from qwen_tui.progress import format_seconds
from qwen_tui.ui.text import cut_middle, fit, one_line, plain
from qwen_tui.ui.widgets.phase_bar import bar

#: How a status looks: its mark and its colour.
LOOK: dict[BatchStatus, tuple[str, str]] = {
    BatchStatus.STARTING: ("◐", "$text-warning"),
    BatchStatus.RUNNING: ("▶", "$text-success"),
    BatchStatus.ENDING: ("◐", "$text-warning"),
    BatchStatus.DONE: ("✓", "$text-success"),
    BatchStatus.CANCELLED: ("■", "$foreground-muted"),
    BatchStatus.FAILED: ("✗", "$text-error"),
    BatchStatus.INTERRUPTED: ("!", "$text-error"),
}
_BAR = 20


def batch_row(state: BatchState, width: int) -> Content:
    """One line of the list."""
    mark, colour = LOOK[state.status]
    share = f"{int(100 * state.done / state.total) if state.total else 0:>3} %"
    name = fit(one_line(state.output.name), max(8, width - 9))
    return Content.assemble((f"{mark} ", colour), name, " ", share)


def batch_lines(state: BatchState, phase: str, width: int) -> Content:
    """What it is, how far it is, and what is wrong. phase: how far the engine's start is, in words."""
    mark, colour = LOOK[state.status]
    title = f"{mark} {_(STATUS_WORDS[state.status])}"
    lines = [Content.assemble((title, f"bold {colour}"), f"  {phase}" if phase else "")]
    lines.append(_figures(state))
    room = max(20, width - 10)
    model = Path(state.model).name if state.model.startswith("/") else state.model
    through = state.order["server"]["base_url"] if state.order.get("server") else _("an engine of its own")
    for label, text in (
        (_("Model"), f"{model} · {through}"),
        (_("Input"), str(state.order["input"]["path"])),
        (_("Output"), str(state.output)),
    ):
        lines.append(Content.assemble((fit(label, 9), "$text-muted"), cut_middle(one_line(text), room)))
    if state.failed:
        words = ngettext("{n} row got no answer: {file}", "{n} rows got no answer: {file}", state.failed)
        text = words.format(n=f"{state.failed:,}", file=one_line(str(state.errors)))
        lines.append(Content.styled(text, "$text-warning"))
    if state.problem is not None:
        lines.append(Content.styled(plain(state.problem.title), "bold $text-error"))
        lines += [Content(plain(text)) for text in (state.problem.why, state.problem.hint) if text]
    return Content("\n").join(lines)


def _figures(state: BatchState) -> Content:
    """How much is done, how fast, and how long it will take."""
    share = state.done / state.total if state.total else 0.0
    parts = [f"{state.done:,}/{state.total:,}"]
    if state.requests_rate:
        parts.append(_("{n} requests/s").format(n=f"{state.requests_rate:,.2f}"))
    if state.tokens_rate:
        parts.append(_("{rate} tokens/s").format(rate=f"{state.tokens_rate:,.0f}"))
    if state.status is BatchStatus.RUNNING and state.eta is not None:
        parts.append(_("{time} to go").format(time=format_seconds(state.eta)))
    elif state.seconds:
        parts.append(format_seconds(state.seconds))
    filled, rest = bar(share, _BAR)
    return Content.assemble(
        (filled, "$primary on $surface-lighten-1"), (rest, "on $surface-lighten-1"), "  ", "  ".join(parts)
    )
