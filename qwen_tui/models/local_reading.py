"""Read what the catalogue tells of one model: configuration, weights' headers, chat template, size, what is missing."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qwen_tui.errors import ModelError
from qwen_tui.i18n import _, ngettext
from qwen_tui.logs.plain_text import harmless
from qwen_tui.models.local_cache import TallyCache
from qwen_tui.models.local_folders import Found
from qwen_tui.models.local_gguf import GgufHeader, read_gguf
from qwen_tui.models.local_model import Kind, LocalModel
from qwen_tui.models.local_weights import WeightTally, bits_of, tally_weights
from qwen_tui.models.model_config import ModelConfig, parse_model_config
from qwen_tui.progress import format_bytes

#: Bytes of the largest configuration that is read.
_LARGEST = 4_000_000
_DTYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64"}
_TOKENIZERS = frozenset(
    ("tokenizer.json", "tokenizer.model", "tekken.json", "vocab.json", "vocab.txt", "spiece.model", "qwen.tiktoken",
     "tokenizer.model.v3", "tiktoken.model", "tokenization_chatglm.py")
)  # fmt: skip
_HAS_TEMPLATE = re.compile(rb'"chat_template"\s*:\s*(?!null|""|\[\s*\])')
#: Seconds after writing within which reading is no use: the download checks what it wrote.
_FRESH = 120.0


@dataclass
class _Files:
    """The files of a model: name relative to its folder → what stat says of it, links followed."""

    found: Mapping[str, os.stat_result]
    dangling: tuple[str, ...] = ()
    size: int = 0

    def has(self, name: str) -> bool:
        return name in self.found


@dataclass
class _Facts:
    """What is gathered of a model on the way."""

    files: _Files
    problems: list[str] = field(default_factory=list)
    raw: Mapping[str, Any] = field(default_factory=dict)
    config: ModelConfig | None = None
    tally: WeightTally = field(default_factory=WeightTally)
    kind: Kind = "model"
    gguf: GgufHeader | None = None


def read_model(found: Found, cache: TallyCache, used: Mapping[str, float]) -> LocalModel:
    """The model in `found`. Never raises: whatever is wrong with it is among its problems."""
    try:
        return _read(found, cache, used)
    except Exception as error:  # noqa: BLE001 - one broken model must not cost the list
        problem = _("It can't be read: {error}").format(error=plain(f"{type(error).__name__}: {error}"))
        return LocalModel(plain(found.id), found.path, found.root, found.source, revision=plain(found.revision),
                          problems=(problem,))  # fmt: skip


def plain(text: object, most: int = 200) -> str:
    """`text`, which others wrote, on one line and without anything that acts on a terminal."""
    return harmless(str(text)[:most].replace("\n", " "))


def _read(found: Found, cache: TallyCache, used: Mapping[str, float]) -> LocalModel:
    facts = _Facts(_files(found.path))
    if found.path.suffix == ".gguf":
        _read_gguf(found.path, facts, cache)
    else:
        _read_configuration(found.path, facts)
        _read_weights(found.path, facts, cache)
        _find_unfinished(found, facts)
    config, gguf = facts.config, facts.gguf
    quantization = gguf.file_type if gguf else config.quantization if config else ""
    last_used, is_on_record = _last_use(found, facts.files, used)
    return LocalModel(
        id=plain(found.id),
        path=found.path,
        root=found.root,
        source=found.source,
        kind=facts.kind,
        revision=plain(found.revision),
        config=config,
        weights=facts.tally,
        architecture=_architecture(facts),
        model_type=plain(config.model_type, 60) if config else "",
        dtype=_dtype(facts),
        quantization=plain(quantization, 60),
        bits=bits_of(facts.raw) if quantization else 0,
        context=config.max_length if config and config.length_key else 0,
        has_chat_template=gguf.has_chat_template if gguf else _has_template(found.path, facts.files),
        size=facts.files.size,
        problems=tuple(facts.problems),
        last_used=last_used,
        is_use_on_record=is_on_record,
        modified=max((status.st_mtime for status in facts.files.found.values()), default=0.0),
        base=plain(facts.raw.get("base_model_name_or_path", "")) if facts.kind == "adapter" else "",
    )


def _files(path: Path) -> _Files:
    """Every regular file in the folder, or the .gguf file with its further parts."""
    found: dict[str, os.stat_result] = {}
    dangling: list[str] = []
    for file in _below(path) if path.is_dir() else parts_of(path):
        name = str(file.relative_to(path)) if path.is_dir() else file.name
        try:
            status = file.stat()
        except OSError:
            dangling.append(name)
            continue
        if stat.S_ISREG(status.st_mode):
            found[name] = status
    unique = {(status.st_dev, status.st_ino): _on_disk(name, status) for name, status in found.items()}
    return _Files(found, tuple(sorted(dangling)), sum(unique.values()))


def _on_disk(name: str, status: os.stat_result) -> int:
    """Bytes of a file. Unfinished ones have holes: their length says nothing."""
    return min(status.st_size, 512 * status.st_blocks) if name.endswith(".incomplete") else status.st_size


def _below(folder: Path) -> Iterable[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in (".git", ".cache")]
        for name in names:
            yield Path(parent, name)


def parts_of(path: Path) -> list[Path]:
    """A .gguf file and, where it is the first of several, the further parts."""
    stem, parts, _rest = path.name.partition("-00001-of-")
    return sorted(path.parent.glob(f"{glob_escape(stem)}-?????-of-*.gguf")) if parts else [path]


def glob_escape(text: str) -> str:
    """`text` as a pattern that only matches itself."""
    return re.sub(r"([*?[])", r"[\1]", text)


def _read_json(folder: Path, name: str, facts: _Facts) -> Mapping[str, Any]:
    """The object in a file; {} with a problem noted where there is none."""
    status = facts.files.found.get(name)
    if status is None:
        facts.problems.append(_("{file} is missing").format(file=name))
        return {}
    try:
        data = json.loads((folder / name).read_bytes()) if status.st_size <= _LARGEST else None
    except (OSError, ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        facts.problems.append(_("{file} can't be read").format(file=name))
        return {}
    return data


def _read_configuration(folder: Path, facts: _Facts) -> None:
    if facts.files.has("config.json") or not facts.files.found:
        name = "config.json"
    elif facts.files.has("adapter_config.json"):
        name, facts.kind = "adapter_config.json", "adapter"
    elif facts.files.has("model_index.json"):
        name, facts.kind = "model_index.json", "pipeline"
    else:
        name = "params.json" if facts.files.has("params.json") else "config.json"
    facts.raw = _read_json(folder, name, facts)
    if facts.kind == "model" and facts.raw:
        facts.config = parse_model_config(facts.raw)
    elif facts.kind == "pipeline":
        facts.config = ModelConfig(architectures=(str(facts.raw.get("_class_name", "")),))


def _read_weights(folder: Path, facts: _Facts, cache: TallyCache) -> None:
    if facts.kind == "pipeline":
        return
    # Weights in subfolders (original/, onnx/) are other forms of the same.
    files = {name: status for name, status in facts.files.found.items() if os.sep not in name}
    stamp = cache.stamp({name: status for name, status in files.items() if name.endswith(_WEIGHT_ENDINGS)})
    known = cache.get(folder, stamp)
    if known is not None:
        facts.tally = known
        return
    facts.tally, problems = tally_weights(folder, files, bits_of(facts.raw))
    facts.problems += problems
    if not problems:
        cache.put(folder, stamp, facts.tally)


_WEIGHT_ENDINGS = (".safetensors", ".bin", ".pt", ".pth", ".index.json", "config.json")


def _read_gguf(file: Path, facts: _Facts, cache: TallyCache) -> None:
    try:
        gguf = facts.gguf = cache.gguf(file, facts.files.found, read_gguf)
    except ModelError as error:
        facts.problems.append(f"{error.title}: {error.why}" if error.why else error.title)
        return
    facts.config = parse_model_config(gguf.config)
    parameters, parts = gguf.parameters, len(facts.files.found)
    # A file in parts tells the tensors of its first part only.
    facts.tally = WeightTally("gguf", parts, facts.files.size, parameters if parts == 1 else 0)
    match = re.search(r"-of-(\d{5})\.gguf$", file.name)
    wanted = int(match.group(1)) if match else 1
    if parts < wanted:
        words = ngettext("{count} of {total} parts is missing", "{count} of {total} parts are missing", wanted - parts)
        facts.problems.append(words.format(count=wanted - parts, total=wanted))


def _find_unfinished(found: Found, facts: _Facts) -> None:
    """What a download that was broken off left, links that lead nowhere, no tokenizer."""
    for name in facts.files.dangling[:3]:
        facts.problems.append(_("{file} is missing: its link leads nowhere").format(file=plain(name)))
    unfinished = [_on_disk(name, status) for name, status in facts.files.found.items() if name.endswith(".incomplete")]
    if found.source == "huggingface" and facts.problems:
        blobs = found.root / "blobs"
        unfinished += [_on_disk(file.name, file.stat()) for file in blobs.glob("*.incomplete") if file.is_file()]
    if unfinished:
        words = ngettext(
            "A download was broken off: {count} unfinished file, {size}",
            "A download was broken off: {count} unfinished files, {size}",
            len(unfinished),
        )
        facts.problems.append(words.format(count=len(unfinished), size=format_bytes(sum(unfinished))))
    talks = facts.config is not None and any("CausalLM" in name for name in facts.config.architectures)
    if talks and not facts.problems and not any(name in _TOKENIZERS for name in facts.files.found):
        facts.problems.append(_("There is no tokenizer"))


def _has_template(folder: Path, files: _Files) -> bool:
    if files.has("chat_template.jinja") or files.has("tekken.json"):
        return True
    for name in ("tokenizer_config.json", "chat_template.json", "processor_config.json"):
        status = files.found.get(name)
        if status is not None and status.st_size <= 32_000_000 and _HAS_TEMPLATE.search((folder / name).read_bytes()):
            return True
    return False


def _architecture(facts: _Facts) -> str:
    if facts.gguf is not None:
        return plain(facts.gguf.architecture, 80)
    if facts.kind == "adapter":
        return plain(facts.raw.get("peft_type", "LORA"), 80)
    return plain(facts.config.architectures[0], 80) if facts.config and facts.config.architectures else ""


def _dtype(facts: _Facts) -> str:
    if facts.config is not None and facts.config.dtype:
        return plain(facts.config.dtype, 40)
    return next((_DTYPES[name] for name, _size in facts.tally.dtypes if name in _DTYPES), "")


def _last_use(found: Found, files: _Files, used: Mapping[str, float]) -> tuple[float | None, bool]:
    """When a server last ran it; else when its weights were last read, where the file system notes that."""
    names = {str(found.path), str(found.path.resolve()), found.id}
    starts = [used[name] for name in names if name in used]
    if starts:
        return max(starts), True
    largest = max(files.found.values(), key=lambda status: status.st_size, default=None)
    if largest is None or largest.st_atime <= max(largest.st_mtime, largest.st_ctime) + _FRESH:
        return None, False
    return largest.st_atime, False
