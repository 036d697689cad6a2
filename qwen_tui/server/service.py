"""The servers of this user: start, look, wait, stop. Both front ends call this and nothing below it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qwen_tui.errors import ServerError, ServerNotFound, StartFailed
from qwen_tui.i18n import _, ngettext
from qwen_tui.paths import Paths, write_private
from qwen_tui.server import processes, registry
from qwen_tui.server.health import Health
from qwen_tui.server.history import StartHistory, eta, kind_of_start
from qwen_tui.server.phases import PhaseReader
from qwen_tui.server.spec import ServerSpec
from qwen_tui.server.status import Phase, ServerState, ServerStatus, StartProgress

if TYPE_CHECKING:
    from qwen_tui.engine.find import Engine

#: Seconds between two looks at a starting server: what readiness can come late by.
_STARTING_INTERVAL = 0.2
#: Seconds between two looks at a start above which its phases can't be timed.
_BLINK = 3.0


@dataclass(frozen=True)
class StopStep:
    """One thing that happened while a server was being stopped.

    text: translated, one line. at: seconds since the stop was asked for.
    """

    text: str
    at: float


OnStep = Callable[[StopStep], None]


class _Start:
    """What is being learned about one start while it goes on."""

    def __init__(self, record: registry.Record, expected: dict[Phase, float]) -> None:
        self.run = record.run
        self.reader = PhaseReader(record.log, record.log_begins)
        self.expected = expected
        # By a clock that nobody sets.
        self.began = time.monotonic() - (processes.age(record.server[1]) if record.server_is_alive else 0.0)
        self.entered = self.began
        self.passed: list[tuple[Phase, float]] = []
        self.last = Phase.SPAWN
        self.looked = self.began
        self.was_watched = True
        self.is_new = True

    def look(self) -> StartProgress:
        """Read on in the log; how far the start has come now."""
        now = time.monotonic()
        self.was_watched = self.was_watched and now - self.looked < _BLINK
        self.looked = now
        self.reader.update()
        if self.is_new and not self.was_watched:
            # Somebody else's start: what it did before can't be timed.
            self.last, self.entered = self.reader.phase, now
        self.is_new = False
        return self._progress(self.reader.phase, self.reader.done, self.reader.total)

    def finish(self) -> StartProgress:
        return self._progress(Phase.READY, 0, 0)

    def _progress(self, phase: Phase, done: int, total: int) -> StartProgress:
        now = time.monotonic()
        if phase is not self.last:
            self.passed.append((self.last, max(0.0, now - self.entered)))
            self.last, self.entered = phase, now
        in_phase = max(0.0, now - self.entered)
        phases = tuple(self.passed) if phase is Phase.READY else (*self.passed, (phase, in_phase))
        remaining = 0.0 if phase is Phase.READY else eta(self.expected, phase, in_phase)
        return StartProgress(phase, done, total, max(0.0, now - self.began), remaining, phases)


class Servers:
    """All servers of one user. Use from one event loop; `close` when done."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._folder = paths.servers
        self._history = StartHistory(paths.state / "starts.json")
        self._health = Health()
        self._starts: dict[str, _Start] = {}
        #: Name → run that is ready, and what is known of its start.
        self._ended_starts: dict[str, tuple[tuple[str, int], StartProgress | None]] = {}
        self._causes: dict[tuple[str, int, bool], str] = {}

    async def close(self) -> None:
        """Close the connections that were opened for health checks."""
        await self._health.close()

    # -- looking ------------------------------------------------------------------------------------

    def list(self) -> Sequence[ServerStatus]:
        """Every known server from the state files and /proc, sorted by name; no network, a few milliseconds.

        The cause of a failure is there only if it was found before: that means reading a log.
        """
        records = registry.read_all(self._folder)
        return [self._complete(registry.status_of(record), record, find_cause=False) for record in records]

    def get(self, name: str) -> ServerStatus:
        """The server `name`, as `list` sees it, with the cause of a failure. Raises ServerNotFound."""
        return self._status(registry.find(self._folder, name))

    async def refresh(self) -> Sequence[ServerStatus]:
        """Like `list`, with each living server asked for /health and /v1/models; at most a second or two.

        A run that lost its keeper gets a new one here.
        """
        return await asyncio.gather(*(self._refresh(record) for record in registry.read_all(self._folder)))

    async def _refresh(self, record: registry.Record) -> ServerStatus:
        if record.is_abandoned and await self._adopt(record):
            record = registry.read(record.folder) or record
        if record.kept and not record.state:
            await self._ask_for_state(record)
        status = registry.status_of(record)
        if status.state is ServerState.STARTING and status.pid is not None:
            if await self._health.is_ready(status.spec.base_url, status.api_key):
                self._became_ready(record)
                status = dataclasses.replace(status, state=ServerState.READY)
        elif status.state is ServerState.READY and not await self._health.still_answers(
            status.spec.base_url, record.run
        ):
            status = dataclasses.replace(status, state=ServerState.UNRESPONSIVE)
        elif (status.state is ServerState.FAILED or status.next_try is not None) and _end_of(
            record
        ) not in self._causes:
            self._causes[_end_of(record)] = await asyncio.to_thread(registry.cause_of, record)
        return self._complete(status, record)

    @staticmethod
    async def _ask_for_state(record: registry.Record) -> int | None:
        """Have the keeper write a state that was damaged; the keeper's pid, if there is one."""
        keeper = await asyncio.to_thread(registry.find_keeper, record.folder)
        if keeper is not None:
            processes.send([keeper], signal.SIGCHLD)  # wakes it, and does nothing to one that only begins
        return keeper

    def _status(self, record: registry.Record) -> ServerStatus:
        """The status of `record` without asking its server."""
        return self._complete(registry.status_of(record), record)

    def _start_of(self, record: registry.Record) -> _Start:
        """What is known of this record's current start; begun anew with each run and restart."""
        name = record.folder.name
        start = self._starts.get(name)
        if start is None or start.run != record.run:
            kind = kind_of_start(record.spec, record.launch["engine"]["version"])
            start = self._starts[name] = _Start(record, self._history.expected(kind))
        return start

    def _complete(self, status: ServerStatus, record: registry.Record, *, find_cause: bool = True) -> ServerStatus:
        """`status` with the progress of its start, or the cause of its failure, where there is something to say."""
        if status.state is ServerState.FAILED:
            if find_cause and _end_of(record) not in self._causes:
                self._causes[_end_of(record)] = registry.cause_of(record)
            return dataclasses.replace(status, cause=self._causes.get(_end_of(record), status.cause))
        if status.next_try is not None:
            return dataclasses.replace(status, cause=self._causes.get(_end_of(record), status.cause))
        if status.state is ServerState.STARTING and not record.launching:
            return dataclasses.replace(status, start=self._start_of(record).look())
        if status.state is ServerState.READY:
            return dataclasses.replace(status, start=self._start_that_was(record))
        return status

    def _start_that_was(self, record: registry.Record) -> StartProgress | None:
        """What is known of the start of a server that is ready, whoever watched it."""
        name = record.folder.name
        run, start = self._ended_starts.get(name, (None, None))
        if run != record.run:
            phases = registry.ready_phases(record)
            elapsed = sum(seconds for _phase, seconds in phases)
            start = StartProgress(Phase.READY, elapsed=elapsed, eta=0.0, phases=phases) if phases else None
            self._ended_starts[name] = record.run, start
        return start

    def _became_ready(self, record: registry.Record) -> None:
        """Note that this start is over, for other processes and for the ETA of the next one."""
        start = self._start_of(record)
        start.look()
        progress = start.finish()
        self._ended_starts[record.folder.name] = record.run, progress
        registry.mark_ready(record, progress.phases if start.was_watched else ())
        if start.was_watched:
            self._history.record(kind_of_start(record.spec, record.launch["engine"]["version"]), progress.phases)

    # -- starting -----------------------------------------------------------------------------------

    async def start(self, spec: ServerSpec, engine: Engine) -> ServerStatus:
        """Start a server detached, under its keeper; returns once its process runs.

        Raises ServerError if the name is in use by a living server, the port is taken, or it can't be started, and
        SettingsError.
        """
        from qwen_tui.server.launch import launch
        from qwen_tui.settings import load

        return self._status(await launch(self._folder, spec, engine, load(self._paths).log_keep_mb))

    async def wait_ready(self, name: str, on_progress: Callable[[StartProgress], None] | None = None) -> ServerStatus:
        """Wait until the server answers. Raises StartFailed with the cause if it ends first."""
        run = registry.find(self._folder, name).launch["id"]
        while True:
            record = registry.find(self._folder, name)
            if record.launch["id"] != run:
                raise StartFailed(_("“{name}” was started anew by somebody else").format(name=name))
            status = await self._refresh(record)
            if on_progress is not None and status.start is not None:
                on_progress(status.start)
            if status.state is ServerState.READY:
                return status
            if not status.state.is_alive:
                raise StartFailed(
                    describe_exit(status),
                    status.cause,
                    _("The whole log: {log}").format(log=status.log),
                )
            await asyncio.sleep(_STARTING_INTERVAL)

    @staticmethod
    async def _adopt(record: registry.Record) -> bool:
        """Give an abandoned run a new keeper; False if somebody else did."""
        from qwen_tui.server.launch import adopt  # not needed for the first paint

        return await adopt(record)

    # -- ending -------------------------------------------------------------------------------------

    async def stop(self, name: str, on_step: OnStep | None = None, grace: float = 15.0) -> None:
        """Stop the server and every process of its session; returns when none is left.

        grace: seconds between SIGTERM and SIGKILL. Asked again while a stop is under way, it kills at once.
        Raises ServerNotFound, or ServerError if a process remains.
        """
        record = registry.find(self._folder, name)
        if record.is_abandoned:
            await self._adopt(record)
            record = registry.find(self._folder, name)
        if not record.kept:
            return
        with contextlib.suppress(OSError):  # a full disk: then the keeper's own grace holds
            write_private(record.folder / "stop.json", json.dumps({"grace": grace}))
        asked_at = time.monotonic()
        keeper = record.keeper or await self._ask_for_state(record)
        if keeper is None:
            if not registry.find(self._folder, name).kept:
                return  # it ended by itself just now
            raise ServerError(
                _("“{name}” has a keeper that can't be found").format(name=name),
                "",
                _("Try again in a second"),
            )
        processes.send([keeper], signal.SIGTERM)
        told = 0
        run = record.launch["id"]
        while True:
            try:
                now = registry.find(self._folder, name)
            except ServerNotFound:
                return  # somebody else has removed it
            if now.launch["id"] != run:
                return  # and somebody else has started it anew
            record = now
            steps = [step for step in record.state.get("steps", []) if step[0] >= asked_at - 0.5]
            for at, code, pids in steps[told:]:
                if on_step is not None:
                    on_step(StopStep(_step_text(code, pids), max(0.0, at - asked_at)))
            told = len(steps)
            if not record.kept:
                break
            await asyncio.sleep(0.05)
        remaining = [pid for _at, code, pids in record.state.get("steps", []) if code == "remain" for pid in pids]
        if remaining:
            raise ServerError(
                _("These processes of “{name}” can't be ended: {pids}").format(
                    name=name, pids=", ".join(map(str, remaining))
                ),
                _("They sit in a system call, usually in the GPU driver"),
                _("Try again later; if it stays so, only a restart of the machine helps"),
            )

    def forget(self, name: str) -> None:
        """Delete the record and the logs of a server that does not run. Raises ServerError if it does."""
        from qwen_tui.server.launch import launching

        with launching(registry.find(self._folder, name).folder):
            record = registry.find(self._folder, name)
            if record.kept or record.server_is_alive:
                raise ServerError(_("“{name}” runs; stop it first").format(name=name))
            shutil.rmtree(record.folder)
        self._starts.pop(name, None)
        self._ended_starts.pop(name, None)


def _end_of(record: registry.Record) -> tuple[str, int, bool]:
    """Names the end of one start: its cause is told in other words once the keeper has given up."""
    return (*record.run, record.state.get("status") == "waiting")


def describe_exit(status: ServerStatus) -> str:
    """One sentence on how a server ended."""
    record = status.exit
    if record is not None and record.reason == "idle":
        minutes = status.spec.idle_minutes or 0
        return ngettext(
            "“{name}” was ended: nobody had used it for {n} minute",
            "“{name}” was ended: nobody had used it for {n} minutes",
            minutes,
        ).format(name=status.name, n=minutes)
    if record is None:
        return _("“{name}” has ended").format(name=status.name)
    if record.code is None and record.signal is None:
        # A keeper that adopted it is not its parent, and is not told its status.
        text = _("“{name}” has ended, and nobody saw how: the keeper that had started it was gone by then")
        return text.format(name=status.name)
    if record.signal is not None:
        try:
            word = signal.Signals(record.signal).name
        except ValueError:
            word = str(record.signal)
        return _("“{name}” was ended by {signal}").format(name=status.name, signal=word)
    return _("“{name}” ended with exit status {code}").format(name=status.name, code=record.code)


def _step_text(code: str, pids: Sequence[int]) -> str:
    """A keeper's step in words."""
    count = len(pids)
    listed = ", ".join(map(str, pids[:6])) + (" …" if count > 6 else "")
    if code == "sigterm":
        return ngettext("SIGTERM to {n} process: {pids}", "SIGTERM to {n} processes: {pids}", count).format(
            n=count, pids=listed
        )
    if code == "sigkill":
        return ngettext("SIGKILL to {n} process: {pids}", "SIGKILL to {n} processes: {pids}", count).format(
            n=count, pids=listed
        )
    texts = {
        "ask": _("asked the API server to end (SIGTERM to {pids})"),
        "left": _("the API server has ended"),
        "stayed": _("the API server did not end in time"),
        "gone": _("no process of it is left"),
        "remain": _("these processes remain: {pids}"),
    }
    return texts.get(code, code).format(pids=listed)
