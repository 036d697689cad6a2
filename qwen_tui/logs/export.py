"""Write a log, or what a filter leaves of it, to a file."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from qwen_tui.i18n import _
from qwen_tui.logs.filters import Filter, Sieve
from qwen_tui.logs.reader import CHUNK, LogError, LogReader, Snapshot
from qwen_tui.logs.search import Cancelled, Finder

#: Called with bytes looked through and bytes in all.
OnProgress = Callable[[int, int], None]


class Exported(NamedTuple):
    """What was written. size: bytes. lines: how many passed the filter; None where there was no filter."""

    path: Path
    size: int
    lines: int | None


def export(
    log: Path,
    target: Path,
    wanted: Filter | None = None,
    is_cancelled: Callable[[], bool] | None = None,
    on_progress: OnProgress | None = None,
) -> Exported:
    """Write the lines of `log` that pass, byte by byte as they are, to the new file `target`, mode 0600.

    What rotation has taken out of the log is part of it. What has been written when
    it is cancelled, or fails, is removed. Raises LogError, and Cancelled (see search).
    """
    reader = LogReader(log)
    if reader.state().identity is None:
        raise LogError(_("There is no log at {file}").format(file=log))
    target = target.expanduser()
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise LogError(
            _("{file} is there already").format(file=target), hint=_("Choose another name: nothing is overwritten")
        ) from None
    except OSError as error:
        raise _unwritable(target, error) from None
    is_done = False
    try:
        with os.fdopen(descriptor, "wb") as file, reader.snapshot() as snapshot:
            if wanted is None or wanted.is_all:
                lines = None
                _write_all(snapshot, file, is_cancelled, on_progress)
            else:
                lines = _write_passing(snapshot, file, wanted, is_cancelled, on_progress)
            size = file.tell()
        is_done = True
    except OSError as error:
        raise _unwritable(target, error) from None
    finally:
        if not is_done:
            with suppress(OSError):
                target.unlink()
    return Exported(target, size, lines)


def _write_all(
    snapshot: Snapshot,
    file: BinaryIO,
    is_cancelled: Callable[[], bool] | None,
    on_progress: OnProgress | None,
) -> None:
    at = snapshot.start
    while chunk := snapshot.read(at, min(snapshot.size, at + 16 * CHUNK)):
        if is_cancelled is not None and is_cancelled():
            raise Cancelled
        file.write(chunk)
        at += len(chunk)
        if on_progress is not None:
            on_progress(at, snapshot.size)


def _write_passing(
    snapshot: Snapshot,
    file: BinaryIO,
    wanted: Filter,
    is_cancelled: Callable[[], bool] | None,
    on_progress: OnProgress | None,
) -> int:
    finder = Finder(Sieve(wanted), is_cancelled)
    if on_progress is not None:
        report = on_progress
        finder.on_look = lambda: report(finder.done, finder.total)
    count = 0
    for line in finder.after(snapshot, 0):
        for at in range(line.offset, line.next_offset, CHUNK):
            file.write(snapshot.read(at, min(line.next_offset, at + CHUNK)))
        count += 1
    return count


def _unwritable(target: Path, error: OSError) -> LogError:
    return LogError(_("Can't write {file}").format(file=target), error.strerror or str(error))
