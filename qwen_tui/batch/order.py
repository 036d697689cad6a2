"""What a batch is to do: its input, its output, and how the answers are drawn."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from qwen_tui.batch.words import input_error
from qwen_tui.errors import UsageError
from qwen_tui.i18n import _
from qwen_tui.workers.batch_rows import KINDS, InputError, kind_of, read_rows, survey

Format = Literal["rows", "openai"]
#: The most tokens of an answer where nothing else is asked for: nobody wants a million rows without an end.
DEFAULT_MAX_TOKENS = 512
#: Arguments of the engine that change how fast it answers, and not what: a batch may go on with others.
_ONLY_SPEED = (
    "gpu_memory_utilization", "tensor_parallel_size", "pipeline_parallel_size", "max_num_seqs", "enforce_eager",
    "max_num_batched_tokens", "swap_space", "cpu_offload_gb", "kv_cache_memory_bytes", "block_size", "model",
    "enable_prefix_caching", "enable_chunked_prefill", "disable_log_stats", "download_dir", "load_format", "tp",
)  # fmt: skip


@dataclass(frozen=True)
class BatchInput:
    """A file of prompts. kind: "text", "jsonl" or "csv". column: of a CSV file, empty for "prompt" or the only one.

    size: bytes. mtime_ns: when it was changed. sha256: lower-case hex. lines: those that are not empty, the heading of
    a CSV file left out.
    """

    path: Path
    kind: str
    column: str
    size: int
    mtime_ns: int
    sha256: str
    lines: int

    def to_json(self) -> dict[str, Any]:
        """The fields, for a file."""
        return {**asdict(self), "path": str(self.path)}


@dataclass(frozen=True)
class ServerTarget:
    """A running server to ask. concurrency: requests at once. retries: of one request that the server refused for now.

    patience: seconds without any answer after which the server counts as gone.
    """

    base_url: str
    api_key: str | None = field(default=None, repr=False)
    concurrency: int = 32
    retries: int = 6
    patience: float = 120.0


@dataclass(frozen=True)
class BatchOrder:
    """One batch.

    model: a folder or a hub id; with `server` the name that the server knows. output: a JSON lines file, that also
    says what is done. format: "rows" (id, prompt, text, tokens, times) or "openai" (OpenAI's batch output).
    sampling: fields of SamplingParams, or of the request's body with `server`. chat: raw prompts go through the chat
    template. arguments: the engine's, as on a command line, without --model. env: variables for the engine.
    overwrite: begin anew, whatever the output holds.
    """

    model: str
    input: BatchInput
    output: Path
    format: Format = "rows"
    sampling: Mapping[str, Any] = field(default_factory=dict)
    chat: bool = False
    system: str = ""
    chat_template: str = ""
    lora: str = ""
    arguments: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    server: ServerTarget | None = None
    overwrite: bool = False

    @property
    def errors(self) -> Path:
        """Where the rows without an answer go: results.jsonl → results.errors.jsonl."""
        return self.output.with_name(f"{self.output.stem}.errors.jsonl")

    @property
    def marker(self) -> Path:
        """Beside the output: what the batch was made of, so that another is not mixed into it."""
        return self.output.with_name(f".{self.output.name}.batch")

    def fingerprint(self) -> dict[str, str]:
        """What must be the same for a batch to go on; texts by name."""
        sampling = {"max_tokens": DEFAULT_MAX_TOKENS, **self.sampling}
        return {
            "input": self.input.sha256,
            "column": self.input.column,
            "model": self.model,
            "format": self.format,
            "through": "server" if self.server is not None else "engine",
            "chat": json.dumps([self.chat, self.system if self.chat else "", _file_hash(self.chat_template)]),
            "lora": self.lora,
            **{f"sampling.{name}": json.dumps(value, sort_keys=True) for name, value in sorted(sampling.items())},
            "arguments": " ".join(_weighty(self.arguments)),
        }

    def to_json(self) -> dict[str, Any]:
        """What the worker reads; without the key."""
        server = None
        if self.server is not None:
            server = {name: value for name, value in asdict(self.server).items() if name != "api_key"}
        return {
            "model": self.model,
            "input": self.input.to_json(),
            "output": str(self.output),
            "errors": str(self.errors),
            "format": self.format,
            "sampling": {"max_tokens": DEFAULT_MAX_TOKENS, **self.sampling},
            "chat": self.chat,
            "system": self.system,
            "chat_template": self.chat_template,
            "lora": self.lora,
            "arguments": ["--model", self.model, *self._lora_words(), *self.arguments],
            "server": server,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], env: Mapping[str, str], api_key: str | None = None) -> BatchOrder:
        """The inverse of `to_json`, with the input as it is now. Reads it. Raises UsageError, KeyError, TypeError."""
        given = data["input"]
        server = data.get("server")
        return cls(
            model=data["model"],
            input=read_input(Path(given["path"]), given["kind"], given["column"]),
            output=Path(data["output"]),
            format=data["format"],
            sampling=data["sampling"],
            chat=data["chat"],
            system=data["system"],
            chat_template=data["chat_template"],
            lora=data["lora"],
            arguments=tuple(word for word in data["arguments"][2:] if not (data["lora"] and word == "--enable-lora")),
            env=env,
            server=ServerTarget(**server, api_key=api_key) if server else None,
        )

    def _lora_words(self) -> list[str]:
        return ["--enable-lora"] if self.lora and "--enable-lora" not in self.arguments else []


def _file_hash(path: str) -> str:
    if not path:
        return ""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(_("Can't read {file}").format(file=path), str(error)) from None


def _weighty(words: Sequence[str]) -> list[str]:
    """The arguments that may change what the engine answers."""
    kept: list[str] = []
    keep = True
    for word in words:
        if word.startswith("-") and not word[1:2].isdigit():
            name = word.lstrip("-").split("=")[0].replace("-", "_").removeprefix("no_")
            keep = name not in _ONLY_SPEED
        if keep:
            kept.append(word)
    return kept


def read_input(path: Path, kind: str = "", column: str = "") -> BatchInput:
    """The input at `path`, read through once: about a second for each GB. Raises UsageError."""
    path = path.expanduser().resolve()
    kind = kind or kind_of(str(path))
    if kind not in KINDS:
        raise UsageError(_("An input is one of {kinds}, not {kind}").format(kinds=", ".join(KINDS), kind=kind))
    try:
        found = survey(str(path), kind)
        if kind == "csv":
            next(read_rows(str(path), kind, column), None)  # whether the column is there
    except InputError as error:
        raise input_error(error.code, error.detail, path) from None
    if not found["lines"]:
        raise UsageError(_("{path} has no prompts").format(path=path), _("Every line of it is empty"))
    return BatchInput(path, kind, column, **found)
