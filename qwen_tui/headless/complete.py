"""`qwen-tui complete "…"`: a text is continued as it is, without a chat template."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys

from qwen_tui.errors import UsageError
from qwen_tui.headless.request_arguments import (
    add_sampling_arguments,
    add_server_arguments,
    any_character,
    choose_server,
    exit_statuses,
    piped_text,
    sampling_of,
)
from qwen_tui.headless.request_output import Reply, run_reply
from qwen_tui.headless.token_colours import colours_wanted
from qwen_tui.i18n import _
from qwen_tui.paths import Paths
from qwen_tui.settings import Settings

TYPE_CHECKING = False  # what type checkers take for true; importing typing's would make --help slower
if TYPE_CHECKING:
    from qwen_tui.chat.completions import Completion
    from qwen_tui.chat.events import Target


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `qwen-tui complete`."""
    parser.add_argument(
        "prompt", nargs="?", metavar="TEXT", help=_("what to continue; without it, or with -, what is piped in")
    )
    add_server_arguments(parser)
    parser.add_argument("--echo", action="store_true", help=_("begin the answer with the text itself"))
    parser.add_argument("--suffix", metavar="TEXT", default="", help=_("what comes after (only models that fill in)"))
    parser.add_argument(
        "--template",
        action="store_true",
        help=_("continue nothing: print what the server's chat template makes of TEXT, which the model really gets"),
    )
    parser.add_argument("--system", metavar="TEXT", default="", help=_("with --template: a system message before it"))
    parser.add_argument(
        "--color",
        choices=("auto", "always", "never"),
        default="auto",
        help=_("with --logprobs: colour each token by how likely it was (default: at a terminal)"),
    )
    parser.add_argument("--json", action="store_true", help=_("one JSON object when the reply is whole"))
    parser.add_argument("--stream", action="store_true", help=_("with --json: also one line for every piece"))
    add_sampling_arguments(parser)
    parser.epilog = exit_statuses()


def run(arguments: argparse.Namespace, paths: Paths, settings: Settings) -> int:
    """Continue and print; the exit status. Raises ChatError, ServerError, UsageError."""
    from qwen_tui.chat.completions import Completion

    sampling = sampling_of(arguments, paths)
    any_character()
    prompt = text_to_continue(arguments.prompt)
    if arguments.template:
        return asyncio.run(_print_template(arguments, paths, prompt))
    reply = Reply(arguments.json, arguments.stream, (sampling.n or 1) > 1)
    reply.colours = bool(sampling.logprobs is not None and not arguments.json and colours_wanted(arguments.color))

    async def ask() -> None:
        chosen = await choose_server(arguments, paths)
        reply.model = chosen.target.model
        versioned = sampling.with_version(chosen.engine_version)
        await _stream(reply, chosen.target, Completion(prompt, versioned, arguments.echo, arguments.suffix))

    return run_reply(reply, ask)


async def _print_template(arguments: argparse.Namespace, paths: Paths, prompt: str) -> int:
    """Print the prompt that a message becomes; the exit status. Raises ChatError, ServerError, UsageError."""
    from qwen_tui.chat.events import Message
    from qwen_tui.chat.harmless import harmless, harmless_json
    from qwen_tui.chat.template import render_chat

    chosen = await choose_server(arguments, paths)
    messages = [Message("system", arguments.system)] if arguments.system else []
    rendered = await render_chat(chosen.target, [*messages, Message("user", prompt)])
    count, limit = len(rendered.tokens), rendered.tokens.max_model_len
    if arguments.json:
        found = {"model": chosen.target.model, "text": rendered.text, "tokens": list(rendered.tokens.ids),
                 "count": count, "max_model_len": limit}  # fmt: skip
        print(harmless_json(found))
        return 0
    text = harmless(rendered.text)
    print(text, end="" if text.endswith("\n") else "\n")
    if limit:
        told = _("{used} of {limit} tokens").format(used=f"{count:,}", limit=f"{limit:,}")
    else:
        told = _("{count} tokens").format(count=f"{count:,}")
    print(told, file=sys.stderr)
    return 0


def text_to_continue(argument: str | None) -> str:
    """The argument as it is, or what is piped in, as it is too. Raises UsageError if there is nothing."""
    prompt = argument if argument not in (None, "-") else piped_text()
    if not prompt:
        raise UsageError(_("There is nothing to continue"), "", _('For example: qwen-tui complete "Once upon a time"'))
    return prompt


async def _stream(reply: Reply, target: Target, completion: Completion) -> None:
    from qwen_tui.chat.completions import CompletionDelta, stream_completion
    from qwen_tui.chat.meter import ReplyMeter

    meter = ReplyMeter()
    try:
        async with contextlib.aclosing(stream_completion(target, completion, meter=meter)) as pieces:
            async for piece in pieces:
                if isinstance(piece, CompletionDelta):
                    reply.take_text(piece.text, piece.index, piece.at, piece.chances)
    finally:
        if meter.answered:
            reply.figures = meter.figures()
