"""What is wrong on this machine, before it costs a start: engine, GPUs, left-over processes, records, limits."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from qwen_tui.engine.check import BrokenEngine, check_engine
from qwen_tui.engine.find import Engine, find_engine
from qwen_tui.errors import EngineError, QwenTuiError
from qwen_tui.hardware.gpus import Gpu, Gpus
from qwen_tui.hardware.host import disk_of, open_files_limit
from qwen_tui.i18n import N_, _
from qwen_tui.paths import Paths
from qwen_tui.progress import format_bytes, format_seconds
from qwen_tui.server import processes, registry
from qwen_tui.server.endpoints import Endpoints
from qwen_tui.server.orphans import Orphan, find_orphans
from qwen_tui.server.plan_host import port_holders

Level = Literal["ok", "warn", "fail"]

#: What a finding is about → the word for it.
TOPICS: dict[str, str] = {
    "engine": N_("Engine"),
    "gpus": N_("GPUs"),
    "orphans": N_("Left-over processes"),
    "runs": N_("Servers"),
    "files": N_("Records"),
    "ports": N_("Ports"),
    "limits": N_("Limits"),
    "disk": N_("Disk"),
}
_FILES_WANTED, _FILES_NEEDED = 65535, 2048
_DISK_NEEDED, _DISK_WANTED = 500 * 10**6, 5 * 10**9
_SHARED_WANTED = 10**9
#: GPU memory that is nobody's that can be seen, below which it is the driver's own.
_UNSEEN = 2 * 2**30


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. text: what was found. remedy: what to do about it, may be empty."""

    topic: str
    level: Level
    text: str
    remedy: str = ""


@dataclass(frozen=True)
class Report:
    """All that was found. abandoned: runs that lost their keeper and were not brought to their end."""

    findings: tuple[Finding, ...]
    orphans: tuple[Orphan, ...]
    abandoned: tuple[registry.Record, ...]

    @property
    def is_well(self) -> bool:
        return all(finding.level != "fail" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        return {
            "ok": self.is_well,
            "findings": [asdict(finding) for finding in self.findings],
            "orphans": [orphan.to_json() for orphan in self.orphans],
            "abandoned": [record.folder.name for record in self.abandoned],
        }


def examine(paths: Paths, engine_setting: str = "") -> Report:
    """Look at everything. Blocks for up to a second or so: not for an event loop."""
    reader = Gpus()
    gpus = reader.read()
    reader.close()
    records = registry.read_all(paths.servers)
    orphans = find_orphans(records, gpus)
    abandoned = [record for record in records if record.is_abandoned]
    findings = [
        *_engine(paths, engine_setting, gpus),
        *_gpus(gpus, reader.problem),
        *_orphans(orphans),
        *_runs(records, abandoned),
        *_files(paths),
        *_ports(records),
        *_limits(gpus),
        *_disk(paths),
    ]
    return Report(tuple(findings), tuple(orphans), tuple(abandoned))


async def prove_engine(paths: Paths, engine_setting: str = "") -> Finding:
    """Import under the engine's interpreter what a server needs: 10 to 60 s."""
    try:
        engine = find_engine(paths, engine_setting)
        report = await check_engine(engine.python, paths.state / "doctor.log")
    except BrokenEngine as error:
        return Finding("engine", "fail", f"{error.title}: {error.why}", error.hint)
    except EngineError as error:
        return Finding("engine", "fail", error.title, error.hint)
    text = _("it can be imported: vLLM {vllm}, torch {torch}, transformers {transformers}")
    return Finding("engine", "ok", text.format(vllm=report.vllm, torch=report.torch, transformers=report.transformers))


def _engine(paths: Paths, setting: str, gpus: Sequence[Gpu]) -> Iterator[Finding]:
    try:
        engine: Engine = find_engine(paths, setting)
    except EngineError as error:
        yield Finding("engine", "fail", error.title, error.hint)
        return
    words = {"cpu": _("for the CPU"), "cuda": _("for NVIDIA GPUs")}
    build = words.get(engine.platform, _("for an unknown platform"))
    text = _("vLLM {version}, {build}: {python}").format(version=engine.version, build=build, python=engine.python)
    if engine.platform == "cuda" and not gpus:
        yield Finding("engine", "warn", text, _("There is no GPU here that it could use"))
    elif engine.platform == "cpu" and gpus:
        yield Finding("engine", "warn", text, _("It leaves the GPUs unused; `qwen-tui setup` installs the other build"))
    else:
        yield Finding("engine", "ok", text)


def _gpus(gpus: Sequence[Gpu], problem: str) -> Iterator[Finding]:
    driver = driver_version()
    if not gpus and driver:
        text = _("The driver {version} is loaded, and its GPUs can't be read: {problem}")
        remedy = _("Start the container with --gpus all; after an update of the driver, restart the machine")
        yield Finding("gpus", "fail", text.format(version=driver, problem=problem), remedy)
    elif not gpus:
        yield Finding("gpus", "ok", _("none; servers run on the CPU"))
    for gpu in gpus:
        text = _("{index}: {name}, {free} of {total} free, driver {driver}").format(
            index=gpu.index,
            name=gpu.name,
            free=format_bytes(gpu.memory_free),
            total=format_bytes(gpu.memory_total),
            driver=driver or "?",
        )
        seen = any(Path(f"/proc/{process.pid}").exists() for process in gpu.processes)
        if gpu.memory_used > _UNSEEN and not seen:
            remedy = _(
                "{used} are held by processes that can't be seen from here: another container's, or another user's"
            )
            yield Finding("gpus", "warn", text, remedy.format(used=format_bytes(gpu.memory_used)))
        elif gpu.throttle_words:
            yield Finding(
                "gpus", "warn", text, _("It is slowed down: {reasons}").format(reasons=", ".join(gpu.throttle_words))
            )
        else:
            yield Finding("gpus", "ok", text)


def driver_version(file: Path = Path("/proc/driver/nvidia/version")) -> str:
    """The loaded NVIDIA kernel driver's version; empty without one."""
    try:
        match = re.search(r"NVRM version:.*?\s(\d+\.\d[\d.]*)", file.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return ""
    return match.group(1) if match else ""


def describe_orphan(orphan: Orphan) -> str:
    """One line: pid, title, age, memory, whose it is. The title is the process's own and may hold anything."""
    held = [_("{bytes} of memory").format(bytes=format_bytes(orphan.memory))]
    if orphan.gpus:
        where = ", ".join(map(str, orphan.gpus))
        amount = format_bytes(orphan.gpu_memory) if orphan.gpu_memory is not None else "?"
        held.append(_("{bytes} of GPU {index}").format(bytes=amount, index=where))
    whose = ""
    if orphan.server:
        whose = _("left by “{name}”").format(name=orphan.server)
    elif not orphan.is_this_users:
        whose = _("of user {uid}").format(uid=orphan.uid)
    parts = [_("up for {time}").format(time=format_seconds(orphan.age)), *held, *([whose] if whose else [])]
    return f"{orphan.pid} {orphan.command[:60]}: {', '.join(parts)}"


def _orphans(orphans: Sequence[Orphan]) -> Iterator[Finding]:
    for orphan in orphans:
        if orphan.ours:
            remedy = _("`qwen-tui doctor --fix` ends it")
        elif orphan.is_this_users:
            remedy = _("`qwen-tui doctor --fix` asks, and ends it")
        else:
            remedy = _("Ask that user: kill {pid}").format(pid=orphan.pid)
        yield Finding("orphans", "fail", describe_orphan(orphan), remedy)
    if not orphans:
        yield Finding("orphans", "ok", _("none"))


def _runs(records: Sequence[registry.Record], abandoned: Sequence[registry.Record]) -> Iterator[Finding]:
    for record in abandoned:
        text = _("“{name}” lost its keeper").format(name=record.folder.name)
        yield Finding("runs", "warn", text, _("`qwen-tui doctor --fix` gives it a new one, as `qwen-tui ps` does"))
    alive = sum(record.server_is_alive for record in records)
    if not abandoned:
        yield Finding("runs", "ok", _("{alive} of {known} run").format(alive=alive, known=len(records)))


def _files(paths: Paths) -> Iterator[Finding]:
    """Records that can't be read."""
    damaged = 0
    for folder in sorted(paths.servers.iterdir()) if paths.servers.is_dir() else ():
        if not folder.is_dir():
            continue
        record = registry.read(folder)
        if record is None and any(folder.iterdir()):
            damaged += 1
            remedy = _("Nothing can be done with it any more: rm -r {folder}").format(folder=folder)
            keeper = registry.find_keeper(folder)
            if keeper is not None:
                remedy = _("Its server runs: kill {pid} ends it; then rm -r {folder}").format(pid=keeper, folder=folder)
            yield Finding("files", "fail", _("{file} can't be read").format(file=folder / "launch.json"), remedy)
        elif record is not None and not record.state and (folder / "state.json").exists():
            damaged += 1
            remedy = _("Its keeper writes it anew at the next look: qwen-tui ps") if record.kept else _(
                "`qwen-tui doctor --fix` makes it anew"
            )  # fmt: skip
            yield Finding("files", "warn", _("{file} can't be read").format(file=folder / "state.json"), remedy)
    history = paths.state / "starts.json"
    if history.exists() and not _is_json(history):
        damaged += 1
        yield Finding("files", "warn", _("{file} can't be read").format(file=history), _("It only costs the ETA"))
    try:
        Endpoints(paths).list()
    except QwenTuiError as error:
        damaged += 1
        yield Finding("files", "fail", " ".join(filter(None, (error.title, error.why))), _("Mend that line"))
    for folder in (paths.config, paths.state):
        if folder.is_dir() and folder.stat().st_mode & 0o022:
            damaged += 1
            remedy = f"chmod 700 {folder}"
            yield Finding("files", "warn", _("Others can write in {folder}").format(folder=folder), remedy)
    if not damaged:
        yield Finding("files", "ok", _("all can be read"))


def _is_json(file: Path) -> bool:
    try:
        json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


def _ports(records: Sequence[registry.Record]) -> Iterator[Finding]:
    """Whether somebody else listens where a known server does, or would."""
    wrong = 0
    for record in records:
        pid, started = record.server
        own = {stat.pid for stat in processes.members(pid, started, record.launch["id"])} if pid else set()
        strangers = [holder for holder in port_holders(record.spec.port) if holder.pid not in own]
        others = {other.server[0] for other in records if other is not record}
        strangers = [holder for holder in strangers if holder.pid not in others]
        if strangers:
            wrong += 1
            names = ", ".join(f"{holder.pid} {holder.command[:60]}".strip() for holder in strangers)
            text = _("{port} of “{name}” is held by {processes}").format(
                port=record.spec.port, name=record.folder.name, processes=names
            )
            level: Level = "fail" if record.server_is_alive else "warn"
            yield Finding("ports", level, text, _("Stop it, or start the server on another port"))
    if not wrong:
        yield Finding("ports", "ok", _("nobody else listens on a port of a known server"))


def _limits(gpus: Sequence[Gpu]) -> Iterator[Finding]:
    _soft, hard = open_files_limit()
    text = _("up to {count:,} open files").format(count=hard)
    if hard < _FILES_NEEDED:
        yield Finding("limits", "fail", text, _("Raise the limit: ulimit -n 65535"))
    elif hard < _FILES_WANTED:
        text = _("up to {count:,} open files: enough for hundreds of clients; vLLM will still warn")
        yield Finding("limits", "ok", text.format(count=hard))
    else:
        yield Finding("limits", "ok", text)
    shared = disk_of(Path("/dev/shm"))
    if shared is None:
        return
    text = _("{size} of shared memory").format(size=format_bytes(shared.total))
    if shared.total < _SHARED_WANTED and len(gpus) > 1:
        yield Finding(
            "limits", "warn", text, _("Too little for several workers: start the container with --shm-size=8g")
        )
    else:
        yield Finding("limits", "ok", text)


def _disk(paths: Paths) -> Iterator[Finding]:
    folders = {paths.state: _("logs"), paths.models: _("models"), Path.home() / ".cache": _("caches")}
    for folder, name in folders.items():
        disk = disk_of(folder)
        if disk is None:
            continue
        text = _("{free} free for {name} in {folder}").format(free=format_bytes(disk.free), name=name, folder=folder)
        if disk.free < _DISK_NEEDED:
            yield Finding("disk", "fail", text, _("Free some space: a full disk ends the server"))
        elif disk.free < _DISK_WANTED:
            yield Finding("disk", "warn", text, _("A model of 7B parameters takes about 15 GB"))
        else:
            yield Finding("disk", "ok", text)
