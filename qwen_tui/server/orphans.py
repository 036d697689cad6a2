"""Processes of a vLLM whose server is gone: the ones that keep a GPU's memory and do nothing for it.

A process counts as one only if it is part of a vLLM (its title says `VLLM::…`, or it holds GPU memory and is the
child of some process pool) and what started it is gone: it was handed to init or to another reaper. A program of
somebody's own that uses a GPU is never one, however it was started.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwen_tui.hardware.gpus import Gpu
from qwen_tui.server import processes, registry, sockets

#: Processes that take in the children of others when those end.
_REAPERS = {"init", "systemd", "tini", "dumb-init", "docker-init", "catatonit", "s6-svscan", "conmon", "runsvdir"}
#: How the workers of a pool are started: by vLLM before it gave them titles, by Ray.
_POOLS = ("multiprocessing.spawn", "multiprocessing.forkserver", "--multiprocessing-fork", "ray::")
_TITLE = "VLLM::"


@dataclass(frozen=True)
class Orphan:
    """A process that is left over.

    started: clock ticks since boot. age: seconds. memory: resident bytes. gpu_memory: bytes on all GPUs, None if the
    driver does not say. gpus: their indices. ours: whether a run of this user's qwen-tui left it.
    server: that run's name, while there is a record of it. run: its id, empty where it is not known.
    """

    pid: int
    started: int
    command: str
    uid: int
    age: float
    memory: int
    gpu_memory: int | None
    gpus: tuple[int, ...]
    ours: bool
    server: str = ""
    run: str = ""

    @property
    def is_this_users(self) -> bool:
        """Whether it runs as the same user; of others nothing is ended, not even as root."""
        return self.uid == os.geteuid()

    def to_json(self) -> dict[str, Any]:
        return {
            "pid": self.pid,
            "command": self.command,
            "uid": self.uid,
            "age": round(self.age, 1),
            "memory": self.memory,
            "gpu_memory": self.gpu_memory,
            "gpus": list(self.gpus),
            "ours": self.ours,
            "server": self.server,
        }


@dataclass(frozen=True)
class _Process:
    stat: processes.ProcessStat
    command: str
    tag: str

    @property
    def is_vllm(self) -> bool:
        return self.stat.command.startswith(_TITLE) or self.command.startswith(_TITLE)

    @property
    def is_server(self) -> bool:
        """Whether it takes requests itself, and so has lost nothing."""
        title = f"{_TITLE}APIServer"
        titled = self.command.startswith(title) or self.stat.command == title
        return titled or ("vllm.entrypoints" in self.command and not self.is_vllm)

    @property
    def is_pooled(self) -> bool:
        return any(word in self.command for word in _POOLS)


def find_orphans(records: Sequence[registry.Record], gpus: Sequence[Gpu] = ()) -> list[Orphan]:
    """Every process that is left over, oldest first. Reads /proc: some milliseconds for each 100 processes.

    records: the known runs; what belongs to one that is kept, or whose server lives, is no orphan.
    """
    table = {process.stat.pid: process for process in _all_processes()}
    runs = {record.launch["id"]: record for record in records}
    # A process that sets its title writes it over its tag; its session still tells whose it is.
    sessions = {process.stat.session: process.tag for process in table.values() if process.tag}
    on_gpu = {process.pid for gpu in gpus for process in gpu.processes}
    found = []
    for pid, process in table.items():
        tag = process.tag or (sessions.get(process.stat.session, "") if process.is_vllm else "")
        record = runs.get(tag)
        if record is not None:
            ours, orphaned = True, not record.kept and not record.server_is_alive
        elif tag and _log_is_gone(pid):
            ours, orphaned = True, True
        else:
            is_part = process.is_vllm or (process.is_pooled and pid in on_gpu)
            ours, orphaned = False, is_part and _lost_its_server(process, table)
        if orphaned:
            orphan = _describe(process, gpus, ours, record.folder.name if record else "")
            found += [dataclasses.replace(orphan, run=tag if ours else "")] if orphan else []
    return sorted(found, key=lambda orphan: -orphan.age)


def end(orphans: Sequence[Orphan], on_step: Callable[[str, list[int]], None], grace: float = 5.0) -> list[int]:
    """End these processes: SIGTERM, after `grace` seconds SIGKILL; the pids that remain. Blocks; not for an event loop.

    on_step: told ("sigterm" | "sigkill", pids). A process that is not this user's is left alone.
    """
    wanted = [(orphan.pid, orphan.started) for orphan in orphans if orphan.is_this_users]

    def living() -> list[processes.ProcessStat]:
        stats = ((processes.read_stat(pid), started) for pid, started in wanted)
        return [stat for stat, started in stats if stat and stat.is_running and stat.started == started]

    remaining = processes.end_all(living, grace, time.sleep, on_step)
    if not remaining:
        for run in {orphan.run for orphan in orphans if orphan.run}:
            sockets.remove_folders(run, os.environ)
    return remaining


def _all_processes() -> list[_Process]:
    me, found = os.getpid(), []
    for entry in os.scandir("/proc"):
        stat = processes.read_stat(int(entry.name)) if entry.name.isdigit() and int(entry.name) != me else None
        if stat is not None and stat.is_running:
            command = " ".join(word for word in _read(stat.pid, "cmdline").split("\0") if word)
            found.append(_Process(stat, command, _tag(stat.pid)))
    return found


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""  # it has ended, or is another user's


def _tag(pid: int) -> str:
    """The run that the process was started for; empty if for none, or not to be seen."""
    prefix = f"{processes.TAG}="
    variables = _read(pid, "environ").split("\0")
    return next((variable[len(prefix) :] for variable in variables if variable.startswith(prefix)), "")


def _log_is_gone(pid: int) -> bool:
    """Whether the log it writes to was deleted, and so the record of its run."""
    try:
        return os.readlink(f"/proc/{pid}/fd/1").endswith(" (deleted)")  # noqa: PTH115
    except OSError:
        return False


def _lost_its_server(process: _Process, table: dict[int, _Process]) -> bool:
    """Whether what started it is gone. Goes up through the vLLM's own processes to the first that is none of them."""
    current = process
    for _step in range(64):
        if current.is_server:
            return False
        parent = table.get(current.stat.parent)
        if parent is None or parent.stat.pid == 1 or parent.stat.command in _REAPERS:
            return True
        if not parent.is_vllm and not parent.is_pooled:
            # A session is inherited: one that differs from the parent's came from somebody else, unless the
            # process opened it itself.
            leads = current.stat.session == current.stat.pid
            adopted = parent.stat.session != current.stat.session and not leads
            return adopted and "keeper.py" not in parent.command  # a keeper sees to it
        current = parent
    return False


def _describe(process: _Process, gpus: Sequence[Gpu], ours: bool, server: str) -> Orphan | None:
    """What is to be told of it; None if it has ended meanwhile."""
    pid = process.stat.pid
    try:
        uid = Path(f"/proc/{pid}").stat().st_uid
    except OSError:
        return None
    words = _read(pid, "statm").split()
    held = [(gpu.index, entry.memory) for gpu in gpus for entry in gpu.processes if entry.pid == pid]
    known = [memory for _index, memory in held if memory is not None]
    return Orphan(
        pid=pid,
        started=process.stat.started,
        command=process.command or process.stat.command,
        uid=uid,
        age=processes.age(process.stat.started),
        memory=int(words[1]) * os.sysconf("SC_PAGE_SIZE") if len(words) > 1 else 0,
        gpu_memory=sum(known) if known or not held else None,
        gpus=tuple(sorted({index for index, _memory in held})),
        ours=ours,
        server=server,
    )
