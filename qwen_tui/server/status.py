"""What is known of a server at one moment; front ends draw it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from qwen_tui.i18n import N_
from qwen_tui.server.spec import ServerSpec


class ServerState(str, Enum):
    """Where a server is in its life. The value is the word used in JSON."""

    STARTING = "starting"
    READY = "ready"
    #: The process lives and was ready before, but /health does not answer.
    UNRESPONSIVE = "unresponsive"
    STOPPING = "stopping"
    #: Ended because somebody asked for it.
    STOPPED = "stopped"
    #: Ended by itself, whatever its exit status.
    FAILED = "failed"

    @property
    def is_alive(self) -> bool:
        return self not in (ServerState.STOPPED, ServerState.FAILED)


STATE_WORDS: dict[ServerState, str] = {
    ServerState.STARTING: N_("starting"),
    ServerState.READY: N_("ready"),
    ServerState.UNRESPONSIVE: N_("not answering"),
    ServerState.STOPPING: N_("stopping"),
    ServerState.STOPPED: N_("stopped"),
    ServerState.FAILED: N_("failed"),
}


class Phase(str, Enum):
    """What a starting server is doing, as far as its log tells; in order."""

    SPAWN = "spawn"
    RESOLVE = "resolve"
    ENGINE = "engine"
    WEIGHTS = "weights"
    COMPILE = "compile"
    PROFILE = "profile"
    GRAPHS = "graphs"
    API = "api"
    READY = "ready"


PHASE_WORDS: dict[Phase, str] = {
    Phase.SPAWN: N_("starting Python"),
    Phase.RESOLVE: N_("reading the model's configuration"),
    Phase.ENGINE: N_("starting the engine"),
    Phase.WEIGHTS: N_("loading weights"),
    Phase.COMPILE: N_("compiling"),
    Phase.PROFILE: N_("profiling memory"),
    Phase.GRAPHS: N_("capturing graphs"),
    Phase.API: N_("starting the API"),
    Phase.READY: N_("ready"),
}


@dataclass(frozen=True)
class StartProgress:
    """How far a start has come.

    done, total: within the phase (shards, graphs); total 0 where the phase has nothing to count.
    elapsed: seconds since the server's process started.
    eta: seconds to ready, learned from earlier starts of the same model and engine; None for the first.
    phases: seconds spent in each phase so far, the current one included.
    """

    phase: Phase
    done: int = 0
    total: int = 0
    elapsed: float = 0.0
    eta: float | None = None
    phases: tuple[tuple[Phase, float], ...] = ()

    @property
    def is_overdue(self) -> bool:
        """Whether it takes longer than the last start of its kind, so that the ETA says nothing any more."""
        return self.eta == 0.0 and self.phase is not Phase.READY

    @property
    def fraction(self) -> float:
        """0..1: by time where the ETA is known, else by phases passed."""
        if self.phase is Phase.READY:
            return 1.0
        if self.eta is not None and self.elapsed + self.eta > 0:
            return min(0.99, self.elapsed / (self.elapsed + self.eta))
        order = list(Phase)
        within = self.done / self.total if self.total else 0.0
        return (order.index(self.phase) + within) / (len(order) - 1)


@dataclass(frozen=True)
class ExitRecord:
    """How a server ended.

    code: exit status, or None if a signal ended it or nobody could collect it.
    signal: the signal's number, or None.
    at: Unix time, seconds.
    asked: whether the stop was meant: somebody asked for it, or the keeper did as it was told to.
    reason: "idle" if nobody had used it for the time that was set; else empty.
    """

    code: int | None
    signal: int | None
    at: float
    asked: bool
    reason: str = ""


@dataclass(frozen=True)
class ServerStatus:
    """One server, as the list and the header show it.

    pid: of the API server's process; None before it runs and after it ended.
    started_at: Unix time of the last start, seconds, by the clock as it stands now.
    start: progress while STARTING, and the finished phases afterwards.
    next_try: seconds until the keeper starts it again, while it waits to do so after a failure; else None.
    failures: how many starts in a row have failed by then. failures_most: after how many the keeper gives up.
    kept: whether a keeper watches it.
    cause: for FAILED, the deepest error its log names; may be empty.
    api_key: the key clients must send, or None.
    """

    spec: ServerSpec
    state: ServerState
    log: Path
    pid: int | None = None
    started_at: float | None = None
    engine_python: str = ""
    engine_version: str = ""
    start: StartProgress | None = None
    exit: ExitRecord | None = None
    restarts: int = 0
    next_try: float | None = None
    failures: int = 0
    failures_most: int = 0
    kept: bool = True
    cause: str = ""
    api_key: str | None = None

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def model_name(self) -> str:
        """The name a client sends as `model`."""
        return self.spec.served_model_name or self.spec.model

    def to_json(self) -> dict[str, Any]:
        """For `ps --json`; no key, no environment."""
        return {
            "name": self.name,
            "state": self.state.value,
            "model": self.spec.model,
            "served_model_name": self.model_name,
            "base_url": self.spec.base_url,
            "host": self.spec.host,
            "port": self.spec.port,
            "pid": self.pid,
            "started_at": self.started_at,
            "engine_version": self.engine_version,
            "engine_python": self.engine_python,
            "log": str(self.log),
            "kept": self.kept,
            "restart": self.spec.restart,
            "restarts": self.restarts,
            "next_try": round(self.next_try, 1) if self.next_try is not None else None,
            "failures": self.failures,
            "idle_minutes": self.spec.idle_minutes,
            "phase": self.start.phase.value if self.start else None,
            "exit_code": self.exit.code if self.exit else None,
            "exit_signal": self.exit.signal if self.exit else None,
            "exit_reason": self.exit.reason if self.exit else "",
            "cause": self.cause,
        }
