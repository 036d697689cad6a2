"""Check a model's files: sizes and hashes against the hub's list, or offline against what is known here."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import re
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qwen_tui.errors import ModelError, WorkerError
from qwen_tui.i18n import _
from qwen_tui.models.download_state import DownloadRequest
from qwen_tui.models.download_words import listing_error
from qwen_tui.models.hub import HUGGINGFACE, MODELSCOPE, is_hub_id
from qwen_tui.models.safetensors_header import open_quietly, read_weights
from qwen_tui.models.tokens import Tokens
from qwen_tui.paths import Paths, private_folder
from qwen_tui.progress import OnProgress, Progress, RateMeter
from qwen_tui.workers import hub_parts, hub_queue, hub_record
from qwen_tui.workers.host import run_worker

_BLOCK = 4 * 1024 * 1024
_THREADS = 2
#: Files that the hubs' clients and qwen-tui keep beside a model's own.
_NOT_OF_THE_MODEL = re.compile(r"(^|/)(\.(msc|mv|mdl|lock|cache|_.*)|\._____temp)(/|$)|\.incomplete$|\.tmp$")


@dataclass(frozen=True)
class FileVerdict:
    """One file. verdict: "good" (its hash holds), "size" (only its size could be checked, and holds), "damaged",
    "missing". why: what is wrong, in words (translated); empty where nothing is."""

    name: str
    size: int
    verdict: str
    why: str = ""


@dataclass(frozen=True)
class Verification:
    """The outcome. against: "hub" or "record" (the hashes kept when it was downloaded) or "headers" (safetensors
    headers and index only). extra: files that the list does not have."""

    folder: Path
    model: str
    against: str
    files: tuple[FileVerdict, ...]
    extra: tuple[str, ...] = ()

    @property
    def is_good(self) -> bool:
        """Whether no file is damaged or missing."""
        return not self.bad

    @property
    def bad(self) -> tuple[FileVerdict, ...]:
        """The files that are damaged or missing."""
        return tuple(file for file in self.files if file.verdict in ("damaged", "missing"))

    def to_json(self) -> dict[str, Any]:
        """For `qwen-tui verify --json`."""
        return {
            "folder": str(self.folder),
            "model": self.model,
            "against": self.against,
            "good": self.is_good,
            "files": [asdict(file) for file in self.files],
            "extra": list(self.extra),
        }


@dataclass(frozen=True)
class _Listed:
    """A file that should be there. identity: "sha256:…", "git:…" or empty."""

    name: str
    path: Path
    size: int
    identity: str


async def verify_model(
    paths: Paths,
    target: str,
    on_progress: OnProgress,
    *,
    hub: str = "",
    revision: str = "",
    cache_dir: str = "",
    endpoint: str = "",
    offline: bool = False,
) -> Verification:
    """Check every file of `target`: a folder, or owner/name in the hub's cache. Cancelling stops within a second.

    hub: where to ask; empty takes the one that the folder's layout or record names. offline: ask nobody.
    Raises ModelError where there is no such model, or the hub does not answer.
    """
    records = paths.data / "hashes"
    folder, request = await asyncio.to_thread(
        _resolve, records, target, DownloadRequest("", hub, revision, cache_dir, endpoint=endpoint)
    )
    if offline or request is None:
        model = request.model if request is not None else folder.name
        listed, against = await asyncio.to_thread(_known_here, records, folder)
        if not listed:
            return await asyncio.to_thread(_by_headers, folder, model)
    else:
        on_progress(Progress(_("Asking the hub for {model}").format(model=request.model)))
        listed, against, model = await _ask_hub(paths, folder, request), "hub", request.model
    verdicts = await _hash_all(listed, model, on_progress)
    await asyncio.to_thread(_keep_record, records, folder, listed, verdicts)
    return Verification(folder, model, against, verdicts, await asyncio.to_thread(_extra, folder, listed))


# -- which folder, which model ---------------------------------------------------------------------


def _resolve(records: Path, target: str, asked: DownloadRequest) -> tuple[Path, DownloadRequest | None]:
    """The model's folder, and what to ask the hub for it; None where nothing tells which model it is."""
    path = Path(target).expanduser()
    if path.is_dir():
        folder = path.absolute()
        return folder, _identified(records, folder, asked)
    if not is_hub_id(target):
        raise ModelError(
            _("There is no model at {path}").format(path=target),
            "",
            _("Give a folder, or a hub id such as qwen/Qwen2-7B-Instruct"),
        )
    for hub in (MODELSCOPE, HUGGINGFACE):
        if asked.hub not in ("", hub.key):
            continue
        request = DownloadRequest(target, hub.key, asked.revision, asked.cache_dir, endpoint=asked.endpoint)
        for folder in _cached(request):
            if folder.is_dir():
                return folder.absolute(), request
    raise ModelError(
        _("{model} is not on this machine").format(model=target),
        "",
        _("`qwen-tui download {model}` fetches it; --cache-dir names another cache").format(model=target),
    )


def _cached(request: DownloadRequest) -> list[Path]:
    """Where the hub's client keeps, or kept, this model."""
    cache, model = request.cache.absolute(), request.model
    if request.hub == HUGGINGFACE.key:
        root = cache / f"models--{model.replace('/', '--')}"
        revision = request.revision or HUGGINGFACE.revision
        try:
            commit = (root / "refs" / revision).read_text(encoding="utf-8").strip()
        except OSError:
            commit = revision
        return [root / "snapshots" / commit]
    owner, name = model.split("/", 1)
    dotless = name.replace(".", "___")
    return [
        cache / "models" / model.replace("/", "--") / "snapshots" / (request.revision or MODELSCOPE.revision),
        cache / "models" / owner / dotless,
        cache / "hub" / "models" / owner / dotless,
        cache / "hub" / owner / dotless,
        cache / owner / name,
    ]


def _identified(records: Path, folder: Path, asked: DownloadRequest) -> DownloadRequest | None:
    """Which model of which hub lies in `folder`: by its record, else by the layout it lies in."""
    record = hub_queue.read_json(hub_record.record_file(records, folder))
    if record and asked.hub in ("", record.get("hub")):
        revision = asked.revision or str(record.get("revision", ""))
        endpoint = asked.endpoint or str(record.get("endpoint", ""))
        return DownloadRequest(str(record["model"]), str(record["hub"]), revision, endpoint=endpoint)
    found = re.search(r"/models--([^/]+?)--([^/]+)/snapshots/([^/]+)$", str(folder))
    if found:
        return _request_of(f"{found[1]}/{found[2]}", asked, HUGGINGFACE.key, found[3])
    found = re.search(r"/models/([^/]+?)--([^/]+)/snapshots/([^/]+)$", str(folder))
    if found:
        return _request_of(f"{found[1]}/{found[2]}", asked, MODELSCOPE.key, found[3])
    found = re.search(r"/(?:hub|models)/([^/]+)/([^/]+)$", str(folder))
    if found:
        return _request_of(f"{found[1]}/{found[2].replace('___', '.')}", asked, MODELSCOPE.key, "")
    return None


def _request_of(model: str, asked: DownloadRequest, hub: str, revision: str) -> DownloadRequest | None:
    if not is_hub_id(model):
        return None
    return DownloadRequest(model, asked.hub or hub, asked.revision or revision, endpoint=asked.endpoint)


# -- what should be there --------------------------------------------------------------------------


async def _ask_hub(paths: Paths, folder: Path, request: DownloadRequest) -> tuple[_Listed, ...]:
    private_folder(paths.state / "downloads")
    question = {
        **request.to_json(),
        "cache_dir": str(request.cache.absolute()),
        "token_file": str(Tokens(paths).file(request.hub_facts, request.endpoint)),
        "is_elsewhere": request.is_elsewhere,
    }
    log = paths.state / "downloads" / "verify.log"
    log.unlink(missing_ok=True)
    try:
        answer = await run_worker(Path(sys.executable), "hub_list.py", question, log)
    except WorkerError as error:
        found = listing_error(error.title, error.why, request)
        hint = "\n".join(part for part in (found.hint, _("--offline asks nobody")) if part)
        raise type(found)(found.title, found.why, hint) from None
    return tuple(
        _Listed(file["name"], folder / file["name"], file["size"], file["identity"]) for file in answer["files"]
    )


def _known_here(records: Path, folder: Path) -> tuple[tuple[_Listed, ...], str]:
    """What the record says; else what the names of Hugging Face's blobs say, which are hashes."""
    entries: Mapping[str, Any] = hub_queue.read_json(hub_record.record_file(records, folder)).get("files", {})
    listed = [_Listed(name, folder / name, entry[0], entry[2]) for name, entry in entries.items()]
    if not listed:
        for path in sorted(folder.rglob("*")):
            if path.is_symlink():
                blob = path.readlink().name
                kind = "sha256" if len(blob) == 64 else "git"
                if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", blob):
                    size = path.stat().st_size if path.exists() else 0
                    listed.append(_Listed(path.relative_to(folder).as_posix(), path, size, f"{kind}:{blob}"))
    return tuple(listed), "record"


def _by_headers(folder: Path, model: str) -> Verification:
    """Without any hash: whether the weights are as long as their headers say, and none that the index names lacks."""
    weights = read_weights(folder)
    good = [FileVerdict(file.name, file.stat().st_size, "size") for file in weights.files]
    missing = [name for name in weights.broken if not (folder / name).exists()]
    bad = [
        FileVerdict(name, 0, "missing" if name in missing else "damaged", "; ".join(weights.problems))
        for name in weights.broken
    ]
    if not good and not bad:
        why = "; ".join(weights.problems)
        raise ModelError(_("There are no weights in {folder}").format(folder=folder), why)
    return Verification(folder, model, "headers", (*[file for file in good if file.name not in weights.broken], *bad))


def _extra(folder: Path, listed: tuple[_Listed, ...]) -> tuple[str, ...]:
    names = {file.name for file in listed}
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    return tuple(sorted(name for name in found if name not in names and not _NOT_OF_THE_MODEL.search(name)))


# -- hashing ---------------------------------------------------------------------------------------


async def _hash_all(listed: tuple[_Listed, ...], model: str, on_progress: OnProgress) -> tuple[FileVerdict, ...]:
    """The verdict of each file, in the same order."""
    stop, counts = threading.Event(), [0] * len(listed)
    total, meter = sum(file.size for file in listed), RateMeter()
    step = _("Checking {model}").format(model=model)
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(_THREADS) as pool:
        # Bound here, where `index` is this file's.
        jobs = [
            loop.run_in_executor(
                pool, functools.partial(_judge, file, stop, functools.partial(counts.__setitem__, index))
            )
            for index, file in enumerate(listed)
        ]
        try:
            waiting: set[asyncio.Future[FileVerdict]] = set(jobs)
            while waiting:
                _done, waiting = await asyncio.wait(waiting, timeout=0.25)
                done = min(total, sum(counts))
                rate = meter.update(done)
                on_progress(Progress(step, done, total, "bytes", rate, RateMeter.eta(done, total, rate)))
            return tuple([await job for job in jobs])
        finally:
            stop.set()


def _judge(file: _Listed, stop: threading.Event, count: Callable[[int], None]) -> FileVerdict:
    """Check one file. count: told how many of its bytes are read."""
    try:
        size = file.path.stat().st_size
    except OSError:
        part = hub_parts.path_for(file.path)
        why = _("its download is not finished") if part.exists() else ""
        return FileVerdict(file.name, file.size, "missing", why)
    is_size_known = file.size > 0 or not file.identity
    if is_size_known and size != file.size:
        why = _("{found:,} bytes instead of {listed:,}").format(found=size, listed=file.size)
        return FileVerdict(file.name, file.size, "damaged", why)
    if not file.identity:
        return FileVerdict(file.name, size, "size")
    kind, _colon, wanted = file.identity.partition(":")
    digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False) if kind == "git" else hashlib.sha256()
    done, buffer = 0, memoryview(bytearray(_BLOCK))
    try:
        with open_quietly(file.path) as stream:
            while (read := stream.readinto(buffer)) and not stop.is_set():  # type: ignore[attr-defined]
                digest.update(buffer[:read])
                done += read
                count(done)
    except OSError as error:
        return FileVerdict(file.name, size, "damaged", error.strerror or str(error))
    if digest.hexdigest() == wanted:
        return FileVerdict(file.name, size, "good")
    return FileVerdict(file.name, size, "damaged", _("its hash is another one"))


def _keep_record(records: Path, folder: Path, listed: tuple[_Listed, ...], verdicts: tuple[FileVerdict, ...]) -> None:
    """Have a later download not trust what is damaged here, though nobody seems to have touched it."""
    file = hub_record.record_file(records, folder)
    data = hub_queue.read_json(file)
    bad = {verdict.name for verdict in verdicts if verdict.verdict in ("damaged", "missing")}
    entries = data.get("files")
    if isinstance(entries, dict) and bad & set(entries):
        # The hash stays known; only the times, by which it is trusted, go.
        data["files"] = {name: [entry[0], 0, entry[2]] if name in bad else entry for name, entry in entries.items()}
        hub_queue.write_json(file, data)
