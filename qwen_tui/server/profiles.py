"""Profiles: what to serve and how, as it is kept for later; and flags as words of a command line.

`profile_files` keeps them; those that ship with the program are in `starters`.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qwen_tui.errors import UsageError
from qwen_tui.i18n import _
from qwen_tui.server.spec import (
    API_SERVER_MODULE,
    FIELD_ARGUMENTS,
    FieldError,
    RestartPolicy,
    ServerSpec,
    is_secret,
    parse_spec,
)

#: One value of a flag; true is a flag that stands alone, a list gives several values.
FlagValue = bool | int | float | str | list[Any]
RESTART_POLICIES: tuple[RestartPolicy, ...] = ("no", "on-failure")
MODELSCOPE = "VLLM_USE_MODELSCOPE"
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Profile:
    """A server as it is kept for later.

    name: of its file, without the ending. description: one line. engine: an interpreter or environment, "" for the
    usual one. idle_minutes: of no use after which it is ended; 0: never. flags: the server's arguments by name
    without the dashes, `--model` left out; see FlagValue.
    is_starter: whether it ships with the program; such a one has no file, and its description is a msgid.
    """

    name: str
    model: str = ""
    description: str = ""
    engine: str = ""
    restart: RestartPolicy = "no"
    idle_minutes: int = 0
    flags: Mapping[str, FlagValue] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    is_starter: bool = False

    @property
    def uses_modelscope(self) -> bool:
        return self.environment.get(MODELSCOPE, "").lower() in ("1", "true")

    def words(self) -> list[str]:
        """The flags as words of a command line."""
        return [word for name, value in self.flags.items() for word in words_of(name, value)]

    def form_fields(self) -> dict[str, str]:
        """The texts of a form: those that `parse_spec` reads. An empty name lets one be made from the model."""
        fields = {"model": self.model}
        extra: list[str] = []
        for name, value in self.flags.items():
            own = FIELD_ARGUMENTS.get(f"--{name}")
            if own is not None and not isinstance(value, (bool, list)):
                fields[own] = str(value)
            else:
                extra += words_of(name, value)
        return {**fields, "extra_args": shlex.join(extra)}

    def spec(self, changes: Mapping[str, str] | None = None, taken: Sequence[str] = ()) -> ServerSpec:
        """The server it describes. changes: form fields that take the place of its own.

        Raises FieldError for what is wrong, such as a model that is not there.
        """
        spec = parse_spec({**self.form_fields(), **(changes or {})}, taken)
        return dataclasses.replace(
            spec, env=dict(self.environment), restart=self.restart, idle_minutes=self.idle_minutes or None
        )

    def shell_command(self, python: Path | str = "python") -> str:
        """Lines for a shell that start the server. A secret is taken from the shell's own variable of that name."""
        lines = []
        for name, value in sorted(self.environment.items()):
            text = f'"${name}"' if is_secret(name) else shlex.quote(value)
            lines.append(f"{name}={text}")
        lines.append(shlex.join([str(self.engine_python or python), "-m", API_SERVER_MODULE, "--model", self.model]))
        lines += [shlex.join(words_of(name, value)) for name, value in self.flags.items()]
        return " \\\n  ".join(line for line in lines if line)

    @property
    def engine_python(self) -> str:
        """The interpreter of its engine, if it names one."""
        if not self.engine:
            return ""
        path = Path(self.engine).expanduser()
        return str(path / "bin" / "python" if path.is_dir() else path)

    def to_json(self) -> dict[str, Any]:
        """Everything but the secrets' values."""
        environment = {name: "***" if is_secret(name) else value for name, value in self.environment.items()}
        return {
            "name": self.name,
            "description": _(self.description) if self.is_starter else self.description,
            "model": self.model,
            "engine": self.engine,
            "restart": self.restart,
            "idle_minutes": self.idle_minutes,
            "flags": dict(self.flags),
            "environment": environment,
            "starter": self.is_starter,
        }

    @classmethod
    def of_spec(cls, name: str, spec: ServerSpec, engine: str = "") -> Profile:
        """The profile that gives `spec` again."""
        words = spec.argv("python")[5:]  # behind: python -m MODULE --model MODEL
        return cls(name, spec.model, "", engine, spec.restart, spec.idle_minutes or 0, flags_of(words), dict(spec.env))


def words_of(name: str, value: FlagValue) -> list[str]:
    """One flag as words of a command line; a list of lists is given several times."""
    flag = name if name.startswith("-") else f"--{name}"
    if value is True:
        return [flag]
    if value is False:
        return [f"--no-{name}"]
    if isinstance(value, list):
        if value and all(isinstance(entry, list) for entry in value):
            return [word for entry in value for word in words_of(name, entry)]
        return [flag, *map(str, value)]
    text = str(value)
    # A value that begins with a dash would be taken for a flag.
    return [f"{flag}={text}"] if text.startswith("-") else [flag, text]


def flags_of(words: Sequence[str]) -> dict[str, FlagValue]:
    """The inverse: words of a command line as flags. Raises UsageError for a word that belongs to none."""
    found: dict[str, list[list[str]]] = {}
    values: list[str] | None = None
    for word in words:
        if word.startswith("-") and not re.match(r"-\.?\d", word):
            name, equals, value = word.partition("=")
            values = [value] if equals else []
            found.setdefault(_key(name), []).append(values)
        elif values is None:
            raise UsageError(_("“{word}” belongs to no argument").format(word=word))
        else:
            values.append(word)
    return {name: _merged(uses) for name, uses in found.items()}


def _key(name: str) -> str:
    if not name.startswith("--"):
        return name
    head, dot, keys = name[2:].partition(".")
    return head.replace("_", "-") + dot + keys


def _merged(uses: list[list[str]]) -> FlagValue:
    if len(uses) > 1 and any(uses):
        return [[_value(text) for text in use] for use in uses]
    values = [_value(text) for text in uses[0]]
    if not values:
        return True
    return values[0] if len(values) == 1 else values


def _value(text: str) -> int | float | str:
    """A number where the text can be had back from it exactly."""
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        if str(number) == text and re.fullmatch(r"-?[\d.]+", text):
            return number
    return text


def read_environment(text: str) -> dict[str, str]:
    """Variables out of a line: `A=1 B="two words"`. Raises FieldError of the field "environment"."""
    environment = {}
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise FieldError("environment", _("Environment: {error}").format(error=error)) from None
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not VARIABLE.fullmatch(name):
            raise FieldError("environment", _("Environment: NAME=VALUE is needed, not “{word}”").format(word=word))
        environment[name] = value
    return environment


def write_environment(environment: Mapping[str, str]) -> str:
    """The inverse of read_environment."""
    return " ".join(f"{name}={shlex.quote(value)}" for name, value in sorted(environment.items()))
