"""What a specification asks of the engine, read off its words; and changes of a specification.

Knows only the arguments that a plan looks at, so that it needs no list of the engine's.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from qwen_tui.engine.arguments import ArgumentSchema
from qwen_tui.engine.arguments_check import read_whole_number
from qwen_tui.server.spec import ServerSpec

_SHORT: Mapping[str, str] = {
    "-tp": "--tensor-parallel-size",
    "-pp": "--pipeline-parallel-size",
    "-dp": "--data-parallel-size",
    "-q": "--quantization",
    "-n": "--nnodes",
}
#: Those that stand without a value.
_FLAGS = (
    "--enforce-eager", "--trust-remote-code", "--skip-tokenizer-init", "--enable-lora", "--enable-expert-parallel",
    "--enable-chunked-prefill", "--enable-prefix-caching", "--enable-auto-tool-choice", "--disable-log-stats",
)  # fmt: skip


@dataclass(frozen=True)
class Choices:
    """The arguments and variables that a server will get.

    given: argument → its value ("" for a flag), by its long name with dashes; of several the last.
    environment: this process's variables with the specification's over them.
    """

    given: Mapping[str, str]
    environment: Mapping[str, str]
    schema: ArgumentSchema | None = None

    @classmethod
    def of(
        cls, spec: ServerSpec, schema: ArgumentSchema | None = None, environment: Mapping[str, str] | None = None
    ) -> Choices:
        environment = os.environ if environment is None else environment
        given: dict[str, str] = {}
        for name, value, _first, _end in _scan(spec.extra_args):
            if name.startswith("--no-") and f"--{name[5:]}" in _FLAGS:
                given.pop(f"--{name[5:]}", None)
            else:
                given[name] = value
        return cls(given, {**environment, **spec.env}, schema)

    def has(self, name: str) -> bool:
        return name in self.given

    def text(self, name: str, default: str = "") -> str:
        return self.given.get(name, default)

    def number(self, name: str, default: int) -> int:
        """A whole number; the engine's default where it is known, else `default`; also for one that can't be read."""
        try:
            return read_whole_number(self.given[name]) if name in self.given else int(self._default(name, default))
        except (ValueError, TypeError):
            return default

    def real(self, name: str, default: float) -> float:
        try:
            return float(self.given[name]) if name in self.given else float(self._default(name, default))
        except (ValueError, TypeError):
            return default

    def variable(self, name: str) -> str:
        return self.environment.get(name, "").strip()

    def is_on(self, name: str) -> bool:
        """Whether an environment variable says yes."""
        return self.variable(name).lower() in ("1", "true", "yes", "on")

    def _default(self, name: str, default: Any) -> Any:
        found = self.schema.default_of(name[2:].replace("-", "_")) if self.schema is not None else None
        return default if found is None else found


@dataclass(frozen=True)
class Change:
    """A change of a specification that heeds a line of the plan.

    label: what it does, a few translated words. fields: of ServerSpec. flags: arguments of the engine, None takes one
    away. env: variables to set.
    """

    label: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    flags: Mapping[str, str | None] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)

    def apply(self, spec: ServerSpec) -> ServerSpec:
        """`spec` with the change made."""
        words = list(self.fields.get("extra_args", spec.extra_args))
        for name, value in self.flags.items():
            words = _without(words, name)
            if value is not None:
                words += [name, value] if value else [name]
        changed = {**self.fields, "extra_args": tuple(words), "env": {**spec.env, **self.env}}
        return dataclasses.replace(spec, **changed)

    def to_json(self) -> dict[str, Any]:
        return {
            "label": self.label,
            "fields": dict(self.fields),
            "flags": dict(self.flags),
            "env": dict(self.env),
        }


def version_of(text: str) -> tuple[int, int]:
    """(0, 24) for "0.24.1+cu128"; (999, 0), newer than all, for what is no version (a build from the sources)."""
    match = re.match(r"(\d+)\.(\d+)", text)
    return (int(match.group(1)), int(match.group(2))) if match else (999, 0)


def _scan(words: Sequence[str]) -> list[tuple[str, str, int, int]]:
    """(name, value, first word, word after) of every argument. A value is one word; further ones belong to none."""
    found = []
    position = 0
    while position < len(words):
        first, word = position, words[position]
        position += 1
        if not word.startswith("-") or re.match(r"-\d", word):
            continue
        name, equals, value = word.partition("=")
        name = _SHORT.get(name, name)
        if name.startswith("--"):
            name = "--" + name[2:].partition(".")[0].replace("_", "-") + "".join(name[2:].partition(".")[1:])
        follows = position < len(words) and (not words[position].startswith("-") or re.match(r"-\d", words[position]))
        if not equals and follows and name not in _FLAGS:
            value = words[position]
            position += 1
        found.append((name, value, first, position))
    return found


def _without(words: list[str], name: str) -> list[str]:
    kept = list(words)
    for found, _value, first, end in reversed(_scan(words)):
        if found == name:
            del kept[first:end]
    return kept
