"""The header of a .gguf file: architecture, shape, context, chat template, type of the weights.

Format: "GGUF", version, count of tensors, count of entries, the entries (key, type, value), the tensors (name, shape,
type, offset). Source: the GGUF specification, version 3, of ggml.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qwen_tui.errors import ModelError
from qwen_tui.i18n import _
from qwen_tui.models.safetensors_header import damaged, open_quietly

#: Bytes of the file that are looked at; a vocabulary of 250,000 words takes about 12 MB.
_MOST = 64_000_000
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
#: Number of a file type → its name. Source: enum llama_ftype, llama.h.
_FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M",
    13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS",
    21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S",
    29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4",
}  # fmt: skip


@dataclass(frozen=True)
class GgufHeader:
    """architecture: such as "qwen2". file_type: such as "Q4_K_M". parameters: elements of all tensors.

    has_chat_template: whether one is in the file. config: the shape under config.json's names, for parse_model_config.
    """

    architecture: str
    file_type: str
    parameters: int
    has_chat_template: bool
    config: Mapping[str, Any] = field(default_factory=dict)


class _Reader:
    """Reads values one after the other; struct.error beyond the end."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def number(self, code: str) -> Any:
        size = struct.calcsize("<" + code)
        (value,) = struct.unpack_from("<" + code, self.data, self.at)
        self.at += size
        return value

    def text(self) -> bytes:
        length = self.number("Q")
        if length > len(self.data) - self.at:
            raise struct.error("text")
        self.at += length
        return self.data[self.at - length : self.at]

    def value(self, kind: int) -> Any:
        """A value; of an array its length, or its largest number."""
        if kind == _STRING:
            return self.text()
        if kind != _ARRAY:
            return self.number(_SCALARS[kind])
        inner, count = self.number("I"), self.number("Q")
        if inner in _SCALARS:
            code = _SCALARS[inner]
            size = struct.calcsize("<" + code) * count
            if size > len(self.data) - self.at:
                raise struct.error("array")
            # One number a layer; longer ones are scores of the vocabulary.
            found = max(struct.unpack_from(f"<{count}{code}", self.data, self.at)) if 0 < count <= 4096 else count
            self.at += size
            return found
        unpack, at, end = struct.Struct("<Q").unpack_from, self.at, len(self.data)
        for _number in range(count):
            if inner == _STRING:
                at += 8 + unpack(self.data, at)[0]
            else:
                raise struct.error("array of arrays")
            if at > end:
                raise struct.error("array")
        self.at = at
        return count


def read_gguf(file: Path) -> GgufHeader:
    """The header of `file`. Raises ModelError if it is damaged or no such file."""
    try:
        with open_quietly(file) as stream:
            data = stream.read(min(_MOST, 1 << 20))
            if data[:4] != b"GGUF":
                raise damaged(file, _("it is no GGUF file"))
            try:
                return _parse(data)
            except struct.error:
                return _parse(data + stream.read(_MOST - len(data)))
    except OSError as error:
        raise ModelError(_("Can't read {file}").format(file=file.name), str(error)) from None
    except (struct.error, KeyError, ValueError, OverflowError, MemoryError):
        raise damaged(file, _("its header can't be read")) from None


def _parse(data: bytes) -> GgufHeader:
    reader = _Reader(data)
    reader.at = 4
    if reader.number("I") not in (2, 3):
        raise ValueError("version")
    tensors, entries = reader.number("Q"), reader.number("Q")
    if tensors > 1_000_000 or entries > 100_000:
        raise ValueError("counts")
    found: dict[str, Any] = {}
    for _entry in range(entries):
        key = reader.text().decode("utf-8", "replace")
        found[key] = reader.value(reader.number("I"))
    parameters, has_output = 0, False
    for _tensor in range(tensors):
        has_output |= reader.text() == b"output.weight"
        shape = [reader.number("Q") for _dimension in range(min(8, reader.number("I")))]
        parameters += math.prod(shape)
        reader.at += 12
    architecture = _word(found.get("general.architecture"))
    number = found.get("general.file_type")
    return GgufHeader(
        architecture,
        _FILE_TYPES.get(number, "") if isinstance(number, int) else "",
        parameters,
        bool(found.get("tokenizer.chat_template")),
        _config(found, architecture, is_tied=not has_output),
    )


def _word(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""


def _config(found: Mapping[str, Any], architecture: str, *, is_tied: bool) -> dict[str, Any]:
    names = {
        "block_count": "num_hidden_layers",
        "embedding_length": "hidden_size",
        "feed_forward_length": "intermediate_size",
        "attention.head_count": "num_attention_heads",
        "attention.head_count_kv": "num_key_value_heads",
        "attention.key_length": "head_dim",
        "attention.kv_lora_rank": "kv_lora_rank",
        "rope.dimension_count": "qk_rope_head_dim",
        "attention.sliding_window": "sliding_window",
        "context_length": "max_position_embeddings",
        "expert_count": "num_experts",
        "expert_used_count": "num_experts_per_tok",
        "expert_feed_forward_length": "moe_intermediate_size",
        "vocab_size": "vocab_size",
    }
    config = {
        ours: found[f"{architecture}.{theirs}"] for theirs, ours in names.items() if f"{architecture}.{theirs}" in found
    }
    config.setdefault("vocab_size", found.get("tokenizer.ggml.tokens", 0))
    return {**config, "model_type": architecture, "tie_word_embeddings": is_tied}
