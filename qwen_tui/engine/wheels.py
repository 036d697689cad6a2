"""Fetch the wheels of a plan into a folder of our own, where they outlast an interruption."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path

from qwen_tui.engine.pip import PipFailed, explain, progress_of, run_pip
from qwen_tui.engine.plan import Wheel, is_whole
from qwen_tui.i18n import _
from qwen_tui.paths import private_folder
from qwen_tui.progress import OnProgress, Progress, RateMeter

#: What one run of pip fetches, in bytes: a whole batch is lost when it is interrupted, one file in the middle of it
#: is not kept by pip.
_BATCH = 100_000_000


class Download:
    """The bytes of a download of many files, summed from pip's lines about one file after the other."""

    def __init__(self, wheels: Sequence[Wheel], present: Sequence[Wheel], on_progress: OnProgress) -> None:
        self._sizes: dict[str, int | None] = {wheel.filename: wheel.size for wheel in wheels}
        self._finished: set[str] = {wheel.filename for wheel in present}
        self._on_progress = on_progress
        self._meter = RateMeter()
        self._current = ""
        self._current_bytes = 0

    def hear(self, line: str) -> None:
        """Take note of one line of pip's."""
        counted = progress_of(line)
        if counted is not None:
            self._current_bytes = counted[0]
            if self._current:
                self._sizes[self._current] = counted[1]
            self.report()
            return
        match = re.match(r"\s*(?:Downloading|Using cached) (\S+)", line)
        if match:
            self._end_current()
            name = match.group(1).rsplit("/", 1)[-1]
            self._current = next((known for known in self._sizes if known == name), "")
            if "Using cached" in line:
                self._end_current()
            self.report()
        elif "after connection broken" in line or "Attempting to resume" in line:
            self.report(_("the connection broke, trying again"))

    def finish(self, wheels: Sequence[Wheel]) -> None:
        """Take note that `wheels` are all there."""
        self._current, self._current_bytes = "", 0
        self._finished |= {wheel.filename for wheel in wheels}
        self.report()

    def _end_current(self) -> None:
        if self._current:
            self._finished.add(self._current)
        self._current, self._current_bytes = "", 0

    def report(self, detail: str = "") -> None:
        done = sum(self._sizes.get(name) or 0 for name in self._finished)
        if self._current not in self._finished:
            done += self._current_bytes
        known = [size for size in self._sizes.values() if size is not None]
        total = float(sum(known)) if len(known) == len(self._sizes) else None
        rate = self._meter.update(done)
        self._on_progress(
            Progress(
                _("Downloading packages"),
                done,
                total,
                "bytes",
                rate,
                RateMeter.eta(done, total, rate),
                detail or self._current.split("-", 1)[0],
            )
        )


async def fetch(
    python: Path,
    wheels: Sequence[Wheel],
    folder: Path,
    log: Path,
    on_progress: OnProgress,
    pass_fds: Sequence[int] = (),
) -> dict[str, Path]:
    """The file of each wheel by its name; those that are not yet in `folder`, or on this disk, are downloaded.

    Raises EngineError.
    """
    private_folder(folder)
    remote = [wheel for wheel in wheels if wheel.local_file is None]
    on_progress(Progress(_("Looking at what is already downloaded")))
    present = await asyncio.to_thread(_keep_whole, remote, folder)
    download = Download(remote, present, on_progress)
    missing = [wheel for wheel in remote if wheel not in present]
    for batch in batches(missing):
        requirements = folder / "fetch.txt"
        requirements.write_text("".join(f"{wheel.requirement}\n" for wheel in batch), encoding="utf-8")
        arguments = ["download", "--no-deps", "--progress-bar", "raw", "-d", str(folder), "-r", str(requirements)]
        try:
            await run_pip(python, arguments, log, download.hear, pass_fds)
        except PipFailed as failure:
            raise explain(failure, log, _("Can't download the packages")) from None
        download.finish(batch)
    return {wheel.name: wheel.local_file or folder / wheel.filename for wheel in wheels}


def _keep_whole(wheels: Sequence[Wheel], folder: Path) -> list[Wheel]:
    """Those of `wheels` that are whole in `folder`; a damaged or half-copied file is deleted."""
    whole = []
    for wheel in wheels:
        file = folder / wheel.filename
        if is_whole(wheel, file):
            whole.append(wheel)
        else:
            file.unlink(missing_ok=True)
    names = {wheel.filename for wheel in wheels}
    for file in folder.iterdir():
        if file.suffix in (".whl", ".gz", ".zip") and file.name not in names:
            file.unlink()  # of another version or platform
    return whole


def batches(wheels: Sequence[Wheel]) -> list[list[Wheel]]:
    """`wheels`, the largest first, in runs of about _BATCH bytes; a larger file is alone."""
    groups: list[list[Wheel]] = []
    room = 0
    for wheel in sorted(wheels, key=lambda wheel: -(wheel.size or 0)):
        size = wheel.size or 0
        if not groups or size > room:
            groups.append([])
            room = _BATCH
        groups[-1].append(wheel)
        room -= size
    return groups
