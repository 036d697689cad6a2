"""A model on this machine, as the catalogue lists it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from qwen_tui.i18n import N_
from qwen_tui.models.local_weights import WeightTally
from qwen_tui.models.model_config import ModelConfig

#: Whose folder layout it lies in: a hub's cache, qwen-tui's own folder, or just a folder.
Source = Literal["modelscope", "huggingface", "qwen-tui", "folder"]
#: "model" can be served. An "adapter" (LoRA) is served on top of another model. A "pipeline" (diffusers) can't be.
Kind = Literal["model", "adapter", "pipeline"]

SOURCE_WORDS: Mapping[str, str] = {
    "modelscope": "ModelScope",
    "huggingface": "Hugging Face",
    "qwen-tui": "qwen-tui",
    "folder": N_("folder"),
}


@dataclass(frozen=True)
class LocalModel:
    """One model on this machine; one revision of it, where a cache holds several.

    id: owner/name in a hub's cache, else the folder's (or the .gguf file's) name; harmless to print.
    path: what vLLM is given: the folder with config.json, or a .gguf file.
    root: what deleting or moving is about: the repository's folder in the cache that `path` is in, else `path`.
    revision: the snapshot's name or commit; empty outside such caches.
    config: None where config.json is missing or can't be read (and for a .gguf file, which has its own).
    weights: what the weight files hold, from their headers.
    architecture, model_type, dtype, quantization: as config.json (or the .gguf header) says; empty where it does not.
    bits: of one quantized parameter; 0 for plain weights, or where nothing says it.
    context: tokens, as vLLM derives them; 0 if unknown.
    size: bytes on disk of this revision, a file that is linked twice counted once.
    problems: what is missing or damaged, a translated sentence each; empty for a model that is whole.
    last_used: Unix time of the last start of a server on it; where none is on record, the time the weights were last
    read, if the file system keeps that, and `is_use_on_record` is False.
    base: of an adapter, the model it was made for.
    """

    id: str
    path: Path
    root: Path
    source: Source
    kind: Kind = "model"
    revision: str = ""
    config: ModelConfig | None = None
    weights: WeightTally = field(default_factory=WeightTally)
    architecture: str = ""
    model_type: str = ""
    dtype: str = ""
    quantization: str = ""
    bits: int = 0
    context: int = 0
    has_chat_template: bool = False
    size: int = 0
    problems: tuple[str, ...] = ()
    last_used: float | None = None
    is_use_on_record: bool = False
    modified: float = 0.0
    base: str = ""

    @property
    def parameters(self) -> int | None:
        """How many parameters, packed (quantized) ones unpacked; None where the files don't say (*.bin)."""
        return self.weights.parameters or None

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing, as far as sizes and headers tell; bytes are checked by `verify`."""
        return not self.problems

    @property
    def name(self) -> str:
        """The last part of the id."""
        return self.id.rsplit("/", 1)[-1]

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "path": str(self.path),
            "root": str(self.root),
            "source": self.source,
            "kind": self.kind,
            "revision": self.revision,
            "architecture": self.architecture,
            "model_type": self.model_type,
            "parameters": self.parameters,
            "dtype": self.dtype,
            "quantization": self.quantization,
            "bits": self.bits,
            "context": self.context,
            "chat_template": self.has_chat_template,
            "size": self.size,
            "weights_size": self.weights.size,
            "whole": self.is_whole,
            "problems": list(self.problems),
            "last_used": self.last_used,
            "last_used_on_record": self.is_use_on_record,
            "modified": self.modified,
            "base": self.base,
        }
