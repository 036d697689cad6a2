"""One download: waits for its turn, asks the hub, fetches, checks. Goes on when whoever started it is gone.

Reads one line, JSON, from its standard input: {"job": its folder (see hub_queue), "answer": what hub_list answered just
now, or {}, "answered_at": Unix time}. So it can be started before its job is known, and be ready by then; without a
line it ends. Ends at once and leaves a process of its own behind, which holds the job's lock; status 3 if another one
does. SIGTERM stops it; what it has by then is kept. It says what happens in codes: putting them into words is for
whoever shows them. The token never leaves memory: it comes over pipes only.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qwen_tui.workers import hub_http, hub_queue
    from qwen_tui.workers.hub_client import Client
    from qwen_tui.workers.hub_fetch import Fetcher
    from qwen_tui.workers.hub_files import Failure, File, disk_failure, free_bytes, make_link, once_each
    from qwen_tui.workers.hub_record import Record, sync_disk_of
else:
    import hub_http
    import hub_queue
    from hub_client import Client
    from hub_fetch import Fetcher
    from hub_files import Failure, File, disk_failure, free_bytes, make_link, once_each
    from hub_record import Record, sync_disk_of

ALREADY_HELD = 3
#: Seconds for which the answer that a plan was made of is good enough to begin with.
FRESH = 60.0
_INTERVAL = 0.25
_TURN_INTERVAL = 0.3
_RATE_WINDOW = 10.0
#: Bytes kept for the last state.
_SPARE = 65_536
#: Fields of the state that are still true when a download goes on.
_KEPT = ("done", "total", "files", "files_done", "folder", "commit")
#: What another listing may mend: the file was changed on the hub meanwhile.
_MAY_HAVE_CHANGED = ("damaged", "wrong_size", "file_missing")
#: Errors of the clients that may pass.
_PASSING = (
    "NetworkError", "RequestTimeoutError", "ConnectionError", "ConnectTimeout", "ReadTimeout", "Timeout",
    "ConnectError", "ServerError", "RateLimitError", "ProxyError", "SSLError", "RemoteProtocolError", "ReadError",
)  # fmt: skip


class _StoppedError(Exception):
    """Somebody asked for an end."""


class Job:
    """The download in one folder."""

    def __init__(self, folder: Path, answer: dict[str, Any], answered_at: float) -> None:
        self.folder = folder
        self.answer, self.answered_at = answer, answered_at
        self.launch = hub_queue.read_json(folder / "request.json")
        self.request: dict[str, Any] = self.launch["request"]
        timing = self.launch.get("timing", {})
        self.stall_after = float(timing.get("stall", 15.0))
        self.silent_after = float(timing.get("silent", 20.0))
        self.patience = float(timing.get("patience", 900.0))
        self.stop = threading.Event()
        earlier = hub_queue.read_json(folder / "state.json")
        self.state: dict[str, Any] = {key: earlier[key] for key in _KEPT if key in earlier}
        self.state |= {"pid": os.getpid(), "started_at": time.time()}
        self.samples: deque[tuple[float, int]] = deque()
        self.files_written_at = 0.0
        self.said_unlisted = 0.0
        self.began = 0.0
        self.authorization: dict[str, str] = {}
        self.record: Record | None = None
        self.folder_done: Path | None = None

    # -- saying how it goes ------------------------------------------------------------------------

    def say(self, **fields: Any) -> None:
        """Change some fields of the state, and write it; on a full disk the older one stays."""
        self.state.update(fields)
        with contextlib.suppress(OSError):
            hub_queue.write_json(self.folder / "state.json", self.state)

    def end(self, status: str, **fields: Any) -> None:
        """The last state. For this one there is room, even on a disk that is full."""
        (self.folder / "spare").unlink(missing_ok=True)
        self.say(status=status, ended_at=time.time(), rate=None, stall=None, active=[], **fields)

    def end_stopped(self) -> None:
        """Stopped: because somebody wanted it, or because the machine goes down."""
        wanted = hub_queue.read_json(self.folder / "control.json").get("want", "")
        self.end({"pause": "paused", "cancel": "cancelled"}.get(wanted, "interrupted"))

    def check(self) -> None:
        """Raises _StoppedError if it was asked to stop."""
        if self.stop.is_set():
            raise _StoppedError

    # -- the steps ---------------------------------------------------------------------------------

    def run(self) -> None:
        """All of it. Raises Failure, _StoppedError."""
        (self.folder / "spare").write_bytes(bytes(_SPARE))
        self.await_turn()
        for is_last in (False, True):
            plan = self.list_until_answered()
            try:
                self.fetch(plan)
                break
            except Failure as failure:
                name = failure.details.get("name")
                if is_last or failure.code not in _MAY_HAVE_CHANGED or not self.has_changed(plan, name):
                    raise
        for name, text in plan["refs"].items():
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            hub_queue.write_text(Path(name), text, 0o644)
        self.folder_done = Path(plan["folder"])
        self.end("done", done=self.state["total"], checked=self.state["total"], files_done=self.state["files"])

    def sync(self) -> None:
        """After the end: have the disk itself take the files, and note that it has, in a process that nobody waits for.

        Done means that every hash held. That the bytes would outlive a power cut takes as long as the disk takes.
        """
        if self.folder_done is None or self.record is None or os.fork():
            return
        try:
            os.setsid()
            os.closerange(3, 1024)  # the job's lock, too: it is over
            sync_disk_of(self.folder_done)
            self.record.write(is_synced=True)
        finally:
            os._exit(0)

    def await_turn(self) -> None:
        """Wait until the queue lets this one work."""
        while True:
            self.check()
            with hub_queue.queue_locked(self.folder.parent):
                if hub_queue.may_run(self.folder.parent, self.folder.name):
                    self.say(status="listing", started_at=time.time())
                    return
            self.stop.wait(_TURN_INTERVAL)

    def list_until_answered(self) -> dict[str, Any]:
        """What the hub lists; asked again, later and later, while it does not answer."""
        began, delay = time.monotonic(), 1.0
        while True:
            try:
                plan = self.take_answer() or self.ask(time.monotonic() - began)
                break
            except Failure as failure:
                quiet = time.monotonic() - began
                if failure.details.get("title") not in _PASSING or quiet > self.patience:
                    raise
                self.say_unlisted(quiet, failure.details["why"], delay)
                self.stop.wait(delay)
                delay = min(30.0, delay * 2)
        self.authorization = plan.pop("authorization")
        earlier = hub_queue.read_json(self.folder / "plan.json").get("before")
        whole = [file["name"] for file in plan["files"] if file["present"] == file["size"]]
        plan["before"] = earlier if isinstance(earlier, list) else whole
        hub_queue.write_json(self.folder / "plan.json", plan)
        total = sum(file["size"] for file in plan["files"])
        present = sum(file["present"] for file in plan["files"])
        self.say(
            total=total,
            done=present,
            files=len(plan["files"]),
            folder=plan["folder"],
            commit=plan["commit"],
            stall=None,
        )
        if not plan["files"]:
            raise Failure("nothing")
        self.refuse_small_disk(Path(plan["folder"]), total - present)
        return plan

    def take_answer(self) -> dict[str, Any]:
        """The hub's answer to whoever started this, once; {} if there is none, or one that is old by now."""
        answer, self.answer = self.answer, {}
        return answer if time.time() - self.answered_at < FRESH else {}

    def ask(self, waited: float = 0.0) -> dict[str, Any]:
        """Ask the hub once. waited: seconds of earlier tries. Raises Failure, _StoppedError."""
        if TYPE_CHECKING:
            from qwen_tui.workers.hub_ask import ask_hub
        else:
            from hub_ask import ask_hub  # here: most downloads begin with an answer

        request = {
            **self.request,
            "cache_dir": self.launch["cache_dir"],
            "token_file": self.launch["token_file"],
            "is_elsewhere": self.launch.get("is_elsewhere", bool(self.request.get("endpoint"))),
            "with_authorization": True,
        }
        answer = ask_hub(request, self.stop, lambda quiet: self.say_unlisted(waited + quiet), self.patience)
        self.check()
        return answer

    def say_unlisted(self, quiet: float, detail: str = "", next_try: float = 0.0) -> None:
        """The hub has not listed its files for `quiet` seconds: a stall, once that is long, told once a second."""
        if quiet < self.stall_after or (not detail and quiet - self.said_unlisted < 1.0):
            return
        self.said_unlisted = quiet
        self.say(stall={"seconds": quiet, "code": "listing", "detail": detail, "next_try": next_try})

    def refuse_small_disk(self, folder: Path, missing: int) -> None:
        """Raises Failure if what is missing does not fit."""
        place = folder
        while not place.exists():
            place = place.parent
        free, reserve = free_bytes(place), int(self.launch.get("reserve", 0))
        if missing and free < missing + reserve:
            raise Failure("no_room", needed=missing + reserve, free=free, path=str(folder))

    def has_changed(self, plan: dict[str, Any], name: str | None) -> bool:
        """Whether the hub lists this file differently by now."""
        before = [(file["size"], file["identity"]) for file in plan["files"] if file["name"] == name]
        now = [(file["size"], file["identity"]) for file in self.ask()["files"] if file["name"] == name]
        return before != now

    # -- fetching ----------------------------------------------------------------------------------

    def fetch(self, plan: dict[str, Any]) -> None:
        """Fetch and check the plan's files. Raises Failure, _StoppedError."""
        links = {file["name"]: file["link"] for file in plan["files"]}
        files = [
            File(file["name"], file["url"], Path(file["target"]), file["size"], file["identity"])
            for file in plan["files"]
        ]
        record = self.record = Record(Path(self.launch["record"]), self.request, plan)

        def checked(file: File) -> None:
            if links[file.name]:
                make_link(Path(links[file.name]), file.target)
            record.add(file.name, file.target, file.identity)

        context = functools.cache(hub_http.tls_context)
        home = hub_http.Site.of(files[0].url)
        fetcher = Fetcher(
            once_each(files),
            lambda: Client(home, self.authorization, self.silent_after, context),
            hub_queue.options(self.folder.parent)["connections"],
            lambda file: record.is_good(file.name, file.target, file.identity),
            checked,
        )
        self.say(status="running")
        try:
            self.watch(fetcher, files)
        finally:
            with contextlib.suppress(OSError):  # what is not recorded is hashed again
                record.write()
        if not all(file.checked for file in files):
            raise Failure("bug", why="files were left out")
        for entry in plan["files"]:
            if entry["link"]:  # also the second name of the same content
                make_link(Path(entry["link"]), Path(entry["target"]))

    def watch(self, fetcher: Fetcher, files: list[File]) -> None:
        """Run the fetcher in a thread, say how it goes, and give up when nothing has come for too long."""
        thread = threading.Thread(target=_quietly, args=(fetcher.run,), daemon=True)
        thread.start()
        self.began = time.monotonic()
        best, best_at = -1, self.began
        while thread.is_alive():
            thread.join(_INTERVAL)
            done = self.report(fetcher, files)
            now = time.monotonic()
            if done > best or not self.is_fetching(files):
                best, best_at = done, now
            elif now - best_at > self.patience:
                trouble = fetcher.units.trouble
                code = trouble.code if trouble is not None else "silent"
                fetcher.stop(Failure("gave_up", reason=code, detail=trouble.detail if trouble is not None else ""))
            if self.stop.is_set():
                fetcher.stop()
                raise _StoppedError
        self.report(fetcher, files, is_last=True)
        if fetcher.failure is not None:
            raise fetcher.failure

    @staticmethod
    def is_fetching(files: list[File]) -> bool:
        """Whether bytes are missing; else only hashes are."""
        return any(file.now_done() < file.size or (file.size == 0 and not file.checked) for file in files)

    def report(self, fetcher: Fetcher, files: list[File], *, is_last: bool = False) -> int:
        """Write the state; the bytes that are on the disk."""
        now = time.monotonic()
        counts = [file.now_done() for file in files]
        received = fetcher.received
        self.samples.append((now, received))
        while len(self.samples) > 2 and now - self.samples[0][0] > _RATE_WINDOW:
            self.samples.popleft()
        (_at, first), span = self.samples[0], now - self.samples[0][0]
        active = [
            [file.name, file.size, count]
            for file, count in zip(files, counts, strict=True)
            if not file.checked and 0 < count <= file.size
        ][:32]
        self.say(
            done=min(sum(counts), sum(file.size for file in files)),
            total=sum(file.size for file in files),
            checked=sum(file.size for file in files if file.checked),
            files_done=sum(file.checked for file in files),
            fetched=received,
            seconds=now - self.began,
            rate=(received - first) / span if span >= 0.2 else None,
            active=active,
            stall=self.stall(fetcher, files, now),
        )
        if is_last or now - self.files_written_at >= 1.0:
            self.files_written_at = now
            checked = "".join("1" if file.checked else "0" for file in files)
            with contextlib.suppress(OSError):
                hub_queue.write_json(self.folder / "files.json", {"done": counts, "checked": checked})
        return sum(counts)

    def stall(self, fetcher: Fetcher, files: list[File], now: float) -> dict[str, Any] | None:
        """Why nothing comes, once nothing has come for a while."""
        quiet = now - fetcher.last_byte
        if quiet < self.stall_after or not self.is_fetching(files):
            return None
        trouble = fetcher.units.trouble if fetcher.units.trouble_at > fetcher.last_byte else None
        return {
            "seconds": quiet,
            "code": trouble.code if trouble is not None else "silent",
            "detail": trouble.detail if trouble is not None else "",
            "next_try": max(0.0, fetcher.units.next_try - now),
        }


def _print_trace() -> None:
    import traceback  # here: most downloads need none

    traceback.print_exc()


def _quietly(work: Any) -> None:
    with contextlib.suppress(Failure):
        work()


def main() -> None:
    line = sys.stdin.buffer.readline()
    if not line.endswith(b"\n"):
        return  # whoever got it ready has no job for it
    order = json.loads(line)
    folder = Path(order["job"])
    hub_queue.write_into(folder / "log")
    if hub_queue.take_job(folder) is None:
        raise SystemExit(ALREADY_HELD)
    job = Job(folder, order["answer"], order["answered_at"])
    signal.signal(signal.SIGTERM, lambda _number, _frame: job.stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    job.say(status="queued")
    if os.fork():
        os._exit(0)
    job.state["pid"] = os.getpid()
    job.say()
    try:
        job.run()
        job.sync()
    except _StoppedError:
        job.end_stopped()
    except Failure as failure:
        _print_trace()
        job.end("failed", problem={"code": failure.code, **failure.details})
    except OSError as error:
        _print_trace()
        full = disk_failure(error, Path(error.filename or folder))
        job.end("failed", problem={"code": full.code, **full.details})
    except Exception as error:  # noqa: BLE001 - whatever it was, it must be seen
        _print_trace()
        job.end("failed", problem={"code": "bug", "why": repr(error)})
    finally:
        sys.stderr.flush()
        os._exit(0)  # threads that still wait for the network are of no use any more


if __name__ == "__main__":
    main()
