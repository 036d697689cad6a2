"""Read a starting server's log as it grows: which phase it is in, and how far within it.

Only hints are taken from the log (ready is decided by asking the server). Each phase knows several wordings,
from vLLM 0.4 to 0.32; a line that fits none costs nothing but detail.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from qwen_tui.logs.holes import given_back
from qwen_tui.server.status import Phase

#: (phase, pattern); groups named n and m, where present, are done and total. Searched in every line.
_WORDINGS: tuple[tuple[Phase, re.Pattern[str]], ...] = tuple(
    (phase, re.compile(pattern))
    for phase, pattern in (
        (
            Phase.RESOLVE,
            r"non-default args|Resolved architecture|Using max model len|args: Namespace|API server version",
        ),
        (
            Phase.ENGINE,
            r"Initializing an? (?:\w+ )?LLM engine|Started engine process|Waiting for .*core engine"
            r"|distributed_init_method|world_size=",
        ),
        (Phase.WEIGHTS, r"Loading (?:safetensors|pt|np_cache|multi-thread|.*\bcheckpoint).*?(?P<n>\d+)/(?P<m>\d+)"),
        (
            Phase.WEIGHTS,
            r"Using model weights format|Starting to load model|Loading model |Model loading took"
            r"|Loading weights (?!took)|weights took",
        ),
        (
            Phase.COMPILE,
            r"torch\.compile (?:took|takes)|for vLLM's torch\.compile|Dynamo bytecode|[Cc]ompiling a graph"
            r"|Cache the graph|Warming up model for the compilation|Compiling model|AOT.compil",
        ),
        (
            Phase.PROFILE,
            r"KV cache size|GPU blocks|CPU blocks|Maximum concurrency|[Mm]emory profiling|init engine \(profile"
            r"|Available KV cache memory",
        ),
        (Phase.GRAPHS, r"Capturing (?:CUDA|cuda|ACL|the model).*?(?P<n>\d+)/(?P<m>\d+)"),
        (Phase.GRAPHS, r"Capturing (?:CUDA|cuda|ACL|the model)|Graph capturing"),
        (
            Phase.API,
            r"Starting vLLM (?:API )?server|Available routes are|Started server process|Waiting for application"
            r"|Application startup complete|Uvicorn running on",
        ),
    )
)
_ORDER = list(Phase)
#: What is read of a log at one go, at most. Bytes.
_CHUNK = 1 << 20


class PhaseReader:
    """Follows one log from the byte `begins` on.

    phase, done, total: what the lines read so far tell; a phase never goes back.
    """

    def __init__(self, log: Path, begins: int = 0) -> None:
        self._log = log
        self._offset = begins
        self._half = b""
        self.phase = Phase.SPAWN
        self.done = 0
        self.total = 0

    def update(self) -> None:
        """Read what was written since the last call; a log that is not there yet has nothing to say."""
        try:
            with self._log.open("rb") as file:
                if os.fstat(file.fileno()).st_size < self._offset:
                    self._offset = 0  # it was truncated
                self._offset = max(self._offset, given_back(file.fileno()))  # what rotation took out reads as zeros
                file.seek(self._offset)
                data = file.read(_CHUNK)
        except OSError:
            return
        self._offset += len(data)
        # A progress bar redraws itself after \r, so that ends a line here as well as \n does.
        *lines, self._half = re.split(rb"[\r\n]", self._half + data)
        self._half = self._half[-4096:]
        for line in [*lines, self._half]:
            self._read(line[:2000].decode("utf-8", "replace"))

    def _read(self, line: str) -> None:
        for phase, wording in _WORDINGS:
            match = wording.search(line)
            if match is None or _ORDER.index(phase) < _ORDER.index(self.phase):
                continue
            counted = match.groupdict()
            if phase is not self.phase:
                self.phase, self.done, self.total = phase, 0, 0
            if counted.get("m"):
                self.done, self.total = int(counted["n"]), int(counted["m"])
            return
