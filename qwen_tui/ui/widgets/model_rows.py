"""A model on this machine, a download, a model of a hub: one line each, with the columns that fit."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from textual.content import Content

from qwen_tui.i18n import N_, _
from qwen_tui.models.download_state import DownloadState, DownloadStatus
from qwen_tui.models.fit_box import Light, ModelFit
from qwen_tui.models.fit_propose import short_count
from qwen_tui.models.hub_search import HubModel
from qwen_tui.models.local_model import SOURCE_WORDS, LocalModel
from qwen_tui.progress import format_bytes, format_seconds
from qwen_tui.server.status import ServerStatus
from qwen_tui.ui.text import cut_middle, fit, one_line
from qwen_tui.ui.theme import STATE_LOOK
from qwen_tui.ui.widgets.phase_bar import bar

#: How a model fits → symbol, theme colour, word.
LIGHT_LOOK: dict[Light, tuple[str, str, str]] = {
    "ok": ("●", "$text-success", N_("fits")),
    "tight": ("◐", "$text-warning", N_("tight")),
    "no": ("✗", "$text-error", N_("does not fit")),
    "unknown": ("?", "$foreground-muted", N_("can't say")),
}
NOT_WHOLE_LOOK = ("!", "$text-warning", N_("not whole"))
#: Where a download stands → symbol, theme colour, word.
DOWNLOAD_LOOK: dict[DownloadStatus, tuple[str, str, str]] = {
    DownloadStatus.QUEUED: ("◌", "$foreground-muted", N_("waits for its turn")),
    DownloadStatus.LISTING: ("◐", "$text-accent", N_("asks the hub")),
    DownloadStatus.RUNNING: ("↓", "$text-accent", N_("downloading")),
    DownloadStatus.PAUSED: ("‖", "$text-warning", N_("paused")),
    DownloadStatus.INTERRUPTED: ("!", "$text-warning", N_("interrupted")),
    DownloadStatus.FAILED: ("✗", "$text-error", N_("failed")),
    DownloadStatus.CANCELLED: ("○", "$foreground-muted", N_("cancelled")),
    DownloadStatus.DONE: ("✓", "$text-success", N_("done")),
}
_LEAST_NAME = 24

#: A column: its width, its text, its style. Those further right are left out first.
Column = tuple[int, str, str]


def _line(lead: Sequence[tuple[str, str]], name: str, columns: Sequence[Column], width: int) -> Content:
    """`lead`, then `name` in what is left, then as many of the columns as leave the name enough room."""
    room = width - sum(cell_len(text) for text, _style in lead)
    kept = list(columns)
    while kept and room - sum(column[0] + 1 for column in kept) < _LEAST_NAME:
        kept.pop()
    room -= sum(column[0] + 1 for column in kept)
    parts: list[str | tuple[str, str]] = [*lead, fit(short_id(one_line(name), room), room)]
    for size, text, style in kept:
        cut = cut_middle(text, size)
        parts.append((" " + " " * (size - cell_len(cut)) + cut, style))
    return Content.assemble(*parts)


def short_id(id: str, width: int) -> str:
    """`id` in at most `width` cells: where it is too long, the owner is cut before the name is."""
    owner, _slash, name = id.rpartition("/")
    room = width - cell_len(name) - 2
    if cell_len(id) <= width:
        return id
    if room < 1 or not owner:
        return cut_middle(name, width)
    return f"{set_cell_size(owner, room).rstrip()}…/{name}"


def light_of(model: LocalModel, found: ModelFit | None, *, is_coming: bool = False) -> tuple[str, str, str]:
    """Symbol, colour and word for how a model fits; for one that is not whole that it is not, or is coming."""
    if not model.is_whole:
        return DOWNLOAD_LOOK[DownloadStatus.RUNNING] if is_coming else NOT_WHOLE_LOOK
    return LIGHT_LOOK[found.light] if found is not None else (" ", "", "")


def kind_of_weights(model: LocalModel) -> str:
    """The quantization, else the type."""
    if model.kind == "adapter":
        return _("adapter")
    return one_line(model.quantization or model.dtype)


def model_row(
    model: LocalModel,
    found: ModelFit | None,
    server: ServerStatus | None,
    width: int,
    *,
    is_marked: bool = False,
    is_coming: bool = False,
) -> Content:
    """A model that is here. server: the one that serves it. is_coming: it is being downloaded."""
    symbol, colour, _word = light_of(model, found, is_coming=is_coming)
    state, state_colour = STATE_LOOK[server.state] if server is not None else ("", "")
    used = time.strftime("%Y-%m-%d", time.localtime(model.last_used)) if model.last_used else ""
    columns = (
        (8, format_bytes(model.size), ""),
        (6, short_count(model.parameters) if model.parameters else "", ""),
        (2, state, state_colour),
        (9, kind_of_weights(model), "$foreground-muted"),
        (9, f"{model.context:,}" if model.context else "", "$foreground-muted"),
        (12, _(SOURCE_WORDS[model.source]) if model.source != "folder" else "", "$foreground-muted"),
        (10, used, "$foreground-muted"),
    )
    lead = [("◆" if is_marked else " ", "bold $text-accent"), (f"{symbol} ", colour)]
    return _line(lead, model.id, columns, width)


def percent(state: DownloadState) -> str:
    """How much is here; 100 only when it is done."""
    return "" if state.fraction is None else f"{int(state.fraction * 100)} %"


def download_row(state: DownloadState, width: int) -> Content:
    """A download: how far it is, and how fast or why not."""
    symbol, colour, word = DOWNLOAD_LOOK[state.status]
    right, style = _(word), colour
    if state.stall is not None:
        right, style = _("stalled"), "$text-warning"
    elif state.status is DownloadStatus.RUNNING:
        right, style = f"{format_bytes(state.rate)}/s" if state.rate is not None else "", ""
    filled, rest = bar(state.fraction or 0.0, 10)
    columns: list[Column] = [(5, percent(state), ""), (12, right, style)]
    if width >= 56:
        columns.append((11, format_seconds(state.eta) if state.eta is not None else "", "$foreground-muted"))
    drawn = _line([(f"{symbol} ", colour)], state.model, columns, width - (11 if width >= 64 else 0))
    if width < 64:
        return drawn
    colours = "$primary on $surface-lighten-1", "on $surface-lighten-1"
    return Content.assemble(drawn, " ", (filled, colours[0]), (rest, colours[1]))


def hub_row(model: HubModel, width: int, *, is_here: bool) -> Content:
    """A model of a hub. is_here: whether this machine has it."""
    updated = time.strftime("%Y-%m-%d", time.localtime(model.updated)) if model.updated else ""
    columns = (
        (7, short_count(model.downloads) if model.downloads is not None else "", ""),
        (7, short_count(model.parameters) if model.parameters else "", ""),
        (8, format_bytes(model.size) if model.size else "", ""),
        (10, one_line(model.licence), "$foreground-muted"),
        (10, updated, "$foreground-muted"),
    )
    return _line([("✓ " if is_here else "  ", "$text-success")], model.id, columns, width)
