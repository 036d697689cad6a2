"""Whether a run measured the server or its own client: how the generator processes fared, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from qwen_tui.bench.generator import ProcessHealth
from qwen_tui.bench.statistics import Figures
from qwen_tui.i18n import _, ngettext

#: Shares of a core, and seconds, from which on the client is in doubt.
_CPU_MOST = 0.8
_WAITED_MOST = 0.25
_LAG_MOST = 0.010
_LATE_MOST = 0.005


@dataclass(frozen=True)
class ClientHealth:
    """processes: one by one. late_p99: seconds that sends came late; None in a closed loop, and with a cap on
    concurrency, which makes requests wait.
    """

    processes: Sequence[ProcessHealth]
    late_p99: float | None = None

    @classmethod
    def of(cls, processes: Sequence[ProcessHealth], figures: Figures, is_free: bool) -> ClientHealth:
        """is_free: an open loop without a cap, where only the client itself can make a request late."""
        return cls(tuple(processes), figures.queue.p99 if is_free else None)

    @property
    def cpu_share(self) -> float:
        """The busiest process's share of a core, 0..1."""
        return max((process.cpu / process.wall for process in self.processes if process.wall), default=0.0)

    @property
    def lag_p99(self) -> float:
        """Seconds that the slowest loop came late."""
        return max((process.lag_p99 for process in self.processes), default=0.0)

    @property
    def waited_share(self) -> float | None:
        """The share of the time that a process was ready and got no core; None where the kernel does not tell."""
        told = [process.waited / process.wall for process in self.processes if process.wall and process.waited >= 0]
        return max(told) if told else None

    @property
    def is_bottleneck(self) -> bool:
        """Whether the figures may be the client's rather than the server's."""
        return bool(self.doubts())

    def doubts(self) -> list[str]:
        """Why the figures may be the client's, translated sentences; empty if there is no reason to think so."""
        found = []
        died = sum(process.died for process in self.processes)
        if died:
            found.append(
                ngettext(
                    "{n} load generator process ended before its time", "{n} load generator processes ended", died
                ).format(n=died)
            )
        if self.cpu_share > _CPU_MOST:
            found.append(
                _("A load generator process used {share:.0%} of its core: the client was at its limit").format(
                    share=self.cpu_share
                )
            )
        waited = self.waited_share
        if waited is not None and waited > _WAITED_MOST:
            found.append(
                _("A load generator process waited {share:.0%} of the time for a free core: too much runs here").format(
                    share=waited
                )
            )
        if self.lag_p99 > _LAG_MOST:
            found.append(
                _("The load generator came up to {ms:.0f} ms late to its work (99 % of the time less)").format(
                    ms=self.lag_p99 * 1e3
                )
            )
        if self.late_p99 is not None and self.late_p99 > _LATE_MOST:
            found.append(
                _("Requests were sent up to {ms:.0f} ms late (99 % of them less)").format(ms=self.late_p99 * 1e3)
            )
        return found

    def to_json(self) -> dict[str, Any]:
        """All of it, and the verdict."""
        return {
            "processes": [asdict(process) for process in self.processes],
            "late_p99": self.late_p99,
            "cpu_share": self.cpu_share,
            "lag_p99": self.lag_p99,
            "is_bottleneck": self.is_bottleneck,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ClientHealth:
        """What `to_json` wrote. Raises KeyError, TypeError."""
        return cls(tuple(ProcessHealth(**process) for process in data["processes"]), data.get("late_p99"))
