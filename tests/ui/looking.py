"""What tests of the Servers room and its dialogs share: what a screen says, its picture, and plans that are well."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Static

from qwen_tui.server.plan import Plan, PlanLine
from qwen_tui.server.spec import ServerSpec
from qwen_tui.server.status import ServerStatus
from qwen_tui.ui.app import QwenApp
from qwen_tui.ui.screens.server_form import ServerForm
from qwen_tui.ui.services import Services

from .conftest import wait_until, with_servers

SMALL, WIDE = (80, 24), (140, 40)
Snapshot = Callable[..., bool]


@pytest.fixture(autouse=True)
def plans(monkeypatch: pytest.MonkeyPatch) -> list[ServerSpec]:
    """What was planned. Every plan is well unless the test puts lines in the place of `plan.make_plan`."""
    planned: list[ServerSpec] = []

    def well(spec: ServerSpec, *_args: object, **_options: object) -> Plan:
        planned.append(spec)
        return Plan(spec, (PlanLine("ok", "port", f"{spec.port} is free"),), 0.12)

    monkeypatch.setattr("qwen_tui.ui.screens.plan.make_plan", well)
    return planned


def shown(app: QwenApp) -> str:
    """Everything that the cells of the terminal say now."""
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip) for strip in strips)


def text_of(app: QwenApp, selector: str) -> str:
    return str(app.screen.query_one(selector, Static).content)


async def open_form(app: QwenApp, pilot: Pilot[None], key: str = "n") -> ServerForm:
    await pilot.press(key)
    await wait_until(pilot, lambda: isinstance(app.screen, ServerForm))
    await wait_until(pilot, lambda: "vLLM" in text_of(app, "#engine"))
    assert isinstance(app.screen, ServerForm)
    return app.screen


def picture(
    services: Services,
    language: str,
    statuses: tuple[ServerStatus, ...],
    *keys: str,
    until: Callable[[QwenApp], bool] = lambda app: True,
) -> dict[str, Any]:
    """Arguments for snap_compare: the app over `statuses` after `keys`, once `until` holds."""
    services.settings.language = language
    with_servers(services, *statuses)
    app = QwenApp(services)

    async def before(pilot: Pilot[None]) -> None:
        await wait_until(pilot, lambda: app.looked)
        await pilot.pause()
        for key in keys:
            await pilot.press(key)
        await wait_until(pilot, lambda: until(app))
        await pilot.pause()

    return {"app": app, "run_before": before}
