"""`qwen-tui logs NAME`: the end of a server's log, or all of it, as it is written if asked."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwen_tui.i18n import _
from qwen_tui.paths import Paths
from qwen_tui.settings import Settings

if TYPE_CHECKING:
    from qwen_tui.logs.parse import LogLine
    from qwen_tui.logs.reader import LogReader

DEFAULT_LINES = 100
INTERRUPTED = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `qwen-tui logs`."""
    parser.add_argument("name", metavar="NAME", help=_("the server's name, as `qwen-tui ps` lists it"))
    parser.add_argument("-f", "--follow", action="store_true", help=_("go on with what is written, until Ctrl-C"))
    parser.add_argument(
        "-n",
        "--lines",
        type=_line_count,
        default=DEFAULT_LINES,
        metavar="LINES",
        help=_("how many of the last lines to print first, or “all” (default: {count})").format(count=DEFAULT_LINES),
    )
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help=_("one JSON object per line"))
    shape.add_argument(
        "--raw", action="store_true", help=_("the bytes of the file as they are, escape sequences included")
    )


def run(arguments: argparse.Namespace, paths: Paths, settings: Settings) -> int:
    """Print the log; the exit status.

    Raises ServerNotFound for an unknown name, LogError for a log that is missing or can't be read.
    """
    from qwen_tui.server.service import Servers

    log = Servers(paths).get(arguments.name).log
    try:
        return print_log(log, arguments)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read has seen enough. Python flushes stdout once more on its way out: into nothing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def print_log(log: Path, arguments: argparse.Namespace) -> int:
    """Print the log at `log` as `arguments` (follow, lines, json, raw) say."""
    from qwen_tui.logs.reader import LogError, LogReader

    reader = LogReader(log)
    if reader.state().identity is None and not arguments.follow:
        raise LogError(
            _("There is no log at {file}").format(file=log),
            hint=_("With -f, qwen-tui waits for it"),
        )
    start = _start(reader, arguments.lines)
    if arguments.raw:
        _print_raw(reader, start, arguments.follow)
    elif arguments.follow:
        import asyncio

        asyncio.run(_print_followed(log, start, arguments.json))
    else:
        with reader.snapshot() as snapshot:
            from qwen_tui.logs.parse import parse

            for batch in _batches(map(parse, snapshot.after(start))):
                _write(batch, arguments.json)
    return 0


def _line_count(text: str) -> int | None:
    """A number of lines from 0; None for “all”."""
    if text.lower() in ("all", _("all")):
        return None
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(_("“{value}” is neither a number of lines nor “all”").format(value=text))
    return int(text)


def _start(reader: LogReader, lines: int | None) -> int:
    """The offset from which the last `lines` lines run to the end."""
    if lines is None:
        return 0
    with reader.snapshot() as snapshot:
        position = snapshot.size
        for _step in range(lines):
            if position == 0:
                break
            position = snapshot.line_start(position - 1)
        return position


async def _print_followed(log: Path, start: int, as_json: bool) -> None:
    from qwen_tui.logs.follow import follow

    async for lines in follow(log, start):
        _write(lines, as_json)


def _print_raw(reader: LogReader, start: int, is_followed: bool) -> None:
    import time

    from qwen_tui.logs.follow import Tail

    with Tail(reader.path, start) as tail:
        while True:
            data = tail.chunk()
            if data:
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
            elif is_followed:
                time.sleep(0.1)
            else:
                return


def _batches(lines: Iterable[LogLine], size: int = 1000) -> Iterator[list[LogLine]]:
    from itertools import islice

    iterator = iter(lines)
    while batch := list(islice(iterator, size)):
        yield batch


def _write(lines: Iterable[LogLine], as_json: bool) -> None:
    text = "".join([f"{_as_json(line) if as_json else _as_text(line)}\n" for line in lines])
    sys.stdout.buffer.write(text.encode(sys.stdout.encoding or "utf-8", "replace"))
    sys.stdout.buffer.flush()


def _as_text(line: LogLine) -> str:
    if not line.hidden:
        return line.text
    return _("{text} … {count} more bytes").format(text=line.text, count=f"{line.hidden:,}")


def _as_json(line: LogLine) -> str:
    data: dict[str, Any] = {
        "offset": line.offset,
        "level": line.level.name if line.level else None,
        "process": line.process or None,
        "text": line.text,
    }
    if line.hidden:
        data["hidden_bytes"] = line.hidden
    return json.dumps(data, ensure_ascii=False)
