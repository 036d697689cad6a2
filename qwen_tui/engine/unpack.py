"""Install wheels that are on the disk into an environment, and know which are wholly there."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import zipfile
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwen_tui.engine.find import site_packages
from qwen_tui.engine.pip import PipFailed, explain, run_pip
from qwen_tui.engine.plan import Wheel, normalised
from qwen_tui.errors import WorkerError
from qwen_tui.i18n import _
from qwen_tui.progress import OnProgress, Progress, RateMeter
from qwen_tui.workers.host import run_worker


@dataclass(frozen=True)
class Installed:
    """A distribution found in a site-packages folder. whole: False if its installation was cut off."""

    name: str
    version: str
    metadata: Path
    whole: bool


def installed(folder: Path) -> dict[str, Installed]:
    """Every distribution in the site-packages `folder`, by its normalised name."""
    found: dict[str, Installed] = {}
    for metadata in folder.glob("*.dist-info"):
        name, _dash, version = metadata.name[: -len(".dist-info")].partition("-")
        entry = Installed(normalised(name), version, metadata, _is_whole(metadata))
        # Of two, the one that is not whole is the one that matters: it must go.
        if entry.name not in found or not entry.whole:
            found[entry.name] = entry
    return found


def _is_whole(metadata: Path) -> bool:
    # pip writes the list of files last, with the line for INSTALLER that the list inside the wheel has not.
    try:
        record = (metadata / "RECORD").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return f"{metadata.name}/INSTALLER" in record


def missing_wheels(wheels: Iterable[Wheel], folder: Path) -> list[Wheel]:
    """Those of `wheels` that are not installed in this version, or not wholly."""
    present = installed(folder)
    return [
        wheel
        for wheel in wheels
        if not ((found := present.get(wheel.name)) and found.whole and found.version == _as_in_folder(wheel.version))
    ]


def _as_in_folder(version: str) -> str:
    return version.replace("-", "_")


class Unpacking:
    """How many bytes of some wheels are on the disk, by looking at which of their files exist.

    pip unpacks a wheel's files in the order of the archive, so the first one missing is found by bisection.
    """

    def __init__(self, files: Sequence[Path], folder: Path) -> None:
        self._folder = folder
        self._wheels: list[tuple[str, list[str], list[int]]] = []
        for file in files:
            names, sums, so_far = [], [], 0
            try:
                with zipfile.ZipFile(file) as archive:
                    for member in archive.infolist():
                        if not member.is_dir() and ".data/" not in member.filename:
                            so_far += member.file_size
                            names.append(member.filename)
                            sums.append(so_far)
            except (OSError, zipfile.BadZipFile):
                continue  # pip will say what is wrong with it
            if names:
                self._wheels.append((file.name.split("-", 1)[0], names, sums))
        self.total = sum(sums[-1] for _name, _names, sums in self._wheels)
        self._unfinished = list(self._wheels)
        self._finished_bytes = 0
        self._seen: dict[str, int] = {}
        self._at_work = ""

    def look(self) -> tuple[int, str]:
        """The bytes unpacked so far, and the name of the wheel at work."""
        waiting, partial = [], 0
        for wheel in self._unfinished:
            name, names, sums = wheel
            low = bisect_left(names, True, key=lambda member: not (self._folder / member).exists())
            if low == len(names):
                self._finished_bytes += sums[-1]
                continue
            waiting.append(wheel)
            if low:
                partial += sums[low - 1]
                if self._seen.get(name) != low:
                    self._at_work, self._seen[name] = name, low
        self._unfinished = waiting
        return self._finished_bytes + partial, self._at_work


async def install_wheels(
    python: Path,
    wheels: Sequence[Wheel],
    files: Mapping[str, Path],
    log: Path,
    on_progress: OnProgress,
    pass_fds: Sequence[int] = (),
) -> None:
    """Install `wheels` from their `files`, by name, into the environment of `python`. Raises EngineError."""
    folder = site_packages(python)[0]
    for name, found in installed(folder).items():
        if not found.whole and name in files:
            shutil.rmtree(found.metadata, ignore_errors=True)
    built = [files[wheel.name] for wheel in wheels if wheel.filename.endswith(".whl")]
    sources = [wheel.requirement for wheel in wheels if not wheel.filename.endswith(".whl")]
    unpacking = await asyncio.to_thread(Unpacking, built, folder)
    watcher = asyncio.create_task(_watch(unpacking, on_progress))
    options = ["install", "--no-deps", "--no-compile", "--progress-bar", "off", "--force-reinstall"]
    try:
        if built:
            await run_pip(python, [*options, "--no-index", *map(str, built)], log, pass_fds=pass_fds)
        if sources:
            await run_pip(python, [*options, *sources], log, pass_fds=pass_fds)
    except PipFailed as failure:
        raise explain(failure, log, _("Can't install the packages")) from None
    finally:
        watcher.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watcher
    await compile_all(python, folder, log, on_progress)


async def compile_all(python: Path, folder: Path, log: Path, on_progress: OnProgress) -> None:
    """Compile the bytecode of everything in the site-packages `folder`; a failure only makes later starts slower."""
    meter = RateMeter()

    def hear(message: dict[str, Any]) -> None:
        if message.get("kind") == "progress":
            done, total = float(message["done"]), float(message["total"])
            rate = meter.update(done)
            eta = RateMeter.eta(done, total, rate)
            on_progress(Progress(_("Compiling bytecode"), done, total, "bytes", rate, eta))

    on_progress(Progress(_("Compiling bytecode")))
    with contextlib.suppress(WorkerError):
        await run_worker(python, "compile_bytecode.py", {"folder": str(folder)}, log, hear, {"PYTHONPATH": ""})


async def uninstall(python: Path, names: Sequence[str], log: Path, pass_fds: Sequence[int] = ()) -> None:
    """Take `names` out of the environment of `python`. Raises EngineError."""
    try:
        await run_pip(python, ["uninstall", "-y", *names], log, pass_fds=pass_fds)
    except PipFailed as failure:
        raise explain(failure, log, _("Can't remove packages")) from None


async def _watch(unpacking: Unpacking, on_progress: OnProgress) -> None:
    meter = RateMeter()
    while True:
        done, name = await asyncio.to_thread(unpacking.look)
        rate = meter.update(done)
        eta = RateMeter.eta(done, unpacking.total, rate)
        on_progress(Progress(_("Installing packages"), done, unpacking.total, "bytes", rate, eta, name))
        await asyncio.sleep(0.5)
