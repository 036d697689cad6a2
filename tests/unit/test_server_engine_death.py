"""A server whose engine died ends in good order, with status 0; its keeper tells that from an end that was meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from qwen_tui.engine.find import Engine
from qwen_tui.server import registry
from qwen_tui.server.engine_death import engine_died
from qwen_tui.server.service import Servers
from tests.conftest import until

from .test_server_life import MakeSpec


@pytest.mark.parametrize(
    "line",
    [
        "(APIServer pid=1) WARNING [core_client.py:817] [shutdown] MPClient: engine core exited unexpectedly; starting",
        "ERROR [core_client.py:600] Engine core proc EngineCore_DP0 died unexpectedly, shutting down client.",
        "ERROR [launcher.py:98] AsyncLLMEngine has failed, terminating: Engine background task failed",
        "vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue.",
        "CRITICAL [launcher.py:99] MQLLMEngine is already dead, terminating server process",
    ],
)
def test_the_log_tells_that_the_engine_died(tmp_path: Path, line: str) -> None:
    log = tmp_path / "a.log"
    log.write_text(f"INFO ready\n{line}\nINFO:     Finished server process [1]\n")
    assert engine_died(log, 0)
    assert not engine_died(log, log.stat().st_size - 10), "an earlier start's"
    log.write_text("INFO ready\nINFO:     Shutting down\nINFO:     Finished server process [1]\n")
    assert not engine_died(log, 0)
    assert not engine_died(tmp_path / "none.log", 0)


@pytest.mark.parametrize(("said", "restarts"), [("engine core exited unexpectedly", True), ("Shutting down", False)])
async def test_a_server_that_ends_with_0_is_started_again_if_its_engine_died(
    servers: Servers, fake_engine: Engine, fake_spec: MakeSpec, said: str, restarts: bool
) -> None:
    options = {"crash_after": "Starting to load model", "exit_status": 0, "last_words": said}
    await servers.start(fake_spec(restart="on-failure", **options), fake_engine)

    def record() -> registry.Record:
        return registry.find(servers._folder, "fake")

    await until(lambda: bool(record().state.get("exit")), what="its end")
    assert record().state["exit"]["code"] == 0
    assert (record().state["status"] != "ended") == restarts
    await servers.stop("fake")
