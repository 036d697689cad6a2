"""The download queue on the disk: its folder, its locks, and the files of a job. Standard library only.

DOWNLOADS/order.json, options.json, queue.lock; DOWNLOADS/ID/request.json (what is asked), state.json (written by the
job a few times a second), plan.json (what the hub listed), files.json (bytes of each file, in the plan's order),
control.json ({"want": "pause" or "cancel"}, written before the job is signalled), job.lock (held while it lives), log.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ALIVE = ("queued", "listing", "running")
WORKING = ("listing", "running")
_TRIES, _TRY_INTERVAL = 10, 0.02


def read_json(file: Path) -> dict[str, Any]:
    """The object in `file`; {} where there is none that can be read."""
    try:
        data = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def write_json(file: Path, data: object) -> None:
    """Replace `file` in one step, mode 0600. Not synced: after a power cut it may be the older one."""
    write_text(file, json.dumps(data, ensure_ascii=False))


def write_text(file: Path, text: str, mode: int = 0o600) -> None:
    """The same for a text."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(text.encode("utf-8", "surrogatepass"))
        temporary.replace(file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def queue_locked(downloads: Path) -> Iterator[None]:
    """Nobody else changes the queue's order, or takes a turn, meanwhile."""
    descriptor = os.open(downloads / "queue.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def take_job(job: Path) -> int | None:
    """Hold the job's lock until this process and those forked from it end; None if another holds it."""
    descriptor = os.open(job / "job.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    for _attempt in range(_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_TRY_INTERVAL)  # who only looks whether it is held holds it for a moment, too
        else:
            return descriptor
    os.close(descriptor)
    return None


def is_held(job: Path) -> bool:
    """Whether a process works on the job, or waits to."""
    try:
        descriptor = os.open(job / "job.lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def order(downloads: Path) -> list[str]:
    """The ids of the jobs that are there, in the queue's order."""
    try:
        there = {entry.name for entry in os.scandir(downloads) if entry.is_dir()}
    except OSError:
        return []
    kept = read_json(downloads / "order.json").get("order", [])
    kept = kept if isinstance(kept, list) else []
    named = list(dict.fromkeys(name for name in kept if isinstance(name, str) and name in there))
    return named + sorted(there - set(named))


def options(downloads: Path) -> dict[str, int]:
    """jobs and connections, within bounds."""
    data = read_json(downloads / "options.json")
    found = {}
    for key, default, most in (("jobs", 1, 8), ("connections", 4, 32)):
        value = data.get(key, default)
        found[key] = min(most, max(1, value)) if isinstance(value, int) else default
    return found


def may_run(downloads: Path, job: str) -> bool:
    """Whether it is this job's turn. Called with the queue locked."""
    ids = order(downloads)
    before = ids[: ids.index(job)] if job in ids else ids
    working = 0
    for other in ids:
        if other == job or not is_held(downloads / other):
            continue
        status = read_json(downloads / other / "state.json").get("status")
        if status in WORKING:
            working += 1
        elif status == "queued" and other in before:
            return False
    return working < options(downloads)["jobs"]


def is_job(pid: int, job: Path) -> bool:
    """Whether the process `pid` is the one that works on `job`, and not another that has its number by now."""
    lock = os.path.realpath(job / "job.lock")
    folder = f"/proc/{pid}/fd"
    try:
        if b"hub_job.py" not in Path(f"/proc/{pid}/cmdline").read_bytes():
            return False
        descriptors = os.listdir(folder)  # noqa: PTH208
    except OSError:
        return False
    for descriptor in descriptors:
        with contextlib.suppress(OSError):  # closed meanwhile
            if os.readlink(f"{folder}/{descriptor}") == lock:  # noqa: PTH115
                return True
    return False


def write_into(log: Path) -> None:
    """Have the standard outputs go into `log`, and let go of the pipe."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (descriptor, 1), (descriptor, 2)):
        os.dup2(source, target)
    os.close(descriptor)
    os.close(nothing)
