"""Why a vLLM start or a running server failed, from its log.

`reading` gives the lines that matter of a log of any size, `tracebacks` the exceptions in them, `choosing` which of
them ended the run, `rules_*` what each means and what to do, `corrections` the arguments to try instead.
"""

from __future__ import annotations

from qwen_tui.server.diagnosis.corrections import apply_relaunch
from qwen_tui.server.diagnosis.diagnose import diagnose, find_cause
from qwen_tui.server.diagnosis.model import Diagnosis, Relaunch, RunContext

__all__ = ["Diagnosis", "Relaunch", "RunContext", "apply_relaunch", "diagnose", "find_cause"]
