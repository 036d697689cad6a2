"""Download a model and wait for it: what `qwen-tui download` and the demo do with the queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from qwen_tui.errors import ModelError
from qwen_tui.i18n import _
from qwen_tui.models.download_queue import Downloads
from qwen_tui.models.download_state import DownloadPlan, DownloadRequest, DownloadState, DownloadStatus
from qwen_tui.models.download_words import no_room
from qwen_tui.models.hub import is_hub_id
from qwen_tui.paths import Paths
from qwen_tui.progress import OnProgress, Progress, format_seconds

__all__ = ["as_progress", "download_model", "follow", "is_hub_id", "refuse_small_disk", "result"]

_INTERVAL = 0.1


async def download_model(
    paths: Paths,
    model: str,
    on_progress: OnProgress,
    revision: str | None = None,
    cache_dir: Path | None = None,
) -> Path:
    """The folder of the model `model` (owner/name) of ModelScope, downloaded as far as it is not there yet.

    Cancelling pauses the download; a later call goes on. The hub is ModelScope, or what MODELSCOPE_ENDPOINT names.
    Raises ModelError.
    """
    downloads = Downloads(paths)
    request = DownloadRequest(model, revision=revision or "", cache_dir=str(cache_dir) if cache_dir else "")
    on_progress(Progress(_("Asking the hub for {model}").format(model=model)))
    id = await downloads.start(request)
    try:
        state = None
        async for state in follow(downloads, id):
            on_progress(as_progress(state))
    except asyncio.CancelledError:
        await asyncio.shield(downloads.pause(id))
        raise
    folder = result(downloads.find(id))
    await downloads.remove(id)
    return folder


async def follow(downloads: Downloads, id: str) -> AsyncIterator[DownloadState]:
    """How the download is, ten times a second and when its process ends; the last state comes last."""
    while True:
        state = await asyncio.to_thread(downloads.find, id)
        yield state
        if not state.status.is_alive:
            return
        await downloads.until_ended(id, _INTERVAL)


def as_progress(state: DownloadState) -> Progress:
    """The state in the shape that every front end shows. A stall is told in `detail`."""
    if state.status is DownloadStatus.QUEUED and state.position:
        return Progress(_("Waiting for the downloads before {model}").format(model=state.model))
    if state.total is None or state.status in (DownloadStatus.QUEUED, DownloadStatus.LISTING):
        detail = state.stall.reason if state.stall is not None else ""
        return Progress(_("Asking the hub for {model}").format(model=state.model), detail=detail)
    detail = state.active[0].name if state.active else ""
    rate = state.rate
    if state.stall is not None:
        rate = None
        detail = _("nothing for {time}: {reason}; next try in {next}").format(
            time=format_seconds(state.stall.seconds),
            reason=state.stall.reason,
            next=format_seconds(state.stall.next_try),
        )
    elif state.done >= state.total and state.checked < state.total:
        rate, detail = None, _("checking the hashes")
    step = _("Downloading {model}").format(model=state.model)
    return Progress(step, state.done, state.total, "bytes", rate, state.eta if rate else None, detail)


def result(state: DownloadState) -> Path:
    """The folder of a download that is done. Raises ModelError for any other."""
    if state.status is DownloadStatus.DONE and state.folder is not None:
        return state.folder
    if state.problem is not None:
        raise ModelError(state.problem.title, state.problem.why, state.problem.hint)
    titles = {
        DownloadStatus.PAUSED: _("The download of {model} was paused"),
        DownloadStatus.CANCELLED: _("The download of {model} was cancelled"),
    }
    title = titles.get(state.status, _("The download of {model} was interrupted")).format(model=state.model)
    raise ModelError(title, "", _("The same command goes on from there"))


def refuse_small_disk(plan: DownloadPlan) -> None:
    """Raises ModelError if what is missing does not fit on the disk."""
    if not plan.fits:
        found = no_room(str(plan.folder), plan.missing + plan.reserve, plan.free)
        raise ModelError(found.title, found.why, found.hint)
