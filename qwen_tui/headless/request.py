"""`qwen-tui request`: a chat, a completion or the list of models as code that runs as printed; or sent, shown raw."""

from __future__ import annotations

import argparse
import asyncio
import sys

from qwen_tui.errors import UsageError
from qwen_tui.headless.request_arguments import (
    Chosen,
    add_sampling_arguments,
    add_server_arguments,
    any_character,
    choose_server,
    exit_statuses,
    piped_text,
    sampling_of,
)
from qwen_tui.i18n import _
from qwen_tui.paths import Paths
from qwen_tui.settings import Settings

TYPE_CHECKING = False  # what type checkers take for true; importing typing's would make --help slower
if TYPE_CHECKING:
    from qwen_tui.chat.request_code import Request


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `qwen-tui request`."""
    parser.add_argument(
        "prompt", nargs="?", metavar="TEXT", help=_("what to ask, or to continue; else what is piped in")
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--curl", dest="form", action="store_const", const="curl", help=_("a shell command (default)"))
    form.add_argument(
        "--python", dest="form", action="store_const", const="openai", help=_("Python with the openai package")
    )
    form.add_argument("--httpx", dest="form", action="store_const", const="httpx", help=_("Python with httpx"))
    form.add_argument(
        "--raw", dest="form", action="store_const", const="raw",
        help=_("send it, and print the answer's status, headers, times and JSON"),
    )  # fmt: skip
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--completion", action="store_true", help=_("for /v1/completions instead of a chat"))
    kind.add_argument("--models", action="store_true", help=_("for /v1/models: what the server serves"))
    add_server_arguments(parser)
    parser.add_argument("--system", metavar="TEXT", default="", help=_("a system message"))
    parser.add_argument("--echo", action="store_true", help=_("begin the answer with the text itself"))
    parser.add_argument("--suffix", metavar="TEXT", default="", help=_("what comes after (only models that fill in)"))
    parser.add_argument("--stream", action="store_true", help=_("ask for the answer piece by piece"))
    parser.add_argument("--json", action="store_true", help=_("with --raw: one JSON object"))
    add_sampling_arguments(parser)
    parser.epilog = exit_statuses()


def run(arguments: argparse.Namespace, paths: Paths, settings: Settings) -> int:
    """Print the code, or send it; the exit status. Raises ChatError, ServerError, UsageError."""
    from qwen_tui.chat.request_code import as_curl, as_httpx, as_openai

    any_character()
    chosen, request = asyncio.run(_request(arguments, paths))
    if arguments.form == "raw":
        return _send(request, chosen, arguments)
    print({"openai": as_openai, "httpx": as_httpx}.get(arguments.form, as_curl)(request), end="")
    if request.key_variable:
        print(_("The key is read from ${name}").format(name=request.key_variable), file=sys.stderr)
    return 0


async def _request(arguments: argparse.Namespace, paths: Paths) -> tuple[Chosen, Request]:
    from qwen_tui.chat.completions import Completion
    from qwen_tui.chat.events import Message
    from qwen_tui.chat.request_code import chat_request, completion_request, models_request

    sampling = sampling_of(arguments, paths)
    prompt = "" if arguments.models else arguments.prompt if arguments.prompt not in (None, "-") else piped_text()
    if not arguments.models and not prompt:
        raise UsageError(_("Say what to ask"), "", _('For example: qwen-tui request --curl "Why is the sky blue?"'))
    chosen = await choose_server(arguments, paths)
    sampling = sampling.with_version(chosen.engine_version)
    if arguments.models:
        return chosen, models_request(chosen.target)
    if arguments.completion:
        completion = Completion(prompt, sampling, arguments.echo, arguments.suffix)
        return chosen, completion_request(chosen.target, completion, stream=arguments.stream)
    messages = [Message("system", arguments.system)] if arguments.system else []
    messages.append(Message("user", prompt))
    return chosen, chat_request(chosen.target, messages, sampling, stream=arguments.stream)


def _send(request: Request, chosen: Chosen, arguments: argparse.Namespace) -> int:
    """Print the answer: its body on stdout, the rest on stderr."""
    from qwen_tui.chat.figures import duration
    from qwen_tui.chat.harmless import harmless_json
    from qwen_tui.chat.request_answer import send

    answer = asyncio.run(send(request, chosen.target.api_key))
    if arguments.json:
        print(harmless_json(answer.to_json()))
    else:
        print(f"{answer.http_version} {answer.status} {answer.reason}", file=sys.stderr)
        for name, value in answer.headers:
            print(f"{name}: {value}", file=sys.stderr)
        times = _("headers after {first}, the whole answer after {whole}")
        print(
            times.format(first=duration(answer.headers_s), whole=duration(answer.total_s)), file=sys.stderr, flush=True
        )
        text = answer.body_text()
        print(text, end="" if text.endswith("\n") else "\n")
    return 0 if answer.status < 400 else 3 if answer.status < 500 else 1
