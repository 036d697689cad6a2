"""The deepest error that a failed server's log names, in one line."""

from __future__ import annotations

import os
import re
from pathlib import Path

#: How much of the end of a log is looked at. Bytes.
_TAIL = 1 << 20
#: What vLLM's processes and its logger put before a line of a traceback.
_PREFIX = re.compile(
    r"^(?:\([^)]*pid=\d+\) ?)?"
    r"(?:(?:DEBUG|INFO|WARNING|ERROR|CRITICAL)\s+\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?\s+\[[^\]]*\]\s?)?"
)
_EXCEPTION = re.compile(r"^(?:[A-Za-z_][\w]*\.)*[A-Z]\w*(?:Error|Exception|Interrupt|Exit|Fault|Warning)\b(?::\s*.*)?$")
_USAGE = re.compile(r"^\S+: error: (.+)$")
_NO_MODULE = re.compile(r"Error while finding module specification for .*\((ModuleNotFoundError: .*)\)")
#: Errors that only report another one.
_HOLLOW = re.compile(
    r"See root cause above|Engine core initialization failed|EngineDeadError|WorkerProc initialization failed"
    r"|Warning\b|^SystemExit|^KeyboardInterrupt|CancelledError|BrokenPipeError|^EOFError"
)


#: Letters of a cause that are worth showing.
_LONGEST = 500


def _whole(lines: list[str], number: int) -> str:
    """The exception at `number`, with the indented lines under it: pydantic puts what is wrong there."""
    line = lines[number].strip()
    if "ValidationError" in line:
        for following in lines[number + 1 : number + 6]:
            if not following.startswith(" "):
                break
            line += " " + following.strip()
    return line[:_LONGEST]


def find_cause(log: Path) -> str:
    """The first error of the last run in `log` that is not itself a report of another; empty if there is none.

    The first, because a worker fails before the engine core that waits for it, and the core before the API
    server; and in a chained traceback the origin is printed first.
    """
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    hollow = ""
    in_traceback = False
    lines = [_PREFIX.sub("", raw, count=1) for raw in re.split(r"[\r\n]+", text)]
    for number, line in enumerate(lines):
        if line.startswith("Traceback (most recent call last)"):
            in_traceback = True
            continue
        usage = _USAGE.match(line)
        missing = _NO_MODULE.search(line)
        if usage or missing:
            return (usage or missing).group(1)  # type: ignore[union-attr]
        if in_traceback and _EXCEPTION.match(line):
            in_traceback = False
            if not _HOLLOW.search(line):
                return _whole(lines, number)
            hollow = hollow or line.strip()[:_LONGEST]
    return hollow
