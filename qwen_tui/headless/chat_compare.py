"""`qwen-tui chat --compare A,B "…"`: the same question to two targets at once, the answers one after the other."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from dataclasses import dataclass, field
from typing import Any

from qwen_tui.errors import QwenTuiError, UsageError
from qwen_tui.headless.request_arguments import choose_server
from qwen_tui.headless.request_output import INTERRUPTED, Reply
from qwen_tui.i18n import _
from qwen_tui.paths import Paths

TYPE_CHECKING = False  # what type checkers take for true; importing typing's would make --help slower
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from qwen_tui.chat.events import Message, Sampling, Target

    Stream = Callable[[Reply, Target, Sequence[Message], Sampling, Mapping[str, Any]], Coroutine[Any, Any, None]]


@dataclass
class Asked:
    """One of the two. name: as it was given. error: why it has no whole answer."""

    name: str
    sampling: Sampling
    place: argparse.Namespace
    reply: Reply = field(default_factory=Reply)
    error: QwenTuiError | None = None


class SideReply(Reply):
    """A reply whose pieces say which of the two they belong to."""

    name = ""

    def _line(self, *, index: int, at: float, **piece: str) -> None:
        from qwen_tui.chat.harmless import harmless_json

        if self.stream:
            line = {"target": self.name, **piece, "index": index, "at": round(at, 6)}
            print(harmless_json(line), flush=True)


def compare(
    arguments: argparse.Namespace,
    paths: Paths,
    sampling: Sampling,
    messages: Sequence[Message],
    more: Mapping[str, Any],
    stream: Stream,
) -> int:
    """Ask both and print; the exit status: that of the one that failed, else 0. Raises UsageError.

    more: other fields of the request, such as `tools`. stream: asks, and feeds a reply with what comes.
    """
    if arguments.server or arguments.base_url or arguments.endpoint:
        raise UsageError(_("--compare names both targets itself: leave --server, --base-url and --endpoint out"))
    sides = [_side(text, arguments, paths, sampling) for text in arguments.compare.split(",") if text.strip()]
    if len(sides) != 2:
        raise UsageError(
            _("--compare takes two targets with a comma between them"),
            "",
            _("Each is the name of a server or an endpoint, or a URL: NAME, NAME=MODEL, NAME@PRESET"),
        )

    async def ask(side: Asked) -> None:
        """Stream one answer into its reply, silently; an error is noted, so that the other goes on."""
        try:
            chosen = await choose_server(side.place, paths)
            side.reply.model = chosen.target.model
            await stream(side.reply, chosen.target, messages, side.sampling.with_version(chosen.engine_version), more)
        except QwenTuiError as error:
            side.error = error

    return asyncio.run(_run(sides, ask, arguments.json))


def _side(text: str, arguments: argparse.Namespace, paths: Paths, sampling: Sampling) -> Asked:
    """NAME, NAME=MODEL, NAME@PRESET; a URL in the place of NAME. Raises UsageError."""
    from qwen_tui.chat.sampling import make_sampling
    from qwen_tui.chat.sampling_presets import SamplingPresets

    text = text.strip()
    where, _at, preset = text.rpartition("@") if "@" in text.rpartition("/")[2] else (text, "", "")
    if preset:
        sampling = make_sampling({**sampling.chosen(), **SamplingPresets(paths).get(preset).chosen()})
    where, _equals, model = where.partition("=")
    place = argparse.Namespace(server=None, endpoint=None, base_url=None, model=model or arguments.model)
    if "://" in where:
        place.base_url = where
    elif where in _endpoint_names(paths):
        place.endpoint = where
    else:
        place.server = where
    side = Asked(text, sampling, place)
    # As if for JSON: nothing of two answers at once can be printed as it comes.
    reply = SideReply(True, arguments.json and arguments.stream, (sampling.n or 1) > 1)
    reply.name = text
    side.reply = reply
    return side


def _endpoint_names(paths: Paths) -> set[str]:
    from qwen_tui.server.endpoints import Endpoints

    return {endpoint.name for endpoint in Endpoints(paths).list()}


async def _run(sides: Sequence[Asked], ask: Callable[[Asked], Coroutine[Any, Any, None]], as_json: bool) -> int:
    """Ask both at once, print each as soon as it and those before it are whole; the exit status."""
    import signal

    task = asyncio.current_task()
    assert task is not None
    with contextlib.suppress(NotImplementedError, RuntimeError):
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, task.cancel)
    stopped = False
    asking = [asyncio.ensure_future(ask(side)) for side in sides]
    try:
        for side, asked in zip(sides, asking, strict=True):
            await asyncio.shield(asked)
            if not as_json:
                _print(side, False)
    except asyncio.CancelledError:
        stopped = True
        waiting = [side for side, asked in zip(sides, asking, strict=True) if not asked.done()]
        for asked in asking:
            asked.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        if not as_json:
            for side in waiting:
                _print(side, True)
    if as_json:
        from qwen_tui.chat.harmless import harmless_json

        print(harmless_json({"targets": [_object(side, stopped) for side in sides]}), flush=True)
    errors = [side.error for side in sides if side.error is not None]
    return INTERRUPTED if stopped else max((error.exit_code for error in errors), default=0)


def _print(side: Asked, stopped: bool) -> None:
    """An answer under its name, its figures on stderr."""
    from qwen_tui.chat.harmless import harmless

    name = f"{side.name} ({side.reply.model})" if side.reply.model not in ("", side.name) else side.name
    print(f"[{harmless(name)}]", flush=True)
    side.reply.as_json = False
    if side.reply.text and not side.reply.several:
        print(harmless(side.reply.text), end="")
    side.reply.end(stopped and side.error is None)
    if side.error is not None:
        print(_("qwen-tui: {title}").format(title=harmless(str(side.error))), file=sys.stderr, flush=True)
    print(flush=True)


def _object(side: Asked, stopped: bool) -> dict[str, Any]:
    """What --json prints of one answer."""
    cut = stopped and side.error is None and not (side.reply.figures and side.reply.figures.finish_reason)
    return {"target": side.name, **side.reply.to_json(cut, side.error)}
