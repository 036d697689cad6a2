"""The processes of a download, started before anything else: each takes a tenth of a second or more to come up.

The hub's client begins to list while this program still imports what it needs itself, and the job's process is ready
when the list is there. Imports little, for the same reason.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from qwen_tui.errors import WorkerError
from qwen_tui.i18n import _
from qwen_tui.models.download_state import DownloadRequest
from qwen_tui.models.tokens import Tokens
from qwen_tui.paths import Paths, private_folder
from qwen_tui.workers.protocol import FD_VARIABLE, PARENT_VARIABLE

_WORKERS = Path(__file__).parent.parent / "workers"


class Listing:
    """The hub's client at work on one request: `answer` waits for what it says."""

    def __init__(self, paths: Paths, request: DownloadRequest) -> None:
        self.request = request
        question = {
            **request.to_json(),
            "cache_dir": str(request.cache.absolute()),
            "token_file": str(Tokens(paths).file(request.hub_facts, request.endpoint)),
            "is_elsewhere": request.is_elsewhere,
            "with_authorization": True,
        }
        folder = paths.state / "downloads"
        private_folder(folder)
        read_end, write_end = os.pipe()
        log = os.open(folder / "plan.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            self._process = subprocess.Popen(
                [sys.executable, str(_WORKERS / "hub_list.py"), json.dumps(question)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(write_end,), start_new_session=True,
                env={**os.environ, FD_VARIABLE: str(write_end), PARENT_VARIABLE: str(os.getpid())},
            )  # fmt: skip
        except BaseException:
            os.close(read_end)
            raise
        finally:
            os.close(log)
            os.close(write_end)
        self._pipe = os.fdopen(read_end, "rb")

    def answer(self) -> dict[str, Any]:
        """What hub_list answered; blocks. Raises WorkerError with the client's own error."""
        with self._pipe:
            lines = self._pipe.read().splitlines()
        status = self._process.wait()
        try:
            message: dict[str, Any] = json.loads(lines[-1])
            kind = message.pop("kind")
        except (IndexError, ValueError, KeyError):
            raise WorkerError(_("The hub's client ended with status {code}").format(code=status)) from None
        if kind == "error":
            raise WorkerError(message.get("title", ""), message.get("why", ""), message.get("hint", ""))
        return message

    def stop(self) -> None:
        """End it; `answer` raises then."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)


class ReadyJob:
    """A process that will work on a job, and does not yet know on which."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(_WORKERS / "hub_job.py")],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True, cwd="/",
        )  # fmt: skip

    def begin(self, job: Path, answer: dict[str, Any], answered_at: float) -> int:
        """Give it the job; blocks until it holds the job's lock, and gives hub_job's status."""
        order = {"job": str(job), "answer": answer, "answered_at": answered_at}
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate(json.dumps(order).encode() + b"\n")
        return self._process.wait()

    def drop(self) -> None:
        """It is not needed: it ends."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        self._process.wait()


class HeadStart:
    """Both processes for one request. Hand it to `Downloads`, and `close` it in the end."""

    def __init__(self, paths: Paths, request: DownloadRequest) -> None:
        self._listing: Listing | None = Listing(paths, request)
        self._job: ReadyJob | None = ReadyJob()

    def take_listing(self, request: DownloadRequest) -> Listing | None:
        """The listing of this very request, once."""
        found = self._listing
        if found is None or found.request != request:
            return None
        self._listing = None
        return found

    def take_job(self) -> ReadyJob | None:
        """The process, once."""
        found, self._job = self._job, None
        return found

    def close(self) -> None:
        """End what was not needed."""
        if self._listing is not None:
            self._listing.stop()
            self._listing = None
        if self._job is not None:
            self._job.drop()
            self._job = None
