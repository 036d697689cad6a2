"""A batch at one moment, read from its folder."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from qwen_tui.batch.words import job_words
from qwen_tui.i18n import N_, _
from qwen_tui.progress import Progress, RateMeter
from qwen_tui.state_files import is_locked, read_json

#: Seconds after which a batch that has no keeper yet was not started at all.
_LAUNCH_MOST = 15.0


class BatchStatus(str, Enum):
    """Where a batch stands. STARTING loads the engine; ENDING gives the memory back. INTERRUPTED was killed, or the
    machine was; that one, a CANCELLED and a FAILED one go on when they are started again."""

    STARTING = "starting"
    RUNNING = "running"
    ENDING = "ending"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"
    INTERRUPTED = "interrupted"

    @property
    def is_alive(self) -> bool:
        """Whether processes of it run."""
        return self in (BatchStatus.STARTING, BatchStatus.RUNNING, BatchStatus.ENDING)


STATUS_WORDS: dict[BatchStatus, str] = {
    BatchStatus.STARTING: N_("starting"),
    BatchStatus.RUNNING: N_("running"),
    BatchStatus.ENDING: N_("ending"),
    BatchStatus.DONE: N_("done"),
    BatchStatus.CANCELLED: N_("cancelled"),
    BatchStatus.FAILED: N_("failed"),
    BatchStatus.INTERRUPTED: N_("interrupted"),
}


@dataclass(frozen=True)
class BatchProblem:
    """Why a batch failed: what happened, why, what to do. Translated; `why` may be a stranger's words."""

    title: str
    why: str = ""
    hint: str = ""


@dataclass(frozen=True)
class BatchState:
    """A batch at one moment.

    id: names it in `Batches`. total: rows of the input. finished: rows with an answer; failed: rows in the errors file,
    too_long of them beyond the context. finished_before: rows that earlier runs had done. running: requests under way.
    requests_rate, tokens_rate: per second over the last ten seconds, at the end over the whole run; None before.
    prompt_tokens, output_tokens: of this run. seconds: of answering. started_at, ended_at: Unix times.
    """

    id: str
    folder: Path
    order: dict[str, Any]
    status: BatchStatus
    total: int = 0
    finished: int = 0
    failed: int = 0
    too_long: int = 0
    finished_before: int = 0
    running: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    requests_rate: float | None = None
    tokens_rate: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    problem: BatchProblem | None = None
    keeper: int | None = field(default=None, repr=False)

    @property
    def model(self) -> str:
        return str(self.order.get("model", ""))

    @property
    def output(self) -> Path:
        return Path(self.order["output"])

    @property
    def errors(self) -> Path:
        return Path(self.order["errors"])

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def done(self) -> int:
        """Rows that are through, with an answer or without."""
        return self.finished + self.failed

    @property
    def eta(self) -> float | None:
        """Seconds to go at the measured rate; None while that can't be said."""
        return RateMeter.eta(self.done, self.total, self.requests_rate)

    def as_progress(self, phase: str = "") -> Progress:
        """For a progress bar. phase: how far the engine's start is, in words."""
        has_engine = not self.order.get("server")
        if self.status is BatchStatus.STARTING:
            return Progress(_("Starting the engine") if has_engine else _("Reading the input"), detail=phase)
        if self.status is BatchStatus.ENDING:
            return Progress(_("Ending the engine") if has_engine else _("Ending"))
        words = [_("{rate} tokens/s").format(rate=f"{self.tokens_rate:,.0f}")] if self.tokens_rate else []
        if self.failed:
            words.append(_("{n} without an answer").format(n=f"{self.failed:,}"))
        return Progress(
            _("Answering"), self.done, max(self.total, self.done), "items", self.requests_rate, self.eta,
            ", ".join(words),
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """For --json."""
        names = (
            "id", "model", "total", "finished", "failed", "too_long", "finished_before", "running", "prompt_tokens",
            "output_tokens", "seconds", "requests_rate", "tokens_rate", "eta", "started_at", "ended_at",
        )  # fmt: skip
        problem = self.problem
        return {
            "status": self.status.value,
            **{name: getattr(self, name) for name in names},
            "input": self.order["input"]["path"],
            "output": str(self.output),
            "errors": str(self.errors),
            "log": str(self.log),
            "error": {"title": problem.title, "why": problem.why, "hint": problem.hint} if problem else None,
        }


def is_held(folder: Path) -> bool:
    """Whether a keeper stands over the batch."""
    return is_locked(folder / "keeper.lock")


def read_state(folder: Path) -> BatchState | None:
    """The batch in `folder`; None if there is none."""
    order = read_json(folder / "order.json")
    if not isinstance(order.get("input"), dict) or not order.get("output") or not order.get("errors"):
        return None
    # What lives first: who ends between the reads has written everything by then.
    held = is_held(folder)
    lives = held or _worker_lives(folder, read_json(folder / "progress.json").get("pid"))
    progress, kept = read_json(folder / "progress.json"), read_json(folder / "state.json")
    status = _status(folder, held, lives, progress, kept)
    figures: dict[str, Any] = {
        name: progress[name]
        for name in ("finished", "failed", "too_long", "finished_before", "running", "prompt_tokens", "output_tokens")
        if isinstance(progress.get(name), int)
    }
    figures |= {
        name: float(progress[name])
        for name in ("requests_rate", "tokens_rate", "started_at", "ended_at", "seconds")
        if isinstance(progress.get(name), int | float)
    }
    keeper = kept.get("keeper")
    return BatchState(
        id=folder.name,
        folder=folder,
        order=order,
        status=status,
        total=int(order["input"].get("lines", 0)),
        problem=_problem(status, progress, kept),
        keeper=keeper.get("pid") if held and isinstance(keeper, dict) else None,
        **figures,
    )


def _status(folder: Path, held: bool, lives: bool, progress: dict[str, Any], kept: dict[str, Any]) -> BatchStatus:
    phase = progress.get("phase")
    is_over = phase in ("done", "cancelled", "failed")
    if held:
        if is_over or kept.get("status") == "stopping":
            return BatchStatus.ENDING
        return BatchStatus(phase) if phase in ("starting", "running", "ending") else BatchStatus.STARTING
    if is_over:
        return BatchStatus(phase)
    if lives:
        return BatchStatus.ENDING  # its keeper was killed, and it ends itself
    if not kept and _is_new(folder):
        return BatchStatus.STARTING
    ended = kept.get("exit")
    if isinstance(ended, dict) and (ended.get("code") is not None or ended.get("asked")):
        return BatchStatus.CANCELLED if ended.get("asked") else BatchStatus.FAILED
    if isinstance(ended, dict) and ended.get("signal") not in (None, 9, 15):
        return BatchStatus.FAILED  # it crashed; SIGKILL and SIGTERM came from outside
    return BatchStatus.INTERRUPTED


def _worker_lives(folder: Path, pid: object) -> bool:
    try:
        return os.fsencode(folder) in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False


def _is_new(folder: Path) -> bool:
    try:
        return abs(time.time() - (folder / "launch.json").stat().st_mtime) < _LAUNCH_MOST
    except OSError:
        return False


def _problem(status: BatchStatus, progress: dict[str, Any], kept: dict[str, Any]) -> BatchProblem | None:
    if status is BatchStatus.INTERRUPTED:
        title, hint = job_words("killed")
        ended = kept.get("exit") or {}
        number = ended.get("signal") if isinstance(ended, dict) else None
        return BatchProblem(title, _("Signal {number}").format(number=number) if number else "", hint)
    if status is not BatchStatus.FAILED:
        return None
    error = progress.get("error")
    error = error if isinstance(error, dict) else {"code": "exception", "detail": str(kept.get("error") or "")}
    title, hint = job_words(str(error.get("code", "")))
    return BatchProblem(title, str(error.get("detail", "")), hint)
