"""Hash files: those that were there before, and those that arrive, close behind the bytes. Standard library only."""

from __future__ import annotations

import errno
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qwen_tui.workers.hub_files import Failure, File, disk_failure
else:
    from hub_files import Failure, File, disk_failure

THREADS = 2
_BLOCK = 2 * 1024 * 1024


class Checker:
    """Hashing threads with a queue of files.

    on_good: a file whose hash holds (its unfinished bytes have their name by then). on_damaged: one that arrived, and
    whose hash does not. on_gone: one that was there before, was wrong, and is deleted now. on_failure: all is over.
    """

    def __init__(
        self,
        on_good: Callable[[File], None],
        on_damaged: Callable[[File], None],
        on_gone: Callable[[File], None],
        on_failure: Callable[[Failure], None],
    ) -> None:
        self._on_good = on_good
        self._on_damaged = on_damaged
        self._on_gone = on_gone
        self._on_failure = on_failure
        self._files: deque[File] = deque()
        self._wake = threading.Condition()
        self._stopped = False

    def start(self) -> None:
        """Start the threads."""
        for _number in range(THREADS):
            threading.Thread(target=self._loop, daemon=True).start()

    def add(self, file: File) -> None:
        """Check `file`: what is there, or, where it has `parts`, what arrives."""
        with self._wake:
            self._files.append(file)
            self._wake.notify()

    def stop(self) -> None:
        """Have the threads end."""
        with self._wake:
            self._stopped = True
            self._wake.notify_all()

    def _loop(self) -> None:
        view = memoryview(bytearray(_BLOCK))
        while True:
            with self._wake:
                while not self._files and not self._stopped:
                    self._wake.wait()
                if self._stopped:
                    return
                file = self._files.popleft()
            try:
                if file.parts is None:
                    self._check_there(file, view)
                else:
                    self._follow(file, view)
            except OSError as error:
                self._on_failure(disk_failure(error, file.target))
            except Exception as error:  # noqa: BLE001 - a thread that just ends would leave the download hanging
                self._on_failure(Failure("bug", why=repr(error)))

    def _check_there(self, file: File, view: memoryview) -> None:
        digest = file.digest()
        with file.target.open("rb", buffering=0) as source:
            while digest is not None and (count := source.readinto(view)):
                digest.update(view[:count])
                if self._stopped:
                    return
        if file.holds(digest):
            self._on_good(file)
            return
        file.target.unlink()
        self._on_gone(file)

    def _follow(self, file: File, view: memoryview) -> None:
        """Hash a file as it arrives; when all is there, keep it or have it begun anew."""
        while not self._stopped:
            parts, generation, digest, offset = file.parts, file.generation, file.digest(), 0
            if parts is None:
                return
            while offset < file.size:
                ready = self._await(file, generation, offset)
                if ready <= offset:
                    break
                while offset < ready:
                    count = parts.read_into(view[: ready - offset], offset)
                    if count <= 0 and file.generation != generation:
                        break  # begun anew just now: the bytes are gone
                    if count <= 0:
                        raise OSError(errno.EIO, os.strerror(errno.EIO))
                    if digest is not None:
                        digest.update(view[:count])
                    offset += count
            if offset < file.size or file.generation != generation:
                continue  # begun anew, given up, or stopped
            if not file.holds(digest):
                self._on_damaged(file)
                continue
            with file.changed:
                if file.generation != generation:
                    continue
                parts.keep()
                file.parts = None
            self._on_good(file)
            return

    def _await(self, file: File, generation: int, offset: int) -> int:
        """Wait for bytes after `offset`; up to where they are there. 0 if these won't come any more."""
        with file.changed:
            while file.generation == generation and not self._stopped and file.parts is not None:
                ready = file.parts.prefix(offset)
                if ready > offset:
                    return ready
                file.changed.wait(1.0)
        return 0
