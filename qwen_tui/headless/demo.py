"""`qwen-tui demo`: everything from nothing to a conversation.

On a terminal `run` prepares, sets `arguments.open_server` to the server's name and returns 0: the command line then
opens the chat on it. Elsewhere, or with --headless, it asks the model one question and stops the server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

from qwen_tui.headless.setup import add_engine_arguments
from qwen_tui.i18n import _
from qwen_tui.paths import Paths
from qwen_tui.settings import Settings

if TYPE_CHECKING:
    from qwen_tui.chat.events import ReplyFigures
    from qwen_tui.demo import DemoOptions, Prepared
    from qwen_tui.server.service import Servers
    from qwen_tui.server.status import ServerStatus, StartProgress

QUESTION = "What is the capital of France?"
_MAX_TOKENS = 256


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `qwen-tui demo`."""
    parser.add_argument(
        "--model", default="", metavar="MODEL", help=_("a hub id or a folder instead of the demo model")
    )
    parser.add_argument("--engine", default="", metavar="PATH", help=_("the Python, or the environment, that has vLLM"))
    parser.add_argument("--headless", action="store_true", help=_("plain lines: ask one question, stop the server"))
    parser.add_argument(
        "--port",
        type=_port,
        default=None,
        metavar="N",
        help=_("port to listen on (default: 8000 or the next free one)"),
    )
    parser.add_argument(
        "--prompt",
        default=QUESTION,
        metavar="TEXT",
        help=_("the question to ask (default: “{question}”)").format(question=QUESTION),
    )
    parser.add_argument("--json", action="store_true", help=_("print the answer as JSON; implies --headless"))
    add_engine_arguments(parser)


def run(arguments: argparse.Namespace, paths: Paths, settings: Settings) -> int:
    """Run the demo; the exit status. Raises QwenTuiError."""
    from qwen_tui.demo import DemoOptions
    from qwen_tui.headless.running import run_interruptible
    from qwen_tui.headless.setup import chosen_index, print_mirrors, wants_cpu

    if arguments.mirror == "list":
        print_mirrors()
        return 0
    options = DemoOptions(
        model=arguments.model,
        engine=arguments.engine,
        cpu=wants_cpu(arguments),
        index_url=chosen_index(arguments, settings),
        port=arguments.port,
    )
    headless = is_headless(arguments)

    async def main() -> int:
        from qwen_tui.server.service import Servers

        servers = Servers(paths)
        try:
            if headless:
                return await _ask_once(arguments, paths, settings, servers, options)
            prepared = await _prepare(paths, settings, servers, options)
            arguments.open_server = prepared.server.name
            return 0
        finally:
            await servers.close()

    return run_interruptible(main, lambda: _("Stopped. `qwen-tui demo` goes on from here"))


def is_headless(arguments: argparse.Namespace) -> bool:
    """Whether to work in plain lines: asked for, or no terminal to draw on."""
    return bool(arguments.headless or arguments.json or not (sys.stdin.isatty() and sys.stdout.isatty()))


async def _prepare(paths: Paths, settings: Settings, servers: Servers, options: DemoOptions) -> Prepared:
    from qwen_tui.demo import prepare_demo
    from qwen_tui.headless.plain import PlainProgress
    from qwen_tui.headless.start import as_progress

    with PlainProgress(sys.stderr) as show:

        def on_start(start: StartProgress) -> None:
            show(as_progress(start))

        return await prepare_demo(paths, settings, servers, options, show, on_start)


async def _ask_once(
    arguments: argparse.Namespace, paths: Paths, settings: Settings, servers: Servers, options: DemoOptions
) -> int:
    prepared = await _prepare(paths, settings, servers, options)
    server = prepared.server
    try:
        print(_("{name} answers at {url}").format(name=server.name, url=server.spec.base_url), file=sys.stderr)
        answer, figures = await _ask(server, arguments.prompt, is_shown=not arguments.json)
    finally:
        if prepared.started:
            await asyncio.shield(_stop(servers, server))
    if arguments.json:
        print(json.dumps(_as_json(prepared, arguments.prompt, answer, figures), ensure_ascii=False), flush=True)
    if not prepared.started:
        print(_("The server was running before and goes on: {name}").format(name=server.name), file=sys.stderr)
    return 0


async def _ask(server: ServerStatus, prompt: str, *, is_shown: bool) -> tuple[str, ReplyFigures]:
    """Ask one question; the answer and its figures. Shown: printed as it comes. Raises ChatError."""
    from qwen_tui.chat.client import Finished, Message, Sampling, Target, TextDelta, stream_chat
    from qwen_tui.chat.harmless import harmless
    from qwen_tui.errors import ChatError

    target = Target(server.spec.base_url, server.model_name, server.api_key)
    # Greedy: the same question gets the same answer.
    sampling = Sampling(temperature=0.0, max_tokens=_MAX_TOKENS)
    if is_shown:
        print(f"> {harmless(prompt)}", flush=True)
    pieces: list[str] = []
    figures: ReplyFigures | None = None
    async for event in stream_chat(target, [Message("user", prompt)], sampling):
        if isinstance(event, TextDelta):
            pieces.append(event.text)
            if is_shown:
                print(harmless(event.text), end="", flush=True)
        elif isinstance(event, Finished):
            figures = event.figures
    if is_shown:
        print(flush=True)
    answer = "".join(pieces)
    if figures is None or not answer.strip():
        raise ChatError(
            _("The model gave no answer"), hint=_("The server's log may say why: {log}").format(log=server.log)
        )
    if is_shown:
        print(figures_line(figures), flush=True)
    return answer, figures


def figures_line(figures: ReplyFigures) -> str:
    """'TTFT 0.12 s · 24.1 tokens/s · 8 tokens · stop'."""
    parts = []
    if figures.ttft_s is not None:
        parts.append(_("TTFT {seconds:.2f} s").format(seconds=figures.ttft_s))
    if figures.tokens_per_s is not None:
        parts.append(_("{rate:.1f} tokens/s").format(rate=figures.tokens_per_s))
    parts.append(_("{count} tokens").format(count=f"{figures.completion_tokens:,}"))
    if figures.finish_reason:
        parts.append(figures.finish_reason)
    return " · ".join(parts)


async def _stop(servers: Servers, server: ServerStatus) -> None:
    await servers.stop(server.name, lambda step: print(f"{step.at:5.1f} s  {step.text}", file=sys.stderr, flush=True))
    print(_("{name} is stopped").format(name=server.name), file=sys.stderr, flush=True)


def _as_json(prepared: Prepared, prompt: str, answer: str, figures: ReplyFigures) -> dict[str, Any]:
    return {
        "question": prompt,
        "answer": answer,
        "figures": figures.to_json(),
        "server": prepared.server.to_json(),
        "engine": {
            "python": str(prepared.engine.python),
            "version": prepared.engine.version,
            "platform": prepared.engine.platform,
        },
        "stopped": prepared.started,
    }


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(_("“{value}” is not a port from 1 to 65535").format(value=text))
    return int(text)
