"""A download as text: what it will do, before its first byte, and how far it is."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from textual.content import Content

from qwen_tui.i18n import _, ngettext
from qwen_tui.models.download_state import (
    DownloadPlan,
    DownloadRequest,
    DownloadState,
    DownloadStatus,
    FileProgress,
    QueueOptions,
)
from qwen_tui.progress import format_bytes, format_seconds
from qwen_tui.ui.text import cut_middle, fit, one_line, plain
from qwen_tui.ui.widgets.model_detail import bar_line, heading, joined, pairs
from qwen_tui.ui.widgets.model_rows import DOWNLOAD_LOOK
from qwen_tui.ui.widgets.phase_bar import bar

#: Files that are listed, at most; those that arrive now first.
_MOST_FILES = 40
_BAR = 12


def _files(count: int) -> str:
    return ngettext("{count} file", "{count} files", count).format(count=f"{count:,}")


def plan_lines(plan: DownloadPlan) -> Content:
    """What will be fetched, where to, and whether there is room."""
    what = f"{_files(len(plan.files))}, {format_bytes(plan.total)}"
    if plan.left_out:
        what += "  " + _("({count} left out)").format(count=plan.left_out)
    have = _("{present} of it are here already, {missing} to fetch").format(
        present=format_bytes(plan.present), missing=format_bytes(plan.missing)
    )
    room = _("{free} are free on the disk, of which {reserve} are kept free").format(
        free=format_bytes(plan.free), reserve=format_bytes(plan.reserve)
    )
    lines = [Content.styled(what, "bold"), Content(have), Content(room)]
    if not plan.fits:
        short = plan.missing + plan.reserve - plan.free
        lines[-1] = Content.styled(
            _("Not enough disk space: {free} are free, {short} more are needed").format(
                free=format_bytes(plan.free), short=format_bytes(short)
            ),
            "$text-error",
        )
    lines.append(Content.styled(one_line(str(plan.folder)), "$foreground-muted"))
    largest = sorted(plan.files, key=lambda file: -file.size)[:3]
    names = "  ".join(f"{one_line(file.name)} {format_bytes(file.size)}" for file in largest)
    return Content("\n").join([*lines, Content.styled(names, "$foreground-muted")])


def _asked(request: DownloadRequest) -> list[tuple[str, str]]:
    return [
        (_("hub"), request.hub_facts.label + (f" {request.endpoint}" if request.endpoint else "")),
        (_("revision"), request.revision),
        (_("only"), " ".join(request.include)),
        (_("without"), " ".join(request.exclude)),
    ]


def download_lines(
    state: DownloadState, files: Sequence[FileProgress], options: QueueOptions, width: int, height: int
) -> Content:
    """How far a download is, in `width` cells; as many of its files as are worth it in `height` lines."""
    top = joined([_head(state, width), _trouble(state), pairs([*_asked(state.request), *_place(state, options)])])
    room = max(6, height - top.plain.count("\n") - 4)
    return joined([top, _file_lines(state, files, width, min(room, _MOST_FILES))])


def _place(state: DownloadState, options: QueueOptions) -> list[tuple[str, str]]:
    return [
        (_("folder"), str(state.folder or "")),
        (
            _("at once"),
            _("{count} parts and files (+ -), {jobs} downloads ([ ])").format(
                count=options.connections, jobs=options.jobs
            ),
        ),
        (_("checked"), format_bytes(state.checked) if state.checked else ""),
    ]


def _head(state: DownloadState, width: int) -> Content:
    symbol, colour, word = DOWNLOAD_LOOK[state.status]
    lines = [
        Content.styled(one_line(state.model), "bold"),
        Content.assemble((f"{symbol} {_(word)}", colour), *_count_words(state)),
    ]
    if state.fraction is not None:
        lines.append(bar_line(state.fraction, width))
        figures = [f"{format_bytes(state.done)} / {format_bytes(state.total or state.done)}"]
        if state.rate is not None:
            figures.append(f"{format_bytes(state.rate)}/s")
        if state.eta is not None:
            figures.append(_("{time} to go").format(time=format_seconds(state.eta)))
        lines.append(Content(" · ".join(figures)))
    return Content("\n").join(lines)


def _count_words(state: DownloadState) -> list[str]:
    if not state.files:
        return []
    return ["  ", _("{done} of {count} files").format(done=f"{state.files_done:,}", count=f"{state.files:,}")]


def _trouble(state: DownloadState) -> Content | None:
    if state.stall is not None:
        text = _("Nothing arrives for {time}: {reason}").format(
            time=format_seconds(state.stall.seconds), reason=one_line(state.stall.reason)
        )
        if state.stall.next_try > 0:
            text += "\n" + _("next try in {time}").format(time=format_seconds(state.stall.next_try))
        return Content.styled(text, "$text-warning")
    if state.problem is not None:
        found = state.problem
        rest = "\n".join(plain(part) for part in (found.why, found.hint) if part)
        return Content.assemble((plain(found.title), "$text-error"), f"\n{rest}" if rest else "")
    if state.status is DownloadStatus.INTERRUPTED:
        return Content(_("Its process was ended from outside. What is on the disk is kept: enter goes on."))
    return None


def _file_lines(state: DownloadState, files: Sequence[FileProgress], width: int, most: int) -> Content | None:
    """The files that arrive now, then those to come, then the others."""
    active = {file.name: file for file in state.active}
    rest = [file for file in files if file.name not in active]
    rest.sort(key=lambda file: file.checked)
    listed = [*active.values(), *rest]
    if not listed:
        return None
    shown = listed[:most]
    lines = [_file_line(file, width, is_active=file.name in active) for file in shown]
    if len(listed) > len(shown):
        lines.append(Content.styled(_("and {count} more").format(count=len(listed) - len(shown)), "$foreground-muted"))
    return Content("\n").join([heading(_("Files")), *lines])


def _file_line(file: FileProgress, width: int, *, is_active: bool) -> Content:
    mark = ("✓ ", "$text-success") if file.checked else ("↓ ", "$text-accent") if is_active else ("  ", "")
    size = format_bytes(file.size)
    room = max(8, width - 2 - 10 - (_BAR + 2))
    parts: list[Content | str | tuple[str, str]] = [mark, fit(one_line(file.name), room), f" {size:>9}"]
    if not file.checked and (is_active or file.done):
        filled, empty = bar(file.done / file.size if file.size else 0.0, _BAR)
        parts += ["  ", (filled, "$primary on $surface-lighten-1"), (empty, "on $surface-lighten-1")]
    return Content.assemble(*parts)


def summary_line(states: Sequence[DownloadState], width: int = 60) -> str:
    """The second line of every screen: "↓ 1 download 62 %"; empty while none is alive."""
    alive = [state for state in states if state.status.is_alive]
    if not alive:
        return ""
    count = ngettext("{count} download", "{count} downloads", len(alive)).format(count=len(alive))
    totals = [state.total for state in alive]
    text = f"↓ {count}"
    if all(totals):
        text += f" {min(99, int(100 * sum(state.done for state in alive) / sum(map(int, filter(None, totals)))))} %"
    if any(state.stall is not None for state in alive):
        text += " " + _("stalled")
    return cut_middle(text, width) if cell_len(text) > width else text
