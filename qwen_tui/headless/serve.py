"""`qwen-tui serve`: start a server detached, print its phases, leave it running."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from typing import TYPE_CHECKING

from qwen_tui.errors import UsageError
from qwen_tui.i18n import _, ngettext
from qwen_tui.paths import Paths
from qwen_tui.settings import Settings

if TYPE_CHECKING:
    from qwen_tui.server.profiles import Profile
    from qwen_tui.server.spec import ServerSpec
    from qwen_tui.server.status import ServerStatus

#: Words after `--` come as arguments.extra.
TAKES_EXTRA = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model_path", nargs="?", metavar="MODEL", help=_("a model folder or a hub id"))
    parser.add_argument("--model", help=_("the same as MODEL, as vLLM spells it"))
    parser.add_argument("--name", default="", help=_("names the server for `ps`, `stop`, `logs`"))
    parser.add_argument("--served-model-name", default="", help=_("the name clients send as `model`"))
    parser.add_argument(
        "--profile", default="", metavar="NAME", help=_("begin with this profile; what else is given here counts more")
    )
    parser.add_argument("--host", default="", help=_("address to listen on (default: 127.0.0.1)"))
    parser.add_argument("--port", default="", help=_("port to listen on (default: 8000)"))
    parser.add_argument("--max-model-len", default="", help=_("tokens of context"))
    parser.add_argument("--chat-template", default="", help=_("a Jinja file, or a template's name"))
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help=_("set a variable for it"))
    parser.add_argument("--modelscope", action="store_true", help=_("the model comes from ModelScope"))
    parser.add_argument("--restart", choices=("no", "on-failure"), help=_("start it again when it fails"))
    parser.add_argument(
        "--idle-minutes", type=_minutes, metavar="N", help=_("end it when nobody has used it for N minutes")
    )
    parser.add_argument("--engine", default="", help=_("the Python, or the environment, that has vLLM"))
    parser.add_argument("--no-wait", action="store_true", help=_("do not wait until it is ready"))
    parser.add_argument("--plan", action="store_true", help=_("check whether it can start, and start nothing"))
    parser.add_argument(
        "--no-check", action="store_true", help=_("start it even if the plan or the engine's arguments are against it")
    )
    parser.add_argument("--json", action="store_true", help=_("print the server as JSON"))
    parser.epilog = _("What stands after `--` is handed to vLLM as it is: qwen-tui serve MODEL -- --enforce-eager")


def _minutes(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 10**6:
        raise argparse.ArgumentTypeError(_("not a whole number above 0: {text}").format(text=text))
    return int(text)


def run(arguments: argparse.Namespace, paths: Paths, settings: Settings) -> int:
    return asyncio.run(_serve(arguments, paths, settings))


def _environment(pairs: list[str]) -> dict[str, str]:
    environment = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise UsageError(_("--env takes NAME=VALUE, not “{pair}”").format(pair=pair))
        environment[name] = value
    return environment


def _profile(name: str, paths: Paths) -> Profile:
    from qwen_tui.server.profile_files import load_profile
    from qwen_tui.server.profiles import Profile

    return load_profile(paths, name) if name else Profile("")


def _spec(arguments: argparse.Namespace, profile: Profile, taken: list[str]) -> ServerSpec:
    """The server that is asked for: the profile's, with what the command line says in its place."""
    import dataclasses
    import shlex

    from qwen_tui.server.profiles import MODELSCOPE

    if arguments.model and arguments.model_path:
        raise UsageError(
            _("Two models: {first} and {second}").format(first=arguments.model_path, second=arguments.model),
            "",
            _("Arguments for vLLM itself go after `--`"),
        )
    given = {
        "model": arguments.model or arguments.model_path or "",
        "name": arguments.name,
        "served_model_name": arguments.served_model_name,
        "host": arguments.host,
        "port": arguments.port,
        "max_model_len": arguments.max_model_len,
        "chat_template": arguments.chat_template,
    }
    changes = {field: text for field, text in given.items() if text}
    if arguments.extra:
        # Of an argument that is given twice the last counts.
        changes["extra_args"] = f"{profile.form_fields()['extra_args']} {shlex.join(arguments.extra)}".strip()
    spec = profile.spec(changes, taken)
    environment = {**spec.env, **({MODELSCOPE: "True"} if arguments.modelscope else {}), **_environment(arguments.env)}
    return dataclasses.replace(
        spec,
        env=environment,
        restart=arguments.restart or spec.restart,
        idle_minutes=arguments.idle_minutes or spec.idle_minutes,
    )


async def _serve(arguments: argparse.Namespace, paths: Paths, settings: Settings) -> int:
    from qwen_tui.engine.find import find_engine
    from qwen_tui.headless.flags import refuse_wrong_arguments
    from qwen_tui.headless.plan import print_plan, refuse_what_would_fail
    from qwen_tui.headless.start import print_start
    from qwen_tui.server.quiet import quieted, without_quiet_words
    from qwen_tui.server.reach import warnings
    from qwen_tui.server.service import Servers

    servers = Servers(paths)
    try:
        taken = [status.name for status in servers.list() if status.state.is_alive]
        profile = _profile(arguments.profile, paths)
        spec = _spec(arguments, profile, taken)
        engine = await asyncio.to_thread(find_engine, paths, profile.engine or settings.engine, arguments.engine)
        spec = await asyncio.to_thread(quieted, spec, engine, paths)
        if arguments.plan:
            return await print_plan(spec, engine, paths, as_json=arguments.json)
        if not arguments.no_check:
            # Only what a person wrote: asking an engine for its arguments takes ten seconds the first time.
            await refuse_wrong_arguments(without_quiet_words(spec.extra_args), engine, paths)
            if spec.name not in taken:  # what runs already is told in other words
                await refuse_what_would_fail(spec, engine, paths)
        print(spec.shell_command(engine.python), file=sys.stderr, flush=True)
        for warning in warnings(spec):
            print(_("Note: {text}").format(text=warning), file=sys.stderr, flush=True)
        status = await servers.start(spec, engine)
        if not arguments.no_wait:
            status = await print_start(servers, status)
    finally:
        await servers.close()
    if arguments.json:
        print(json.dumps({**status.to_json(), "api_key": status.api_key}, ensure_ascii=False))
        return 0
    _print_ways(status)
    return 0


def _print_ways(status: ServerStatus) -> None:
    """Where the server is and what can be done with it."""
    from qwen_tui.server.reach import is_remote_session, ssh_line

    print(_("{name} is at {url}").format(name=status.name, url=status.spec.base_url))
    if status.api_key and not status.spec.is_loopback:
        print(_("It is reachable from outside with the key {key}").format(key=status.api_key))
    if is_remote_session() or not status.spec.is_loopback:
        print(_("From your own machine: {command}").format(command=ssh_line(status.spec)))
    if status.spec.idle_minutes:
        minutes = status.spec.idle_minutes
        print(
            ngettext("It ends after {n} minute without use", "It ends after {n} minutes without use", minutes)
            .format(n=minutes)
        )  # fmt: skip
    print(_("`qwen-tui chat \"…\"` asks it, `qwen-tui logs {name} -f` shows its log, `qwen-tui stop {name}` ends it")
          .format(name=status.name))  # fmt: skip
