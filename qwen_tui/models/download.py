"""Download a model from ModelScope into its cache, where vLLM and everything else on the machine finds it too."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from qwen_tui.errors import ModelError, WorkerError
from qwen_tui.i18n import _
from qwen_tui.paths import Paths, private_folder
from qwen_tui.progress import OnProgress, Progress, RateMeter, format_bytes
from qwen_tui.workers.host import run_worker

#: Kept free on the disk beside the model, in bytes.
_RESERVE = 500_000_000


def hub_cache() -> Path:
    """The folder where ModelScope's client keeps models: MODELSCOPE_CACHE, else ~/.cache/modelscope."""
    named = os.environ.get("MODELSCOPE_CACHE", "")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "modelscope"


def is_hub_id(text: str) -> bool:
    """Whether `text` reads as owner/name."""
    return bool(re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", text))


async def download_model(
    paths: Paths,
    model: str,
    on_progress: OnProgress,
    revision: str | None = None,
    cache_dir: Path | None = None,
) -> Path:
    """The folder of the model `model` (owner/name), downloaded as far as it is not there yet.

    The client resumes what an earlier run left. Cancelling ends its process group. The hub is ModelScope, or what
    MODELSCOPE_ENDPOINT names. Raises ModelError.
    """
    if not is_hub_id(model):
        raise ModelError(
            _("“{model}” is not a hub id").format(model=model), "", _("It reads owner/name: qwen/Qwen2-7B-Instruct")
        )
    cache = cache_dir or hub_cache()
    log = paths.state / "download.log"
    private_folder(log.parent)
    log.unlink(missing_ok=True)
    listener = _Listener(model, cache, on_progress)
    on_progress(Progress(_("Asking the hub for {model}").format(model=model)))
    request = {"model": model, "revision": revision, "cache_dir": str(cache)}
    try:
        result = await run_worker(
            Path(sys.executable), "hub_download.py", request, log, listener.hear, {"TQDM_DISABLE": "1"}
        )
    except WorkerError as error:
        raise _explained(model, error, log) from None
    return Path(str(result["folder"]))


class _Listener:
    """Turns the worker's messages into progress, and refuses a model that does not fit on the disk."""

    def __init__(self, model: str, cache: Path, on_progress: OnProgress) -> None:
        self._model = model
        self._cache = cache
        self._on_progress = on_progress
        self._meter = RateMeter()

    def hear(self, message: dict[str, Any]) -> None:
        if message["kind"] == "files":
            self._check_disk(int(message["total"]), int(message["present"]))
            self._tell(int(message["present"]), int(message["total"]), "")
        elif message["kind"] == "progress":
            self._tell(int(message["done"]), int(message["total"]), str(message["detail"]))

    def _tell(self, done: int, total: int, name: str) -> None:
        rate = self._meter.update(done)
        step = _("Downloading {model}").format(model=self._model)
        self._on_progress(Progress(step, done, total, "bytes", rate, RateMeter.eta(done, total, rate), name))

    def _check_disk(self, total: int, present: int) -> None:
        place = self._cache
        while not place.exists():
            place = place.parent
        free = shutil.disk_usage(place).free
        needed = total - present + (_RESERVE if total > present else 0)
        if free < needed:
            raise ModelError(
                _("Not enough disk space for {model} in {folder}").format(model=self._model, folder=self._cache),
                _("It needs {needed}, {free} are free").format(needed=format_bytes(needed), free=format_bytes(free)),
                _("Free some space, or name another disk in MODELSCOPE_CACHE"),
            )


def _explained(model: str, error: WorkerError, log: Path) -> ModelError:
    """What the client's exception means. The worker gives its class as the title and its message as the reason."""
    text = f"{error.title}: {error.why}"
    hub = urlsplit(os.environ.get("MODELSCOPE_ENDPOINT", "https://www.modelscope.cn")).netloc
    why = error.why.splitlines()[0][:300] if error.why else error.title
    if error.title in ("NotExistError", "HTTPError") or re.search(r"\b404\b|[Nn]ot (exist|found)", text):
        return ModelError(
            _("{hub} has no model {model}").format(hub=hub, model=model),
            why,
            _("Check the id on the hub's page; a private model needs MODELSCOPE_API_TOKEN"),
        )
    if re.search(r"No space left|Errno 28", text):
        return ModelError(
            _("The disk is full"), why, _("Free some space, then run it again: it goes on where it stopped")
        )
    if error.title in ("AuthenticationError", "PermissionDeniedError"):
        return ModelError(
            _("{hub} refuses to give {model}").format(hub=hub, model=model),
            why,
            _("Set MODELSCOPE_API_TOKEN to a token that may read it"),
        )
    if error.title in ("FileIntegrityError", "FileSizeMismatchError") or error.why.startswith("not whole"):
        return ModelError(
            _("A file of {model} arrived damaged, again and again").format(model=model),
            why,
            _("Run it again; the files that are whole are kept"),
        )
    if re.search(r"Network|Connection|Timeout|ServerError|Max retries", text):
        return ModelError(
            _("{hub} does not answer").format(hub=hub),
            why,
            _("Check the network; MODELSCOPE_ENDPOINT names another hub. Run it again: it goes on where it stopped"),
        )
    return ModelError(
        _("Can't download {model}").format(model=model), why, _("The whole output is in {log}").format(log=log)
    )
