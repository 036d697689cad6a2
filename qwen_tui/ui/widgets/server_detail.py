"""What is known of one server, as text: the facts, the exact command, and the card of one that ended."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from textual.content import Content

from qwen_tui.i18n import _
from qwen_tui.progress import format_seconds
from qwen_tui.server.reach import is_remote_session, ssh_line
from qwen_tui.server.service import describe_exit
from qwen_tui.server.status import PHASE_WORDS, Phase, ServerState, ServerStatus
from qwen_tui.ui.text import cut_middle, one_line, plain
from qwen_tui.ui.theme import STATE_LOOK
from qwen_tui.ui.widgets.server_list import state_words, uptime


def headline(status: ServerStatus) -> Content:
    """Symbol, name, state."""
    symbol, colour = STATE_LOOK[status.state]
    return Content.assemble(
        (f"{symbol} ", colour), (one_line(status.name), "bold"), (f"  {state_words(status)}", colour)
    )


def card(status: ServerStatus) -> Content:
    """What happened and what to press, for a server that was stopped; `failure_card` is for one that failed."""
    asked = status.exit is not None and status.exit.asked and not status.exit.reason
    what = _("It was stopped.") if asked else one_line(describe_exit(status))
    lines = [headline(status), Content(""), Content(what)]
    if status.restarts:
        lines.append(Content(_("Restarted {count} times by its keeper.").format(count=status.restarts)))
    keys = [
        ("enter", _("start it again")),
        ("l", _("read its log")),
        ("e", _("change it")),
        ("d", _("delete its record and log")),
    ]
    return Content("\n").join([*lines, Content(""), *key_lines(keys)])


def waiting_card(status: ServerStatus) -> Content:
    """What happened, and when its keeper tries again."""
    lines = [headline(status), Content(""), Content.styled(one_line(describe_exit(status)), "$text-error")]
    if status.cause:
        lines += [Content(""), Content.styled(_("Why"), "bold"), Content(plain(status.cause).strip())]
    again = _("It is started again in {seconds:.0f} s: attempt {number} of {most}.").format(
        seconds=status.next_try or 0.0, number=status.failures + 1, most=max(status.failures_most, status.failures + 1)
    )
    keys = [("x", _("leave it at that")), ("l", _("read its log")), ("e", _("change it"))]
    return Content("\n").join([*lines, Content(""), Content.styled(again, "bold"), Content(""), *key_lines(keys)])


def key_lines(keys: Sequence[tuple[str, str]]) -> list[Content]:
    """What to press: key and text, a line each."""
    return [Content.assemble((f"{key:<5}", "bold $text-accent"), "  ", text) for key, text in keys]


def facts(status: ServerStatus, now: float, width: int) -> Content:
    """Label and value, a line each of at most `width` cells, for a server that lives; `now` is Unix time."""
    spec = status.spec
    pairs = [(_("address"), spec.base_url), (_("model"), spec.model)]
    if spec.served_model_name:
        pairs.append((_("served as"), spec.served_model_name))
    if spec.max_model_len is not None:
        pairs.append((_("max model len"), _("{count} tokens").format(count=f"{spec.max_model_len:,}")))
    if status.engine_version:
        pairs.append((_("engine"), f"vLLM {status.engine_version}"))
    if status.pid is not None:
        pairs.append((_("process"), str(status.pid)))
    if status.state is not ServerState.STARTING:
        pairs.append((_("up for"), uptime(status, now)))
    if status.restarts:
        pairs.append((_("restarts"), str(status.restarts)))
    if status.api_key:
        pairs.append((_("API key"), _("needed; Chat sends it for you, K copies it")))
    pairs.append((_("log"), str(status.log)))
    labels = max(cell_len(label) for label, _value in pairs)
    lines = []
    for label, value in pairs:
        pad = " " * (labels - cell_len(label))
        lines.append(
            Content.assemble((label + pad, "$foreground-muted"), "  ", cut_middle(one_line(value), width - labels - 2))
        )
    lines += _below(status)
    if not status.kept:
        lines.append(
            Content.styled(
                _("Nobody keeps it: if it ends, what it leaves behind is found by `x` only."), "$text-warning"
            )
        )
    if status.state is ServerState.UNRESPONSIVE:
        lines.append(
            Content.styled(_("Its process lives but /health does not answer. l: its log, x: stop it."), "$text-error")
        )
    return Content("\n").join(lines)


def _below(status: ServerStatus) -> list[Content]:
    """What is too long for a pair: how to get there from elsewhere, and what its start took."""
    lines = []
    if is_remote_session() or not status.spec.is_loopback:
        label = _("from your own machine (Y copies it)")
        lines.append(Content.assemble((label, "$foreground-muted"), "\n", one_line(ssh_line(status.spec))))
    if status.state is ServerState.READY and status.start is not None:
        spent = " · ".join(
            f"{_(PHASE_WORDS[phase])} {format_seconds(seconds)}"
            for phase, seconds in status.start.phases
            if phase is not Phase.READY
        )
        label = _("was ready after {time}").format(time=format_seconds(status.start.elapsed))
        lines.append(Content.assemble((label, "$foreground-muted"), "  ", spent))
    return lines


def command(status: ServerStatus) -> str:
    """The exact command of `status`, one line for a shell."""
    return status.spec.shell_command(status.engine_python or "python")
