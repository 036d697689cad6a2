"""`qwen-tui chat "…"`: one question to a model, its answer on stdout as it comes, the figures on stderr."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import re
import signal
import sys
from dataclasses import dataclass
from typing import Any

from qwen_tui.errors import ChatError, QwenTuiError, UsageError
from qwen_tui.i18n import _
from qwen_tui.paths import Paths
from qwen_tui.settings import Settings

TYPE_CHECKING = False  # what type checkers take for true; importing typing's would make --help slower
if TYPE_CHECKING:
    from qwen_tui.chat.events import Message, ReplyFigures, Sampling, Target

INTERRUPTED = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `qwen-tui chat`."""
    parser.add_argument(
        "prompt", nargs="?", metavar="TEXT", help=_("what to ask; text that is piped in comes after it")
    )
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
    parser.add_argument("--model", metavar="NAME", help=_("the model's name there (default: what the server serves)"))
    parser.add_argument("--system", metavar="TEXT", default="", help=_("a system message"))
    parser.add_argument("--max-tokens", type=_positive, metavar="N", help=_("the most tokens to answer with"))
    parser.add_argument("--temperature", type=_temperature, metavar="T", help=_("0 always takes the likeliest token"))
    parser.add_argument("--json", action="store_true", help=_("one JSON object when the reply is whole"))


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(_("not a whole number above 0: {text}").format(text=text))
    return int(text)


def _temperature(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(_("not a number of 0 or more: {text}").format(text=text))
    return value


def run(arguments: argparse.Namespace, paths: Paths, settings: Settings) -> int:
    """Ask and print; the exit status. Raises ChatError, ServerError, UsageError."""
    from qwen_tui.chat.events import Message, Sampling

    prompt = _prompt(arguments.prompt)
    messages = [Message("system", arguments.system)] if arguments.system else []
    messages.append(Message("user", prompt))
    sampling = Sampling(temperature=arguments.temperature, max_tokens=arguments.max_tokens)
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="replace")  # a terminal without UTF-8 shows question marks, not a traceback
    return asyncio.run(_main(arguments, paths, messages, sampling))


def _prompt(argument: str | None) -> str:
    """The argument, and after it what is piped in."""
    piped = ""
    if sys.stdin is not None and not sys.stdin.isatty():
        piped = sys.stdin.buffer.read().decode("utf-8", "replace").strip("\n")
    prompt = "\n\n".join(part for part in (argument or "", piped) if part.strip())
    if not prompt:
        raise UsageError(_("Ask something"), "", _('For example: qwen-tui chat "Why is the sky blue?"'))
    return prompt


async def _main(arguments: argparse.Namespace, paths: Paths, messages: list[Message], sampling: Sampling) -> int:
    task = asyncio.current_task()
    assert task is not None
    with contextlib.suppress(NotImplementedError, RuntimeError):
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, task.cancel)
    reply = _Reply(as_json=arguments.json)
    try:
        reply.model, target = await _target(arguments, paths)
        await _stream(target, messages, sampling, reply)
    except asyncio.CancelledError:
        reply.end(stopped=True)
        return INTERRUPTED
    except ChatError as error:
        if not reply.text and not reply.reasoning:
            raise
        reply.end(error=error)
        if not arguments.json:
            raise
        print(f"qwen-tui: {error}", file=sys.stderr)
        return error.exit_code
    reply.end()
    return 0


async def _target(arguments: argparse.Namespace, paths: Paths) -> tuple[str, Target]:
    """The model's name and where to ask for it."""
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
    model = arguments.model or status.model_name
    return model, Target(status.spec.base_url, model, status.api_key)


async def _elsewhere(base_url: str, model: str | None, key: str | None) -> tuple[str, Target]:
    """Like _target, for a server that qwen-tui did not start; its first model unless one is named."""
    from qwen_tui.chat.events import Target
    from qwen_tui.chat.served import served_models

    models = [model] if model else await served_models(base_url, key)
    if not models:
        raise ChatError(_("{url} serves no model").format(url=base_url))
    return models[0], Target(base_url, models[0], key)


@dataclass
class _Reply:
    """What has come so far, printed as it comes unless it is to be JSON."""

    as_json: bool
    model: str = ""
    text: str = ""
    reasoning: str = ""
    figures: ReplyFigures | None = None

    def take_text(self, text: str) -> None:
        from qwen_tui.chat.harmless import harmless

        self.text += text
        if not self.as_json:
            sys.stdout.write(harmless(text))
            sys.stdout.flush()

    def take_reasoning(self, text: str) -> None:
        from qwen_tui.chat.harmless import harmless

        self.reasoning += text
        # Thinking is no part of the answer: shown to whoever watches, not piped on.
        if not self.as_json and sys.stderr.isatty():
            sys.stderr.write(harmless(text))
            sys.stderr.flush()

    def end(self, stopped: bool = False, error: QwenTuiError | None = None) -> None:
        """Print what belongs after the text."""
        from qwen_tui.chat.figures import figures_line
        from qwen_tui.chat.harmless import harmless

        if self.as_json:
            print(_json(self._object(stopped, error)), flush=True)
            return
        if self.text and not self.text.endswith("\n"):
            print(flush=True)
        if self.figures is not None:
            print(harmless(figures_line(self.figures, stopped)), file=sys.stderr, flush=True)

    def _object(self, stopped: bool, error: QwenTuiError | None) -> dict[str, Any]:
        figures = self.figures
        found: dict[str, Any] = {
            "model": self.model,
            "text": self.text,
            "reasoning": self.reasoning,
            "finish_reason": "stopped" if stopped else figures.finish_reason if figures else "",
            "figures": figures.to_json() if figures else None,
        }
        if error is not None:
            found["error"] = {"title": error.title, "why": error.why, "hint": error.hint}
        return found


def _json(value: Any) -> str:
    """JSON that keeps its characters readable, but none that a terminal would obey."""
    text = json.dumps(value, ensure_ascii=False)
    return re.sub(
        "[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]", lambda found: f"\\u{ord(found.group()):04x}", text
    )


async def _stream(target: Target, messages: list[Message], sampling: Sampling, reply: _Reply) -> None:
    from qwen_tui.chat.client import stream_chat
    from qwen_tui.chat.events import ReasoningDelta, TextDelta
    from qwen_tui.chat.meter import ReplyMeter

    meter = ReplyMeter()
    try:
        async with contextlib.aclosing(stream_chat(target, messages, sampling, meter=meter)) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    reply.take_text(event.text)
                elif isinstance(event, ReasoningDelta):
                    reply.take_reasoning(event.text)
    finally:
        if meter.answered:
            reply.figures = meter.figures()
