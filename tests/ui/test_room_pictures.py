"""Pictures of the Logs and the Chat room in both languages; the other rooms' are beside their tests."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from qwen_tui.chat.events import ReplyFigures
from qwen_tui.errors import ChatError
from qwen_tui.ui.app import QwenApp
from qwen_tui.ui.services import Services
from qwen_tui.ui.widgets.log_view import LogView
from qwen_tui.ui.widgets.transcript import Transcript
from tests.ui.conftest import ready, wait_until, with_servers

SIZES = pytest.mark.parametrize("size", [(80, 24), (140, 40)], ids=["80x24", "140x40"])
FIGURES = ReplyFigures(0.0521, 3.2, 41.3, 20, 128, "stop", 127)
LOG = """\
(APIServer pid=7) INFO 11-22 15:58:57 [api_utils.py:286] non-default args: {'port': 8000}
(Worker pid=9) WARNING 11-22 15:59:24 [cpu_worker.py:114] libtcmalloc is not found in LD_PRELOAD
\rLoading safetensors checkpoint shards:  50% Completed | 1/2\rLoading safetensors checkpoint shards: 100% | 2/2
(EngineCore pid=8) ERROR 11-22 15:59:26 [core.py:1] ValueError: \x1b[31mred\x1b[0m and \x1b]52;c;aGk=\x07harmless
INFO:     127.0.0.1:59784 - "POST /v1/chat/completions HTTP/1.1" 200 OK
INFO:     中文与 emoji 🤗 的宽度也对
"""


@SIZES
def test_logs(services: Services, snap_compare: Any, language: str, size: tuple[int, int], tmp_path: Path) -> None:
    log = tmp_path / "20261122-155857.log"
    log.write_text(LOG)
    services.settings.language = language
    with_servers(services, dataclasses.replace(ready(), log=log))

    async def drawn(pilot: Pilot[None]) -> None:
        await wait_until(pilot, lambda: bool((found := pilot.app.screen.query(LogView)) and found.first().page.rows))
        await pilot.pause()

    assert snap_compare(QwenApp(services, "logs"), terminal_size=size, run_before=drawn)


@SIZES
def test_chat(services: Services, snap_compare: Any, language: str, size: tuple[int, int]) -> None:
    services.settings.language = language
    with_servers(services, ready())
    conversation = services.chat.conversation
    conversation.add_user("你好，What is *PagedAttention*?")
    reply = conversation.begin_reply("Qwen2-7B-Instruct")
    reply.text = (
        "It keeps the **KV cache** in pages:\n\n| a | b |\n|---|---|\n| 1 | 二 |\n\n```python\nx = 1  # page\n```\n"
    )
    conversation.finish(reply, FIGURES)
    conversation.add_user("And then?")
    broken = conversation.begin_reply("Qwen2-7B-Instruct")
    broken.text = "Then the server"
    conversation.fail(broken, ChatError("The connection broke off", "reset by peer"), None)

    async def drawn(pilot: Pilot[None]) -> None:
        await wait_until(pilot, lambda: bool(pilot.app.screen.query(Transcript)))
        transcript = pilot.app.screen.query_one(Transcript)
        await wait_until(pilot, lambda: "Then the server" in transcript.text and not transcript.is_behind)
        await pilot.pause()

    assert snap_compare(QwenApp(services, "chat"), terminal_size=size, run_before=drawn)
