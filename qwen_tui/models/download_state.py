"""What is asked of a download, what it will fetch, and how far it is: plain data for every front end."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from qwen_tui.models.hub import Hub, hub_named
from qwen_tui.progress import RateMeter


@dataclass(frozen=True)
class DownloadRequest:
    """What to fetch, and where to.

    model: owner/name. hub: a key of hub.HUBS. revision: a branch, tag or commit; empty for the hub's default.
    cache_dir: the cache to put it in, in the hub's own layout; empty for the cache that the hub's client uses.
    include, exclude: globs over the names in the repository; empty include means all. endpoint: the hub's address;
    empty for the environment's or the hub's own.
    """

    model: str
    hub: str = "modelscope"
    revision: str = ""
    cache_dir: str = ""
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    endpoint: str = ""

    @property
    def hub_facts(self) -> Hub:
        """The hub's names and addresses. Raises UsageError for a hub that is not known."""
        return hub_named(self.hub)

    @property
    def cache(self) -> Path:
        """The cache's folder."""
        return Path(self.cache_dir).expanduser() if self.cache_dir else self.hub_facts.cache()

    @property
    def is_elsewhere(self) -> bool:
        """Whether `endpoint` is another host than the hub's: a token that was meant for the hub is not sent there."""
        facts = self.hub_facts
        return bool(self.endpoint) and facts.host(self.endpoint) not in (facts.host(), facts.own_host)

    def to_json(self) -> dict[str, Any]:
        """The fields, for a file."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> DownloadRequest:
        """The reverse of `to_json`. Raises KeyError or TypeError where the data is none."""
        return cls(
            model=str(data["model"]),
            hub=str(data.get("hub", "modelscope")),
            revision=str(data.get("revision", "")),
            cache_dir=str(data.get("cache_dir", "")),
            include=tuple(map(str, data.get("include", ()))),
            exclude=tuple(map(str, data.get("exclude", ()))),
            endpoint=str(data.get("endpoint", "")),
        )


@dataclass(frozen=True)
class PlannedFile:
    """One file of the repository.

    size: bytes. present: bytes of it that are on the disk by now (its size means whole, as far as the size tells).
    sha256: lower-case hex, or empty where the hub tells none. git_sha1: git's blob hash, which Hugging Face tells for
    small files instead.
    """

    name: str
    size: int
    present: int = 0
    sha256: str = ""
    git_sha1: str = ""


@dataclass(frozen=True)
class DownloadPlan:
    """What a download will do, known before its first byte.

    folder: where the model will be (its snapshot's folder). files: what include and exclude leave of the repository.
    left_out: files that they leave out. commit: what the revision stands for, where the hub tells; else the revision.
    free: free bytes of the disk. reserve: bytes to be kept free on it besides.
    """

    request: DownloadRequest
    folder: Path
    commit: str
    files: tuple[PlannedFile, ...]
    left_out: int
    free: int
    reserve: int

    @property
    def total(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def present(self) -> int:
        """Bytes that are on the disk already, each counted once."""
        return sum(file.present for file in self.files)

    @property
    def missing(self) -> int:
        """Bytes to be fetched."""
        return self.total - self.present

    @property
    def fits(self) -> bool:
        """Whether the disk has room for what is missing and the reserve."""
        return self.missing == 0 or self.missing + self.reserve <= self.free


class DownloadStatus(str, Enum):
    """Where a download stands.

    QUEUED waits for its turn. LISTING asks the hub. RUNNING fetches and checks. PAUSED was asked to stop. INTERRUPTED
    was killed, or the machine was. FAILED gave up; `error` says why. CANCELLED and DONE are over.

    DONE: every file's size and hash held. The disk is then told to take what is still in the machine's memory only;
    after a power cut before it has, the next download of the model hashes its files again, and fetches anew what is
    damaged.
    """

    QUEUED = "queued"
    LISTING = "listing"
    RUNNING = "running"
    PAUSED = "paused"
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DONE = "done"

    @property
    def is_alive(self) -> bool:
        """Whether a process works on it, or waits to."""
        return self in (DownloadStatus.QUEUED, DownloadStatus.LISTING, DownloadStatus.RUNNING)

    @property
    def is_resumable(self) -> bool:
        """Whether `Downloads.resume` makes it go on."""
        return self in (DownloadStatus.PAUSED, DownloadStatus.INTERRUPTED, DownloadStatus.FAILED)

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen to it."""
        return self in (DownloadStatus.CANCELLED, DownloadStatus.DONE)


@dataclass(frozen=True)
class FileProgress:
    """One file: size and what is on the disk of it, in bytes, `done` never more than `size`. checked: its hash held."""

    name: str
    size: int
    done: int
    checked: bool = False


@dataclass(frozen=True)
class Stall:
    """Why nothing arrives: for how many seconds, the reason in words (translated), seconds until the next try."""

    seconds: float
    reason: str
    next_try: float


@dataclass(frozen=True)
class DownloadProblem:
    """Why a download failed: what happened, why, what to do. Translated."""

    title: str
    why: str = ""
    hint: str = ""


@dataclass(frozen=True)
class DownloadState:
    """A download at one moment.

    id: names it in `Downloads`. done, total: bytes, total None until the hub was asked; done counts what is on the
    disk, once, and never passes total. checked: bytes whose hash held. rate: bytes per second that arrived over the
    last ten seconds; None while unknown or nothing runs. files, files_done: how many there are, and are whole and
    checked. active: the files that arrive now. fetched: bytes that came over the network since this start, in `seconds`
    of fetching and checking.
    folder: where the model will be; None until the hub was asked. position: place in the queue, from 0.
    started_at, ended_at: Unix times, None where it did not.
    """

    id: str
    request: DownloadRequest
    status: DownloadStatus
    position: int
    done: int = 0
    total: int | None = None
    checked: int = 0
    rate: float | None = None
    files: int = 0
    files_done: int = 0
    fetched: int = 0
    seconds: float = 0.0
    active: tuple[FileProgress, ...] = ()
    stall: Stall | None = None
    problem: DownloadProblem | None = None
    folder: Path | None = None
    commit: str = ""
    started_at: float | None = None
    ended_at: float | None = None
    log: Path = field(default=Path())

    @property
    def model(self) -> str:
        """owner/name."""
        return self.request.model

    @property
    def fraction(self) -> float | None:
        """done/total within 0..1; exactly 1 only when it is DONE; None until the hub was asked."""
        if self.status is DownloadStatus.DONE:
            return 1.0
        if not self.total:
            return None
        return min(0.9999, max(0.0, self.done / self.total))

    @property
    def eta(self) -> float | None:
        """Seconds to go at the measured rate; None while that can't be said."""
        return RateMeter.eta(self.done, self.total, self.rate) if self.stall is None else None


@dataclass(frozen=True)
class QueueOptions:
    """How the queue works. jobs: downloads at the same time. connections: parts and files of one download at once."""

    jobs: int = 1
    connections: int = 4
