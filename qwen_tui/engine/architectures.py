"""Which model architectures an engine knows, read off its sources: no import, some milliseconds.

The cached answer of the engine itself (`ArgumentSchema.architectures`) is better, since plugins add to it; this
one is there before the engine was ever asked.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from qwen_tui.engine.find import Engine, site_packages

#: Where vLLM has its tables: since 0.5.5, and before.
_REGISTRIES = ("vllm/model_executor/models/registry.py", "vllm/model_executor/models/__init__.py")
_TABLE = re.compile(r"_(\w+_)?MODELS")
#: Tables of what is not there.
_ABSENT = ("_PREVIOUSLY_SUPPORTED_MODELS", "_OOT_SUPPORTED_MODELS", "_ROCM_UNSUPPORTED_MODELS")


@dataclass(frozen=True)
class Architectures:
    """known: names that can be served. removed: name → the last vLLM that had it.

    has_fallback: whether models that only transformers knows are served through it.
    """

    known: frozenset[str]
    removed: Mapping[str, str]
    has_fallback: bool


def read_architectures(engine: Engine) -> Architectures | None:
    """The engine's tables; None if they can't be found."""
    for folder in site_packages(engine.python):
        for name in _REGISTRIES:
            found = _read_tables(folder / name)
            if found is not None:
                return found
    return None


def transformers_has(engine: Engine, architecture: str) -> bool:
    """Whether the engine's transformers comes with that architecture."""
    for folder in site_packages(engine.python):
        try:
            text = (folder / "transformers/models/auto/modeling_auto.py").read_text(encoding="utf-8")
        except OSError:
            continue
        return f'"{architecture}"' in text
    return False


def _read_tables(file: Path) -> Architectures | None:
    try:
        module = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return None
    known: set[str] = set()
    removed: dict[str, str] = {}
    for statement in module.body:
        target = statement.targets[0] if isinstance(statement, ast.Assign) else getattr(statement, "target", None)
        value = getattr(statement, "value", None)
        if not (isinstance(target, ast.Name) and isinstance(value, ast.Dict) and _TABLE.fullmatch(target.id)):
            continue
        entries = {
            key.value: entry
            for key, entry in zip(value.keys, value.values, strict=True)
            if isinstance(key, ast.Constant) and isinstance(key.value, str)
        }
        if target.id == "_PREVIOUSLY_SUPPORTED_MODELS":
            removed = {name: str(getattr(entry, "value", "")) for name, entry in entries.items()}
        elif target.id not in _ABSENT:
            known.update(entries)
    return Architectures(frozenset(known), removed, "TransformersForCausalLM" in known) if known else None
