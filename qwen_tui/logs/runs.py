"""The logs of one server's runs: each start writes a log of its own into one folder."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import NamedTuple


class Run(NamedTuple):
    """One run of a server, as its log tells.

    started: local time, from the log's name; None where the name is another. size: bytes, with what
    rotation took out.
    """

    log: Path
    started: datetime | None
    size: int


def runs(log: Path) -> list[Run]:
    """The runs of the server whose current log is `log`, the newest first; that log is among them if it exists.

    Only logs named by a time, as qwen-tui names them, are looked for beside it.
    """
    found = []
    for path in {log, *log.parent.glob("*.log")}:
        started = _started(path)
        if started is None and path != log:
            continue
        try:
            found.append(Run(path, started, path.stat().st_size))
        except OSError:
            continue
    return sorted(found, key=lambda run: (run.log == log, _order(run.log)), reverse=True)


def _started(log: Path) -> datetime | None:
    try:
        return datetime.strptime(log.stem.split("_")[0], "%Y%m%d-%H%M%S")
    except ValueError:
        return None


def _order(log: Path) -> tuple[str, int]:
    """Runs that started within one second are numbered: TIME.log, TIME_2.log, …"""
    time, _sign, number = log.stem.partition("_")
    return time, int(number) if number.isdecimal() else 0
