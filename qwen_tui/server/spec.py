"""What server to run: the choices a person makes, and the exact command they amount to."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
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


def parse_spec(fields: Mapping[str, str], taken: Sequence[str] = ()) -> ServerSpec:
    """A specification out of form fields, all of them text: model, served_model_name, host, port,
    max_model_len, chat_template, extra_args, name.

    Raises UsageError that names the field.
    """

    def text(key: str) -> str:
        return fields.get(key, "").strip()

    def number(key: str, label: str, low: int, high: int) -> int | None:
        value = text(key).replace(",", "").replace("_", "")
        if not value:
            return None
        if not value.isdigit() or not low <= int(value) <= high:
            raise UsageError(
                _("{field}: “{value}” is not a whole number from {low} to {high}").format(
                    field=label, value=value, low=low, high=high
                )
            )
        return int(value)

    model = text("model")
    if not model:
        raise UsageError(_("Which model? Give a folder or a hub id, such as qwen/Qwen2-7B-Instruct"))
    path = Path(model).expanduser()
    if model.startswith(("/", "~", "./", "../")):
        if not path.exists():
            raise UsageError(_("Model: there is no {path}").format(path=path))
        model = str(path.resolve())
    template = text("chat_template")
    if template.endswith(".jinja") or template.startswith(("/", "~", "./", "../")):
        template_path = Path(template).expanduser()
        if not template_path.is_file():
            raise UsageError(_("Chat template: there is no file {path}").format(path=template_path))
        template = str(template_path.resolve())
    try:
        extra = tuple(shlex.split(text("extra_args")))
    except ValueError as error:
        raise UsageError(_("Extra arguments: {error}").format(error=error)) from None
    name = text("name") or name_for(model, text("served_model_name"), taken)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", name):
        raise UsageError(_("Name: use letters, digits, '.', '_' and '-' only, not “{name}”").format(name=name))
    return ServerSpec(
        name=name,
        model=model,
        served_model_name=text("served_model_name"),
        host=text("host") or "127.0.0.1",
        port=number("port", _("Port"), 1, 65535) or 8000,
        max_model_len=number("max_model_len", _("Max model len"), 1, 2**31 - 1),
        chat_template=template,
        extra_args=extra,
    )
