"""The fields of the server's form: labels, examples, and texts from and to a server's specification."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from qwen_tui.i18n import N_, _
from qwen_tui.server.profiles import MODELSCOPE, Profile, read_environment, write_environment
from qwen_tui.server.quiet import without_quiet_words
from qwen_tui.server.spec import FieldError, ServerSpec, check_fields, is_secret

#: Field → its label.
FIELDS: dict[str, str] = {
    "model": N_("Model"),
    "name": N_("Name"),
    "served_model_name": N_("Served model name"),
    "host": N_("Host"),
    "port": N_("Port"),
    "max_model_len": N_("Max model len"),
    "chat_template": N_("Chat template"),
    "extra_args": N_("Extra arguments"),
    "environment": N_("Environment"),
    "engine": N_("Engine"),
    "idle_minutes": N_("End when idle"),
}
PLACEHOLDERS: dict[str, str] = {
    "model": N_("a folder, or a hub id such as qwen/Qwen2-7B-Instruct"),
    "served_model_name": N_("what clients ask for; empty: the model itself"),
    "host": "127.0.0.1",
    "port": "8000",
    "max_model_len": N_("tokens; empty: what the model allows"),
    "chat_template": N_("a Jinja file; empty: the model's own"),
    "extra_args": N_("--gpu-memory-utilization 0.9   (ctrl+f: all of them)"),
    "environment": "CUDA_VISIBLE_DEVICES=0",
    "engine": N_("an interpreter or environment; empty: the usual one"),
    "idle_minutes": N_("minutes without use; empty: never"),
}
#: Switch → its label; below the fields.
SWITCHES: dict[str, str] = {
    "modelscope": N_("from ModelScope"),
    "restart": N_("restart when it fails"),
}


#: What stands in the form for a key or a token that is kept: whoever looks on does not see it.
_HIDDEN = "***"


@dataclass(frozen=True)
class FormState:
    """Everything that is filled in: the texts by field, the switches that are on, and the variables that are hidden."""

    fields: Mapping[str, str]
    switches: frozenset[str] = frozenset()
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Reading:
    """What a FormState amounts to. spec: what could be read, with stand-ins for a missing name or model."""

    spec: ServerSpec
    engine: str
    known: frozenset[str]
    errors: tuple[FieldError, ...]


def state_of_spec(spec: ServerSpec, engine: str = "") -> FormState:
    """The form for `spec`."""
    environment = {name: value for name, value in spec.env.items() if not _is_switch(name, value)}
    secrets = {name: value for name, value in environment.items() if value and is_secret(name)}
    fields = {
        "model": spec.model,
        "name": spec.name,
        "served_model_name": spec.served_model_name,
        "host": spec.host,
        "port": str(spec.port),
        "max_model_len": "" if spec.max_model_len is None else str(spec.max_model_len),
        "chat_template": spec.chat_template,
        "extra_args": shlex.join(without_quiet_words(spec.extra_args)),
        "environment": write_environment({**environment, **dict.fromkeys(secrets, _HIDDEN)}),
        "engine": engine,
        "idle_minutes": str(spec.idle_minutes or ""),
    }
    switches = set()
    if len(environment) < len(spec.env):
        switches.add("modelscope")
    if spec.restart == "on-failure":
        switches.add("restart")
    return FormState(fields, frozenset(switches), secrets)


def state_of_profile(profile: Profile) -> FormState:
    """The form for `profile`; its name stays empty, so that one is made from the model."""
    like = ServerSpec("", "", env=profile.environment, restart=profile.restart, idle_minutes=profile.idle_minutes)
    state = state_of_spec(like, profile.engine)
    fields = {**state.fields, "host": "127.0.0.1", "port": "", **profile.form_fields()}
    return FormState(fields, state.switches, state.secrets)


def _is_switch(name: str, value: str) -> bool:
    return name == MODELSCOPE and value.lower() in ("1", "true")


def read(state: FormState, taken: Sequence[str] = ()) -> Reading:
    """Read every field. taken: names that a name made here must differ from."""
    values, errors = check_fields(state.fields, taken)
    known = frozenset(values)
    try:
        written = read_environment(state.fields.get("environment", ""))
        environment = {
            name: state.secrets.get(name, value) if value == _HIDDEN else value for name, value in written.items()
        }
    except FieldError as error:
        environment = {}
        errors.append(error)
    if "modelscope" in state.switches:
        environment[MODELSCOPE] = "True"
    spec = ServerSpec(**{"name": "-", "model": "MODEL", **values})
    spec = dataclasses.replace(
        spec,
        env=environment,
        restart="on-failure" if "restart" in state.switches else "no",
        idle_minutes=_read_minutes(state.fields.get("idle_minutes", "").strip(), errors),
    )
    return Reading(spec, state.fields.get("engine", "").strip(), known, tuple(errors))


def _read_minutes(text: str, errors: list[FieldError]) -> int | None:
    if not text:
        return None
    if not text.isdecimal() or not 1 <= int(text) <= 10**6:
        errors.append(
            FieldError("idle_minutes", _("End when idle: “{value}” is not a number of minutes").format(value=text))
        )
        return None
    return int(text)
