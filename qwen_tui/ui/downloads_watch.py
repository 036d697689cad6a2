"""Keeps the second line of every screen about what is being downloaded, and tells when something has arrived."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from qwen_tui.i18n import _

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qwen_tui.models.download_state import DownloadState
    from qwen_tui.ui.app import QwenApp

#: Seconds between two looks: while something is being downloaded, and while nothing is.
_BUSY, _IDLE = 1.0, 3.0


async def watch_downloads(qwen: QwenApp) -> None:
    """Look as long as the app runs; next to nothing is done while there has never been a download."""
    folder = qwen.services.paths.state / "downloads"
    before: Sequence[DownloadState] = ()
    while True:
        states: Sequence[DownloadState] = ()
        if "downloads" in vars(qwen.services) or folder.is_dir():
            try:
                states = await asyncio.to_thread(qwen.services.downloads.list)
            except OSError:
                states = before  # the next look may work
            _show(qwen, before, states)
        before = states
        await asyncio.sleep(_BUSY if any(state.status.is_alive for state in states) else _IDLE)


def _show(qwen: QwenApp, before: Sequence[DownloadState], now: Sequence[DownloadState]) -> None:
    from qwen_tui.models.download_state import DownloadStatus
    from qwen_tui.ui.text import one_line
    from qwen_tui.ui.widgets.download_detail import summary_line

    text = summary_line(now)
    if text != qwen.coming:
        qwen.coming = text
        if qwen.room is not None:
            qwen.room.sync()
    was_alive = {state.id for state in before if state.status.is_alive}
    for state in now:
        if state.id not in was_alive:
            continue
        if state.status is DownloadStatus.DONE:
            qwen.notify(_("{model} is downloaded and checked").format(model=one_line(state.model)), markup=False)
        elif state.status in (DownloadStatus.FAILED, DownloadStatus.INTERRUPTED):
            why = one_line(state.problem.title) if state.problem is not None else _("It was interrupted")
            qwen.warn(_("The download of {model} stopped: {why}").format(model=one_line(state.model), why=why))
