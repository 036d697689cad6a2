"""Whether a server that ended by itself did so because its engine had died. Standard library only: the keeper asks it.

vLLM's API server shuts down in good order when its engine is gone, and ends with status 0: only its log tells.
"""

from __future__ import annotations

import re
from pathlib import Path

#: The API server's own words for it, from vLLM 0.4 to 0.32.
_DIED = re.compile(
    rb"EngineDeadError|engine dead|engine core exited unexpectedly|died unexpectedly"
    rb"|[Ee]ngine core proc\S* .{0,40}died|encountered a fatal error|background task failed|Background loop has errored"
    rb"|MQLLMEngine (?:is already dead|term)"
)
#: What is read of a log's end. Bytes.
_END = 256 << 10


def engine_died(log: Path, begins: int) -> bool:
    """Whether the end of `log`, from the byte `begins` on, says so; False for a log that can't be read."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(begins, size - _END))
            return _DIED.search(file.read(_END)) is not None
    except OSError:
        return False
