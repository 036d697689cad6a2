"""What a server's record tells about its last run, for its diagnosis."""

from __future__ import annotations

from qwen_tui.server import registry
from qwen_tui.server.diagnosis.model import RunContext


def context_of(record: registry.Record) -> RunContext:
    """How the run of `record` ended, whether it had answered, and what was started."""
    saved = record.state.get("exit")
    ended = saved if isinstance(saved, dict) else {}
    return RunContext(
        exit_code=ended.get("code"),
        exit_signal=ended.get("signal"),
        asked=bool(ended.get("asked")),
        was_ready=registry.was_ready(record),
        spec=record.spec,
    )
