"""What server to run: the choices a person makes, and the exact command they amount to."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from qwen_tui.errors import UsageError
from qwen_tui.i18n import _

API_SERVER_MODULE = "vllm.entrypoints.openai.api_server"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
RestartPolicy = Literal["no", "on-failure"]


@dataclass(frozen=True)
class ServerSpec:
    """One server as a person asked for it.

    name: names it among this user's servers; letters, digits, '.', '_', '-'.
    model: a model folder or a hub id, as vLLM's --model takes it.
    served_model_name: what clients ask for; empty means vLLM's default (the model itself).
    max_model_len: tokens of context; None leaves it to vLLM.
    chat_template: a path to a Jinja file, or a template's name; empty means the model's own.
    extra_args: further arguments, already split as a shell splits them.
    env: environment variables added to the server's.
    restart: whether the keeper starts it again after a failure.
    idle_minutes: the keeper ends it when nobody has used it for so long; None: never.
    """

    name: str
    model: str
    served_model_name: str = ""
    host: str = "127.0.0.1"
    port: int = 8000
    max_model_len: int | None = None
    chat_template: str = ""
    extra_args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    restart: RestartPolicy = "no"
    idle_minutes: int | None = None

    @property
    def is_loopback(self) -> bool:
        return self.host in LOOPBACK

    @property
    def base_url(self) -> str:
        """The URL of the OpenAI API for a client on this machine, without a trailing slash: http://127.0.0.1:8000/v1."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/v1"

    def argv(self, python: Path | str) -> list[str]:
        """The command, word by word, under the engine's interpreter `python`."""
        words = [str(python), "-m", API_SERVER_MODULE, "--model", self.model]
        if self.served_model_name:
            words += ["--served-model-name", self.served_model_name]
        words += ["--host", self.host, "--port", str(self.port)]
        if self.max_model_len is not None:
            words += ["--max-model-len", str(self.max_model_len)]
        if self.chat_template:
            words += ["--chat-template", self.chat_template]
        return [*words, *self.extra_args]

    def shell_command(self, python: Path | str) -> str:
        """The command as one line for a shell, with the variables of `env` in front (keys hidden)."""
        assignments = [
            f"{key}={shlex.quote('***' if is_secret(key) else value)}" for key, value in sorted(self.env.items())
        ]
        return " ".join([*assignments, shlex.join(self.argv(python))])

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "extra_args": list(self.extra_args), "env": dict(self.env)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ServerSpec:
        """The inverse of to_json; unknown keys are ignored. Raises KeyError without a name or model."""
        known = {key: data[key] for key in cls.__dataclass_fields__ if key in data}
        known["extra_args"] = tuple(known.get("extra_args", ()))
        if "name" not in known or "model" not in known:
            raise KeyError("name, model")
        return cls(**known)


def is_secret(variable: str) -> bool:
    """Whether the value of an environment variable of this name must not be shown."""
    return bool(re.search(r"KEY|TOKEN|SECRET|PASSWORD", variable, re.IGNORECASE))


def name_for(model: str, served_model_name: str = "", taken: Sequence[str] = ()) -> str:
    """A server name made from the served name or the model: 'qwen/Qwen2-7B-Instruct' → 'Qwen2-7B-Instruct'.

    A name in `taken` gets '-2', '-3', … appended.
    """
    last = (served_model_name or model).rstrip("/").rsplit("/", 1)[-1]
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip("-.")[:60] or "server"
    name, number = stem, 2
    while name in taken:
        name, number = f"{stem}-{number}", number + 1
    return name


class FieldError(UsageError):
    """One field of a form was filled in wrongly; `field` is its key."""

    def __init__(self, field: str, title: str, why: str = "", hint: str = "") -> None:
        super().__init__(title, why, hint)
        self.field = field


#: Arguments of the API server that have a field of their own; in the extra arguments they would contradict it.
FIELD_ARGUMENTS: dict[str, str] = {
    "--model": "model",
    "--served-model-name": "served_model_name",
    "--host": "host",
    "--port": "port",
    "--max-model-len": "max_model_len",
    "--chat-template": "chat_template",
}


def parse_spec(fields: Mapping[str, str], taken: Sequence[str] = ()) -> ServerSpec:
    """A specification out of form fields, all of them text: model, served_model_name, host, port,
    max_model_len, chat_template, extra_args, name.

    taken: names that a name made here must differ from.
    Raises FieldError, a UsageError that knows its field, for the first one that is wrong.
    """
    values, errors = check_fields(fields, taken)
    if errors:
        raise errors[0]
    return ServerSpec(**values)


def check_fields(fields: Mapping[str, str], taken: Sequence[str] = ()) -> tuple[dict[str, Any], list[FieldError]]:
    """ServerSpec's arguments out of form fields, as far as they can be read, and what is wrong with the rest.

    A field that is wrong is left out of the values. Looks at the disk (does the folder exist), at nothing else.
    """
    readers: dict[str, Callable[[str], Any]] = {
        "model": _read_model,
        "served_model_name": str,
        "host": _read_host,
        "port": lambda text: _read_number("port", _("Port"), text, 1, 65535) or 8000,
        "max_model_len": lambda text: _read_number("max_model_len", _("Max model len"), text, 1, 2**31 - 1),
        "chat_template": _read_template,
        "extra_args": _read_extra,
    }
    values: dict[str, Any] = {}
    errors: list[FieldError] = []
    for key, read in readers.items():
        try:
            values[key] = read(fields.get(key, "").strip())
        except FieldError as error:
            errors.append(error)
    try:
        values["name"] = _read_name(fields, str(values.get("model", "")), taken)
    except FieldError as error:
        errors.append(error)
    return values, errors


def _read_name(fields: Mapping[str, str], model: str, taken: Sequence[str]) -> str:
    name = fields.get("name", "").strip() or name_for(model, fields.get("served_model_name", "").strip(), taken)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", name):
        raise FieldError("name", _("Name: use letters, digits, '.', '_' and '-' only, not “{name}”").format(name=name))
    return name


def _read_number(field: str, label: str, text: str, low: int, high: int) -> int | None:
    value = text.replace(",", "").replace("_", "")
    if not value:
        return None
    # isdecimal takes other scripts' digits too; int() reads them as well.
    if not value.isdecimal() or not low <= int(value) <= high:
        raise FieldError(
            field,
            _("{field}: “{value}” is not a whole number from {low} to {high}").format(
                field=label, value=text, low=low, high=high
            ),
        )
    return int(value)


def _existing(text: str) -> Path | None:
    """The absolute path that `text` names, if there is something."""
    try:
        path = Path(text).expanduser().resolve()
        return path if path.exists() else None
    except (OSError, ValueError, RuntimeError):
        return None  # too long, a NUL, a user that does not exist


def _read_model(text: str) -> str:
    if not text:
        raise FieldError("model", _("Which model? Give a folder or a hub id, such as qwen/Qwen2-7B-Instruct"))
    path = _existing(text)
    if path is None and text.startswith(("/", "~", "./", "../")):
        raise FieldError("model", _("Model: there is no {path}").format(path=text))
    # A relative folder is made absolute too: the server runs somewhere else.
    return str(path) if path is not None else text


def _read_host(text: str) -> str:
    if re.search(r"[\s/]", text):
        raise FieldError("host", _("Host: a name or an address, such as 127.0.0.1, not “{value}”").format(value=text))
    return text or "127.0.0.1"


def _read_template(text: str) -> str:
    if not (text.endswith(".jinja") or text.startswith(("/", "~", "./", "../"))):
        return text
    path = _existing(text)
    if path is None or not path.is_file():
        raise FieldError("chat_template", _("Chat template: there is no file {path}").format(path=text))
    return str(path)


def _read_extra(text: str) -> tuple[str, ...]:
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise FieldError("extra_args", _("Extra arguments: {error}").format(error=error)) from None
    for word in words:
        option = word.split("=", 1)[0]
        if option in FIELD_ARGUMENTS:
            raise FieldError("extra_args", _("Extra arguments: {option} has a field of its own").format(option=option))
        if option == "--api-key":
            raise FieldError(
                "extra_args",
                _("Extra arguments: a key on the command line can be read by everybody on this machine"),
                "",
                _("For a host that is not loopback qwen-tui makes a key and hands it over unseen"),
            )
    return words
