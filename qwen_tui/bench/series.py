"""What the server said of itself and what the GPUs did while a run was under way, about once a second."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from qwen_tui.hardware.gpus import THROTTLE_REASONS, Gpu
from qwen_tui.hardware.machine import Machine
from qwen_tui.i18n import N_, _

#: The server's own figures at this moment, by name; None where it tells none.
Observe = Callable[[], Awaitable[Mapping[str, float] | None]]
#: Of those, the ones that go up and down; the rest only grow while a server runs.
GAUGES = frozenset({"running", "waiting", "kv_usage"})
_EVERY = 1.0
#: Points of a series that are kept; a longer run keeps every second one, then every fourth.
_MOST = 4000

#: The end of a series' name → what it is called, its unit. Translated when drawn.
SERIES_WORDS: Mapping[str, tuple[str, str]] = {
    "kv_usage": (N_("KV cache in use"), "%"),
    "running": (N_("running"), ""),
    "waiting": (N_("waiting"), ""),
    "preemptions": (N_("preemptions"), ""),
    "prefix_hit_rate": (N_("prefix cache hits"), "%"),
    "generation_rate": (N_("output tokens"), "/s"),
    "utilization": (N_("busy"), "%"),
    "memory": (N_("memory"), "GiB"),
    "power": (N_("power"), "W"),
    "clock_sm": (N_("clock"), "MHz"),
    "temperature": (N_("temperature"), "°C"),
    "throttled": (N_("slowed down"), "%"),
}


@dataclass
class Series:
    """at: seconds after the run's zero. values: name → a value for each of them, None where there was none.

    Names are “server.…” and “gpu0.…” with the ends of SERIES_WORDS; shares are 0..1, memory is in bytes, counters begin
    with the run. reasons: name of a GPU → why it was slowed down, bits of THROTTLE_REASONS.
    """

    at: list[float] = field(default_factory=list)
    values: dict[str, list[float | None]] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)

    def add(self, at: float, found: Mapping[str, float]) -> None:
        """A point of every series; those that are new have None before."""
        for name in found:
            self.values.setdefault(name, [None] * len(self.at))
        self.at.append(at)
        for name, column in self.values.items():
            column.append(found.get(name))
        if len(self.at) > _MOST:
            self.at = self.at[::2]
            self.values = {name: column[::2] for name, column in self.values.items()}

    def shifted(self, zero: float) -> Series:
        """The same on an axis that begins at `zero`, without what was long before."""
        first = next((number for number, at in enumerate(self.at) if at >= zero - 2 * _EVERY), len(self.at))
        values = {name: column[first:] for name, column in self.values.items()}
        return Series([at - zero for at in self.at[first:]], values, dict(self.reasons))

    def summary(self, seconds: float) -> dict[str, dict[str, float]]:
        """name → mean, min and max of the points from the zero on until `seconds` after it; throttled: reasons too."""
        found = {}
        for name, column in self.values.items():
            pairs = zip(self.at, column, strict=True)
            points = [value for at, value in pairs if value is not None and 0 <= at <= seconds]
            if points:
                found[name] = {"mean": sum(points) / len(points), "min": min(points), "max": max(points)}
        for name, bits in self.reasons.items():
            if f"{name}.throttled" in found:
                found[f"{name}.throttled"]["reasons"] = bits
        return found

    def to_json(self) -> dict[str, Any]:
        return {"at": self.at, "values": self.values, "reasons": self.reasons}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Series:
        """What `to_json` wrote. Raises KeyError, TypeError, ValueError."""
        at = [float(value) for value in data["at"]]
        values = {str(name): list(column) for name, column in data["values"].items()}
        if any(len(column) != len(at) for column in values.values()):
            raise ValueError("columns of different lengths")
        return cls(at, values, {str(name): int(bits) for name, bits in data.get("reasons", {}).items()})


class Watcher:
    """Looks at the server and the GPUs once a second. observe, machine: either may be None.

    before, after: the server's figures of the first and the last look that was answered.
    """

    def __init__(self, observe: Observe | None, machine: Machine | None) -> None:
        self._observe = observe
        self._machine = machine
        self.series = Series()
        self.before: Mapping[str, float] | None = None
        self.after: Mapping[str, float] | None = None
        self._last: Mapping[str, float] | None = None
        self._last_at = 0.0

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Look now, each second, and at the end."""
        self.before = await self.look()
        ended = asyncio.Event()
        task = asyncio.ensure_future(self._repeat(ended))
        try:
            yield
        finally:
            ended.set()
            await task
        self.after = await self.look()

    async def _repeat(self, ended: asyncio.Event) -> None:
        if self._observe is None and self._machine is None:
            return
        due = time.monotonic() + _EVERY
        while not ended.is_set():
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(ended.wait(), max(0.0, due - time.monotonic()))
                return
            due = max(due + _EVERY, time.monotonic())
            await self.look()

    async def look(self) -> Mapping[str, float] | None:
        """Take one point; what the server said."""
        at = time.monotonic()
        server = await self._observe() if self._observe is not None else None
        found = self._of_server(server, at) if server is not None else {}
        if self._machine is not None:
            for gpu in (await self._machine.read()).gpus:
                found |= _of_gpu(gpu)
                self.series.reasons[f"gpu{gpu.index}"] = self.series.reasons.get(f"gpu{gpu.index}", 0) | gpu.throttle
        if found:
            self.series.add(at, found)
        return server

    def _of_server(self, server: Mapping[str, float], at: float) -> dict[str, float]:
        found = {f"server.{name}": server[name] for name in GAUGES if name in server}
        last, self._last = self._last, server
        last_at, self._last_at = self._last_at, at
        first = self.before if self.before is not None else server
        if "preemptions" in server:
            found["server.preemptions"] = max(0.0, server["preemptions"] - first.get("preemptions", 0.0))
        if last is None or at <= last_at:
            return found
        step = {name: server[name] - last[name] for name in server if name in last and name not in GAUGES}
        if (tokens := step.get("generation_tokens", -1.0)) >= 0:
            found["server.generation_rate"] = tokens / (at - last_at)
        if (queries := step.get("prefix_queries", 0.0)) > 0 and step.get("prefix_hits", -1.0) >= 0:
            found["server.prefix_hit_rate"] = step["prefix_hits"] / queries
        return found


def _of_gpu(gpu: Gpu) -> dict[str, float]:
    told = {
        "utilization": None if gpu.utilization is None else gpu.utilization / 100,
        "memory": gpu.memory_used,
        "power": gpu.power,
        "clock_sm": gpu.clock_sm,
        "temperature": gpu.temperature,
        "throttled": float(any(gpu.throttle & bit for bit in THROTTLE_REASONS)),
    }
    return {f"gpu{gpu.index}.{name}": float(value) for name, value in told.items() if value is not None}


def gained(before: Mapping[str, float] | None, after: Mapping[str, float] | None) -> dict[str, float]:
    """How far the server's counters went; none if it tells none or was started anew meanwhile."""
    if before is None or after is None:
        return {}
    found = {name: after[name] - before[name] for name in after if name in before and name not in GAUGES}
    return found if all(value >= 0 for value in found.values()) else {}


def throttle_texts(summary: Mapping[str, Mapping[str, float]]) -> Sequence[str]:
    """Which cards were slowed down, why and how long, translated sentences. summary: of a `Series`."""
    found = []
    for name, figures in sorted(summary.items()):
        share, bits = figures.get("mean", 0.0), int(figures.get("reasons", 0))
        words = ", ".join(_(word) for bit, word in THROTTLE_REASONS.items() if bits & bit)
        if name.startswith("gpu") and share and words:
            found.append(
                _("GPU {number} was slowed down for {share:.0%} of the run: {why}").format(
                    number=name.removeprefix("gpu").partition(".")[0], share=share, why=words
                )
            )
    return found
