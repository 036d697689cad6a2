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
    from qwen_tui.logs.filters import Filter
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
    parser.add_argument(
        "--level", type=_level, metavar="LEVEL", help=_("only lines of this level or above: WARNING, ERROR, …")
    )
    parser.add_argument(
        "--process", default="", metavar="NAME", help=_("only lines of processes so named: EngineCore, …")
    )
    parser.add_argument(
        "--grep", default="", metavar="REGEX", help=_("only lines that match; capitals count if there are any")
    )
    parser.add_argument("--no-access", action="store_true", help=_("without the lines for each HTTP request"))
    parser.add_argument(
        "--run", type=_run_number, default=1, metavar="N", help=_("the N-th newest run of the server (default: 1)")
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--runs", action="store_true", help=_("list the logs of the server's runs"))
    what.add_argument("--export", metavar="FILE", help=_("write all of the log, or all lines that pass, to a new file"))
    what.add_argument(
        "--rotate",
        action="store_true",
        help=_("compress all but the newest lines into an archive beside the log and free their disk space"),
    )
    parser.add_argument(
        "--keep",
        type=_megabytes,
        default=_megabytes("64"),
        metavar="MB",
        help=_("what --rotate leaves in the log (default: 64 MB)"),
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
        if arguments.runs:
            return _list_runs(log, arguments.json)
        log = _run_log(log, arguments.run)
        if arguments.export:
            return _export(log, arguments)
        if arguments.rotate:
            return _rotate(log, arguments)
        return print_log(log, arguments)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read has seen enough. Python flushes stdout once more on its way out: into nothing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def print_log(log: Path, arguments: argparse.Namespace) -> int:
    """Print the log at `log` as `arguments` (follow, lines, json, raw, and the filters) say."""
    from qwen_tui.logs.reader import LogError, LogReader

    reader = LogReader(log)
    if reader.state().identity is None and not arguments.follow:
        raise LogError(
            _("There is no log at {file}").format(file=log),
            hint=_("With -f, qwen-tui waits for it"),
        )
    wanted = _filter(arguments)
    if not wanted.is_all:
        _print_passing(reader, wanted, arguments)
        return 0
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


def _filter(arguments: argparse.Namespace) -> Filter:
    from qwen_tui.logs.filters import Filter
    from qwen_tui.logs.parse import Level

    wanted = Filter(
        level=Level.NONE if arguments.level is None else Level[arguments.level],
        process=arguments.process,
        hide_access=arguments.no_access,
    ).with_pattern(arguments.grep)
    if wanted.pattern is not None and wanted.pattern.is_literal:
        note = _("{text} is no regular expression: it is looked for letter by letter")
        print(note.format(text=arguments.grep), file=sys.stderr)
    return wanted


def _print_passing(reader: LogReader, wanted: Filter, arguments: argparse.Namespace) -> None:
    """The last lines that pass, and with -f those that come."""
    from itertools import islice

    from qwen_tui.logs.filters import Sieve
    from qwen_tui.logs.search import Finder

    finder = Finder(Sieve(wanted))
    with reader.snapshot() as snapshot:
        end = snapshot.size
        if end and arguments.follow and snapshot.read(end - 1, end) != b"\n":
            end = snapshot.line_start(end - 1)
        start = 0
        if arguments.lines is not None:
            last = list(islice(finder.before(snapshot, end), arguments.lines))
            start = last[-1].offset if last else end
        passing = (line for line in finder.after(snapshot, start) if line.offset < end)
        if arguments.raw:
            for line in passing:
                sys.stdout.buffer.write(snapshot.read(line.offset, line.next_offset))
            sys.stdout.buffer.flush()
        else:
            for batch in _batches(passing):
                _write(batch, arguments.json)
    if arguments.follow:
        import asyncio

        asyncio.run(_print_followed(reader.path, end, arguments.json, wanted))


def _list_runs(log: Path, as_json: bool) -> int:
    from qwen_tui.logs.archive import archives
    from qwen_tui.logs.runs import runs
    from qwen_tui.progress import format_bytes

    for number, run in enumerate(runs(log), 1):
        if as_json:
            data = {
                "run": number,
                "log": str(run.log),
                "started": run.started.isoformat() if run.started else None,
                "bytes": run.size,
                "archives": [str(archive.path) for archive in archives(run.log)],
            }
            print(json.dumps(data, ensure_ascii=False))
        else:
            started = f"{run.started:%Y-%m-%d %H:%M:%S}" if run.started else " " * 19
            print(f"{number:>3}  {started}  {format_bytes(run.size):>9}  {run.log}")
    return 0


def _run_log(log: Path, number: int) -> Path:
    """The log of the N-th newest run. Raises LogError."""
    from qwen_tui.logs.reader import LogError
    from qwen_tui.logs.runs import runs

    if number == 1:
        return log
    found = runs(log)
    if number > len(found):
        raise LogError(
            _("There is no run {number}").format(number=number),
            hint=_("--runs lists those there are: {count}").format(count=len(found)),
        )
    return found[number - 1].log


def _export(log: Path, arguments: argparse.Namespace) -> int:
    from qwen_tui.logs.export import export
    from qwen_tui.progress import format_bytes

    written = export(log, Path(arguments.export), _filter(arguments))
    print(_("{size} written to {file}").format(size=format_bytes(written.size), file=written.path), file=sys.stderr)
    return 0


def _rotate(log: Path, arguments: argparse.Namespace) -> int:
    from qwen_tui.logs.reader import LogError
    from qwen_tui.logs.rotation import rotate
    from qwen_tui.progress import format_bytes

    try:
        rotated = rotate(log, arguments.keep)
    except OSError as error:
        raise LogError(_("Can't rotate the log {file}").format(file=log), error.strerror or str(error)) from None
    if rotated.archive is None:
        print(_("There is nothing to take out"), file=sys.stderr)
    else:
        words = _("{size} of disk freed; the lines are in {file}")
        print(words.format(size=format_bytes(rotated.freed), file=rotated.archive.path), file=sys.stderr)
    return 0


def _level(text: str) -> str:
    from qwen_tui.logs.parse import Level

    names = [level.name for level in Level if level]
    name = {"WARN": "WARNING", "FATAL": "CRITICAL"}.get(text.upper(), text.upper())
    if name not in names:
        raise argparse.ArgumentTypeError(
            _("“{value}” is no level; there are {names}").format(value=text, names=", ".join(names))
        )
    return name


def _run_number(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(_("“{value}” is no number from 1 on").format(value=text))
    return int(text)


def _megabytes(text: str) -> int:
    """Bytes from a number of MB."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(_("“{value}” is no number of MB").format(value=text))
    return int(text) * 1_000_000


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


async def _print_followed(log: Path, start: int, as_json: bool, wanted: Filter | None = None) -> None:
    from qwen_tui.logs.follow import follow

    async for lines in follow(log, start):
        _write(lines if wanted is None else filter(wanted.accepts, lines), as_json)


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
