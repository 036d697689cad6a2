"""`qwen-tui chat "…"`: ask a model, its answer on stdout as it comes, the figures on stderr; or talk line by line."""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path

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
    from collections.abc import Mapping, Sequence
    from typing import Any

    from qwen_tui.chat.attachments import Attachment
    from qwen_tui.chat.conversation import Conversation
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
    parser.add_argument(
        "--file", action="append", default=[], metavar="PATH", help=_("a text file to go with it; can be repeated")
    )
    parser.add_argument(
        "--image", action="append", default=[], metavar="PATH",
        help=_("an image to go with it, for models that see; can be repeated"),
    )  # fmt: skip
    parser.add_argument(
        "--tools", type=Path, metavar="FILE", help=_("functions that the model may call: a JSON file, as OpenAI has it")
    )
    parser.add_argument("--tool-choice", metavar="WORD", default="", help=_("auto, none, required, or a tool's name"))
    parser.add_argument(
        "--show-reasoning", action="store_true",
        help=_("what the model thinks too, on standard error (at a terminal it is shown anyway)"),
    )  # fmt: skip
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
    from qwen_tui.chat.conversation import Conversation
    from qwen_tui.chat.tools import request_fields

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
    attached = attachments_of(arguments)
    conversation = Conversation(system=arguments.system)
    give_tools(conversation, arguments)
    conversation.add_user(_prompt(arguments.prompt, bool(attached)), attached)
    messages = conversation.messages()
    more = request_fields(conversation)
    if arguments.compare:
        from qwen_tui.headless.chat_compare import compare

        return compare(arguments, paths, sampling, messages, more, stream_into)
    reply = Reply(arguments.json, arguments.stream, (sampling.n or 1) > 1, shows_reasoning=arguments.show_reasoning)

    async def ask() -> None:
        chosen = await choose_server(arguments, paths)
        reply.model = chosen.target.model
        await stream_into(reply, chosen.target, messages, sampling.with_version(chosen.engine_version), more)

    return run_reply(reply, ask)


def attachments_of(arguments: argparse.Namespace) -> Sequence[Attachment]:
    """What --file and --image name, read. Raises UsageError."""
    from qwen_tui.chat.attachments import read_attachment

    return [
        *(read_attachment(path, "file") for path in arguments.file),
        *(read_attachment(path, "image") for path in arguments.image),
    ]


def give_tools(conversation: Conversation, arguments: argparse.Namespace) -> None:
    """What --tools and --tool-choice name. Raises UsageError."""
    from qwen_tui.chat.tools import read_choice, read_tools_file

    if arguments.tool_choice and arguments.tools is None:
        raise UsageError(_("--tool-choice needs --tools"))
    if arguments.tools is not None:
        conversation.tools = tuple(read_tools_file(arguments.tools))
        conversation.tool_choice = read_choice(arguments.tool_choice, conversation.tools)


def _prompt(argument: str | None, may_be_empty: bool) -> str:
    """The argument, and after it what is piped in."""
    piped = piped_text().strip("\n")
    prompt = "\n\n".join(part for part in (argument or "", piped) if part.strip())
    if not prompt and not may_be_empty:
        raise UsageError(_("Ask something"), "", _('For example: qwen-tui chat "Why is the sky blue?"'))
    return prompt


async def stream_into(
    reply: Reply,
    target: Target,
    messages: Sequence[Message],
    sampling: Sampling,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Ask, and feed `reply` with what comes. more: other fields of the request. Raises ChatError."""
    from qwen_tui.chat.client import stream_chat
    from qwen_tui.chat.conversation import Conversation
    from qwen_tui.chat.events import ReasoningDelta, TextDelta, ThinkingEnded, ToolCallDelta
    from qwen_tui.chat.meter import ReplyMeter
    from qwen_tui.chat.reply import ReplyBuilder

    meter = ReplyMeter()
    scratch = Conversation()
    builder = ReplyBuilder(scratch, scratch.begin_reply(target.model), meter)
    try:
        async with contextlib.aclosing(stream_chat(target, messages, sampling, more=more, meter=meter)) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    reply.take_text(event.text, event.index, event.at)
                elif isinstance(event, ReasoningDelta):
                    reply.take_reasoning(event.text, event.index, event.at)
                elif isinstance(event, ThinkingEnded):
                    reply.text_was_thinking(event.index)
                elif isinstance(event, ToolCallDelta):
                    builder.take(event)
    finally:
        reply.tool_calls = builder.turns[0].tool_calls
        if meter.answered:
            reply.figures = meter.figures()
