"""Stands over one backend's process, and sees to it that nothing of it is left, whoever dies.

Run as `python -E -S throughput_guard.py FOLDER COMMAND …`, standard library only. It is a child subreaper: what the
backend started and lost (vLLM's EngineCore and workers, in whatever session) becomes this process's child and is
ended. It ends the backend when it is told to (SIGTERM), when its own parent dies, even by SIGKILL, and when the
backend's own process has ended. Its exit status is the backend's, or 128 + the signal that ended that.

FOLDER is for vLLM's sockets, and is removed at the end; empty for none.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qwen_tui.workers import protocol
else:
    import protocol

PR_SET_CHILD_SUBREAPER = 36
#: Seconds that the backend's processes get between SIGTERM and SIGKILL.
GRACE = 2.0
#: Seconds after which processes that even SIGKILL does not end (a driver that hangs) are given up.
PATIENCE = 60.0
SOCKETS = "VLLM_RPC_BASE_PATH"
SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}


class Guard:
    """One backend from its start to the end of the last process of it. status: as os.waitpid told it."""

    def __init__(self, argv: list[str], environment: dict[str, str]) -> None:
        self.status: int | None = None
        self.is_asked = False
        self.pid = os.posix_spawn(
            argv[0],
            argv,
            {**environment, protocol.PARENT_VARIABLE: str(os.getpid())},
            setsigmask=[],
            setsigdef=[signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE],
        )

    def pause(self, seconds: float | None) -> None:
        """Wait for a signal, at most `seconds` (None: for ever), and deal with it."""
        info = signal.sigwaitinfo(SIGNALS) if seconds is None else signal.sigtimedwait(SIGNALS, seconds)
        if info is not None and info.si_signo != signal.SIGCHLD:
            self.is_asked = True
        self.collect()

    def collect(self) -> bool:
        """Reap what has ended; whether any child is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.pid:
                self.status = status

    def end(self) -> None:
        """End what is left. A child's orphans become children of this process, so the last one is found, too."""
        began = time.monotonic()
        while self.collect() and time.monotonic() < began + PATIENCE:
            is_polite = time.monotonic() < began + GRACE
            for pid in children():
                try:
                    os.kill(pid, signal.SIGTERM if is_polite else signal.SIGKILL)
                except OSError:
                    continue
            self.pause(0.2 if is_polite else 0.05)

    def exit_status(self) -> int:
        if self.status is None:
            return 128 + signal.SIGTERM
        code = os.waitstatus_to_exitcode(self.status)
        return code if code >= 0 else 128 - code


def children() -> list[int]:
    """The processes whose parent this one is. Source: proc(5)."""
    me, found = os.getpid(), []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                with open(f"/proc/{entry.name}/stat", "rb") as file:  # noqa: PTH123 - pathlib doubles the start's time
                    parent = int(file.read().rpartition(b")")[2].split()[1])
            except (OSError, ValueError, IndexError):
                continue
            if parent == me:
                found.append(int(entry.name))
    return found


def main() -> int:
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    protocol.end_with_parent()
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    folder = sys.argv[1]
    try:
        guard = Guard(sys.argv[2:], {**os.environ, **({SOCKETS: folder} if folder else {})})
        while guard.status is None and not guard.is_asked:
            guard.pause(None)
        guard.end()
        return guard.exit_status()
    finally:
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
