"""A conversation line by line, on any terminal and in any pipe: no screens."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys

from qwen_tui.chat.conversation import Conversation
from qwen_tui.chat.events import Sampling
from qwen_tui.errors import ChatError, UsageError
from qwen_tui.headless.chat import stream_into
from qwen_tui.headless.request_arguments import Chosen, choose_server
from qwen_tui.headless.request_output import INTERRUPTED, Reply, run_reply
from qwen_tui.i18n import _
from qwen_tui.paths import Paths


def talk(arguments: argparse.Namespace, paths: Paths, sampling: Sampling) -> int:
    """Ask one line after the other until the input ends or /quit; the exit status.

    A line that ends with a backslash goes on in the next. Raises ChatError, ServerError, UsageError where there is
    nobody to ask; a question that fails ends nothing at a terminal.
    """
    if arguments.tools is not None or arguments.file or arguments.image:
        raise UsageError(_("--tools, --file and --image ask one question: they do not go line by line"))
    chosen = asyncio.run(choose_server(arguments, paths))
    sampling = sampling.with_version(chosen.engine_version)
    conversation = Conversation(system=arguments.system)
    is_terminal = sys.stdin.isatty()
    if is_terminal:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401 - input() then has a line editor and a history
        print(_help(chosen), file=sys.stderr)
    question = arguments.prompt
    while True:
        if question is None:
            question = _read(is_terminal)
        if question is None or question.strip() in ("/quit", "/exit"):
            return 0
        status = _answer(question, conversation, chosen, sampling, arguments, is_terminal)
        if status != 0 and not is_terminal:
            return status
        question = None


def _help(chosen: Chosen) -> str:
    from qwen_tui.chat.harmless import harmless

    text = _("Talking to {model}. Ctrl+C stops an answer, /new begins anew, /system TEXT sets who it is, /quit ends.")
    return harmless(text.format(model=chosen.target.model))


def _read(is_terminal: bool) -> str | None:
    """The next question; None at the end."""
    lines: list[str] = []
    while True:
        try:
            line = input("… " if lines else "> ") if is_terminal else sys.stdin.readline()
        except EOFError:
            return None
        except KeyboardInterrupt:
            print()
            lines.clear()
            continue
        if not is_terminal and not line:
            return "\n".join(lines) or None
        line = line.rstrip("\n")
        lines.append(line.removesuffix("\\"))
        if not line.endswith("\\"):
            return "\n".join(lines)


def _answer(
    question: str,
    conversation: Conversation,
    chosen: Chosen,
    sampling: Sampling,
    arguments: argparse.Namespace,
    is_terminal: bool,
) -> int:
    """Do what a line says; the exit status."""
    command, _space, rest = question.strip().partition(" ")
    if not command:
        return 0
    if command == "/new" and not rest:
        conversation.turns.clear()
        return 0
    if command == "/system":
        conversation.system = rest.strip()
        return 0
    conversation.add_user(question)
    messages = conversation.messages()
    turn = conversation.begin_reply(chosen.target.model)
    reply = Reply(arguments.json, arguments.stream, model=chosen.target.model, shows_reasoning=arguments.show_reasoning)
    try:
        status = run_reply(reply, lambda: stream_into(reply, chosen.target, messages, sampling))
    except ChatError as error:
        turn.text, turn.reasoning = reply.text, reply.reasoning
        conversation.fail(turn, error, reply.figures)
        if not is_terminal:
            raise
        print(_("qwen-tui: {title}").format(title=str(error)), file=sys.stderr)
        return error.exit_code
    turn.text, turn.reasoning = reply.text, reply.reasoning
    if status == INTERRUPTED:
        conversation.stop(turn, reply.figures)
    elif reply.figures is not None:
        conversation.finish(turn, reply.figures)
    return status
