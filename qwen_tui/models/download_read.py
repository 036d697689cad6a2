"""A download's files in the state folder, read: how far it is, and whether a process still works on it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qwen_tui.models.download_state import (
    DownloadRequest,
    DownloadState,
    DownloadStatus,
    FileProgress,
    Stall,
)
from qwen_tui.models.download_words import problem, reason
from qwen_tui.workers import hub_queue


def read_state(job: Path, position: int) -> DownloadState | None:
    """The download in `job`; None if its request can't be read."""
    try:
        request = DownloadRequest.from_json(hub_queue.read_json(job / "request.json")["request"])
    except (KeyError, TypeError):
        return None
    # The lock first: a process that ends between the two reads has written its last state by then.
    is_held = hub_queue.is_held(job)
    data = hub_queue.read_json(job / "state.json")
    try:
        return _state(job, position, request, data, is_held)
    except (KeyError, TypeError, ValueError, AttributeError):  # not as any version of this program wrote it
        return _state(job, position, request, {}, is_held)


def _state(job: Path, position: int, request: DownloadRequest, data: Mapping[str, Any], is_held: bool) -> DownloadState:
    status = _status(data, is_held)
    stall = data.get("stall")
    found = data.get("problem")
    return DownloadState(
        id=job.name,
        request=request,
        status=status,
        position=position,
        done=_whole(data, "done") or 0,
        total=_whole(data, "total"),
        checked=_whole(data, "checked") or 0,
        rate=data.get("rate") if status is DownloadStatus.RUNNING else None,
        files=_whole(data, "files") or 0,
        files_done=_whole(data, "files_done") or 0,
        fetched=_whole(data, "fetched") or 0,
        seconds=float(data.get("seconds", 0.0)),
        active=tuple(FileProgress(*entry) for entry in data.get("active", ())) if status.is_alive else (),
        stall=_stall(stall) if isinstance(stall, dict) and status.is_alive else None,
        problem=problem(found, request) if isinstance(found, dict) and status is DownloadStatus.FAILED else None,
        folder=Path(data["folder"]) if data.get("folder") else None,
        commit=str(data.get("commit", "")),
        started_at=data.get("started_at"),
        ended_at=data.get("ended_at") if not status.is_alive else None,
        log=job / "log",
    )


def _whole(data: Mapping[str, Any], key: str) -> int | None:
    value = data.get(key)
    return value if isinstance(value, int) else None


def _stall(data: Mapping[str, Any]) -> Stall:
    return Stall(
        float(data["seconds"]), reason(str(data["code"]), str(data.get("detail", ""))), float(data.get("next_try", 0.0))
    )


def _status(data: Mapping[str, Any], is_held: bool) -> DownloadStatus:
    try:
        status = DownloadStatus(data.get("status", "queued"))
    except ValueError:
        status = DownloadStatus.INTERRUPTED
    if status.is_alive and not is_held:
        return DownloadStatus.INTERRUPTED
    return status


def read_files(job: Path) -> tuple[FileProgress, ...]:
    """All files of the download in `job`; empty until the hub was asked."""
    files = hub_queue.read_json(job / "plan.json").get("files", [])
    progress = hub_queue.read_json(job / "files.json")
    counts, checked = progress.get("done", []), progress.get("checked", "")
    if len(counts) != len(files):  # of an earlier listing, or none yet
        counts, checked = [file["present"] for file in files], "0" * len(files)
    return tuple(
        FileProgress(file["name"], file["size"], min(count, file["size"]), mark == "1")
        for file, count, mark in zip(files, counts, checked, strict=False)
    )
