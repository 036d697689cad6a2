"""Move a model to another folder, also on another disk, with progress; the source goes last."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from qwen_tui.errors import ModelError
from qwen_tui.i18n import _
from qwen_tui.models.local_changes import check_unused, describe_error, links_to, remove_leftovers, room_for
from qwen_tui.models.local_folders import DELETED, MOVING
from qwen_tui.models.local_model import LocalModel
from qwen_tui.models.local_reading import parts_of
from qwen_tui.progress import OnProgress, Progress, RateMeter

_BLOCK = 1 << 22


class _Cancelled(Exception):
    """The move was called off."""


async def move_model(model: LocalModel, target: Path, on_progress: OnProgress, in_use: Collection[Path] = ()) -> Path:
    """Move `model` into the folder `target`, under its name (a hub's repository keeps its cache layout); its new path.

    On the same disk it is renamed. On another it is copied, read back and compared, and only then removed here;
    cancelled or crashed before that, the source is untouched. A repository in a cache moves with all its revisions.
    on_progress is called in the event loop's thread. Raises ModelError.
    """
    loop = asyncio.get_running_loop()
    stop = threading.Event()

    def tell(progress: Progress) -> None:
        loop.call_soon_threadsafe(on_progress, progress)

    job = _Move(model, target, tell, in_use, stop)
    work = asyncio.ensure_future(asyncio.to_thread(job.run))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        stop.set()
        with contextlib.suppress(_Cancelled, ModelError):
            await work
        raise


class _Move:
    """One move, run in a thread."""

    def __init__(
        self, model: LocalModel, target: Path, tell: OnProgress, in_use: Collection[Path], stop: threading.Event
    ) -> None:
        self.model = model
        self.tell, self.stop, self.in_use = tell, stop, in_use
        self.sources = parts_of(model.path) if model.path.is_file() else [model.root]
        self.target = target.expanduser().absolute()
        self.meter = RateMeter()
        self.done = 0
        self.total = 0
        self.step = ""

    def run(self) -> Path:
        check_unused(self.model, self.in_use, self.model.root)
        places = [self.target / _name(self.model, source) for source in self.sources]
        for source, place in zip(self.sources, places, strict=True):
            self._check(source, place)
        links = links_to(self.sources[0])
        try:
            self.target.mkdir(parents=True, exist_ok=True)
            for source, place in zip(self.sources, places, strict=True):
                place.parent.mkdir(parents=True, exist_ok=True)
                if _is_same_disk(source, place):
                    source.rename(place)
                else:
                    self._carry(source, place)
                for link in links:
                    link.unlink(missing_ok=True)
        except OSError as error:
            raise ModelError(_("Can't move {model}").format(model=self.model.id), describe_error(error)) from None
        return places[0] / self.model.path.relative_to(self.sources[0])

    def _check(self, source: Path, place: Path) -> None:
        if place.exists():
            raise ModelError(_("There is something already: {path}").format(path=place))
        if place.is_relative_to(source):
            raise ModelError(_("A model can't be moved into itself"), str(place))
        if source.is_symlink():
            text = _("{path} is only a link: move what it leads to").format(path=source)
            raise ModelError(text, str(source.resolve()))

    def _carry(self, source: Path, place: Path) -> None:
        """Copy, compare, put in place, remove the source."""
        files = [file for file in _everything(source) if file.is_file() and not file.is_symlink()]
        self.total = sum(file.stat().st_size for file in files)
        partial = place.with_name(f"{MOVING}{os.getpid()}-{place.name}")
        remove_leftovers(place.parent)  # before the room is measured: of a move that was killed
        room_for(self.total, self.target)
        _clear(partial)
        try:
            sums = self._copy(source, partial)
            self._compare(sums)
            partial.rename(place)
        except BaseException:
            _clear(partial)
            raise
        # From here on the copy is the model. A crash leaves no half of the source under its name.
        aside = source.with_name(f"{DELETED}{os.getpid()}-{source.name}")
        source.rename(aside)
        _clear(aside)

    def _copy(self, source: Path, partial: Path) -> dict[Path, bytes]:
        """Copy everything; SHA-256 of what was read, by the copy's path. Links within stay links."""
        self._begin(_("Copying {model}").format(model=self.model.id))
        sums: dict[Path, bytes] = {}
        for file in [source, *_everything(source)]:
            copy = partial / file.relative_to(source) if file != source else partial
            if file.is_symlink():
                copy.symlink_to(file.readlink())
            elif file.is_dir():
                copy.mkdir(parents=True)
            elif file.is_file():
                with copy.open("xb") as out:
                    sums[copy] = self._read(file, out.write)
                    out.flush()
                    os.fsync(out.fileno())
                shutil.copystat(file, copy)
        return sums

    def _compare(self, sums: dict[Path, bytes]) -> None:
        self._begin(_("Comparing the copy of {model}").format(model=self.model.id))
        for copy, wanted in sums.items():
            _drop_from_memory(copy)
            if self._read(copy, lambda _block: None) != wanted:
                raise ModelError(
                    _("The copy of {file} differs from the original").format(file=copy.name),
                    _("The disk of {folder} loses what is written to it").format(folder=self.target),
                )

    def _begin(self, step: str) -> None:
        self.step, self.done, self.meter = step, 0, RateMeter()

    def _read(self, file: Path, take: Callable[[bytes], object]) -> bytes:
        """Hand every block of `file` on; its SHA-256."""
        digest = hashlib.sha256()
        with file.open("rb") as stream:
            while block := stream.read(_BLOCK):
                if self.stop.is_set():
                    raise _Cancelled
                digest.update(block)
                take(block)
                self.done += len(block)
                rate = self.meter.update(self.done)
                eta = RateMeter.eta(self.done, self.total, rate)
                self.tell(Progress(self.step, self.done, self.total, "bytes", rate, eta, file.name))
        return digest.digest()


def _is_same_disk(source: Path, place: Path) -> bool:
    return source.stat().st_dev == place.parent.stat().st_dev


def _drop_from_memory(file: Path) -> None:
    """Have `file` read from the disk again: a comparison with what is still in memory would prove nothing."""
    with contextlib.suppress(OSError), file.open("rb") as stream:
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _name(model: LocalModel, source: Path) -> Path:
    """Where a model lies below the new folder, so that the hub's client finds it there: owner/name in the old layout,
    models/OWNER--NAME in ModelScope's, models--OWNER--NAME in Hugging Face's; else its folder's name."""
    if model.source == "modelscope" and model.root != model.path:
        return Path("models", source.name)
    if model.source == "modelscope" and not model.path.is_file():
        return Path(*source.parts[-2:])
    return Path(source.name)


def _everything(folder: Path) -> Iterator[Path]:
    """Every folder, file and link below `folder`, parents first; no link is followed."""
    if not folder.is_dir():
        return
    for parent, folders, names in os.walk(folder):
        for name in (*folders, *names):
            yield Path(parent, name)


def _clear(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)
