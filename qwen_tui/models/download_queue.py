"""The downloads of this user: a queue of jobs, each a process of its own that outlives whoever asked for it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from qwen_tui.errors import ModelError, UsageError, WorkerError
from qwen_tui.i18n import _
from qwen_tui.models.download_read import read_files, read_state
from qwen_tui.models.download_state import (
    DownloadPlan,
    DownloadRequest,
    DownloadState,
    DownloadStatus,
    FileProgress,
    PlannedFile,
    QueueOptions,
)
from qwen_tui.models.download_words import listing_error
from qwen_tui.models.head_start import HeadStart, Listing, ReadyJob
from qwen_tui.models.hub import is_hub_id
from qwen_tui.models.tokens import TokenNeeded, Tokens
from qwen_tui.paths import Paths, nearest_existing, private_folder
from qwen_tui.workers import hub_parts, hub_queue

#: Bytes kept free on the disk beside a model: vLLM writes its compile cache and logs there.
RESERVE = 1_000_000_000
_ALREADY_HELD = 3


class Downloads:
    """The queue, as every front end uses it. All state is on the disk, shared by all; in memory is only the last plan.

    A method that names a download raises ModelError if there is none of that id. timing: seconds, for tests: "stall",
    "silent", "patience" (see hub_job). head_start: processes that were started for the first download.
    """

    def __init__(
        self, paths: Paths, timing: Mapping[str, float] | None = None, head_start: HeadStart | None = None
    ) -> None:
        self._paths = paths
        self.folder = paths.state / "downloads"
        self._records = paths.data / "hashes"
        self._tokens = Tokens(paths)
        self._timing = dict(timing or {})
        self._head_start = head_start
        self._answer: tuple[DownloadRequest, float, dict[str, Any]] | None = None

    # -- looking -----------------------------------------------------------------------------------

    def list(self) -> tuple[DownloadState, ...]:
        """All downloads, in the queue's order. Reads a few small files; a few milliseconds."""
        states = (read_state(self.folder / id, place) for place, id in enumerate(hub_queue.order(self.folder)))
        return tuple(state for state in states if state is not None)

    def find(self, id: str) -> DownloadState:
        """One download."""
        for state in self.list():
            if state.id == id:
                return state
        raise ModelError(_("There is no download “{id}”").format(id=id))

    def files(self, id: str) -> tuple[FileProgress, ...]:
        """All files of a download, in the repository's order; empty until the hub was asked."""
        return read_files(self.folder / self.find(id).id)

    async def plan(self, request: DownloadRequest) -> DownloadPlan:
        """Ask the hub what there is to fetch; takes a second or more.

        Raises ModelError, and its subclass tokens.TokenNeeded where a token is missing or refused.
        """
        _refuse_bad(request)
        listing = self._head_start.take_listing(request) if self._head_start is not None else None
        with _disk_explained(self.folder):
            listing = listing or Listing(self._paths, request)
        try:
            answer = await asyncio.to_thread(listing.answer)
        except WorkerError as error:
            found = listing_error(error.title, error.why, request)
            raise self._about_token(found, request) if isinstance(found, TokenNeeded) else found from None
        finally:
            listing.stop()
        with _disk_explained(self.folder):
            self._tokens.set_refused(request.hub_facts, request.endpoint, is_refused=False)
        self._answer = (request, time.time(), answer)
        return await asyncio.to_thread(_plan_of, request, answer)

    def _about_token(self, error: TokenNeeded, request: DownloadRequest) -> TokenNeeded:
        """Say which token was sent, or why none was; one that is kept is marked."""
        facts, host = request.hub_facts, request.hub_facts.host(request.endpoint)
        if self._tokens.kept(facts, request.endpoint):
            self._tokens.set_refused(facts, request.endpoint, is_refused=True)
            hint = _("The token that is kept for {hub} was sent, and not accepted: give another one").format(hub=host)
        elif request.is_elsewhere and self._tokens.load(facts):
            hint = _("Your token for {own} was not sent to {hub}: give one for it, if you trust it").format(
                own=facts.host(), hub=host
            )
        else:
            return error
        return TokenNeeded(error.title, error.why, f"{error.hint}\n{hint}")

    # -- doing -------------------------------------------------------------------------------------

    async def start(self, request: DownloadRequest) -> str:
        """Put a download at the end of the queue and start its process; its id.

        A download of the same request that is alive or can go on is used again, and resumed. Raises ModelError.
        """
        _refuse_bad(request)
        for state in self.list():
            if state.request != request:
                continue
            if state.status.is_over:
                await self.remove(state.id)  # one entry is enough
                continue
            if state.status.is_resumable:
                await self.resume(state.id)
            return state.id
        id = f"{_slug(request.model)}-{secrets.token_hex(2)}"
        job = self.folder / id
        with _disk_explained(job):
            private_folder(job)
            self._write_request(job, request)
            with hub_queue.queue_locked(self.folder):
                others = [other for other in hub_queue.order(self.folder) if other != id]
                hub_queue.write_json(self.folder / "order.json", {"order": [*others, id]})
            await self._launch(job, request)
        return id

    async def pause(self, id: str) -> None:
        """Stop it so that it can go on; returns when its process has ended."""
        state = self.find(id)
        if state.status.is_alive:
            await self._stop(self.folder / id, "pause")

    async def resume(self, id: str) -> None:
        """Let a download go on that was paused, interrupted or failed; what is on the disk is kept."""
        state = self.find(id)
        if state.status.is_alive:
            return
        if not state.status.is_resumable:
            raise ModelError(_("“{model}” is over; start it again").format(model=state.model))
        job = self.folder / id
        with _disk_explained(job):
            self._write_request(job, state.request)  # the settings may be others by now
            await self._launch(job, state.request)

    async def cancel(self, id: str, *, delete_files: bool = False) -> int:
        """Stop it for good and delete its unfinished files; the bytes freed.

        delete_files: also those that it had fetched whole (never those that were there before).
        """
        state = self.find(id)
        job = self.folder / id
        if state.status.is_alive:
            await self._stop(job, "cancel")
        if self.find(id).status is DownloadStatus.DONE:
            return 0  # it was done before it could be stopped
        freed = await asyncio.to_thread(_delete, job, delete_files)
        _mark(job, "cancelled")
        return freed

    async def remove(self, id: str) -> None:
        """Take it off the list. Files stay. Raises ModelError while it is alive."""
        state = self.find(id)
        if state.status.is_alive:
            raise ModelError(
                _("“{model}” is still being downloaded").format(model=state.model), "", _("Pause or cancel it first")
            )
        await asyncio.to_thread(shutil.rmtree, self.folder / id, ignore_errors=True)

    def move(self, id: str, by: int) -> None:
        """Move it in the queue by `by` places, up where negative."""
        self.find(id)
        with hub_queue.queue_locked(self.folder):
            ids = hub_queue.order(self.folder)
            place = ids.index(id)
            ids.remove(id)
            ids.insert(max(0, min(len(ids), place + by)), id)
            hub_queue.write_json(self.folder / "order.json", {"order": ids})

    @property
    def options(self) -> QueueOptions:
        """How the queue works now."""
        return QueueOptions(**hub_queue.options(self.folder))

    def set_options(self, options: QueueOptions) -> None:
        """Change that; `jobs` holds at once, `connections` for downloads that start or resume from now on."""
        private_folder(self.folder)
        hub_queue.write_json(self.folder / "options.json", {"jobs": options.jobs, "connections": options.connections})

    # -- processes ---------------------------------------------------------------------------------

    def _write_request(self, job: Path, request: DownloadRequest) -> None:
        launch = {
            "request": request.to_json(),
            "cache_dir": str(request.cache.absolute()),
            "token_file": str(self._tokens.file(request.hub_facts, request.endpoint)),
            "is_elsewhere": request.is_elsewhere,
            "record": str(self._records),
            "reserve": RESERVE,
            "timing": self._timing,
        }
        hub_queue.write_json(job / "request.json", launch)

    async def _launch(self, job: Path, request: DownloadRequest | None = None) -> None:
        """Start the job's process; returns when it holds the job's lock. Raises ModelError.

        It is told the hub's answer to the plan that was just made, over a pipe, so that it need not ask again.
        """
        (job / "control.json").unlink(missing_ok=True)
        answer: dict[str, Any] = {}
        answered_at = 0.0
        if self._answer is not None and self._answer[0] == request:
            _request, answered_at, answer = self._answer
        self._answer = None
        process = self._head_start.take_job() if self._head_start is not None else None
        status = await asyncio.to_thread((process or ReadyJob()).begin, job, answer, answered_at)
        if status not in (0, _ALREADY_HELD):
            raise ModelError(_("The download could not be started"), "", _("See {log}").format(log=job / "log"))

    async def until_ended(self, id: str, longest: float) -> None:
        """Wait until the download's process has ended, or for `longest` seconds."""
        job = self.folder / id
        pid = hub_queue.read_json(job / "state.json").get("pid")
        descriptor = -1
        if isinstance(pid, int) and hub_queue.is_job(pid, job):
            with contextlib.suppress(OSError):  # it has ended meanwhile
                descriptor = os.pidfd_open(pid)
        if descriptor < 0:
            await asyncio.sleep(longest if hub_queue.is_held(job) else 0.0)
            return
        loop, has_ended = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(descriptor, has_ended.set)
        try:
            await asyncio.wait_for(has_ended.wait(), longest)
        except asyncio.TimeoutError:
            pass
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)

    async def _stop(self, job: Path, want: str, grace: float = 5.0) -> None:
        """End the job's process: asked first, then killed."""
        hub_queue.write_json(job / "control.json", {"want": want})
        number = signal.SIGTERM
        deadline = time.monotonic() + grace
        while hub_queue.is_held(job):
            pid = hub_queue.read_json(job / "state.json").get("pid")
            if isinstance(pid, int) and hub_queue.is_job(pid, job):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)
            if time.monotonic() > deadline:
                number = signal.SIGKILL
            await asyncio.sleep(0.05)
        _mark(job, {"pause": "paused", "cancel": "cancelled"}[want])


@contextlib.contextmanager
def _disk_explained(folder: Path) -> Iterator[None]:
    """Turns an OSError into a ModelError that names the folder."""
    try:
        yield
    except OSError as error:
        raise ModelError(
            _("Can't write into {folder}").format(folder=folder),
            error.strerror or str(error),
            _("`qwen-tui doctor` checks the disk and the folders"),
        ) from None


def _mark(job: Path, status: str) -> None:
    """Have the state say so, unless the download was done just before."""
    data = hub_queue.read_json(job / "state.json")
    if data.get("status") not in ("done", status):
        hub_queue.write_json(job / "state.json", {**data, "status": status, "stall": None, "rate": None, "active": []})


def _refuse_bad(request: DownloadRequest) -> None:
    _hub = request.hub_facts
    if not is_hub_id(request.model):
        raise ModelError(
            _("“{model}” is not a hub id").format(model=request.model),
            "",
            _("It reads owner/name: qwen/Qwen2-7B-Instruct"),
        )
    if request.revision.startswith(("/", "-")) or ".." in request.revision.split("/"):
        raise UsageError(_("“{revision}” is not a revision").format(revision=request.revision))


def _slug(model: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", model.rpartition("/")[2].lower()).strip("-.")[:40] or "model"


def _plan_of(request: DownloadRequest, answer: Mapping[str, Any]) -> DownloadPlan:
    folder = Path(answer["folder"])
    place = nearest_existing(folder)
    files = tuple(
        PlannedFile(
            name=file["name"],
            size=file["size"],
            present=file["present"],
            sha256=file["identity"].removeprefix("sha256:") if file["identity"].startswith("sha256:") else "",
            git_sha1=file["identity"].removeprefix("git:") if file["identity"].startswith("git:") else "",
        )
        for file in answer["files"]
    )
    return DownloadPlan(
        request, folder, answer["commit"], files, answer["left_out"], shutil.disk_usage(place).free, RESERVE
    )


def _delete(job: Path, delete_files: bool) -> int:
    """Delete the job's unfinished files, and where asked for those that it fetched; the bytes freed."""
    plan = hub_queue.read_json(job / "plan.json")
    before = set(plan.get("before", []))
    freed = 0
    for file in plan.get("files", []):
        target = Path(file["target"])
        doomed = [hub_parts.path_for(target)]
        if delete_files and file["name"] not in before:
            doomed += [Path(file["link"])] if file["link"] else []
            doomed.append(target)
        for path in doomed:
            with contextlib.suppress(OSError):
                used = path.lstat().st_blocks * 512
                path.unlink()
                freed += used
    cache = Path(hub_queue.read_json(job / "request.json").get("cache_dir", "/"))
    emptied = {Path(file[key]).parent for file in plan.get("files", []) for key in ("target", "link") if file[key]}
    for folder in sorted(emptied, key=lambda path: len(path.parts), reverse=True):
        while cache in folder.parents:
            try:
                folder.rmdir()
            except OSError:  # not empty, or gone
                break
            folder = folder.parent
    return freed
