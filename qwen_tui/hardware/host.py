"""The host: memory and cores that this process may really use, and free disk space.

Linux only: /proc, the control group's limits, statvfs. A container's limit counts before the machine's size.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from qwen_tui.paths import nearest_existing

_PROC = Path("/proc")
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Host:
    """Bytes and cores. available: what can be had without swapping. load: runnable tasks, mean of a minute."""

    memory_total: int
    memory_available: int
    swap_free: int
    cores: float
    load: float


@dataclass(frozen=True)
class Disk:
    """The file system of a folder, in bytes. free: for an ordinary user."""

    path: Path
    total: int
    free: int


def read_host(proc: Path = _PROC, cgroup: Path = _CGROUP) -> Host:
    """The host as it is now. Takes under a millisecond."""
    memory = memory_info(proc)
    total, available = memory.get("MemTotal", 0), memory.get("MemAvailable", memory.get("MemFree", 0))
    limit, used = _memory_limit(cgroup)
    if limit is not None and limit < total:
        total, available = limit, min(available, max(0, limit - used))
    return Host(total, available, memory.get("SwapFree", 0), _cores(cgroup), _load(proc))


def memory_info(proc: Path = _PROC) -> Mapping[str, int]:
    """/proc/meminfo in bytes; empty where there is none."""
    found: dict[str, int] = {}
    try:
        text = (proc / "meminfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return found
    for line in text.splitlines():
        name, _colon, rest = line.partition(":")
        words = rest.split()
        if words and words[0].isdecimal():
            found[name] = int(words[0]) * (1024 if words[1:] == ["kB"] else 1)
    return found


def disk_of(path: Path) -> Disk | None:
    """The file system that `path` is on, or would be on once it is made; None if it can't be asked."""
    place = nearest_existing(path.expanduser().absolute())
    try:
        found = os.statvfs(place)
    except OSError:
        return None
    return Disk(place, found.f_frsize * found.f_blocks, found.f_frsize * found.f_bavail)


def open_files_limit() -> tuple[int, int]:
    """How many files a process may have open: now, and at most if it asks for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = 2**31 - 1
    return (
        soft if soft != resource.RLIM_INFINITY else unlimited,
        hard if hard != resource.RLIM_INFINITY else unlimited,
    )


def node_memory(host: Host, system: Path = Path("/sys/devices/system")) -> tuple[int, int]:
    """Total and available bytes of the memory node of the first core this process may use; `host`'s without nodes.

    What a CPU build of vLLM sizes itself by. Source: vLLM 0.32, utils/cpu_resource_utils.py.
    """
    core = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    node = next((entry.name for entry in (system / "cpu" / f"cpu{core}").glob("node[0-9]*")), "node0")
    found: dict[str, int] = {}
    try:
        text = (system / "node" / node / "meminfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return host.memory_total, host.memory_available
    for words in map(str.split, text.splitlines()):
        if len(words) >= 4 and words[3].isdecimal():
            found[words[2].rstrip(":")] = int(words[3]) * 1024
    total = found.get("MemTotal", 0)
    available = sum(found.get(key, 0) for key in ("MemFree", "Active(file)", "Inactive(file)", "SReclaimable"))
    return min(total, host.memory_total), min(available, host.memory_available)


class CpuMeter:
    """Measures how busy the processor was between two calls."""

    def __init__(self, proc: Path = _PROC) -> None:
        self._proc = proc
        self._last: tuple[int, int] | None = None

    def sample(self) -> float | None:
        """The share of time, 0..1, that was not idle since the last call; None at the first."""
        try:
            words = (self._proc / "stat").read_text(encoding="ascii", errors="replace").split("\n", 1)[0].split()[1:9]
            times = [int(word) for word in words]
        except (OSError, ValueError):
            return None
        now = (sum(times), sum(times[3:5]))
        last, self._last = self._last, now
        if last is None or now[0] <= last[0]:
            return None
        return min(1.0, max(0.0, 1 - (now[1] - last[1]) / (now[0] - last[0])))


def _memory_limit(cgroup: Path) -> tuple[int | None, int]:
    """The control group's limit and use in bytes, version 2 or 1; None without a limit.

    What the kernel can drop at once (inactive file pages) does not count as used.
    """
    for limit_name, used_name, stat_name, key in (
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        (
            "memory/memory.limit_in_bytes",
            "memory/memory.usage_in_bytes",
            "memory/memory.stat",
            "total_inactive_file",
        ),
    ):
        try:
            limit = (cgroup / limit_name).read_text(encoding="ascii").strip()
            used = int((cgroup / used_name).read_text(encoding="ascii"))
            stat = (cgroup / stat_name).read_text(encoding="ascii")
        except (OSError, ValueError):
            continue
        if not limit.isdecimal() or int(limit) >= 2**60:
            return None, used
        lines = (line.split() for line in stat.splitlines())
        droppable = next((int(words[1]) for words in lines if words[:1] == [key]), 0)
        return int(limit), max(0, used - droppable)
    return None, 0


def _cores(cgroup: Path) -> float:
    """Cores that may be used: the affinity, and the control group's quota."""
    cores: float = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            words = " ".join((cgroup / name).read_text(encoding="ascii") for name in names).split()
        except OSError:
            continue
        if len(words) == 2 and words[0].isdecimal() and words[1].isdecimal() and int(words[1]):
            cores = min(cores, int(words[0]) / int(words[1]))
        break
    return cores


def _load(proc: Path) -> float:
    try:
        return float((proc / "loadavg").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return 0.0
