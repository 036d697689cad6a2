"""What a batch's worker is in whichever way it gets its answers: the order, the rows to do, how far it is, its end.

FOLDER/order.json says what to do (see batch.order), FOLDER/progress.json how far it is: written here, as a whole, four
times a second. SIGTERM ends it in good order: what is finished is written, what is under way is dropped. It ends too
when its keeper dies. It speaks in codes; batch.words has the sentences. Standard library only.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qwen_tui.workers.batch_results import OutputError, Results
    from qwen_tui.workers.batch_rows import BadRow, InputError, Row, read_rows
else:
    from batch_results import OutputError, Results
    from batch_rows import BadRow, InputError, Row, read_rows

#: Seconds between two writes of progress.json.
INTERVAL = 0.25
#: Seconds between two times that the output is forced to the disk.
SYNC_EVERY = 1.0
#: Seconds over which rates are measured.
WINDOW = 10.0
_PR_SET_PDEATHSIG = 1


class JobError(Exception):
    """The batch can't go on: a code, and what it is about."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code, self.detail = code, detail


class Stopped(BaseException):
    """Somebody asked for an end before there was work to drop."""


class Job:
    """The batch in one folder. stop: whether an end was asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.order: dict[str, Any] = json.loads((folder / "order.json").read_bytes())
        self.stop = False
        self._is_working = False
        self._over = threading.Event()
        self._writer = threading.Thread(target=self._write_on, name="progress", daemon=True)
        self._trouble: OutputError | None = None
        self._samples: deque[tuple[float, int, int]] = deque()
        self.progress: dict[str, Any] = {
            "phase": "starting", "pid": os.getpid(), "started_at": time.time(), "total": self.order["input"]["lines"],
            "finished": 0, "failed": 0, "too_long": 0, "finished_before": 0, "running": 0, "prompt_tokens": 0,
            "output_tokens": 0, "seconds": 0.0, "requests_rate": None, "tokens_rate": None,
        }  # fmt: skip
        self._began = 0.0
        self.results: Results

    # -- its life ----------------------------------------------------------------------------------

    def run(self, work: Callable[[Job], None]) -> int:
        """All of it: open the files, work, write down how it ended. The exit status of the process."""
        signal.signal(signal.SIGTERM, self._asked_to_stop)
        signal.signal(signal.SIGINT, self._asked_to_stop)
        try:
            _end_with_keeper(self.folder)
            self.say()
            self._open()
            work(self)
            self._stop_writing()
            self.results.close()
            self.say()
            self._end("cancelled" if self.stop else "done")
        except (Stopped, KeyboardInterrupt):
            self._close()
            self._end("cancelled")
        except (JobError, InputError, OutputError) as error:
            traceback.print_exc()
            self._close()
            self._end("failed", error={"code": error.code, "detail": error.detail})
            return 1
        except BaseException as error:  # noqa: BLE001 - whatever it was, it is to be told
            self._close()
            if self.stop:  # what the order to stop brought about is no failure
                self._end("cancelled")
                return 0
            traceback.print_exc()
            self._end("failed", error={"code": "exception", "detail": f"{type(error).__name__}: {error}"[:2000]})
            return 1
        return 0

    def _open(self) -> None:
        """Raises OutputError, and JobError where the input is not what it was."""
        given = self.order["input"]
        try:
            status = os.stat(given["path"])  # noqa: PTH116
        except OSError as error:
            raise JobError("unreadable", str(error)) from None
        if (status.st_size, status.st_mtime_ns) != (given["size"], given["mtime_ns"]):
            raise JobError("input_changed", given["path"])
        self.results = Results(self.order["output"], self.order["errors"], self.order["format"])
        self.progress["finished_before"] = self.results.finished

    def _close(self) -> None:
        self._stop_writing()
        if hasattr(self, "results"):
            try:
                self.results.close()
            except (OSError, OutputError):
                traceback.print_exc()

    def _asked_to_stop(self, _number: int, _frame: Any) -> None:
        self.stop = True
        if not self._is_working:
            raise Stopped

    # -- the work ----------------------------------------------------------------------------------

    def begin(self) -> None:
        """From here on the answers come; `stop` is to be looked at."""
        self._is_working = True
        if self.stop:
            raise Stopped
        self._began = time.monotonic()
        self._samples.append((self._began, 0, 0))
        self.say(phase="running")
        self._writer.start()

    def rows(self) -> Iterator[Row]:
        """The rows that are still to be done; those that are no prompts are written to the errors file on the way."""
        given = self.order["input"]
        for row in read_rows(given["path"], given["kind"], given.get("column", "")):
            if row.line in self.results.done:
                continue
            if isinstance(row, BadRow):
                self.results.add_bad(row.line, row.id, row.code, row.detail)
                self.results.flush()
            else:
                yield self._as_chat(row)

    def _as_chat(self, row: Row) -> Row:
        """A raw prompt as the question of a conversation, where the batch wants that."""
        system = self.order.get("system", "")
        if row.messages is None and self.order.get("chat"):
            row.messages = [{"role": "user", "content": row.prompt}]
            if system:
                row.messages.insert(0, {"role": "system", "content": system})
        return row

    def add(self, row: Row, answer: dict[str, Any], body: dict[str, Any]) -> None:
        """A whole answer: `answer` for the format "rows", `body` (OpenAI's response body) for the format "openai"."""
        if self.order["format"] == "openai":
            id = f"batch_req_{row.line}"
            response = {"status_code": 200, "request_id": id, "body": body}
            record: dict[str, Any] = {"id": id, "custom_id": row.id, "response": response, "error": None}
        else:
            asked: dict[str, Any] = {"prompt": row.prompt} if row.prompt is not None else {"messages": row.messages}
            record = {"line": row.line, "id": row.id, **asked, **answer}
        self.results.add(row.line, record)
        self.progress["prompt_tokens"] += answer["prompt_tokens"]
        self.progress["output_tokens"] += answer["output_tokens"]

    def add_bad(self, row: Row, code: str, detail: str, *, is_passing: bool = False) -> None:
        """A row that gets no answer."""
        self.progress["too_long"] += code == "too_long"
        self.results.add_bad(row.line, row.id, code, detail, is_passing=is_passing)

    # -- saying how it goes ------------------------------------------------------------------------

    def tick(self, running: int) -> None:
        """Hand over the finished rows. Raises OutputError. What waits for the disk is done by a thread."""
        self.progress["running"] = running
        self.results.flush()
        if self._trouble is not None:
            raise self._trouble

    def _write_on(self) -> None:
        """Until the end: four times a second how far it is, once a second everything to the disk."""
        synced_at = time.monotonic()
        while not self._over.wait(INTERVAL):
            now = time.monotonic()
            self._measure(now)
            self.say()
            if now - synced_at >= SYNC_EVERY:
                synced_at = now
                try:
                    self.results.sync()
                except OutputError as error:
                    self._trouble = error

    def end_work(self) -> None:
        """No more answers come; the engine is about to be ended."""
        self._stop_writing()
        self.results.flush()
        self._measure(time.monotonic())
        self.say(phase="ending", running=0)

    def _stop_writing(self) -> None:
        self._over.set()
        if self._writer.is_alive():
            self._writer.join()

    def _measure(self, now: float) -> None:
        finished = self.results.finished - self.progress["finished_before"]
        self._samples.append((now, finished, self.progress["output_tokens"]))
        while len(self._samples) > 2 and now - self._samples[0][0] > WINDOW:
            self._samples.popleft()
        then, finished_then, tokens_then = self._samples[0]
        if now > then:
            self.progress["requests_rate"] = (finished - finished_then) / (now - then)
            self.progress["tokens_rate"] = (self.progress["output_tokens"] - tokens_then) / (now - then)
        self.progress["seconds"] = now - self._began

    def say(self, **fields: Any) -> None:
        """Change some fields of progress.json and replace it; on a full disk the older one stays."""
        if hasattr(self, "results"):
            fields |= {"finished": self.results.finished, "failed": self.results.failed}
        self.progress |= fields
        temporary = self.folder / f".progress.{os.getpid()}.tmp"
        try:
            temporary.write_text(json.dumps(self.progress), encoding="utf-8")
            temporary.replace(self.folder / "progress.json")
        except OSError:
            traceback.print_exc()

    def _end(self, phase: str, **fields: Any) -> None:
        if self._began:
            seconds = self.progress["seconds"] or time.monotonic() - self._began
            finished = self.progress["finished"] - self.progress["finished_before"]
            # Of an end the rates of the whole are told, not those of its last seconds.
            fields |= {"seconds": seconds, "requests_rate": finished / seconds,
                       "tokens_rate": self.progress["output_tokens"] / seconds}  # fmt: skip
        self.say(phase=phase, ended_at=time.time(), running=0, **fields)


def _end_with_keeper(folder: Path) -> None:
    """Have the kernel send SIGTERM when the keeper dies, even by SIGKILL: nothing is left working for nobody.

    Raises Stopped if it is dead already.
    """
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    try:
        parent = Path(f"/proc/{os.getppid()}/cmdline").read_bytes().split(b"\0")
    except OSError:
        parent = []
    if (folder / "launch.json").exists() and os.fsencode(folder) not in parent:
        raise Stopped


def main(work: Callable[[Job], None]) -> int:
    """Run the batch whose folder is the first argument; the exit status."""
    return Job(Path(sys.argv[1])).run(work)
