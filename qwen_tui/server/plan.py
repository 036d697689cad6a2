"""The plan of a start: everything that can be known to go wrong, checked before it costs a minute of GPU.

Reads files, /proc and NVML; imports nothing of the engine and starts nothing. `make_plan` is for a thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from qwen_tui.engine.arguments import ArgumentSchema
from qwen_tui.engine.find import Engine
from qwen_tui.paths import Paths
from qwen_tui.server import plan_host, plan_memory, plan_model
from qwen_tui.server.plan_arguments import Change, Choices
from qwen_tui.server.plan_check import TOPICS, Check, Level, Machine, Plan, PlanLine
from qwen_tui.server.spec import ServerSpec

__all__ = ["TOPICS", "Change", "Level", "Machine", "Plan", "PlanLine", "make_plan"]


def make_plan(
    spec: ServerSpec,
    engine: Engine,
    paths: Paths,
    *,
    schema: ArgumentSchema | None = None,
    machine: Machine | None = None,
) -> Plan:
    """Check `spec` on `engine`, in well under two seconds.

    schema: the engine's arguments; without it those known from before (`ArgumentSchema.cached`), and if there are
    none the arguments stay unchecked. machine: the hardware, read now unless given.
    """
    started = time.monotonic()
    schema = schema or ArgumentSchema.cached(engine, paths)
    check = Check(spec, engine, paths, Choices.of(spec, schema), machine or Machine.read(), schema)
    steps: tuple[Callable[[Check], None], ...] = (
        plan_model.check_model,
        plan_model.check_architecture,
        plan_model.check_tokenizer,
        plan_model.check_chat_template,
        plan_model.check_context,
        plan_memory.check_gpus,
        plan_memory.check_precision,
        plan_memory.check_memory,
        plan_host.check_port,
        plan_host.check_reach,
        plan_host.check_code,
        plan_host.check_arguments,
        plan_host.check_open_files,
        plan_host.check_disk,
    )
    for step in steps:
        step(check)
    return Plan(spec, tuple(check.lines), time.monotonic() - started, check.fit)
