"""The card of a failed server: why, where, and the key that mends it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from qwen_tui.server.spec import ServerSpec
from qwen_tui.server.status import ServerState, ServerStatus
from qwen_tui.ui.app import QwenApp
from qwen_tui.ui.services import Services
from qwen_tui.ui.widgets.log_view import LogView

from .conftest import failed, running, wait_until, with_servers
from .looking import SMALL, WIDE, Snapshot, picture, plans, text_of

__all__ = ["plans"]  # a fixture of every test here


def broken(folder: Path) -> ServerStatus:
    """A server that asked for more context than its KV cache holds, with its log."""
    log = folder / "server.log"
    log.write_text(
        "(APIServer pid=1) INFO 11-22 15:58:57 [api_utils.py:286] non-default args: {'model': 'm'}\n"
        + "(EngineCore pid=2) INFO 11-22 15:59:16 [core.py:133] loading\n" * 40
        + "(EngineCore pid=2) ERROR 11-22 15:59:26 [core.py:1] Traceback (most recent call last):\n"
        '(EngineCore pid=2) ERROR 11-22 15:59:26 [core.py:1]   File "kv_cache_utils.py", line 1, in check\n'
        "(EngineCore pid=2) ERROR 11-22 15:59:26 [core.py:1] ValueError: To serve at least one request with the "
        "models's max seq len (32768), (1.75 GiB KV cache is needed, which is larger than the available KV cache "
        "memory (0.06 GiB). Based on the available memory, the estimated maximum model length is 1040. Try "
        "increasing `gpu_memory_utilization` or decreasing `max_model_len` when initializing the engine.\n"
        "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}\n"
    )
    spec = ServerSpec("broken", "qwen/Qwen2", max_model_len=32768)
    return failed("broken", spec=spec, log=log, cause="")


@pytest.mark.parametrize("size", [SMALL, WIDE], ids=["80x24", "140x40"])
def test_failure_card(
    services: Services, snap_compare: Snapshot, language: str, size: tuple[int, int], tmp_path: Path
) -> None:
    def diagnosed(app: QwenApp) -> bool:
        return "--max-model-len 32768 → 1040" in text_of(app, "#card")

    assert snap_compare(**picture(services, language, (broken(tmp_path),), until=diagnosed), terminal_size=size)


async def test_one_key_mends_a_failed_server(services: Services, tmp_path: Path) -> None:
    fake = with_servers(services, broken(tmp_path))
    async with running(services) as (app, pilot):
        await wait_until(pilot, lambda: "--max-model-len 32768 → 1040" in text_of(app, "#card"))
        await pilot.press("1")
        await wait_until(pilot, lambda: app.statuses[0].state is ServerState.STARTING)
    assert fake.calls[0] == ("start", dataclasses.replace(broken(tmp_path).spec, max_model_len=1040))


async def test_the_line_that_says_why_is_shown_in_the_log(services: Services, tmp_path: Path) -> None:
    with_servers(services, broken(tmp_path))
    async with running(services) as (app, pilot):
        await wait_until(pilot, lambda: "line 44" in text_of(app, "#card"))
        await pilot.press("v")
        await wait_until(pilot, lambda: app.room is not None and app.room.ROOM == "logs")
        view = app.screen.query_one(LogView)
        await wait_until(pilot, lambda: view.page.current is not None and "1040" in view.page.current.text)


async def test_a_failure_without_a_correction_has_no_key_for_one(services: Services) -> None:
    fake = with_servers(services, failed())
    async with running(services) as (app, pilot):
        await wait_until(pilot, lambda: "reading its log" not in text_of(app, "#card"))
        await pilot.press("1", "v")
        await wait_until(pilot, lambda: any("no correction" in notice.message for notice in app._notifications))
        assert fake.calls == []
        assert app.room is not None
        assert app.room.ROOM == "servers"


async def test_it_says_too_that_the_keeper_gave_up(services: Services, tmp_path: Path) -> None:
    why = "A context of 32,768 tokens needs 1.75 GiB of KV cache, but only 0.06 GiB are left for it."
    gave_up = f"It failed 10 times in a row and is not started again: {why}"
    with_servers(services, dataclasses.replace(broken(tmp_path), cause=gave_up))
    async with running(services) as (app, pilot):
        await wait_until(pilot, lambda: "line 44" in text_of(app, "#card"))
        assert gave_up in text_of(app, "#card")
