"""What is known of a model, as text: on this machine, on a hub, two side by side, checked."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.cells import cell_len
from textual.content import Content

from qwen_tui.errors import QwenTuiError
from qwen_tui.i18n import _, ngettext
from qwen_tui.models.fit import GIB
from qwen_tui.models.fit_box import ModelFit
from qwen_tui.models.fit_propose import ComparedRow, propose, short_count
from qwen_tui.models.hub import HUBS
from qwen_tui.models.hub_search import HubModel
from qwen_tui.models.local_model import SOURCE_WORDS, LocalModel
from qwen_tui.models.verify import Verification
from qwen_tui.progress import Progress, format_bytes, format_count, format_rate, format_seconds
from qwen_tui.server.status import STATE_WORDS, ServerStatus
from qwen_tui.ui.text import fit, one_line, plain
from qwen_tui.ui.theme import STATE_LOOK
from qwen_tui.ui.widgets.model_rows import light_of
from qwen_tui.ui.widgets.phase_bar import bar

#: Files that are named of those that are damaged, at most.
_MOST_NAMED = 12
Pair = tuple[str, str]


def pairs(rows: Sequence[Pair]) -> Content:
    """Label and value, a line each; rows without a value are left out."""
    kept = [(label, value) for label, value in rows if value]
    width = max((cell_len(label) for label, _value in kept), default=0)
    return Content("\n").join(
        Content.assemble((fit(label, width), "$foreground-muted"), "  ", one_line(value)) for label, value in kept
    )


def heading(text: str) -> Content:
    return Content.styled(text, "bold")


def joined(parts: Sequence[Content | None]) -> Content:
    """The parts that say something, an empty line between them."""
    return Content("\n\n").join([part for part in parts if part is not None and part.plain])


# On this machine


def model_facts(
    model: LocalModel, found: ModelFit | None, server: ServerStatus | None, *, is_coming: bool = False
) -> Content:
    """All that is known of `model`, how it fits first. is_coming: it is being downloaded."""
    return joined(
        [
            _title(model, found, is_coming=is_coming),
            None if is_coming else _problems(model),
            _server(server),
            pairs(_what_it_is(model)),
            _memory(found) if found is not None else None,
            _proposal(model, found) if found is not None else None,
            pairs(_where_it_is(model)),
        ]
    )


def _title(model: LocalModel, found: ModelFit | None, *, is_coming: bool) -> Content:
    symbol, colour, word = light_of(model, found, is_coming=is_coming)
    lines = [Content.styled(one_line(model.id), "bold")]
    if model.is_whole:
        why = found.why if found is not None else _("reading the hardware…")
        lines.append(Content.assemble((f"{symbol} {_(word)}".strip(), f"bold {colour}"), "  ", plain(why)))
    else:
        lines.append(Content.styled(f"{symbol} {_(word)}", f"bold {colour}"))
    return Content("\n").join(lines)


def _problems(model: LocalModel) -> Content | None:
    if model.is_whole:
        return None
    lines = [Content(plain(problem)) for problem in model.problems]
    if model.source in HUBS:
        lines.append(
            Content.assemble(("enter", "bold $text-accent"), "  ", _("download what is missing; the rest is kept"))
        )
    return Content("\n").join(lines)


def _server(server: ServerStatus | None) -> Content | None:
    if server is None:
        return None
    symbol, colour = STATE_LOOK[server.state]
    text = _("served by {name}").format(name=one_line(server.name))
    line = Content.assemble((f"{symbol} ", colour), text, (f"  {_(STATE_WORDS[server.state])}", colour))
    return Content.assemble(line, "   ", ("c", "bold $text-accent"), " ", _("chat with it"))


def _what_it_is(model: LocalModel) -> list[Pair]:
    bits = _("{count} bits").format(count=model.bits) if model.bits else ""
    return [
        (_("architecture"), model.architecture or model.model_type),
        (_("parameters"), short_count(model.parameters) if model.parameters else ""),
        (_("dtype"), model.dtype),
        (_("quantization"), " ".join(filter(None, (model.quantization, bits)))),
        (_("context"), _("{count} tokens").format(count=f"{model.context:,}") if model.context else ""),
        (_("chat template"), _("yes") if model.has_chat_template else _("missing")),
        (_("made for"), model.base),
    ]


def _where_it_is(model: LocalModel) -> list[Pair]:
    used = ""
    if model.last_used:
        day = time.strftime("%Y-%m-%d %H:%M", time.localtime(model.last_used))
        used = day if model.is_use_on_record else _("{day} (read; no server on record)").format(day=day)
    return [
        (_("on disk"), format_bytes(model.size)),
        (_("last used"), used),
        (_("from"), _(SOURCE_WORDS[model.source])),
        (_("revision"), model.revision),
        (_("folder"), str(model.path)),
    ]


def _gib(count: float) -> str:
    return f"{count / GIB:.1f} GiB" if count >= GIB / 10 else format_bytes(count)


def _memory(found: ModelFit) -> Content | None:
    """Where the memory goes, and what the KV cache holds."""
    if found.account is None:
        return None
    rows = [
        (_("weights"), _gib(found.weights)),
        (_("KV cache"), _("{size} · {tokens} tokens").format(
            size=_gib(max(0, found.account.available)), tokens=f"{found.tokens:,}")),
        (_("of a token"), format_bytes(found.bytes_per_token)),
        (_("of a request"), _("{size} with {context} tokens").format(
            size=_gib(found.request), context=f"{found.context:,}")),
        (_("requests at once"), f"{found.concurrency:,.1f}"),
        (_("longest context"), _("{count} tokens").format(count=f"{found.longest:,}") if found.longest else ""),
        (_("GPUs"), str(found.tensor) if found.tensor > 1 else ""),
    ]  # fmt: skip
    lines = [heading(_("Memory")), pairs(rows)]
    if found.measured is not None:
        day = time.strftime("%Y-%m-%d", time.localtime(found.measured.at))
        text = _("from the start on {day}, which printed {tokens} tokens")
        lines.append(Content.styled(text.format(day=day, tokens=f"{found.measured.tokens:,}"), "$foreground-muted"))
    lines += [Content.styled(plain(note), "$foreground-muted") for note in found.notes]
    return Content("\n").join(lines)


def _proposal(model: LocalModel, found: ModelFit) -> Content | None:
    """What `enter` fills into the form beyond vLLM's defaults."""
    try:
        proposal = propose(model, found)
    except QwenTuiError:
        return None
    if not proposal.why:
        return None
    return Content("\n").join([heading(_("Proposed start")), *(Content(plain(line)) for line in proposal.why)])


# Side by side


def comparison(models: Sequence[LocalModel], rows: Sequence[ComparedRow], width: int) -> Content:
    """Two models, a column each; the better figure of a row is marked."""
    labels = max((cell_len(row.label) for row in rows), default=0)
    labels = min(labels, max(12, width // 3))
    room = max(10, (width - labels - 2) // len(models) - 2)
    head: list[Content | str | tuple[str, str]] = [" " * (labels + 1)]
    for model in models:
        head.append(("  " + fit(one_line(model.name), room), "bold"))
    lines = [heading(_("Side by side")), Content.assemble(*head)]
    for row in rows[:-1]:
        parts: list[Content | str | tuple[str, str]] = [(fit(row.label, labels), "$foreground-muted"), " "]
        for place, value in enumerate(row.values):
            is_best = place == row.best
            parts.append(("✓ " if is_best else "  ", "$text-success"))
            parts.append((fit(one_line(value), room), "bold" if is_best else ""))
        lines.append(Content.assemble(*parts))
    lines.append(Content(""))
    for model, why in zip(models, rows[-1].values, strict=True):  # sentences: too long for a column
        lines.append(Content.assemble((one_line(model.name), "bold"), "  ", plain(why)))
    return Content("\n").join(lines)


# Work on it


def job_lines(progress: Progress, width: int) -> Content:
    """A verification or a move that runs."""
    figures = " · ".join(
        part
        for part in (
            format_count(progress),
            format_rate(progress),
            _("{time} to go").format(time=format_seconds(progress.eta)) if progress.eta is not None else "",
        )
        if part
    )
    lines = [heading(plain(progress.step) or "…")]
    if progress.fraction is not None:
        lines.append(bar_line(progress.fraction, width))
    lines.append(Content(figures))
    lines.append(Content.assemble((one_line(progress.detail), "$foreground-muted")))
    return Content("\n").join(line for line in lines if line.plain)


def bar_line(fraction: float, width: int) -> Content:
    """A bar with its per cent, never 100 before the end."""
    text = f" {int(fraction * 100):3d} %"
    filled, rest = bar(fraction, max(10, min(60, width - len(text))))
    return Content.assemble((filled, "$primary on $surface-lighten-1"), (rest, "on $surface-lighten-1"), text)


def verification(found: Verification | QwenTuiError) -> Content:
    """What a verification came to."""
    if isinstance(found, QwenTuiError):
        return Content.styled(plain(str(found)), "$text-error")
    against = {
        "hub": _("against the hub's list"),
        "record": _("against the hashes kept at its download"),
        "headers": _("against the headers of its files only: no hashes are known here"),
    }[found.against]
    count = len(found.files)
    if found.is_good:
        hashed = sum(file.verdict == "good" for file in found.files)
        text = ngettext("{count} file is right", "{count} files are right", count).format(count=count)
        if hashed < count:
            text += ", " + _("{count} of them by size only").format(count=count - hashed)
        return Content.assemble(("✓ ", "$text-success"), (text, "$text-success"), f", {against}")
    bad = found.bad
    text = ngettext("{bad} of {count} file is wrong", "{bad} of {count} files are wrong", count)
    lines = [Content.assemble(("✗ " + text.format(bad=len(bad), count=count), "$text-error"), f", {against}")]
    for file in bad[:_MOST_NAMED]:
        lines.append(Content(f"  {one_line(file.name)}  {one_line(file.why)}"))
    if len(bad) > _MOST_NAMED:
        lines.append(Content("  …"))
    return Content("\n").join(lines)


# On a hub


def hub_facts(model: HubModel, *, is_here: bool) -> Content:
    """What the hub tells of a model."""
    updated = time.strftime("%Y-%m-%d", time.localtime(model.updated)) if model.updated else ""
    rows = [
        (_("hub"), HUBS[model.hub].label),
        (_("downloads"), f"{model.downloads:,}" if model.downloads is not None else ""),
        (_("likes"), f"{model.likes:,}" if model.likes is not None else ""),
        (_("updated"), updated),
        (_("parameters"), short_count(model.parameters) if model.parameters else ""),
        (_("size"), format_bytes(model.size) if model.size else ""),
        (_("licence"), model.licence),
        (_("task"), model.task),
    ]
    notes = [Content.styled(_("✓ on this machine"), "$text-success")] if is_here else []
    if model.is_gated:
        notes.append(Content.styled(_("Its owner must let you in first: it needs a token"), "$text-warning"))
    return joined([Content.styled(one_line(model.id), "bold"), *notes, pairs(rows)])
