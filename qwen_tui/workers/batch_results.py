"""Where a batch's answers go: JSON lines, appended as each is whole; the file itself says what is done.

Every finished row is handed to the system before the next step (a kill loses nothing that was written), and forced to
the disk once a second and at the end (a power cut loses at most the last second, which is then computed again). A last
line that is torn is cut off. Standard library only.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from pathlib import Path
from typing import Any

_LINE = {
    "rows": re.compile(rb'\{"line": (\d+), '),
    "openai": re.compile(rb'\{"id": "batch_req_(\d+)", '),
}


class OutputError(Exception):
    """The output can't be used: a code, and what it is about."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code, self.detail = code, detail


class DoneLines:
    """A set of line numbers, a byte for each."""

    def __init__(self) -> None:
        self._marks = bytearray()
        self.count = 0

    def __contains__(self, line: int) -> bool:
        return line < len(self._marks) and bool(self._marks[line])

    def add(self, line: int) -> bool:
        """Add it; whether it is new."""
        if line >= len(self._marks):
            self._marks.extend(bytes(max(line + 1 - len(self._marks), len(self._marks), 1024)))
        if self._marks[line]:
            return False
        self._marks[line] = 1
        self.count += 1
        return True


class Results:
    """The output and the errors file of one batch, held for this process alone.

    Opening it cuts off what is torn and finds what is done: `done` answers `line in done`, `finished` and `failed`
    count the rows that stand in the output and in the errors file.
    Raises OutputError: "in_use", "not_ours", "unwritable".
    """

    def __init__(self, output: str, errors: str, format: str) -> None:
        self.done = DoneLines()
        self.failed = 0
        self._format = format
        self._dirty: set[int] = set()
        try:
            self._output = os.open(output, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(self._output, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OutputError("in_use", output) from None
            _scan(self._output, output, _LINE[format], self.done)
            self.finished = self.done.count
            _drop_passing(Path(errors))
            self._errors = os.open(errors, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            _scan(self._errors, errors, _LINE["rows"], self.done)
            self.failed = self.done.count - self.finished
        except OSError as error:
            raise OutputError("unwritable", str(error)) from None
        self._lines: list[bytes] = []
        self._bad: list[bytes] = []

    def add(self, line: int, row: dict[str, Any]) -> None:
        """A finished row, written with the next `flush`. One that is there already is left out."""
        if self.done.add(line):
            self._lines.append(_json(row))

    def add_bad(self, line: int, id: str, code: str, detail: str, *, is_passing: bool = False) -> None:
        """A row without an answer. is_passing: a later run tries it again."""
        if self.done.add(line):
            error = {"code": code, "detail": detail[:2000]}
            self._bad.append(_json({"line": line, "id": id, "error": error, "retry": is_passing}))

    def flush(self) -> None:
        """Hand the rows over to the system. Raises OutputError("unwritable")."""
        for descriptor, lines in ((self._output, self._lines), (self._errors, self._bad)):
            if lines:
                count = len(lines)
                self._dirty.add(descriptor)
                try:
                    _append(descriptor, lines)
                finally:
                    self.finished += count - len(lines) if descriptor == self._output else 0
                    self.failed += count - len(lines) if descriptor == self._errors else 0

    def sync(self) -> None:
        """Force what was written to the disk. Takes as long as the disk does: called from a thread beside the work."""
        for descriptor in (self._output, self._errors):
            if descriptor in self._dirty:
                self._dirty.discard(descriptor)
                try:
                    os.fdatasync(descriptor)
                except OSError as error:
                    raise OutputError("unwritable", str(error)) from None

    def close(self) -> None:
        """Everything written and on the disk."""
        self.flush()
        self.sync()
        os.close(self._errors)
        os.close(self._output)


def _json(row: dict[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def _append(descriptor: int, lines: list[bytes]) -> None:
    """Append the lines and take them out of the list; those that did not fit whole stay there, and not in the file."""
    before = os.fstat(descriptor).st_size
    data = b"".join(lines)
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError as error:
        whole = data[: len(data) - len(view)].rfind(b"\n") + 1
        os.ftruncate(descriptor, before + whole)
        del lines[: data.count(b"\n", 0, whole)]
        raise OutputError("unwritable", str(error)) from None
    lines.clear()


def _scan(descriptor: int, path: str, pattern: re.Pattern[bytes], done: DoneLines) -> None:
    """Note the rows of the file; cut off a torn last line. Raises OutputError("not_ours")."""
    size = os.fstat(descriptor).st_size
    good = 0
    with os.fdopen(os.dup(descriptor), "rb") as file:
        file.seek(0)
        for number, line in enumerate(file, 1):
            match = pattern.match(line)
            if match is not None and line.endswith(b"}\n"):
                good += len(line)
                done.add(int(match[1]))
            elif good + len(line) == size:
                break  # the last one: it was torn
            else:
                raise OutputError("not_ours", f"{path}:{number}")
    if good < size:
        os.ftruncate(descriptor, good)


def _drop_passing(errors: Path) -> None:
    """Take out the rows that are to be tried again, and a torn last line."""
    if not errors.exists():
        return
    temporary = errors.with_name(f".{errors.name}.{os.getpid()}.tmp")
    try:
        with errors.open("rb") as old, temporary.open("wb") as new:
            for line in old:
                if line.endswith(b"}\n") and not line.endswith(b'"retry": true}\n'):
                    new.write(line)
            new.flush()
            os.fsync(new.fileno())
        temporary.replace(errors)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
