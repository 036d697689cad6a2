"""What the servers on record tell of models: when each was last started, and how large its KV cache really was."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from qwen_tui.errors import QwenTuiError
from qwen_tui.logs.reader import LogReader
from qwen_tui.models.catalogue import Catalogue
from qwen_tui.models.download_queue import Downloads
from qwen_tui.models.fit_box import Measured
from qwen_tui.models.local_model import LocalModel
from qwen_tui.paths import Paths
from qwen_tui.server import registry
from qwen_tui.server.plan_arguments import Choices
from qwen_tui.server.registry import Record
from qwen_tui.server.spec import ServerSpec

#: "GPU KV cache size: 2,085,488 tokens" (0.24), "CPU KV cache size: 46,592 tokens, …" (0.32).
_TOKENS = re.compile(rb"[GC]PU KV cache size: ([\d,]{1,20}) tokens")
#: Bytes at a log's start that are looked through; vLLM prints it before the server is ready.
_START = 2_000_000
#: Arguments that make the cache another than the model's fit reckons: such a start is no measure for it.
_OTHERWISE = (
    "--kv-cache-dtype", "--kv-cache-memory-bytes", "--num-gpu-blocks-override", "--pipeline-parallel-size",
    "--quantization", "--cpu-offload-gb", "--block-size", "--max-num-batched-tokens", "--max-num-seqs",
    "--hf-overrides",
)  # fmt: skip


@dataclass(frozen=True)
class ModelRecords:
    """used: a model as a server was given it (path or id) → Unix time of the last start on it.

    measured: the same → what its starts printed, the latest first. in_use: what living servers run on, and the folders
    that downloads go into now. serving: a model as above → the names of the living servers on it.
    folders: caches that downloads went into besides the hubs' own.
    """

    used: Mapping[str, float] = field(default_factory=dict)
    measured: Mapping[str, tuple[Measured, ...]] = field(default_factory=dict)
    in_use: tuple[Path, ...] = ()
    folders: tuple[Path, ...] = ()
    serving: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def catalogue(self, paths: Paths, folders: Sequence[str | Path] = ()) -> Catalogue:
        """The models on this machine, those in `folders` (the setting model_folders) and in these records' too."""
        return Catalogue(paths, (*map(Path, folders), *self.folders), self.used)

    def measured_for(self, model: LocalModel) -> tuple[Measured, ...]:
        """What real starts of this model printed, by its path or its id."""
        found = [start for name in _names(model) for start in self.measured.get(name, ())]
        return tuple(sorted(found, key=lambda start: start.at, reverse=True))

    def servers_of(self, model: LocalModel) -> tuple[str, ...]:
        """The names of the living servers that run it, starting ones too."""
        return tuple(sorted(server for name in _names(model) for server in self.serving.get(name, ())))


def _names(model: LocalModel) -> set[str]:
    """What a server may have been given to run `model`."""
    return {str(model.path), str(model.path.resolve()), model.id}


def read_model_records(paths: Paths) -> ModelRecords:
    """What is on record now; blocking, some milliseconds a server."""
    used: dict[str, float] = {}
    measured: dict[str, list[Measured]] = {}
    in_use: list[Path] = []
    serving: dict[str, tuple[str, ...]] = {}
    for record in registry.read_all(paths.servers):
        spec, at = record.spec, record.started_at or 0.0
        used[spec.model] = max(at, used.get(spec.model, 0.0))
        if record.server_is_alive or record.kept:
            in_use.append(Path(spec.model))
            serving[spec.model] = (*serving.get(spec.model, ()), spec.name)
        start = _measured(record, spec, at)
        if start is not None:
            measured.setdefault(spec.model, []).append(start)
    ordered = {name: tuple(sorted(starts, key=lambda one: one.at, reverse=True)) for name, starts in measured.items()}
    downloads = Downloads(paths).list()
    in_use += [state.folder for state in downloads if state.folder is not None and state.status.is_alive]
    folders = {state.request.cache for state in downloads if state.request.cache_dir}
    return ModelRecords(used, ordered, tuple(in_use), tuple(sorted(folders)), serving)


def _measured(record: Record, spec: ServerSpec, at: float) -> Measured | None:
    choices = Choices.of(spec, environment={})
    if any(choices.has(name) for name in _OTHERWISE):
        return None
    tokens = kv_cache_tokens(record.log)
    if not tokens:
        return None
    share = choices.real("--gpu-memory-utilization", 0.0)
    space = choices.variable("VLLM_CPU_KVCACHE_SPACE")
    return Measured(
        tokens=tokens,
        at=at,
        tensor=max(1, choices.number("--tensor-parallel-size", 1)),
        max_model_len=spec.max_model_len,
        utilization=share or None,
        cpu_space=int(space) if space.isdecimal() else 0,
        engine=str(record.launch.get("engine", {}).get("version", "")),
    )


def kv_cache_tokens(log: Path) -> int:
    """The size of the KV cache that the log tells, in tokens; 0 where it tells none. Of several starts the last's."""
    try:
        with LogReader(log).snapshot() as snapshot:
            text = snapshot.read(snapshot.start, snapshot.start + _START)
    except (OSError, QwenTuiError):
        return 0
    found: Sequence[bytes] = _TOKENS.findall(text)
    digits = found[-1].replace(b",", b"") if found else b""
    return int(digits) if digits else 0
