"""`qwen-tui chat "…"`: ask a model, its answer on stdout as it comes, the figures on stderr; or talk line by line."""

from __future__ import annotations

import argparse
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
from qwen_tui.i18n import _
from qwen_tui.paths import Paths
from qwen_tui.settings import Settings

TYPE_CHECKING = False  # what type checkers take for true; importing typing's would make --help slower
if TYPE_CHECKING:
    from collections.abc import Sequence

    from qwen_tui.chat.events import Message, Sampling, Target


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `qwen-tui chat`."""
    parser.add_argument(
        "prompt", nargs="?", metavar="TEXT", help=_("what to ask; text that is piped in comes after it")
    )
    add_server_arguments(parser)
    parser.add_argument(
        "--compare", metavar="A,B",
        help=_("ask two at once: each the name of a server or an endpoint, or a URL; NAME=MODEL, NAME@PRESET"),
    )  # fmt: skip
    parser.add_argument("--system", metavar="TEXT", default="", help=_("a system message"))
    parser.add_argument("--json", action="store_true", help=_("one JSON object when the reply is whole"))
    parser.add_argument(
        "--stream",
        action="store_true",
        help=_("with --json: also one line for every piece, as it comes (text always is)"),
    )
    parser.add_argument(
        "-i", "--interactive", action="store_true",
        help=_("one question per line, each with what was said before; without TEXT at a terminal it is so anyway"),
    )  # fmt: skip
    add_sampling_arguments(parser)
    parser.epilog = exit_statuses()


def run(arguments: argparse.Namespace, paths: Paths, settings: Settings) -> int:
    """Ask and print; the exit status. Raises ChatError, ServerError, UsageError."""
    from qwen_tui.chat.events import Message

    sampling = sampling_of(arguments, paths)
    any_character()
    at_terminal = sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()
    if arguments.interactive and arguments.compare:
        raise UsageError(_("--compare asks one question: it does not go with --interactive"))
    if arguments.interactive or (
        arguments.prompt is None and at_terminal and not (arguments.json or arguments.compare)
    ):
        from qwen_tui.headless.chat_lines import talk

        return talk(arguments, paths, sampling)
    prompt = _prompt(arguments.prompt)
    messages = [Message("system", arguments.system)] if arguments.system else []
    messages.append(Message("user", prompt))
    if arguments.compare:
        from qwen_tui.headless.chat_compare import compare

        return compare(arguments, paths, sampling, messages, stream_into)
    reply = Reply(arguments.json, arguments.stream, (sampling.n or 1) > 1)

    async def ask() -> None:
        chosen = await choose_server(arguments, paths)
        reply.model = chosen.target.model
        await stream_into(reply, chosen.target, messages, sampling.with_version(chosen.engine_version))

    return run_reply(reply, ask)


def _prompt(argument: str | None) -> str:
    """The argument, and after it what is piped in."""
    piped = piped_text().strip("\n")
    prompt = "\n\n".join(part for part in (argument or "", piped) if part.strip())
    if not prompt:
        raise UsageError(_("Ask something"), "", _('For example: qwen-tui chat "Why is the sky blue?"'))
    return prompt


async def stream_into(reply: Reply, target: Target, messages: Sequence[Message], sampling: Sampling) -> None:
    """Ask, and feed `reply` with what comes. Raises ChatError."""
    from qwen_tui.chat.client import stream_chat
    from qwen_tui.chat.events import ReasoningDelta, TextDelta
    from qwen_tui.chat.meter import ReplyMeter

    meter = ReplyMeter()
    try:
        async with contextlib.aclosing(stream_chat(target, messages, sampling, meter=meter)) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    reply.take_text(event.text, event.index, event.at)
                elif isinstance(event, ReasoningDelta):
                    reply.take_reasoning(event.text, event.index, event.at)
    finally:
        if meter.answered:
            reply.figures = meter.figures()
