"""Fetch files over several connections, hash them on the way, and keep only what is right.

Standard library only. Large files are fetched in parts, several at once, each over a connection that is kept; a
hashing thread follows close behind, while the bytes are still in the page cache. Small ones are fetched whole. An
answer that fails is tried again, later and later; a file whose hash is wrong is fetched again alone.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qwen_tui.workers import hub_http, hub_parts
    from qwen_tui.workers.hub_check import Checker
    from qwen_tui.workers.hub_client import Client
    from qwen_tui.workers.hub_files import (
        Failure,
        File,
        Folders,
        ObsoleteError,
        Unit,
        WrongSizeError,
        check_range,
        disk_failure,
        write_whole,
    )
    from qwen_tui.workers.hub_units import Units
else:
    import hub_http
    import hub_parts
    from hub_check import Checker
    from hub_client import Client
    from hub_files import (
        Failure,
        File,
        Folders,
        ObsoleteError,
        Unit,
        WrongSizeError,
        check_range,
        disk_failure,
        write_whole,
    )  # fmt: skip
    from hub_units import Units

#: Up to this size, in bytes, a file is fetched whole into memory.
SMALL = 2 * 1024 * 1024
#: A file is given up when its bytes were wrong this often.
MOST_DAMAGED = 3
_BUFFER = 1024 * 1024
_WRITE_FROM = 256 * 1024
_UNKNOWN_LIMIT = 64 * 1024 * 1024
#: So many connections begin at once; another is added each time so many seconds pass. A near hub is done by then, and
#: there more threads than cores only get in each other's way.
_AT_ONCE = 2
_RAMP = 0.25


class Fetcher:
    """Fetches the files. `run` blocks; everything else may be asked from another thread meanwhile.

    is_known_good: whether a file that is there was checked before and has not changed since. on_checked: told of each
    file whose hash holds, from a working thread.
    """

    def __init__(
        self,
        files: Iterable[File],
        make_client: Callable[[], Client],
        connections: int,
        is_known_good: Callable[[File], bool],
        on_checked: Callable[[File], None],
    ) -> None:
        self.files = list(files)
        self.units = Units(connections)
        self.failure: Failure | None = None
        self.last_byte = time.monotonic()
        self._make_client = make_client
        self._connections = connections
        self._is_known_good = is_known_good
        self._on_checked = on_checked
        self._checker = Checker(self._good, self._bad, self._gone, self.stop)
        self._wake = threading.Condition()
        self._open = len(self.files)
        self._made: set[Path] = set()
        self._received = [0] * connections
        self._stopped = False
        self._over = threading.Event()

    # -- asked from outside ------------------------------------------------------------------------

    @property
    def received(self) -> int:
        """Bytes of files that came over the network."""
        return sum(self._received)

    def run(self) -> None:
        """Fetch and check all. Raises Failure; returns early after `stop`. No file stays open."""
        try:
            self._sort_out()
            self._checker.start()
            for number in range(self._connections):
                threading.Thread(target=self._fetch_loop, args=(number,), daemon=True).start()
            with self._wake:
                while self._open and not self._stopped:
                    self._wake.wait(1.0)
        except OSError as error:
            self.stop(disk_failure(error, Path(error.filename or self.files[0].target)))
        except Exception as error:  # noqa: BLE001 - a run that just ends would look like one that is done
            self.stop(Failure("bug", why=repr(error)))
        finally:
            self._leave()
        if self.failure is not None:
            raise self.failure

    def stop(self, failure: Failure | None = None) -> None:
        """Have `run` return, or raise `failure`."""
        with self._wake:
            self.failure = self.failure or failure
            self._stopped = True
            self._wake.notify_all()
        self.units.stop()

    def _leave(self) -> None:
        """Let go of the unfinished files: threads that still wait for the network must not hold their locks."""
        self._stopped = True
        self._over.set()
        self.units.stop()
        self._checker.stop()
        for file in self.files:
            with file.changed:
                if file.parts is not None:
                    file.generation += 1
                    file.done = file.parts.done
                    file.parts.close()
                    file.parts = None
                    file.changed.notify_all()

    # -- what there is to do -----------------------------------------------------------------------

    def _sort_out(self) -> None:
        """Small files first: they say soonest that something is wrong, and a model without its config is nothing."""
        folders = Folders()
        for file in sorted(self.files, key=lambda file: file.size):
            file.has_clients_part = folders.has(file.target, hub_parts.CLIENTS_SUFFIX)
            if folders.has(file.target):
                if file.has_come():
                    file.done = file.size
                    if self._is_known_good(file):
                        self._good(file)
                    else:
                        self._checker.add(file)
                    continue
                with contextlib.suppress(OSError):
                    file.target.unlink()  # another size: it is wrong, and must not look finished
            if file.has_clients_part or folders.has(file.target, hub_parts.SUFFIX):
                file.done = hub_parts.present(file.target, file.content, file.size)
            self.units.add(file)

    def _good(self, file: File) -> None:
        if file.has_clients_part:
            hub_parts.forget_clients(file.target)
        file.done, file.checked = file.size, True
        self._on_checked(file)
        with self._wake:
            self._open -= 1
            if not self._open:
                self._wake.notify_all()

    def _bad(self, file: File) -> None:
        self._damaged(file, "hash")

    def _gone(self, file: File) -> None:
        file.done = 0
        self.units.add(file)

    # -- fetching ----------------------------------------------------------------------------------

    def _fetch_loop(self, number: int) -> None:
        if number >= _AT_ONCE:
            self._over.wait(_RAMP * (number - _AT_ONCE + 1))
        client = self._make_client()
        view = memoryview(bytearray(_BUFFER))
        while (unit := self.units.take()) is not None:
            try:
                self._fetch(unit, client, view, number)
            except hub_http.Trouble as trouble:
                self.units.again(unit, trouble)
            except ObsoleteError:
                continue
            except WrongSizeError as error:
                self._damaged(unit.file, "size", error.sent)
            except hub_http.Refused as refused:
                code = "token" if refused.status in (401, 403) else "file_missing"
                self.stop(Failure(code, name=unit.file.name, status=refused.status))
            except BlockingIOError:
                self.units.again(unit, hub_http.Trouble("busy", unit.file.name, 2.0))
            except OSError as error:
                self.stop(disk_failure(error, unit.file.target))
            except Exception as error:  # noqa: BLE001 - a thread that just ends would leave the download hanging
                self.stop(Failure("bug", why=repr(error)))
        client.close()

    def _fetch(self, unit: Unit, client: Client, view: memoryview, number: int) -> None:
        file = unit.file
        if unit.index >= 0:
            self._fetch_part(unit, client, view, number)
        elif unit.failures and file.has_come():
            self._checker.add(file)  # somebody else has fetched it meanwhile
        elif file.size <= SMALL:
            self._fetch_small(file, client, view, number)
        elif file.parts is None:
            self._begin(file)

    def _begin(self, file: File) -> None:
        """Open a large file and put its missing parts to the front, in order."""
        hub_parts.adopt(file.target, file.content, file.size)
        parts = hub_parts.PartFile(file.target, file.content, file.size)
        with file.changed:
            if self._over.is_set():
                parts.close()
                raise ObsoleteError
            file.parts = parts
        self._checker.add(file)
        self._add_parts(file, parts)

    def _add_parts(self, file: File, parts: hub_parts.PartFile) -> None:
        for index in range(len(parts.counts) - 1, -1, -1):
            if parts.counts[index] < parts.length(index):
                self.units.add(file, index, is_first=True)

    def _arrived(self, number: int, count: int) -> None:
        self._received[number] += count
        self.last_byte = time.monotonic()
        self.units.got_through()

    def _fetch_small(self, file: File, client: Client, view: memoryview, number: int) -> None:
        is_empty = file.size == 0 and not file.is_size_unknown
        data = memoryview(b"") if is_empty else self._whole(file, client, view, number)
        if file.is_size_unknown:
            file.size = len(data)
        digest = file.digest()
        if digest is not None:
            digest.update(data)
        if len(data) != file.size:
            raise WrongSizeError(len(data))
        if not file.holds(digest):
            self._damaged(file, "hash")
            return
        folder = file.target.parent
        if folder not in self._made:
            folder.mkdir(parents=True, exist_ok=True)
            self._made.add(folder)
        write_whole(file.target, data)
        self._good(file)

    def _whole(self, file: File, client: Client, view: memoryview, number: int) -> memoryview:
        response, connection = client.get(file.url)
        if response.length is not None and response.length != file.size and not file.is_size_unknown:
            connection.finish()
            raise WrongSizeError(response.length)
        size = response.length if response.length is not None else file.size or _UNKNOWN_LIMIT
        if size > _UNKNOWN_LIMIT:
            connection.close()
            raise WrongSizeError(size)
        buffer = view if size < len(view) else memoryview(bytearray(size + 1))
        filled = 0
        while filled <= size and not self._stopped and (count := connection.read_into(buffer[filled : size + 1])):
            filled += count
            file.got = True
            file.done = min(filled, file.size)
            self._arrived(number, count)
        connection.finish()
        if self._stopped:
            raise ObsoleteError
        return buffer[:filled]

    def _fetch_part(self, unit: Unit, client: Client, view: memoryview, number: int) -> None:
        file, index = unit.file, unit.index
        parts = file.parts
        while not self._stopped:
            if parts is None or unit.generation != file.generation:
                raise ObsoleteError
            if not file.has_ranges and parts.counts[0]:
                self._anew(file, unit.generation)
                return
            first = index * parts.part + parts.counts[index]
            last = index * parts.part + parts.length(index) - 1
            if first > last:
                return
            if file.has_ranges:
                last = min(last, first + client.span(file.url) - 1)
            if not self._fetch_span(unit, parts, client, (first, last), view, number):
                return

    def _fetch_span(
        self,
        unit: Unit,
        parts: hub_parts.PartFile,
        client: Client,
        span: tuple[int, int],
        view: memoryview,
        number: int,
    ) -> bool:
        """Fetch the bytes `span`, both ends included; False if the hub gives no ranges, and the file was begun anew."""
        file, (first, last) = unit.file, span
        is_ranged = file.has_ranges and (first > 0 or last + 1 < file.size)
        response, connection = client.get(file.url, first if is_ranged else None, last)
        try:
            if is_ranged:
                if response.status == 200:
                    file.has_ranges = False
                    self._anew(file, unit.generation)
                    return False
                check_range(response, first, last, file.size)
            elif response.length is not None and response.length != file.size:
                raise WrongSizeError(response.length)
            self._receive(unit, last + 1 - first, connection, view, number)
        finally:
            connection.finish()
        return True

    def _receive(self, unit: Unit, left: int, connection: hub_http.Connection, view: memoryview, number: int) -> None:
        """Write the next `left` bytes of a part as they come."""
        file = unit.file
        filled, written_at = 0, time.monotonic()
        try:
            while left > filled:
                count = connection.read_into(view[filled : min(_BUFFER, left + 1)])
                if not count:
                    raise hub_http.Trouble("cut")
                filled += count
                self._arrived(number, count)
                if filled > left:
                    raise WrongSizeError(file.size + filled - left)
                if filled >= _WRITE_FROM or self.last_byte - written_at > 0.2:
                    self._write(unit, view[:filled])
                    left -= filled
                    filled, written_at = 0, self.last_byte
                    unit.failures = 0
                if self._stopped:
                    break
        finally:
            if 0 < filled <= left:
                self._write(unit, view[:filled])

    def _write(self, unit: Unit, view: memoryview) -> None:
        file = unit.file
        with file.changed:
            if unit.generation != file.generation or file.parts is None:
                raise ObsoleteError
            file.parts.write(unit.index, view)
            file.got = True
            file.changed.notify_all()

    def _anew(self, file: File, generation: int) -> None:
        """Begin a file again from its first byte; in one piece if the hub gives no parts."""
        with file.changed:
            if generation != file.generation or file.parts is None:
                return
            file.generation += 1
            parts = file.parts
            parts.restart(hub_parts.part_size(file.size) if file.has_ranges else file.size)
            file.changed.notify_all()
        self._add_parts(file, parts)

    def _damaged(self, file: File, kind: str, sent: int = 0) -> None:
        """Wrong bytes came. Again, alone; too often, and it is over."""
        file.damaged += 1
        if file.damaged >= MOST_DAMAGED:
            self._discard(file)
            self.stop(
                Failure("damaged" if kind == "hash" else "wrong_size", name=file.name, sent=sent, listed=file.size)
            )
        elif file.parts is not None:
            self._anew(file, file.generation)
        else:
            file.done = 0
            self.units.add(file)

    def _discard(self, file: File) -> None:
        with file.changed:
            file.generation += 1
            if file.parts is not None:
                file.parts.drop()
                file.parts = None
            file.done = 0
