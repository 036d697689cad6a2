"""An engine without a server: what of a server's plan matters to a batch, and why its start failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from qwen_tui.engine.find import Engine
from qwen_tui.paths import Paths
from qwen_tui.server.plan import PlanLine, make_plan
from qwen_tui.server.spec import ServerSpec

#: What only a server has.
_SERVING = ("port", "host", "files")
_LENGTH = "--max-model-len"


def offline_problems(
    model: str, words: Sequence[str], env: Mapping[str, str], engine: Engine, paths: Paths
) -> list[PlanLine]:
    """The lines of the plan that say why this model would not start with these arguments; for a thread."""
    rest, length = _without_length(words)
    spec = ServerSpec("batch", model, max_model_len=length, extra_args=tuple(rest), env=env)
    return [
        line for line in make_plan(spec, engine, paths).lines if line.level == "stop" and line.topic not in _SERVING
    ]


def why_it_failed(log: Path) -> tuple[str, str]:
    """Cause and remedy by the rules that know vLLM's logs; empty texts where they find none.

    Reads the log: for a thread. Raises OSError.
    """
    from qwen_tui.server.diagnosis import diagnose  # its rules take 60 ms to load, and most batches don't fail

    found = diagnose(log)
    return (found.cause, found.remedy) if found is not None else ("", "")


def _without_length(words: Sequence[str]) -> tuple[list[str], int | None]:
    """The words without the context's length, and the length: a specification has a field for it."""
    rest: list[str] = []
    length, is_value = None, False
    for word in words:
        value = word if is_value else word.split("=", 1)[1] if word.startswith(f"{_LENGTH}=") else ""
        is_value = not is_value and word == _LENGTH
        if value:
            length = int(value) if value.isdecimal() else None
        elif not is_value:
            rest.append(word)
    return rest, length
