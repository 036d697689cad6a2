"""What a plan is made of: its lines, the machine it is made on, and what the checks share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from qwen_tui.engine.arguments import ArgumentSchema
from qwen_tui.engine.find import Engine
from qwen_tui.hardware.gpus import Gpu, Gpus
from qwen_tui.hardware.host import Host, node_memory, read_host
from qwen_tui.i18n import N_
from qwen_tui.models.fit import Fit
from qwen_tui.models.model_config import ModelConfig
from qwen_tui.models.safetensors_header import Weights
from qwen_tui.paths import Paths
from qwen_tui.server.plan_arguments import Change, Choices
from qwen_tui.server.spec import ServerSpec

Level = Literal["ok", "warn", "stop"]
_ORDER: tuple[Level, ...] = ("ok", "warn", "stop")

#: What a line is about → the word for it.
TOPICS: dict[str, str] = {
    "model": N_("Model"),
    "weights": N_("Weights"),
    "architecture": N_("Architecture"),
    "tokenizer": N_("Tokenizer"),
    "chat": N_("Chat template"),
    "context": N_("Context"),
    "gpus": N_("GPUs"),
    "precision": N_("Precision"),
    "memory": N_("Memory"),
    "port": N_("Port"),
    "host": N_("Reachable"),
    "code": N_("Model's code"),
    "arguments": N_("Arguments"),
    "files": N_("Open files"),
    "disk": N_("Disk"),
}

#: Topics whose answer is another once a server that runs has been stopped.
_HELD = ("port", "memory")


@dataclass(frozen=True)
class PlanLine:
    """One thing that was checked.

    level: "ok", "warn" (it starts, but) or "stop" (it would fail). topic: a key of TOPICS. text: what was found.
    remedy: what to do about it, may be empty. change: the change of the specification that does it, if there is one.
    """

    level: Level
    topic: str
    text: str
    remedy: str = ""
    change: Change | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "level": self.level,
            "topic": self.topic,
            "text": self.text,
            "remedy": self.remedy,
            "change": self.change.to_json() if self.change else None,
        }


@dataclass(frozen=True)
class Plan:
    """The checks of one specification on one engine. seconds: what they took. fit: the memory's reckoning, if any."""

    spec: ServerSpec
    lines: tuple[PlanLine, ...]
    seconds: float
    fit: Fit | None = None

    @property
    def level(self) -> Level:
        """The worst of the lines."""
        return max((line.level for line in self.lines), key=_ORDER.index, default="ok")

    @property
    def can_start(self) -> bool:
        """Whether nothing is known that would make the start fail."""
        return self.level != "stop"

    def before_stop(self) -> Plan:
        """What this plan says already while the server that it is to replace runs: nothing of what that one holds."""
        return replace(self, lines=tuple(line for line in self.lines if line.topic not in _HELD))

    def to_json(self) -> dict[str, Any]:
        return {
            "level": self.level,
            "can_start": self.can_start,
            "seconds": round(self.seconds, 3),
            "lines": [line.to_json() for line in self.lines],
            "fit": asdict(self.fit) if self.fit else None,
        }


@dataclass(frozen=True)
class Machine:
    """The hardware as it is now. gpu_problem: why there are no GPUs, in the driver's words; may be empty.

    node: total and available bytes of the memory node that a CPU build would use.
    """

    gpus: Sequence[Gpu]
    host: Host
    node: tuple[int, int]
    gpu_problem: str = ""

    @classmethod
    def read(cls) -> Machine:
        gpus = Gpus()
        try:
            found = gpus.read()
            host = read_host()
            return cls(found, host, node_memory(host), gpus.problem)
        finally:
            gpus.close()


@dataclass
class Check:
    """What the checks share: the question, and what earlier ones found out."""

    spec: ServerSpec
    engine: Engine
    paths: Paths
    choices: Choices
    machine: Machine
    schema: ArgumentSchema | None = None
    lines: list[PlanLine] = field(default_factory=list)
    folder: Path | None = None
    config: ModelConfig | None = None
    weights: Weights | None = None
    fit: Fit | None = None

    def ok(self, topic: str, text: str) -> None:
        self.lines.append(PlanLine("ok", topic, text))

    def warn(self, topic: str, text: str, remedy: str = "", change: Change | None = None) -> None:
        self.lines.append(PlanLine("warn", topic, text, remedy, change))

    def stop(self, topic: str, text: str, remedy: str = "", change: Change | None = None) -> None:
        self.lines.append(PlanLine("stop", topic, text, remedy, change))

    @property
    def is_cpu(self) -> bool:
        """Whether the engine runs on the processor: by its build, else by whether there is a GPU."""
        return self.engine.platform == "cpu" or (self.engine.platform == "unknown" and not self.machine.gpus)
