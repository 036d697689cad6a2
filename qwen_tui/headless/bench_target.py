"""Which server `bench` and `capacity` measure, and what is worth noting about it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwen_tui.i18n import _
from qwen_tui.paths import Paths

if TYPE_CHECKING:
    from qwen_tui.bench.series import Observe
    from qwen_tui.bench.target import Target
    from qwen_tui.hardware.machine import Machine
    from qwen_tui.server.status import ServerStatus


@dataclass(frozen=True)
class Chosen:
    """about: for the result. tokenizer_file: the model's, if it is on this machine."""

    target: Target
    about: Mapping[str, Any] = field(default_factory=dict)
    tokenizer_file: Path | None = None


def add_target_arguments(parser: argparse.ArgumentParser) -> None:
    """SERVER, --base-url, --endpoint, --model, --api."""
    parser.add_argument(
        "server",
        nargs="?",
        metavar="SERVER",
        help=_("which server, as `qwen-tui ps` lists it (default: the first ready)"),
    )
    parser.add_argument(
        "--base-url",
        metavar="URL",
        help=_("any other OpenAI API, such as http://127.0.0.1:8000/v1; VLLM_API_KEY holds its key"),
    )
    parser.add_argument("--endpoint", metavar="NAME", help=_("one that `qwen-tui endpoints` lists"))
    parser.add_argument("--model", metavar="NAME", help=_("the model's name there (default: what the server serves)"))
    parser.add_argument(
        "--tokenizer",
        type=Path,
        metavar="PATH",
        help=_("the model's folder or tokenizer.json, to count tokens where the server can't"),
    )
    parser.add_argument(
        "--api", choices=("chat", "completions"), default="chat", help=_("which of the two is asked (default: chat)")
    )


async def choose(arguments: argparse.Namespace, paths: Paths) -> Chosen:
    """The server that the arguments name. Raises UsageError, ServerError, ChatError."""
    from qwen_tui.errors import UsageError

    if sum(map(bool, (arguments.server, arguments.base_url, arguments.endpoint))) > 1:
        raise UsageError(_("Name one server: SERVER, --base-url or --endpoint"))
    file = _tokenizer(arguments.tokenizer) if arguments.tokenizer is not None else None
    gpus = await _gpus()
    if arguments.base_url:
        chosen = await _elsewhere(arguments, arguments.base_url, "", os.environ.get("VLLM_API_KEY") or None, gpus)
    elif arguments.endpoint:
        from qwen_tui.server.endpoints import Endpoints

        endpoint = Endpoints(paths).get(arguments.endpoint)
        chosen = await _elsewhere(arguments, endpoint.base_url, endpoint.model, endpoint.api_key, gpus)
    else:
        chosen = await _own(arguments, paths, gpus)
    return replace(chosen, tokenizer_file=file or chosen.tokenizer_file)


def _tokenizer(path: Path) -> Path:
    """The tokenizer.json that --tokenizer means. Raises UsageError where it can't be used."""
    from qwen_tui.bench.tokens import FileCounter
    from qwen_tui.errors import UsageError

    file = path / "tokenizer.json" if path.is_dir() else path
    try:
        FileCounter(file)
    except ImportError:
        raise UsageError(
            _("To read a tokenizer's file, the package `tokenizers` is needed"),
            "",
            _("Install it: pip install 'qwen-tui[tokens]'"),
        ) from None
    except ValueError as error:
        raise UsageError(_("Can't read {file}").format(file=file), str(error)) from None
    return file


async def _elsewhere(
    arguments: argparse.Namespace, url: str, model: str, key: str | None, gpus: dict[str, Any]
) -> Chosen:
    from qwen_tui.bench.target import Target
    from qwen_tui.chat.served import served_models
    from qwen_tui.errors import ServerError
    from qwen_tui.server.endpoints import checked_url

    url = checked_url(url)
    name = arguments.model or model
    if not name:
        models = await served_models(url, key)
        if not models:
            raise ServerError(_("{url} serves no model").format(url=url))
        name = models[0]
    target = Target(url, name, key, arguments.api)
    return Chosen(target, gpus if target.host in ("127.0.0.1", "localhost", "::1") else {})


async def _own(arguments: argparse.Namespace, paths: Paths, gpus: dict[str, Any]) -> Chosen:
    from qwen_tui.bench.target import Target
    from qwen_tui.server.measured import noted

    status = await _ready(arguments.server, paths)
    about = {**noted(status), **gpus}
    target = Target(status.spec.base_url, arguments.model or status.model_name, status.api_key, arguments.api)
    return Chosen(target, about, Path(status.spec.model) / "tokenizer.json")


async def _ready(name: str | None, paths: Paths) -> ServerStatus:
    """The server of that name, or the first that is ready. Raises ServerError."""
    from qwen_tui.errors import ServerError
    from qwen_tui.server.service import Servers
    from qwen_tui.server.status import STATE_WORDS, ServerState

    servers = Servers(paths)
    try:
        if name:
            name = servers.get(name).name
        statuses = await servers.refresh()
    finally:
        await servers.close()
    for status in statuses:
        if status.state is ServerState.READY and name in (None, status.name):
            return status
    if name:
        status = next(status for status in statuses if status.name == name)
        raise ServerError(
            _("{name} is {state}").format(name=name, state=_(STATE_WORDS[status.state])),
            status.cause,
            _("`qwen-tui ps` lists the servers, `qwen-tui logs {name}` tells more").format(name=name),
        )
    raise ServerError(
        _("No server is ready"), "", _("Start one: qwen-tui serve MODEL; or name one with --base-url URL")
    )


async def _gpus() -> dict[str, Any]:
    """The cards of this machine, where there are any."""
    from qwen_tui.hardware.machine import Machine

    machine = Machine()
    try:
        state = await machine.read()
    finally:
        await machine.close()
    return {"gpus": [gpu.name for gpu in state.gpus], "driver": machine.driver} if state.gpus else {}


def machine_of(target: Target) -> Machine | None:
    """This machine, if the server is on it."""
    from qwen_tui.hardware.machine import Machine

    return Machine() if target.host in ("127.0.0.1", "localhost", "::1") else None


def counters_of(target: Target) -> Observe:
    """What reads the server's own figures; None from a server that tells none."""
    from qwen_tui.server.measured import counters_of as counters_at

    is_loopback = target.host in ("127.0.0.1", "localhost", "::1")
    return counters_at(target.root, target.api_key, is_loopback=is_loopback)
