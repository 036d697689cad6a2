"""Why an engine that ran without a server failed, from its log: the diagnosis of servers knows the same errors."""

from __future__ import annotations

from pathlib import Path

from qwen_tui.server.diagnosis import RunContext, diagnose


def explain(log: Path, exit_code: int | None) -> tuple[str, str] | None:
    """The cause and what to do, None where the log shows no failure. Reads the log: for a thread.

    exit_code: the process's, 128 + the number of a signal; None where it told its error itself.
    """
    found = diagnose(log, RunContext(exit_code=1 if exit_code is None else exit_code))
    if found is None:
        return None
    changes = ", ".join(found.relaunch.words()) if found.relaunch else ""
    return found.cause, "\n".join(part for part in (found.remedy, changes) if part)
