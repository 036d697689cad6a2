"""`qwen-tui endpoints`: servers elsewhere, with their keys kept and never shown."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qwen_tui.errors import QwenTuiError, UsageError
from qwen_tui.i18n import _
from qwen_tui.paths import Paths
from qwen_tui.settings import Settings

if TYPE_CHECKING:
    from qwen_tui.server.endpoints import Endpoint, Endpoints


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `qwen-tui endpoints`."""
    parser.add_argument("--json", action="store_true", help=_("print JSON"))
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=_("print JSON"))
    actions.add_parser("list", help=_("the endpoints (default)"), parents=[common])
    add = actions.add_parser("add", help=_("keep one; its key is asked for without being shown"), parents=[common])
    add.add_argument("name", metavar="NAME", help=_("what to call it"))
    add.add_argument("url", metavar="URL", help=_("its base URL, such as https://example.org/v1"))
    add.add_argument("--model", default="", help=_("which of its models (default: the first)"))
    key = add.add_mutually_exclusive_group()
    key.add_argument("--key-stdin", action="store_true", help=_("read the key from standard input"))
    key.add_argument("--key-env", metavar="NAME", help=_("take the key from this environment variable"))
    key.add_argument("--no-key", action="store_true", help=_("it needs no key"))
    remove = actions.add_parser("remove", help=_("forget one, and its key"), parents=[common])
    remove.add_argument("name", metavar="NAME", help=_("which one"))
    test = actions.add_parser("test", help=_("ask which models they serve"), parents=[common])
    test.add_argument("names", nargs="*", metavar="NAME", help=_("which ones (default: all)"))


def run(arguments: argparse.Namespace, paths: Paths, settings: Settings) -> int:
    """Do it; 0 done, 1 if an endpoint that was tested does not answer. Raises UsageError, ServerNotFound."""
    from qwen_tui.server.endpoints import Endpoints

    endpoints = Endpoints(paths)
    action = arguments.action or "list"
    if action == "list":
        _print(endpoints.list(), arguments.json)
    elif action == "add":
        endpoint = endpoints.add(arguments.name, arguments.url, arguments.model, _key(arguments))
        if endpoint.sends_key_in_clear:
            print(_("Note: over http:// the key travels unencrypted"), file=sys.stderr)
        _print([endpoint], arguments.json)
    elif action == "remove":
        endpoints.remove(arguments.name)
        if not arguments.json:
            print(_("{name} is forgotten").format(name=arguments.name))
    else:
        return asyncio.run(_test(endpoints, arguments.names, arguments.json))
    return 0


def _key(arguments: argparse.Namespace) -> str | None:
    """The key, by the way that was chosen; asked for where there is a person to ask."""
    if arguments.no_key:
        return None
    if arguments.key_env:
        key = os.environ.get(arguments.key_env)
        if not key:
            raise UsageError(_("{variable} is not set").format(variable=arguments.key_env))
        return key
    if arguments.key_stdin:
        return sys.stdin.readline()
    if sys.stdin is not None and sys.stdin.isatty():
        return getpass.getpass(_("Key (not shown; empty for none): "))
    return None


def _print(endpoints: Sequence[Endpoint], as_json: bool) -> None:
    if as_json:
        print(json.dumps([endpoint.to_json() for endpoint in endpoints], ensure_ascii=False))
        return
    if not endpoints:
        print(_("No endpoint. `qwen-tui endpoints add NAME URL` adds one"))
    for endpoint in endpoints:
        key = _("with a key") if endpoint.api_key else _("without a key")
        print("  ".join(part for part in (endpoint.name, endpoint.base_url, endpoint.model, key) if part))


async def _test(endpoints: Endpoints, names: Sequence[str], as_json: bool) -> int:
    chosen = [endpoints.get(name) for name in names] if names else endpoints.list()
    results = await asyncio.gather(*(_asked(endpoint) for endpoint in chosen))
    if as_json:
        print(json.dumps(results, ensure_ascii=False))
    else:
        _print_results(results)
    return 0 if all(result["ok"] for result in results) else 1


async def _asked(endpoint: Endpoint) -> dict[str, Any]:
    from qwen_tui.server.endpoints import probe

    try:
        found = await probe(endpoint)
    except QwenTuiError as error:
        problem = {"title": error.title, "why": error.why, "hint": error.hint}
        return {**endpoint.to_json(), "ok": False, "models": [], "seconds": None, "error": problem}
    has_model = not endpoint.model or endpoint.model in found.models
    problem = {"title": _("It does not serve {model}").format(model=endpoint.model), "why": "", "hint": ""}
    return {
        **endpoint.to_json(),
        "ok": has_model,
        "models": list(found.models),
        "seconds": round(found.seconds, 3),
        "error": None if has_model else problem,
    }


def _print_results(results: Sequence[dict[str, Any]]) -> None:
    from qwen_tui.logs.plain_text import harmless

    if not results:
        print(_("No endpoint. `qwen-tui endpoints add NAME URL` adds one"))
    for result in results:
        if result["ok"]:
            words = _("{name}: answers in {milliseconds:.0f} ms, serves {models}").format(
                name=result["name"],
                milliseconds=result["seconds"] * 1000,
                models=", ".join(result["models"][:20]) or _("nothing"),
            )
            print(harmless(words))
            continue
        error = result["error"]
        print(harmless(f"{result['name']}: {error['title']}"))
        for text in (error["why"], error["hint"]):
            if text:
                print(f"  {harmless(text)}")
