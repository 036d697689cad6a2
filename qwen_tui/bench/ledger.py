"""The runs that were kept: one JSON file each, mode 0600, and beside it the raw records, compressed."""

from __future__ import annotations

import gzip
import json
import os
import re
import secrets
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from qwen_tui.bench.health import ClientHealth
from qwen_tui.bench.load import Load
from qwen_tui.bench.series import Series
from qwen_tui.bench.statistics import Figures, Limits
from qwen_tui.bench.target import BenchError
from qwen_tui.bench.workload import Workload
from qwen_tui.errors import UsageError
from qwen_tui.i18n import _
from qwen_tui.paths import Paths, private_folder, write_private
from qwen_tui.workers.bench_record import Record, unpack_all

_FORMAT = 1
#: What was measured: a server over HTTP, or an engine in a process of its own.
RunKind = Literal["online", "offline"]
_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{4}")


@dataclass(frozen=True)
class Run:
    """One run of a benchmark.

    id: names it in the ledger. created: Unix time of its beginning. api: "chat" or "completions". partial: it was
    stopped. tokenizer: what counted the prompts' tokens: "server", "file", or empty for an estimate. seed: makes the
    same prompts again. about: the rest worth knowing (engine_version, argv, gpus, …). server: its own counters over the
    run, by name. repeats: whether prompts came more than once. kind: "offline" has neither base_url nor latencies.
    around: the server and the GPUs during the run, name of a `Series` → its mean, min and max.
    """

    id: str
    created: float
    base_url: str
    model: str
    api: str
    workload: Workload
    load: Load
    limits: Limits
    seed: int
    figures: Figures
    health: ClientHealth
    partial: bool = False
    repeats: bool = False
    tokenizer: str = ""
    tags: tuple[str, ...] = ()
    note: str = ""
    about: dict[str, Any] = field(default_factory=dict)
    server: dict[str, float] = field(default_factory=dict)
    kind: RunKind = "online"
    around: dict[str, dict[str, float]] = field(default_factory=dict)

    def is_same_work_as(self, other: Run) -> bool:
        """Whether both asked for the same: workload and endpoint; neither load nor seed need be equal."""
        return (self.kind, self.workload, self.api) == (other.kind, other.workload, other.api)

    def to_json(self) -> dict[str, Any]:
        """Everything but the raw records."""
        return {
            "format": _FORMAT,
            "id": self.id,
            "kind": self.kind,
            "created": self.created,
            "base_url": self.base_url,
            "model": self.model,
            "api": self.api,
            "workload": self.workload.to_json(),
            "load": self.load.to_json(),
            "limits": self.limits.to_json(),
            "seed": self.seed,
            "figures": self.figures.to_json(),
            "health": self.health.to_json(),
            "partial": self.partial,
            "repeats": self.repeats,
            "tokenizer": self.tokenizer,
            "tags": list(self.tags),
            "note": self.note,
            "about": self.about,
            "server": self.server,
            "around": self.around,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Run:
        """What `to_json` wrote. Raises KeyError, TypeError, UsageError."""
        fields = {key: value for key, value in data.items() if key != "format"}
        fields |= {
            "workload": Workload.from_json(data["workload"]),
            "load": Load.from_json(data["load"]),
            "limits": Limits(**data["limits"]),
            "figures": Figures.from_json(data["figures"]),
            "health": ClientHealth.from_json(data["health"]),
            "tags": tuple(data["tags"]),
        }
        return cls(**fields)


def new_id(at: float | None = None) -> str:
    """A name for a run that begins at this Unix time; they sort by time."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.localtime(at))}-{secrets.token_hex(2)}"


class Ledger:
    """All runs of one user. Its calls read and write files: for a thread, where many runs are concerned."""

    def __init__(self, paths: Paths) -> None:
        self.folder = paths.data / "bench"

    def save(self, run: Run, records: Sequence[Record], series: Series | None = None) -> None:
        """Keep a run, its records, and what was around it. Raises BenchError when the disk does not take them."""
        try:
            private_folder(self.folder)
            _write_packed(self._records(run.id), b"".join(record.pack() for record in records))
            if series is not None and series.at:
                _write_packed(self._series(run.id), json.dumps(series.to_json()).encode())
            self._write(run)
        except OSError as error:
            raise BenchError(
                _("The run could not be kept in {folder}").format(folder=self.folder), error.strerror or str(error)
            ) from None

    def _write(self, run: Run) -> None:
        write_private(self._file(run.id), json.dumps(run.to_json(), ensure_ascii=False, indent=1))

    def list(self) -> Sequence[Run]:
        """All runs, the newest first; files that can't be read are left out."""
        found = []
        for file in sorted(self.folder.glob("*.json"), reverse=True) if self.folder.is_dir() else ():
            try:
                found.append(_read(file))
            except BenchError:
                continue
        return found

    def get(self, name: str) -> Run:
        """The run of this id, or the only one whose id ends or begins so; "last" is the newest.

        Raises UsageError, BenchError.
        """
        ids = sorted(file.stem for file in self.folder.glob("*.json")) if self.folder.is_dir() else []
        if name == "last" and ids:
            return _read(self._file(ids[-1]))
        near = [one for one in ids if one == name or one.endswith(name) or one.startswith(name)]
        if name and (name in ids or len(near) == 1):
            return _read(self._file(name if name in ids else near[0]))
        raise UsageError(
            _("Several runs are called “{name}”").format(name=name)
            if len(near) > 1 and name
            else _("There is no run “{name}”").format(name=name),
            ", ".join(near[:5]),
            _("`qwen-tui bench runs` lists them"),
        )

    def records(self, run: Run) -> Sequence[Record]:
        """A run's raw records. Raises BenchError if they are gone."""
        try:
            return unpack_all(gzip.decompress(self._records(run.id).read_bytes()))[0]
        except (OSError, EOFError, zlib.error) as error:
            raise BenchError(_("The records of {id} can't be read").format(id=run.id), str(error)) from None

    def series(self, run: Run) -> Series:
        """What was around a run, second by second; empty where nothing told. Raises BenchError."""
        try:
            return Series.from_json(json.loads(gzip.decompress(self._series(run.id).read_bytes())))
        except FileNotFoundError:
            return Series()
        except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BenchError(_("What was around {id} can't be read").format(id=run.id), str(error)) from None

    def change(self, run: Run, *, tags: Sequence[str] | None = None, note: str | None = None) -> Run:
        """Give a run other tags or another note; the changed run."""
        changed = replace(run, tags=run.tags if tags is None else tuple(tags), note=run.note if note is None else note)
        self._write(changed)
        return changed

    def delete(self, run: Run) -> None:
        """Forget a run and its records."""
        self._file(run.id).unlink(missing_ok=True)
        self._records(run.id).unlink(missing_ok=True)
        self._series(run.id).unlink(missing_ok=True)

    def _file(self, name: str) -> Path:
        if not _ID.fullmatch(name):
            raise UsageError(_("There is no run “{name}”").format(name=name))
        return self.folder / f"{name}.json"

    def _records(self, name: str) -> Path:
        return self._file(name).with_suffix(".records.gz")

    def _series(self, name: str) -> Path:
        return self._file(name).with_suffix(".series.gz")


def _write_packed(file: Path, data: bytes) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(gzip.compress(data, 5))


def _read(file: Path) -> Run:
    try:
        return Run.from_json(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, UsageError) as error:
        raise BenchError(_("Can't read {file}").format(file=file), str(error)) from None
