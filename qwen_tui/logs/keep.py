"""Keep the log of a running server within bounds, in a thread beside whatever else its process does.

Standard library only: the keeper, which has nothing else, does this.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

from qwen_tui.logs import rotation
from qwen_tui.logs.archive import Stopped
from qwen_tui.logs.rotation import prune, rotate

#: Seconds between two looks at the log.
INTERVAL = 30.0
#: Rotation begins once the log takes this part more on the disk than is to be kept: few large archives, not many.
SLACK = 1 / 8
#: Seconds that whoever stops waits for a rotation to be given up.
PATIENCE = 5.0


class BoundedLog:
    """Rotates the log at `log` from time to time, between `start` and `stop`.

    keep_bytes: what stays uncompressed in the log; its archives together are kept to as much again, the oldest are
    deleted. 0 keeps everything as it is. note: takes one line about what went wrong, from the thread.
    Where the file system can't give back parts of a file, nothing is done and nothing is said.
    """

    def __init__(self, log: Path, keep_bytes: int, note: Callable[[str], None]) -> None:
        self._log = log
        self._keep = keep_bytes
        self._note = note
        self._stopped = threading.Event()
        self._noted = ""
        self._thread = threading.Thread(target=self._run, name="log rotation", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        if self._keep > 0:
            self._thread.start()

    def stop(self) -> None:
        """Look no more; a rotation under way is given up."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(PATIENCE)

    def _run(self) -> None:
        while not self._stopped.wait(INTERVAL):
            try:
                self.look()
            except Stopped:
                return
            except OSError as error:
                if not self._may_go_on(error):
                    return

    def look(self) -> None:
        """Rotate the log if it is too large by now. Raises OSError, and Stopped once it is to stop (see rotate)."""
        try:
            taken = os.stat(self._log).st_blocks * 512  # noqa: PTH116
        except FileNotFoundError:
            return
        if taken > self._keep + max(rotation.SMALLEST_PART, int(self._keep * SLACK)):
            rotate(self._log, self._keep, self._stopped.is_set)
            prune(self._log, self._keep)

    def _may_go_on(self, error: OSError) -> bool:
        if error.errno in (errno.EOPNOTSUPP, errno.ENOSYS):
            return False
        if error.errno != errno.EAGAIN and str(error) != self._noted:  # one line, not one every time
            self._noted = str(error)
            self._note(f"{self._log.name} not rotated: {error}")
        return error.errno not in (errno.EEXIST, errno.EPERM)
