"""The keeper: a small process that stands over one vLLM server from its start to its end.

Run as `python -I -S keeper.py FOLDER [--adopt RUN]`, standard library only. It detaches itself, takes the
folder's lock for as long as it lives, starts the server in a session of its own (or adopts the one that
`state.json` names), and waits. It is a child subreaper, so when the API server dies by any signal, its
EngineCore and workers become the keeper's children: it ends and collects them, and records how the server
ended. SIGTERM stops the server. The server needs nothing of the keeper: it writes straight to its log file.

Files in FOLDER: `launch.json` (what to run; written before), `state.json` (what is; only the keeper writes
it, each time as a whole), `keeper.lock`, `keeper.log`, `stop.json` (how to stop; written by who asks).
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    # -I keeps the environment and the current folder off the path, so the package has to be named.
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from qwen_tui.logs.keep import BoundedLog
from qwen_tui.server import processes, sockets
from qwen_tui.server.engine_death import engine_died
from qwen_tui.server.idle import IdleWatch

PR_SET_CHILD_SUBREAPER = 36
ALREADY_KEPT = 3
#: A pid that no process has.
NOBODY = -1
#: Seconds that the rest of a crashed server's session gets between SIGTERM and SIGKILL.
CRASH_GRACE = 3.0
BACKOFF_FIRST, BACKOFF_MOST = 1.0, 60.0
#: A server that ran this long before it failed starts over with the shortest back-off. Seconds.
LONG_ENOUGH = 600.0
#: Starts in a row that end without the server having been ready, or having run so long, before the keeper gives up.
FAILURES_MOST = 10
SIGNALS = {signal.SIGTERM, signal.SIGCHLD}


class Keeper:
    """One run of a server, restarts included."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.launch: dict[str, Any] = json.loads((folder / "launch.json").read_text(encoding="utf-8"))
        self.state: dict[str, Any] = {}
        self.pid = 0
        self.started = 0
        self.is_child = True
        self.status: int | None = None
        self.stop_asked_at: float | None = None
        self.hurry = False
        #: Why it ends without anybody having asked: "idle", or empty.
        self.reason = ""
        self.failures = 0

    # -- the record ---------------------------------------------------------------------------------

    def write(self, **changes: Any) -> None:
        """Change the record and write it in one step; a full disk must not end the keeper."""
        self.state.update(changes)
        text = json.dumps(self.state, ensure_ascii=False).encode("utf-8", "replace")
        temporary = self.folder / f".state.{os.getpid()}.tmp"
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.folder / "state.json")
        except OSError as error:
            self.note(f"state.json not replaced: {error}")
            self.write_in_place(text)

    def write_in_place(self, text: bytes) -> None:
        """Overwrite state.json: a full disk still takes what fits the blocks that the file has already."""
        try:
            (self.folder / f".state.{os.getpid()}.tmp").unlink(missing_ok=True)
            descriptor = os.open(self.folder / "state.json", os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                written = os.pwrite(descriptor, text, 0)
                os.ftruncate(descriptor, written)
            finally:
                os.close(descriptor)
        except OSError as error:
            self.note(f"state.json not written: {error}")

    def mend_state(self) -> None:
        """Write state.json anew if it can't be read any more; whoever sees that sends a SIGCHLD."""
        try:
            dict(json.loads((self.folder / "state.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            self.write()

    def step(self, code: str, pids: list[int] | None = None) -> None:
        """Record one step of ending the server, for whoever watches. Its time: seconds since boot (CLOCK_MONOTONIC)."""
        self.write(steps=[*self.state.get("steps", []), [time.monotonic(), code, pids or []]])

    def note(self, text: str) -> None:
        """A line in keeper.log, which is this process's stderr."""
        try:
            sys.stderr.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
            sys.stderr.flush()
        except OSError:
            pass

    def fresh_state(self) -> dict[str, Any]:
        return {
            "version": 1, "id": self.launch["id"], "keeper": myself(), "boot": processes.boot_id(), "restarts": 0,
        }  # fmt: skip

    # -- starting -----------------------------------------------------------------------------------

    def begin(self) -> bool:
        """Start the server; False if the system can't run the command at all."""
        self.status = None
        opened: list[int] = []
        try:
            opened.append(os.open(os.devnull, os.O_RDONLY))
            opened.append(os.open(self.launch["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
            null, log = opened
            # What is in it already was written by the starts before this one.
            log_begins = os.fstat(log).st_size
            self.pid = os.posix_spawn(
                self.launch["argv"][0],
                self.launch["argv"],
                self.environment(),
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, null, 0),
                    (os.POSIX_SPAWN_DUP2, log, 1),
                    (os.POSIX_SPAWN_DUP2, log, 2),
                ],
                setsid=True,
                setsigmask=[],
                setsigdef=[signal.SIGHUP, signal.SIGINT, signal.SIGPIPE, signal.SIGTERM],
            )
        except OSError as error:
            self.remove_sockets()
            self.write(
                status="ended",
                server=None,
                error=str(error),
                exit={"code": 127, "signal": None, "at": time.time(), "asked": False},
            )
            return False
        finally:
            for descriptor in opened:
                os.close(descriptor)
        stat = processes.read_stat(self.pid)
        self.started = stat.started if stat else 0
        self.write(
            status="running",
            server={"pid": self.pid, "started": self.started},
            started_at=time.time(),
            exit=None,
            error="",
            steps=[],
            log_begins=log_begins,
        )
        return True

    def environment(self) -> dict[str, str]:
        """The server's, with a folder for its sockets."""
        environment = {**os.environ, **self.launch["env"], processes.TAG: self.launch["id"]}
        folder = sockets.make_folder(self.launch["id"], int(self.state.get("restarts", 0)), environment)
        return {**environment, sockets.VARIABLE: folder} if folder else environment

    def remove_sockets(self) -> None:
        """What was made for this run's sockets, by this keeper or one before it."""
        sockets.remove_folders(self.launch["id"], {**os.environ, **self.launch["env"]})

    def is_abandoned(self, run: str) -> bool:
        """Whether the folder still holds this run and nobody has brought it to its end."""
        try:
            state = json.loads((self.folder / "state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            state = {}
        ended = isinstance(state, dict) and state.get("status") == "ended"
        return bool(self.launch["id"] == run) and not ended

    def adopt(self) -> None:
        """Take over the server that state.json names; it may be dead already, its children not.

        A damaged state.json is made anew from what runs: the run's tag finds the server.
        """
        self.is_child = False
        try:
            self.state = dict(json.loads((self.folder / "state.json").read_text(encoding="utf-8")))
            server = self.state["server"]
            self.pid, self.started = int(server["pid"]), int(server["started"])
        except (OSError, ValueError, KeyError, TypeError):
            tagged = processes.members(NOBODY, 0, self.launch["id"])
            leader = next((stat for stat in tagged if stat.pid == stat.session), None)
            self.pid, self.started = (leader.pid, leader.started) if leader else (NOBODY, 0)
            self.state = {**self.fresh_state(), **self.state}
        self.state.setdefault("started_at", time.time())
        self.failures = int(self.state.get("failures", 0))
        if self.state.get("status") == "stopping":
            self.stop_asked_at = time.monotonic()  # the keeper before this one was ended half-way
        self.write(status="running", keeper=myself(), server={"pid": self.pid, "started": self.started}, adopted=True)

    # -- waiting ------------------------------------------------------------------------------------

    def pause(self, seconds: float | None) -> None:
        """Wait until a signal comes or `seconds` are over (None: for ever), and deal with the signal."""
        info = signal.sigwaitinfo(SIGNALS) if seconds is None else signal.sigtimedwait(SIGNALS, seconds)
        if info is not None and info.si_signo == signal.SIGTERM:
            if self.stop_asked_at is not None:
                self.hurry = True  # asked twice
            self.stop_asked_at = self.stop_asked_at or time.monotonic()
        self.collect()

    def collect(self) -> None:
        """Reap every child that has ended; note the server's own status."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.pid:
                self.status = status

    def server_ended(self) -> bool:
        if self.is_child:
            return self.status is not None
        return not processes.is_alive(self.pid, self.started)

    def wait(self) -> None:
        """Until the server has ended, a stop is asked for, or nobody has used it for as long as was set."""
        watch = IdleWatch(self.launch) if (self.launch.get("idle_minutes") or 0) > 0 else None
        while not self.server_ended() and self.stop_asked_at is None:
            # A child's death is a signal; an adopted server is nobody's child here, and has to be looked at.
            seconds = [0.5] if not self.is_child else []
            self.pause(min([*seconds, watch.seconds_to_look()] if watch is not None else seconds, default=None))
            self.mend_state()
            if watch is not None and not self.server_ended() and watch.is_over():
                self.reason = "idle"
                self.stop_asked_at = time.monotonic()

    # -- ending -------------------------------------------------------------------------------------

    def members(self) -> list[processes.ProcessStat]:
        return processes.members(self.pid, self.started, self.launch["id"], keeper=os.getpid())

    def stop_server(self, grace: float) -> None:
        """Ask the API server to end, and wait for it `grace` seconds; the rest is for end_session."""
        self.write(status="stopping", steps=[])
        if self.server_ended():
            return
        self.step("ask", [self.pid])
        processes.send([self.pid], signal.SIGTERM)
        deadline = time.monotonic() + grace
        while not self.server_ended() and not self.hurry and time.monotonic() < deadline:
            self.pause(0.1)
        self.step("left" if self.server_ended() else "stayed", [self.pid])

    def end_session(self, grace: float) -> None:
        """End whatever is left of the server's processes and record it."""
        remaining = processes.end_all(self.members, grace, self.pause, self.step)
        self.collect()
        if not remaining:
            self.remove_sockets()
        self.step("remain" if remaining else "gone", remaining)

    def exit_record(self) -> dict[str, Any]:
        code: int | None = None
        number: int | None = None
        if self.status is not None:
            waited = os.waitstatus_to_exitcode(self.status)
            code, number = (waited, None) if waited >= 0 else (None, -waited)
        return {"code": code, "signal": number, "at": time.time(), "asked": self.stop_asked_at is not None,
                "reason": self.reason}  # fmt: skip

    def stop_grace(self) -> float:
        """Seconds between SIGTERM and SIGKILL, as whoever asked for the stop wrote it."""
        try:
            return float(json.loads((self.folder / "stop.json").read_text(encoding="utf-8"))["grace"])
        except (OSError, ValueError, KeyError, TypeError):
            return 15.0

    def was_ready(self) -> bool:
        """Whether somebody saw this start of the server answer; the services write it down."""
        try:
            run = json.loads((self.folder / "ready.json").read_text(encoding="utf-8"))["run"]
        except (OSError, ValueError, KeyError, TypeError):
            return False
        return bool(run == [self.launch["id"], self.state.get("restarts", 0)])

    # -- the whole life -----------------------------------------------------------------------------

    def run(self, adopt: bool) -> None:
        if adopt:
            self.adopt()
        else:
            self.state = self.fresh_state()
            if not self.begin():
                return
        delay = BACKOFF_FIRST
        while True:
            began = time.monotonic()
            self.wait()
            asked = self.stop_asked_at is not None
            if asked:
                self.stop_server(self.stop_grace())
            self.end_session(2.0 if asked else CRASH_GRACE)
            ran_long = time.monotonic() - began > LONG_ENOUGH
            if ran_long:
                delay = BACKOFF_FIRST
            record = self.exit_record()
            self.failures = 0 if ran_long or self.was_ready() else self.failures + 1
            may_restart = self.launch["restart"] == "on-failure" and not record["asked"] and self.failed(record)
            if not may_restart or self.failures >= FAILURES_MOST:
                self.write(status="ended", server=None, exit=record, gave_up=self.failures if may_restart else 0)
                return
            if not self.restart_after(delay, record):
                return
            delay = min(delay * 2, BACKOFF_MOST)

    def failed(self, record: dict[str, Any]) -> bool:
        """Whether an end that was not asked for is a failure, and not an end in good order."""
        return record["code"] != 0 or engine_died(Path(self.launch["log"]), int(self.state.get("log_begins") or 0))

    def restart_after(self, delay: float, record: dict[str, Any]) -> bool:
        """Wait out the back-off and start again; False if a stop came meanwhile or it can't be started."""
        deadline = time.monotonic() + delay
        self.write(
            status="waiting", server=None, exit=record, restart_due=deadline,
            failures=self.failures, failures_most=FAILURES_MOST,
        )  # fmt: skip
        while time.monotonic() < deadline:
            self.pause(max(0.0, deadline - time.monotonic()))
            if self.stop_asked_at is not None:
                self.write(status="ended", exit={**record, "asked": True})
                return False
        self.is_child = True
        self.write(restarts=self.state.get("restarts", 0) + 1)
        return self.begin()


def myself() -> dict[str, int]:
    stat = processes.read_stat(os.getpid())
    return {"pid": os.getpid(), "started": stat.started if stat else 0}


def become_subreaper() -> None:
    """Orphans among the descendants become children of this process. Source: prctl(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def main(argv: list[str]) -> int:
    """Detach, lock, keep. Exit status of the process that was started: 0 when detached, 3 when already kept."""
    folder = Path(argv[0])
    lock = os.open(folder / "keeper.lock", os.O_RDWR | os.O_CREAT, 0o600)
    for _attempt in range(25):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            time.sleep(0.02)  # somebody who only looks holds it for an instant
    else:
        return ALREADY_KEPT
    adopt = argv[1:2] == ["--adopt"]
    keeper = Keeper(folder)
    if adopt and not keeper.is_abandoned(argv[2]):
        return ALREADY_KEPT  # another keeper was quicker, and is through with it
    if os.fork():
        os._exit(0)  # the lock lives on in the child
    os.setsid()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    become_subreaper()
    try:
        os.chdir(keeper.launch["cwd"])
    except OSError as error:
        keeper.note(f"chdir: {error}")
    log = BoundedLog(Path(keeper.launch["log"]), int(keeper.launch.get("log_keep_mb") or 0) * 1_000_000, keeper.note)
    log.start()
    keeper.run(adopt)
    log.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
