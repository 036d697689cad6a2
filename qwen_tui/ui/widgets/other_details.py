"""What is known of an endpoint, and of a process that was left over, as text; and what to do where there is nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len
from textual.content import Content

from qwen_tui.i18n import _, ngettext
from qwen_tui.progress import format_bytes
from qwen_tui.server.endpoint_status import ENDPOINT_WORDS, EndpointState, EndpointStatus
from qwen_tui.ui.text import one_line, plain
from qwen_tui.ui.theme import ENDPOINT_LOOK, LEFT_OVER_LOOK
from qwen_tui.ui.widgets.server_detail import key_lines
from qwen_tui.ui.widgets.server_list import in_minutes

if TYPE_CHECKING:
    from qwen_tui.server.orphans import Orphan

#: Names of models that are listed.
_MOST_MODELS = 12


def empty_text() -> Content:
    """What to press where there is nothing yet."""
    return Content.assemble(
        (_("No servers yet."), "bold"),
        "\n\n",
        ("n", "bold $text-accent"),
        "  ",
        _("start one: a model's folder or its hub id is all it needs"),
        "\n",
        ("o", "bold $text-accent"),
        "  ",
        _("begin with a profile: 24 GB card, long context, several GPUs, LoRA, tools, CPU…"),
        "\n",
        ("E", "bold $text-accent"),
        "  ",
        _("add an endpoint: a server elsewhere, by its URL and key"),
        "\n\n",
        _("Nothing to serve? In a shell, {command} brings a small model and starts it.").format(
            command="qwen-tui demo"
        ),
    )


def endpoint_card(status: EndpointStatus) -> Content:
    """Where it is, what it serves, why it can't be reached, and what to press."""
    symbol, colour = ENDPOINT_LOOK[status.state]
    endpoint = status.endpoint
    word = _(ENDPOINT_WORDS[status.state])
    lines = [
        Content.assemble((f"{symbol} ", colour), (one_line(status.name), "bold"), (f"  {word}", colour)),
        Content(""),
    ]
    if status.problem is not None:
        problem = status.problem
        lines.append(Content.styled(plain(problem.title), "$text-error"))
        lines += [Content(plain(text)) for text in (problem.why, problem.hint) if text]
        lines.append(Content(""))
    pairs = [(_("kind"), _("endpoint: a server that qwen-tui did not start")), (_("address"), endpoint.base_url)]
    if endpoint.model:
        pairs.append((_("model"), endpoint.model))
    pairs.append((_("API key"), _("kept; it is not shown") if endpoint.api_key else _("none")))
    if status.state is EndpointState.REACHABLE:
        pairs.append((_("answered in"), f"{status.seconds * 1000:,.0f} ms"))
        pairs.append((_("serves"), _models(status)))
    lines += _pairs(pairs)
    if endpoint.sends_key_in_clear:
        lines.append(Content.styled(_("Its key crosses the network unencrypted: use https"), "$text-warning"))
    keys = [
        ("enter", _("chat with it")),
        ("w", _("watch it, if it tells its metrics")),
        ("e", _("change it")),
        ("r", _("ask it again")),
        ("d", _("remove it and its key")),
    ]
    return Content("\n").join([*lines, Content(""), *key_lines(keys)])


def _models(status: EndpointStatus) -> str:
    if not status.models:
        return _("no model")
    names = ", ".join(map(one_line, status.models[:_MOST_MODELS]))
    more = len(status.models) - _MOST_MODELS
    return names + (ngettext(" and {n} more", " and {n} more", more).format(n=more) if more > 0 else "")


def left_over_card(orphan: Orphan) -> Content:
    """Which process, what it holds, whose it is, and what to press."""
    symbol, colour = LEFT_OVER_LOOK
    lines = [
        Content.assemble((f"{symbol} ", colour), (one_line(orphan.command[:200]), "bold")),
        Content(""),
        Content(_("A process of vLLM whose server is gone: it works for nobody and keeps what it holds.")),
        Content(""),
    ]
    pairs = [(_("process"), str(orphan.pid)), (_("up for"), in_minutes(orphan.age))]
    pairs.append((_("memory"), format_bytes(orphan.memory)))
    if orphan.gpus:
        amount = format_bytes(orphan.gpu_memory) if orphan.gpu_memory is not None else "?"
        pairs.append((_("GPU memory"), _("{bytes} on {index}").format(bytes=amount, index=_gpu_names(orphan))))
    pairs.append((_("left by"), _whose(orphan)))
    lines += _pairs(pairs)
    if not orphan.is_this_users:
        text = _("It runs as another user: ask them to end it, kill {pid}").format(pid=orphan.pid)
        return Content("\n").join([*lines, Content(""), Content.styled(text, "$text-warning")])
    action = _("end it, and what else qwen-tui left over") if orphan.ours else _("end it, after a question")
    return Content("\n").join([*lines, Content(""), *key_lines([("x", action)])])


def _gpu_names(orphan: Orphan) -> str:
    return ", ".join(f"GPU{index}" for index in orphan.gpus)


def _whose(orphan: Orphan) -> str:
    if orphan.server:
        return _("“{name}”").format(name=one_line(orphan.server))
    if orphan.ours:
        return _("a server of qwen-tui that was deleted")
    if orphan.is_this_users:
        return _("a vLLM that qwen-tui did not start")
    return _("user {uid}").format(uid=orphan.uid)


def _pairs(pairs: Sequence[tuple[str, str]]) -> list[Content]:
    labels = max(cell_len(label) for label, _value in pairs)
    return [
        Content.assemble((label + " " * (labels - cell_len(label)), "$foreground-muted"), "  ", plain(value))
        for label, value in pairs
    ]
