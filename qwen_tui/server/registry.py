"""The servers' folders on disk: what was launched, what the keeper last wrote, what of it still lives."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwen_tui.errors import ServerNotFound
from qwen_tui.i18n import _, ngettext
from qwen_tui.paths import write_private
from qwen_tui.server import processes
from qwen_tui.server.spec import ServerSpec
from qwen_tui.server.status import ExitRecord, Phase, ServerState, ServerStatus
from qwen_tui.state_files import is_locked, read_json

#: Seconds that the recorded start may differ from the process's own before the clock counts as changed.
_CLOCK_STEP = 2.0

#: Seconds after which a run without any state was not begun at all.
_LAUNCH_MOST = 15.0

#: Beside the servers' folders, so that it outlives the one it speaks of.
LAST_WORKING = "last-working.json"


@dataclass(frozen=True)
class Record:
    """One server's files, read at one moment.

    launch: launch.json. state: state.json, or {} where it is missing or damaged.
    kept: whether a keeper holds the folder's lock. launching: whether the keeper of a new run is only just starting.
    """

    folder: Path
    launch: dict[str, Any]
    state: dict[str, Any]
    kept: bool
    launching: bool = False

    @property
    def spec(self) -> ServerSpec:
        return ServerSpec.from_json(self.launch["spec"])

    @property
    def run(self) -> tuple[str, int]:
        """Names this start of the server: the run's id and the number of restarts."""
        return self.launch["id"], int(self.state.get("restarts", 0))

    @property
    def server(self) -> tuple[int, int]:
        """pid and start time of the server, (0, 0) where it has none. Of an earlier boot: none."""
        server = self.state.get("server")
        if not isinstance(server, dict) or self.is_of_earlier_boot:
            return 0, 0
        return int(server.get("pid", 0)), int(server.get("started", 0))

    @property
    def is_of_earlier_boot(self) -> bool:
        """Whether the machine was restarted since; nothing of that run can live."""
        return bool(self.state) and self.state.get("boot") != processes.boot_id()

    @property
    def is_abandoned(self) -> bool:
        """Whether this run was not brought to its end and no keeper is there to do it."""
        if self.kept or self.launching or self.is_of_earlier_boot:
            return False
        return bool(self.state.get("status") != "ended")

    @property
    def server_is_alive(self) -> bool:
        return processes.is_alive(*self.server)

    @property
    def started_at(self) -> float | None:
        """Unix time of the last start by the clock as it stands now, whatever steps it made since."""
        written = self.state.get("started_at")
        if not isinstance(written, (int, float)):
            return None
        if self.server_is_alive:
            reckoned = time.time() - processes.age(self.server[1])
            return float(written) if abs(reckoned - written) < _CLOCK_STEP else reckoned
        return min(float(written), time.time())

    @property
    def next_try(self) -> float | None:
        """Seconds until the keeper starts the server again; None if it is not waiting for that."""
        due = self.state.get("restart_due")
        if not self.kept or self.state.get("status") != "waiting" or not isinstance(due, (int, float)):
            return None
        return max(0.0, due - time.monotonic())

    @property
    def keeper(self) -> int | None:
        """The keeper's pid; None while a new one has the lock and has not written its name yet."""
        keeper = self.state.get("keeper")
        if not isinstance(keeper, dict) or not processes.is_alive(keeper.get("pid"), keeper.get("started")):
            return None
        return int(keeper["pid"])

    @property
    def log(self) -> Path:
        return Path(self.launch["log"])

    @property
    def log_begins(self) -> int:
        """Where in the log this start of the server begins: bytes."""
        written = self.state.get("log_begins")
        return written if isinstance(written, int) else 0


def find_keeper(folder: Path) -> int | None:
    """The pid of the keeper of `folder` by its command line, for where state.json does not tell. Reads all of /proc."""
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            words = Path(f"/proc/{entry.name}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if os.fsencode(folder) in words and any(word.endswith(b"/keeper.py") for word in words):
            return int(entry.name)
    return None


def read(folder: Path) -> Record | None:
    """The record in `folder`; None if nothing was ever launched from it."""
    launch = read_json(folder / "launch.json")
    try:
        ServerSpec.from_json(launch["spec"])
        Path(launch["log"])
        str(launch["id"])
    except (KeyError, TypeError):
        return None
    # The lock first: a keeper that ends between the two reads has written its last state by then.
    kept = is_locked(folder / "keeper.lock")
    return Record(folder, launch, read_json(folder / "state.json"), kept, not kept and _is_launching(folder))


def _is_launching(folder: Path) -> bool:
    """Whether launch.json was just written and no keeper has written a state yet."""
    try:
        if (folder / "state.json").exists():
            return False
        return abs(time.time() - (folder / "launch.json").stat().st_mtime) < _LAUNCH_MOST
    except OSError:
        return False


def read_all(servers: Path) -> Sequence[Record]:
    """All records, sorted by name."""
    if not servers.is_dir():
        return []
    records = (read(folder) for folder in sorted(servers.iterdir()) if folder.is_dir())
    return [record for record in records if record is not None]


def find(servers: Path, name: str) -> Record:
    """The record of the server `name`. Raises ServerNotFound."""
    record = read(servers / name) if name and "/" not in name and not name.startswith(".") else None
    if record is None:
        known = ", ".join(other.folder.name for other in read_all(servers))
        raise ServerNotFound(
            _("There is no server “{name}”").format(name=name),
            _("Known are: {names}").format(names=known) if known else _("No server was started yet"),
            _("`qwen-tui ps` lists them"),
        )
    return record


def mark_ready(record: Record, phases: Sequence[tuple[Phase, float]] = ()) -> None:
    """Remember, for other processes too, that this start of the server has answered.

    phases: the seconds that each took, where somebody watched them all.
    """
    spent = [[phase.value, round(seconds, 3)] for phase, seconds in phases]
    with contextlib.suppress(OSError):  # on a full disk it is asked again at every look
        write_private(record.folder / "ready.json", json.dumps({"run": list(record.run), "phases": spent}))
        working = {"spec": record.launch["spec"], "engine": record.launch["engine"]["python"]}
        write_private(record.folder.parent / LAST_WORKING, json.dumps(working, ensure_ascii=False))


def last_working(servers: Path) -> tuple[ServerSpec, str] | None:
    """The specification that answered last, and its engine's interpreter; None before the first."""
    data = read_json(servers / LAST_WORKING)
    try:
        return ServerSpec.from_json(data["spec"]), str(data["engine"])
    except (KeyError, TypeError):
        return None


def ready_phases(record: Record) -> tuple[tuple[Phase, float], ...]:
    """What each phase of this start took, in seconds; nothing where it was not ready or nobody watched."""
    data = read_json(record.folder / "ready.json")
    if data.get("run") != list(record.run):
        return ()
    try:
        return tuple((Phase(phase), float(seconds)) for phase, seconds in data.get("phases", ()))
    except (TypeError, ValueError):
        return ()


def was_ready(record: Record) -> bool:
    return read_json(record.folder / "ready.json").get("run") == list(record.run)


def status_of(record: Record) -> ServerStatus:
    """The status as the files and /proc tell it, without asking the server or reading its log."""
    state = record.state
    pid, _started = record.server
    alive = record.server_is_alive
    exit_record = None
    if isinstance(state.get("exit"), dict):
        saved = state["exit"]
        exit_record = ExitRecord(
            saved.get("code"),
            saved.get("signal"),
            float(saved.get("at") or 0),
            bool(saved.get("asked")),
            str(saved.get("reason") or ""),
        )
    current = _state(record, alive, exit_record)
    launch = record.launch
    return ServerStatus(
        spec=record.spec,
        state=current,
        log=record.log,
        pid=pid if alive else None,
        started_at=record.started_at,
        engine_python=str(launch.get("engine", {}).get("python", "")),
        engine_version=str(launch.get("engine", {}).get("version", "")),
        exit=exit_record if not alive else None,
        restarts=int(state.get("restarts", 0)),
        next_try=record.next_try,
        failures=int(state.get("failures", 0)) if record.next_try is not None else 0,
        failures_most=int(state.get("failures_most", 0)),
        kept=record.kept or record.launching,
        cause=state.get("error") or "",
        api_key=launch.get("env", {}).get("VLLM_API_KEY"),
    )


def cause_of(record: Record) -> str:
    """Why a failed server failed, as far as anything tells. Reads the end of its log: tens of milliseconds."""
    if record.is_of_earlier_boot:
        return _("The machine was restarted while it ran")
    if record.state.get("error"):
        return str(record.state["error"])
    from qwen_tui.server.diagnosis import find_cause  # its rules take 60 ms to load, and most servers don't fail
    from qwen_tui.server.diagnosis.context import context_of

    cause = find_cause(record.log, context_of(record))
    failures = int(record.state.get("gave_up") or 0)
    if not failures:
        return cause
    gave_up = ngettext(
        "It failed {n} time in a row and is not started again",
        "It failed {n} times in a row and is not started again",
        failures,
    ).format(n=failures)
    return _("{outcome}: {cause}").format(outcome=gave_up, cause=cause) if cause else gave_up


def _state(record: Record, alive: bool, exit_record: ExitRecord | None) -> ServerState:
    """Which state the files and the process amount to."""
    written = record.state.get("status")
    if record.kept and written == "stopping":
        return ServerState.STOPPING
    if alive:
        return ServerState.READY if was_ready(record) else ServerState.STARTING
    if record.launching or (record.kept and (written == "waiting" or not record.state)):
        # Between two starts, or the keeper is just about to write.
        return ServerState.STARTING
    if record.kept and written == "running":
        return ServerState.STOPPING  # it died, and the keeper is ending what it left
    if exit_record is not None and exit_record.asked:
        return ServerState.STOPPED
    return ServerState.FAILED
