"""The Batch room: a batch is composed, previewed, started, looked at, exported and forgotten."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from qwen_tui.batch.order import BatchOrder
from qwen_tui.batch.state import BatchState, BatchStatus
from qwen_tui.engine.find import Engine
from qwen_tui.errors import UsageError
from qwen_tui.server.spec import ServerSpec
from qwen_tui.ui.screens import batch_form
from qwen_tui.ui.screens.batch import BatchScreen, ResultDialog
from qwen_tui.ui.screens.batch_form import BatchForm
from qwen_tui.ui.services import Services
from tests.fakes.openai_server import FakeOpenAI, answer
from tests.ui.conftest import ready, running, wait_until, with_servers
from tests.ui.looking import shown


def reply(text: str) -> dict[str, Any]:
    choice = {"index": 0, "text": text, "finish_reason": "stop"}
    return {"choices": [choice], "usage": {"prompt_tokens": 2, "completion_tokens": 3}}


async def test_a_batch_from_the_form_to_its_export(services: Services, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"prompt": "[bold]first[/]"}\n{"prompt": "second"}\nbroken\n')
    async with FakeOpenAI([answer(200, reply("said \x1b[2J [red]it[/]"))], [answer(200, reply("other"))]) as server:
        spec = ServerSpec("fake", "some/model", "fake-model", port=server.port)
        with_servers(services, ready("fake", spec=spec))
        async with running(services, "batch") as (app, pilot):
            screen = cast(BatchScreen, app.screen)
            await wait_until(pilot, lambda: "No batch yet" in shown(app))
            await pilot.press("n")
            await wait_until(pilot, lambda: isinstance(app.screen, BatchForm))
            for field, text in (("server", "fakr"), ("input", str(source)), ("output", str(tmp_path / "out.jsonl")),
                                ("sampling", "max_tokens=7 temperature=9")):  # fmt: skip
                app.screen.query_one(f"#field-{field}").value = text  # type: ignore[attr-defined]
            await wait_until(pilot, lambda: "1 × not JSON, the first in line 3" in shown(app))
            assert "[bold]first[/]" in shown(app)
            await pilot.press("ctrl+s")
            await wait_until(pilot, lambda: "No server “fakr” is ready" in shown(app))
            app.screen.query_one("#field-server").value = "fake"  # type: ignore[attr-defined]
            await pilot.press("ctrl+s")
            await wait_until(pilot, lambda: "temperature must be" in shown(app))
            app.screen.query_one("#field-sampling").value = "max_tokens=7"  # type: ignore[attr-defined]
            await pilot.press("ctrl+s")
            await wait_until(pilot, lambda: isinstance(app.screen, BatchScreen))
            await wait_until(pilot, lambda: screen.chosen is not None and screen.chosen.status is BatchStatus.DONE)
            assert {request.body["max_tokens"] for request in server.requests} == {7}
            await wait_until(pilot, lambda: "Results: 2" in shown(app))
            assert "1 row got no answer" in shown(app)
            await pilot.press("slash", *"first", "enter")
            await wait_until(pilot, lambda: "Results with “first”: 1 of 2" in shown(app))
            await pilot.press("enter")
            await wait_until(pilot, lambda: isinstance(app.screen, ResultDialog))
            assert "[bold]first[/]" in shown(app)
            assert "\x1b" not in shown(app)
            await pilot.press("escape")
            await wait_until(pilot, lambda: isinstance(app.screen, BatchScreen))
            await pilot.press("o", "t")
            exported = tmp_path / "out.txt"
            await wait_until(pilot, exported.exists)
            await wait_until(pilot, lambda: exported.read_text().count("Generated text: ") == 2)
            await pilot.press("e")
            await wait_until(pilot, lambda: "1 × not JSON" in shown(app) and "max_tokens=7" in shown(app))
            await pilot.press("escape")
            await wait_until(pilot, lambda: isinstance(app.screen, BatchScreen))
            await pilot.press("d", "y")
            await wait_until(pilot, lambda: "No batch yet" in shown(app))
    assert len([json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]) == 2


async def test_what_the_plan_is_against_can_be_started_all_the_same(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried_with: list[BatchOrder] = []

    def tried(order: BatchOrder, _engine: Engine) -> None:
        tried_with.append(order)
        raise UsageError("it was tried")

    monkeypatch.setattr(batch_form, "offline_problems", lambda *_given: [SimpleNamespace(text="no room", remedy="")])
    monkeypatch.setattr(services, "find_engine", lambda *_given: Engine(Path("python"), "1", "cpu", "option"))
    monkeypatch.setattr(services.batches, "start", tried)
    (tmp_path / "in.txt").write_text("prompt\n")
    async with running(services, "batch") as (app, pilot):
        await pilot.press("n")
        await wait_until(pilot, lambda: isinstance(app.screen, BatchForm))
        for field, text in (("model", "some/model"), ("input", str(tmp_path / "in.txt"))):
            app.screen.query_one(f"#field-{field}").value = text  # type: ignore[attr-defined]
        await pilot.press("ctrl+s")
        await wait_until(pilot, lambda: "It would fail: no room" in shown(app))
        await pilot.press("ctrl+s")
        await wait_until(pilot, lambda: "it was tried" in shown(app))
        await pilot.press("escape")
        # Edited, a batch keeps what the form has no field for.
        first = replace(tried_with[0], format="openai", system="Be brief.", lora=str(tmp_path), chat=True)
        before = BatchState("id", tmp_path, first.to_json(), BatchStatus.DONE)
        await wait_until(pilot, lambda: isinstance(app.screen, BatchScreen))
        form = BatchForm(before, as_it_was=True)
        app.push_screen(form)
        await wait_until(pilot, lambda: app.screen is form and bool(form.query("#field-input")))
        await pilot.press("ctrl+s")
        await wait_until(pilot, lambda: "It would fail: no room" in shown(app))
        await pilot.press("ctrl+s")
        await wait_until(pilot, lambda: len(tried_with) == 2)
    assert tried_with[1].fingerprint() == first.fingerprint()
