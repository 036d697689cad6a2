"""The plan's reckoning against what a real start then prints."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from qwen_tui.engine.find import Engine
from qwen_tui.paths import Paths
from qwen_tui.server.launch import free_port
from qwen_tui.server.plan import make_plan
from qwen_tui.server.service import Servers
from qwen_tui.server.spec import ServerSpec


async def test_the_kv_cache_is_as_large_as_planned(engine: Engine, demo_model: Path, paths: Paths) -> None:
    spec = ServerSpec(
        "planned", str(demo_model), "smol", port=free_port(first=18300), max_model_len=4096,
        extra_args=("--enforce-eager",), env={"VLLM_CPU_KVCACHE_SPACE": "1"},
    )  # fmt: skip
    plan = await asyncio.to_thread(make_plan, spec, engine, paths)
    assert plan.can_start, plan.lines
    assert plan.seconds < 2
    assert plan.fit is not None
    servers = Servers(paths)
    try:
        await servers.start(spec, engine)
        status = await asyncio.wait_for(servers.wait_ready("planned"), 240)
        log = status.log.read_text(encoding="utf-8", errors="replace")
        taken = await asyncio.to_thread(make_plan, spec, engine, paths)
    finally:
        await servers.stop("planned")
        await servers.close()
    printed = re.search(r"KV cache size: ([\d,]+) tokens", log)
    assert printed is not None
    assert plan.fit.tokens == pytest.approx(int(printed.group(1).replace(",", "")), rel=0.1)
    assert not taken.can_start
    port = next(line for line in taken.lines if line.topic == "port")
    assert str(status.pid) in port.text
