"""What a log view says about itself: the line at the bottom, and what stands where there are no lines."""

from __future__ import annotations

import os
from pathlib import Path

from qwen_tui.i18n import _, ngettext
from qwen_tui.logs.filters import Pattern
from qwen_tui.logs.page import Page
from qwen_tui.logs.plain_text import plain_text
from qwen_tui.logs.survey import Survey
from qwen_tui.progress import format_bytes


def status(
    page: Page, path: Path, column: int | None, searched: str, progress: tuple[int, int] | None
) -> tuple[str, ...]:
    """The parts of the line at the bottom: the state, and what is at the right, the least important first.

    column: the first cell that shows, None where lines are wrapped. progress: bytes of a search done and in all.
    """
    notes = ["▼ " + _("following") if page.following else "‖ " + _("paused")]
    if progress is not None and progress[1]:
        done, total = progress
        notes.append(
            _("looking: {done} of {total}").format(done=format_bytes(done), total=format_bytes(total))
        )  # fmt: skip
    if searched:
        notes.append(searched)
    if column is None:
        notes.append(_("wrapped"))
    elif column:
        notes.append(_("column {number}").format(number=column + 1))
    if page.start == page.first > 0:
        notes.append(_("{size} before this were deleted").format(size=format_bytes(page.first)))
    if not page.following and page.size > page.end:
        notes.append(_("{size} below").format(size=format_bytes(page.size - page.end)))
    name = plain_text(os.fsencode(path.name))
    percent = 100 * page.end // page.size if page.size else 100
    return " " + "  ".join(notes), f"  {name}", f"  {format_bytes(page.size)}", f"  {percent:3} % "


def search_text(pattern: Pattern, matches: Survey, is_busy: bool, number: int) -> str:
    """What is searched for, and how many lines match as far as they have been counted.

    number: which of them the current line is; 0 where it is none.
    """
    count = matches.total
    if number:
        words = _("match {number} of {count}").format(number=f"{number:,}", count=f"{count:,}")
    else:
        words = ngettext("{count} match", "{count} matches", count).format(count=f"{count:,}")
    is_counting = matches.position < matches.size or not matches.size
    text = plain_text(os.fsencode(pattern.source))[:40]
    return f"/{text}  {words}{'…' if is_counting or is_busy else ''}"


def empty_text(page: Page, path: Path | None, filtered: bool) -> list[str]:
    """What to say, and what to press, where there are no lines."""
    if path is None:
        return [_("There is no server yet, so there is no log."), _("Press s, then n, to start one.")]
    if page.error is not None:
        return [plain_text(os.fsencode(text)) for text in (page.error.title, page.error.why, page.error.hint)]
    file = plain_text(os.fsencode(path))
    if not page.exists:
        return [_("There is no log at {file} yet.").format(file=file), _("It shows here once it is written.")]
    if filtered and page.is_partial:
        return [_("Looking for lines that pass the filter…")]
    if filtered and page.size:
        return [_("No line passes the filter."), _("Press esc to show all.")]
    return [_("Nothing has been written to {file} yet.").format(file=file)]
