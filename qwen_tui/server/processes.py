"""Which processes belong to a server, and ending them. Linux, standard library only: the keeper uses this too.

A server's processes are found in three ways, because each alone has a hole: by session (a child may call
setsid), by a tag in the environment (a process that sets its title may overwrite it), and by parentage.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

#: The environment variable that every process of a server inherits; its value is the run's id.
TAG = "QWEN_TUI_RUN"


@dataclass(frozen=True)
class ProcessStat:
    """The part of /proc/PID/stat that matters here. started: clock ticks since boot. Source: proc(5)."""

    pid: int
    command: str
    state: str
    parent: int
    session: int
    started: int

    @property
    def is_running(self) -> bool:
        return self.state not in ("Z", "X", "x")


def read_stat(pid: int) -> ProcessStat | None:
    """What /proc says of `pid`; None if there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes().decode("utf-8", "replace")
    except OSError:
        return None
    # The command stands in parentheses and may itself hold parentheses and spaces.
    opening, closing = text.index("("), text.rindex(")")
    rest = text[closing + 2 :].split()
    return ProcessStat(
        pid=pid,
        command=text[opening + 1 : closing],
        state=rest[0],
        parent=int(rest[1]),
        session=int(rest[3]),
        started=int(rest[19]),
    )


def boot_id() -> str:
    """Names this boot of the machine: pids and start times mean nothing after another."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def is_alive(pid: int | None, started: int | None) -> bool:
    """Whether the process that had `pid` and this start time still runs (a zombie does not)."""
    if not pid:
        return False
    stat = read_stat(pid)
    return stat is not None and stat.is_running and stat.started == started


def age(started: int) -> float:
    """Seconds since a process that started at `started` did so; steps of the wall clock don't matter."""
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK"))


def has_tag(pid: int, tag: str) -> bool:
    """Whether `pid` was started with TAG=tag. False also where its environment can't be read."""
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
    return f"{TAG}={tag}".encode() in environment.split(b"\0")


def members(leader: int, leader_started: int, tag: str, keeper: int | None = None) -> list[ProcessStat]:
    """Every running process of the run: the server's, its session's, the tagged ones, the keeper's own orphans.

    leader: the server's pid, which is also its session's id. A session whose leader's pid was taken over by
    a stranger is left alone, except for processes that carry the tag.
    """
    me = os.getpid()
    leader_now = read_stat(leader)
    ours = leader_now is not None and leader_now.started == leader_started
    found = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit() or int(entry.name) == me:
            continue
        stat = read_stat(int(entry.name))
        if stat is None or not stat.is_running or stat.pid == keeper:
            continue
        in_session = stat.session == leader and stat.started >= leader_started
        orphaned = keeper is not None and stat.parent == keeper
        titled = in_session and leader_now is None and stat.command.startswith("VLLM")
        if orphaned or (in_session and ours) or titled or has_tag(stat.pid, tag):
            found.append(stat)
    return found


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to each process that is still there and ours."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue


def end_all(
    find: Callable[[], list[ProcessStat]],
    grace: float,
    pause: Callable[[float], object],
    on_step: Callable[[str, list[int]], None],
) -> list[int]:
    """End every process that `find` lists: SIGTERM, after `grace` seconds SIGKILL. The pids that remain, if any.

    find: called again and again, so that processes born meanwhile are ended too.
    pause: waits the given seconds; the keeper collects its children in it.
    on_step: told ("sigterm" | "sigkill", pids) when signals are sent.
    """
    first = [stat.pid for stat in find()]
    if not first:
        return []
    on_step("sigterm", first)
    send(first, signal.SIGTERM)
    deadline = time.monotonic() + grace
    while time.monotonic() < deadline:
        pause(0.05)
        if not find():
            return []
    told = False
    # A process in an uninterruptible system call (a driver freeing GPU memory) can take its time to go.
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        rest = [stat.pid for stat in find()]
        if not rest:
            return []
        if not told:
            on_step("sigkill", rest)
            told = True
        send(rest, signal.SIGKILL)
        pause(0.05)
    return [stat.pid for stat in find()]
