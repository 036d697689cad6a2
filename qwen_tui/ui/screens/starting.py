"""A start with its plan before it. What is well starts at once; what is not is shown first."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qwen_tui.engine.arguments import ArgumentSchema
from qwen_tui.engine.find import Engine
from qwen_tui.server.quiet import quieted
from qwen_tui.server.spec import ServerSpec

if TYPE_CHECKING:
    from qwen_tui.ui.app import QwenApp
    from qwen_tui.ui.screens.plan import PlanAnswer


@dataclass(frozen=True)
class Outcome:
    """name: of the server that was started, or None. spec: with what the plan changed. edit: it is to be edited."""

    name: str | None
    spec: ServerSpec
    edit: bool = False


async def plan_before_stop(
    qwen: QwenApp, spec: ServerSpec, engine: Engine, schema: ArgumentSchema | None = None
) -> PlanAnswer:
    """Before a server is stopped for `spec`: ask if it would fail even with all that this server holds. In a worker."""
    from qwen_tui.ui.screens.plan import PlanAnswer, PlanScreen, plan_of

    plan = await plan_of(spec, engine, qwen.services.paths, schema, before_stop=True)
    if plan.can_start:
        return PlanAnswer("start", spec)
    return await qwen.push_screen_wait(PlanScreen(plan, engine, schema, before_stop=True))


async def plan_and_start(
    qwen: QwenApp,
    spec: ServerSpec,
    *,
    engine: Engine | None = None,
    engine_setting: str = "",
    schema: ArgumentSchema | None = None,
    ask_about_warnings: bool = True,
) -> Outcome:
    """Make the plan; start if it is well, else show it and do what is answered. Runs in a worker.

    engine: where it is known already; else the one that engine_setting or the settings name is looked for.
    ask_about_warnings: whether a plan with warnings only is shown too.
    Raises QwenTuiError if there is no engine or the server can't be started.
    """
    from qwen_tui.ui.screens.plan import PlanScreen, plan_of

    services = qwen.services
    if engine is None:
        setting = engine_setting or services.settings.engine
        engine = await asyncio.to_thread(services.find_engine, services.paths, setting)
    spec = await asyncio.to_thread(quieted, spec, engine, services.paths)
    plan = await plan_of(spec, engine, services.paths, schema)
    if plan.level == "stop" or (plan.level == "warn" and ask_about_warnings):
        answer = await qwen.push_screen_wait(PlanScreen(plan, engine, schema))
        if answer.action != "start":
            return Outcome(None, answer.spec, answer.action == "edit")
        spec = answer.spec
    status = await services.servers.start(spec, engine)
    return Outcome(status.name, spec)
