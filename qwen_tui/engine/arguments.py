"""Every argument of an engine's API server, as its own parser declares them.

The engine is asked once (10 s: it imports vLLM); the answer is kept in the cache folder, for as long as the same
version is installed in the same place. `arguments_check` reads a command line against it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from qwen_tui.engine.find import DISTRIBUTIONS, Engine, site_packages
from qwen_tui.errors import EngineError, WorkerError
from qwen_tui.i18n import _
from qwen_tui.paths import Paths, write_private
from qwen_tui.progress import OnProgress, Progress
from qwen_tui.workers.host import run_worker

#: What an argument's text is read as. "other" is a reader of the engine's own that only the engine can apply;
#: "folded text" is one that does not tell - from _ nor capitals from small letters.
Kind = Literal[
    "text", "int", "float", "bool", "truth", "json", "human int", "human int or auto", "text or json", "folded text",
    "other",
]  # fmt: skip
#: Raised when the worker's answer changes its shape, so that older answers are not read.
FORMAT = 3


@dataclass(frozen=True)
class Argument:
    """One argument of the API server.

    names: as typed, such as ("--tensor-parallel-size", "-tp"); empty for a positional one.
    group: the heading under which --help has it. optional: whether the word None is allowed as its value.
    choices: the only values allowed; suggestions: usual values where others are allowed too.
    default: as JSON holds it; a text where it is an object of the engine's.
    nargs: as argparse has it: 0 for a flag, None for one value, "?", "*", "+", a number.
    fields: for a JSON object that refuses unknown keys: its keys, each with its own or None.
    """

    names: tuple[str, ...]
    dest: str
    group: str = ""
    kind: Kind = "text"
    optional: bool = False
    choices: tuple[Any, ...] = ()
    suggestions: tuple[str, ...] = ()
    default: Any = None
    nargs: int | str | None = None
    action: str = "StoreAction"
    help: str = ""
    fields: Mapping[str, Any] | None = None

    @property
    def name(self) -> str:
        """The name to show and to write: the longest form, without the --no- one."""
        positive = [name for name in self.names if not name.startswith("--no-")] or list(self.names)
        return max(positive, key=len, default=self.dest)

    @property
    def is_flag(self) -> bool:
        """Whether it stands alone, without a value."""
        return self.nargs == 0

    @property
    def takes_several(self) -> bool:
        """Whether more than one word can be its value."""
        return self.nargs in ("+", "*") or (isinstance(self.nargs, int) and self.nargs > 0)

    @property
    def is_boolean_optional(self) -> bool:
        """Whether `--no-NAME` turns it off."""
        return self.action == "BooleanOptionalAction"

    @property
    def type_words(self) -> str:
        """What value it takes, in a few words, translated; empty for a flag."""
        if self.is_flag:
            return ""
        if self.choices:
            return " | ".join(map(str, self.choices))
        words = {
            "int": _("whole number"),
            "human int": _("whole number, 1k and 2M allowed"),
            "human int or auto": _("whole number, 1k and 2M allowed, or auto"),
            "float": _("number"),
            "bool": "true | false",
            "json": "JSON",
            "text or json": _("text or JSON"),
        }.get(self.kind, _("text"))
        return _("{type}, several").format(type=words) if self.nargs in ("+", "*") else words

    def to_json(self) -> dict[str, Any]:
        return {
            "names": list(self.names),
            "dest": self.dest,
            "group": self.group,
            "kind": self.kind,
            "optional": self.optional,
            "choices": list(self.choices),
            "suggestions": list(self.suggestions),
            "default": self.default,
            "nargs": self.nargs,
            "action": self.action,
            "help": self.help,
            "fields": self.fields,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Argument:
        """The inverse of to_json. Raises KeyError without names or dest."""
        return cls(
            names=tuple(data["names"]),
            dest=str(data["dest"]),
            group=str(data.get("group", "")),
            kind=cast(Kind, data.get("kind", "text")),
            optional=bool(data.get("optional", False)),
            choices=tuple(data.get("choices", ())),
            suggestions=tuple(map(str, data.get("suggestions", ()))),
            default=data.get("default"),
            nargs=data.get("nargs"),
            action=str(data.get("action", "StoreAction")),
            help=str(data.get("help", "")),
            fields=data.get("fields"),
        )


@dataclass(frozen=True)
class ArgumentSchema:
    """The arguments and the model architectures that one engine knows.

    version: vLLM's. is_flexible: whether its parser takes _ for - in names, and JSON keys by dots (since 0.5).
    architectures: names as in a model's config.json; empty where the engine could not tell.
    """

    version: str
    arguments: tuple[Argument, ...]
    is_flexible: bool = True
    architectures: frozenset[str] = frozenset()

    @property
    def by_name(self) -> dict[str, Argument]:
        """Every name of every argument."""
        return {name: argument for argument in self.arguments for name in argument.names}

    def default_of(self, dest: str) -> Any:
        """The default of the argument whose dest this is; None where there is none."""
        return next((argument.default for argument in self.arguments if argument.dest == dest), None)

    def groups(self) -> dict[str, list[Argument]]:
        """The arguments by group, in the engine's own order; without --help and positional ones."""
        groups: dict[str, list[Argument]] = {}
        for argument in self.arguments:
            if argument.names and argument.action != "HelpAction":
                groups.setdefault(argument.group, []).append(argument)
        return groups

    def search(self, text: str) -> list[Argument]:
        """The arguments that have every word of `text` in name, group, choices or help; by name first."""
        words = [word.replace("_", "-") for word in text.lower().split()]
        found: list[tuple[int, Argument]] = []
        for argument in (one for group in self.groups().values() for one in group):
            names = " ".join(argument.names).lower()
            rest = " ".join([argument.group, argument.help, *map(str, argument.choices)]).lower()
            rest = re.sub(r"[\s_]+", "-", rest)
            if all(word in names for word in words):
                found.append((0, argument))
            elif all(word in names or word in rest for word in words):
                found.append((1, argument))
        return [argument for _rank, argument in sorted(found, key=lambda pair: pair[0])]

    def to_json(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "is_flexible": self.is_flexible,
            "architectures": sorted(self.architectures),
            "arguments": [argument.to_json() for argument in self.arguments],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ArgumentSchema:
        """The inverse of to_json. Raises KeyError or TypeError for anything else."""
        return cls(
            version=str(data["version"]),
            arguments=tuple(Argument.from_json(entry) for entry in data["arguments"]),
            is_flexible=bool(data["is_flexible"]),
            architectures=frozenset(data["architectures"]),
        )

    @classmethod
    def cached(cls, engine: Engine, paths: Paths) -> ArgumentSchema | None:
        """What is known of the engine as it is installed now, in milliseconds; None before the first `load`."""
        try:
            data = json.loads(cache_file(engine, paths).read_text(encoding="utf-8"))
            return cls.from_json(data["schema"]) if data["key"] == _key(engine) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    @classmethod
    async def load(cls, engine: Engine, paths: Paths, on_progress: OnProgress | None = None) -> ArgumentSchema:
        """The arguments of the engine: from the cache, or by asking the engine, which takes 10 to 60 s.

        Raises EngineError if the engine can't tell.
        """
        found = cls.cached(engine, paths)
        return found if found is not None else await _ask(engine, paths, on_progress)


def cache_file(engine: Engine, paths: Paths) -> Path:
    """Where the arguments of the engine at this path are kept."""
    name = hashlib.sha256(str(engine.python).encode("utf-8", "replace")).hexdigest()[:16]
    return paths.cache / "arguments" / f"{name}.json"


def _key(engine: Engine) -> list[Any]:
    """What must be the same for kept arguments to hold."""
    return [FORMAT, str(engine.python), engine.version, *_installed_at(engine.python)]


def _installed_at(python: Path) -> Sequence[int]:
    """When the vLLM of this interpreter was installed, in ns; 0 where nothing says so."""
    for folder in site_packages(python):
        for pattern in (*(f"{name}-*.dist-info" for name in DISTRIBUTIONS), "vllm/_version.py", "vllm/__init__.py"):
            for entry in folder.glob(pattern):
                return [entry.stat().st_mtime_ns]
    return [0]


async def _ask(engine: Engine, paths: Paths, on_progress: OnProgress | None) -> ArgumentSchema:
    def hear(message: dict[str, Any]) -> None:
        if on_progress is not None and message.get("kind") == "progress":
            step = _("Reading the arguments that vLLM {version} takes").format(version=engine.version)
            on_progress(Progress(step, float(message["done"]), float(message["total"]), "items"))

    file = cache_file(engine, paths)
    log = file.with_suffix(".log")
    log.unlink(missing_ok=True)
    key = _key(engine)
    try:
        result = await run_worker(engine.python, "dump_arguments.py", {}, log, hear, {"PYTHONPATH": ""})
    except WorkerError as error:
        raise EngineError(
            _("vLLM at {python} does not say what arguments it takes").format(python=engine.python),
            f"{error.title}: {error.why}" if error.why else error.title,
            _("The whole output is in {log}").format(log=log),
        ) from None
    schema = ArgumentSchema(
        version=str(result.get("vllm", "")) or engine.version,
        arguments=tuple(Argument.from_json(entry) for entry in result["arguments"]),
        is_flexible=result.get("parser") == "FlexibleArgumentParser",
        architectures=frozenset(map(str, result.get("architectures", ()))),
    )
    write_private(file, json.dumps({"key": key, "schema": schema.to_json()}, ensure_ascii=False))
    return schema
