"""What chat, complete and request have in common on the command line: which server, how to sample, what is piped in."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwen_tui.errors import ChatError, UsageError
from qwen_tui.i18n import _
from qwen_tui.paths import Paths

TYPE_CHECKING = False  # what type checkers take for true; importing typing's would make --help slower
if TYPE_CHECKING:
    from qwen_tui.chat.events import Sampling, Target
    from qwen_tui.chat.sampling import Parameter


@dataclass(frozen=True)
class Chosen:
    """A server to ask. engine_version: vLLM's, empty where it is not known."""

    target: Target
    engine_version: str = ""


def add_server_arguments(parser: argparse.ArgumentParser) -> None:
    """--server, --base-url, --endpoint, --model."""
    add_place_arguments(parser)
    parser.add_argument("--model", metavar="NAME", help=_("the model's name there (default: what the server serves)"))


def add_place_arguments(parser: argparse.ArgumentParser) -> None:
    """--server, --base-url, --endpoint."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--server", metavar="NAME", help=_("which server, as `qwen-tui ps` lists it (default: the first ready one)")
    )
    where.add_argument(
        "--base-url",
        metavar="URL",
        help=_("any other OpenAI API, such as http://127.0.0.1:8000/v1; VLLM_API_KEY holds its key"),
    )
    where.add_argument("--endpoint", metavar="NAME", help=_("one that `qwen-tui endpoints` lists"))


def add_sampling_arguments(parser: argparse.ArgumentParser) -> None:
    """One flag per sampling parameter, and --preset."""
    from qwen_tui.chat.sampling import PARAMETERS

    group = parser.add_argument_group(_("sampling; what is not given is the server's default"))
    group.add_argument("--preset", metavar="NAME", help=_("begin with these: exact, qwen, … or one of your own"))
    for parameter in PARAMETERS:
        text = _(parameter.about)
        if limits := parameter.range_text():
            text = f"{text} ({limits})"
        text = text.replace("%", "%%")
        if parameter.kind == "bool":
            group.add_argument(parameter.flag, action="store_true", default=None, help=text)
        else:
            action = "append" if parameter.kind == "texts" else "store"
            group.add_argument(
                parameter.flag, metavar=parameter.metavar, action=action, type=_reader(parameter), help=text
            )


def _reader(parameter: Parameter) -> Any:
    """How a flag's value is read; JSON may come from @FILE."""

    def read(text: str) -> Any:
        if parameter.kind == "json" and text.startswith("@"):
            try:
                text = Path(text[1:]).expanduser().read_text(encoding="utf-8")
            except (OSError, ValueError) as error:
                raise UsageError(_("Can't read {file}").format(file=text[1:]), str(error)) from None
        return parameter.parse(text)

    return read


def sampling_of(arguments: argparse.Namespace, paths: Paths) -> Sampling:
    """The preset and the flags over it, checked. Raises UsageError, SettingsError."""
    from qwen_tui.chat.sampling import PARAMETERS, make_sampling
    from qwen_tui.chat.sampling_presets import SamplingPresets

    values = SamplingPresets(paths).get(arguments.preset).chosen() if arguments.preset else {}
    for parameter in PARAMETERS:
        value = getattr(arguments, parameter.name)
        if value is not None:
            values[parameter.name] = [text for part in value for text in part] if parameter.kind == "texts" else value
    return make_sampling(values)


def piped_text() -> str:
    """What is piped in; empty where a person sits at the terminal."""
    if sys.stdin is None or sys.stdin.isatty():
        return ""
    return sys.stdin.buffer.read().decode("utf-8", "replace")


def any_character() -> None:
    """Let a terminal without UTF-8 show question marks, not a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="replace")


async def choose_server(arguments: argparse.Namespace, paths: Paths) -> Chosen:
    """Where to ask, and for which model. Raises ChatError, ServerError, UsageError."""
    from qwen_tui.chat.events import Target

    if arguments.base_url:
        return await _elsewhere(arguments.base_url, arguments.model, os.environ.get("VLLM_API_KEY") or None)
    if arguments.endpoint:
        from qwen_tui.server.endpoints import Endpoints

        endpoint = Endpoints(paths).get(arguments.endpoint)
        return await _elsewhere(endpoint.base_url, arguments.model or endpoint.model, endpoint.api_key)
    from qwen_tui.server.service import Servers
    from qwen_tui.server.status import STATE_WORDS, ServerState

    servers = Servers(paths)
    try:
        statuses = await servers.refresh()
        if arguments.server:
            name = servers.get(arguments.server).name  # raises ServerNotFound
            status = next(status for status in statuses if status.name == name)
            if status.state is not ServerState.READY:
                raise ChatError(
                    _("{name} is {state}").format(name=name, state=_(STATE_WORDS[status.state])),
                    status.cause,
                    _("`qwen-tui ps` lists the servers, `qwen-tui logs {name}` tells more").format(name=name),
                )
        else:
            ready = [status for status in statuses if status.state is ServerState.READY]
            if not ready:
                raise ChatError(
                    _("No server is ready"), "", _("Start one: qwen-tui serve MODEL; or name one with --base-url URL")
                )
            status = ready[0]
    finally:
        await servers.close()
    target = Target(status.spec.base_url, arguments.model or status.model_name, status.api_key)
    return Chosen(target, status.engine_version or "")


async def _elsewhere(base_url: str, model: str | None, key: str | None) -> Chosen:
    """A server that qwen-tui did not start; its first model unless one is named."""
    from qwen_tui.chat.events import Target
    from qwen_tui.chat.served import served_models

    models = [model] if model else await served_models(base_url, key)
    if not models:
        raise ChatError(_("{url} serves no model").format(url=base_url))
    return Chosen(Target(base_url, models[0], key))


def exit_statuses() -> str:
    """For the end of --help."""
    return _(
        "exit status: 0 the answer is whole; 1 it failed or broke off; 2 wrong usage; "
        "3 the server refused the request; 130 interrupted"
    )
