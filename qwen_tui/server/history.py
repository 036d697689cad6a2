"""How long earlier starts took, phase by phase: where the ETA of the next start comes from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from qwen_tui.paths import write_private
from qwen_tui.server.spec import ServerSpec
from qwen_tui.server.status import Phase

#: Starts remembered for each kind of start, and kinds remembered at all.
_KEEP, _KINDS = 5, 200
#: Arguments that don't change how long a start takes.
_IRRELEVANT = {"--host", "--port", "--served-model-name"}


def kind_of_start(spec: ServerSpec, engine_version: str) -> str:
    """A key that two starts share when they should take equally long: same model, engine and flags."""
    import hashlib

    words = spec.argv("")[3:]
    relevant = []
    skip = False
    for word in words:
        if not skip and word not in _IRRELEVANT:
            relevant.append(word)
        skip = word in _IRRELEVANT
    return hashlib.sha256("\0".join([engine_version, *relevant]).encode()).hexdigest()[:16]


class StartHistory:
    """The durations of earlier starts, in one small JSON file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def _load(self) -> dict[str, list[dict[str, float]]]:
        try:
            data = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}  # a lost history only costs the ETA
        return data if isinstance(data, dict) else {}

    def record(self, kind: str, phases: Sequence[tuple[Phase, float]]) -> None:
        """Remember a start that succeeded: seconds spent in each phase."""
        data = self._load()
        earlier = data.pop(kind, [])
        data[kind] = [*earlier, {phase.value: round(seconds, 2) for phase, seconds in phases}][-_KEEP:]
        for old in list(data)[:-_KINDS]:
            del data[old]
        try:
            write_private(self._file, json.dumps(data))
        except OSError:
            return  # nothing that matters depends on it

    def expected(self, kind: str) -> dict[Phase, float]:
        """Seconds that each phase took the last time; empty when this kind of start is new."""
        starts = self._load().get(kind)
        if not starts:
            return {}
        return {phase: starts[-1][phase.value] for phase in Phase if phase.value in starts[-1]}


def eta(expected: dict[Phase, float], phase: Phase, in_phase: float) -> float | None:
    """Seconds to ready: what is left of this phase and all of the later ones; None without a history."""
    if not expected:
        return None
    order = list(Phase)
    later = sum(seconds for other, seconds in expected.items() if order.index(other) > order.index(phase))
    return max(0.0, expected.get(phase, 0.0) - in_phase) + later
