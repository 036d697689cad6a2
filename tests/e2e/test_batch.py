"""A batch on the real engine: run, killed half-way, run again; and through a server, the same files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from qwen_tui.engine.find import Engine
from tests.e2e.conftest import PROGRAM

PROMPTS = 60


@pytest.fixture
def home(cached_home: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """A user with folders of this test's own, who has the engine's arguments in the cache."""
    variables = {**os.environ, **cached_home, "VLLM_CPU_KVCACHE_SPACE": "1"}
    return {**variables, "XDG_STATE_HOME": str(tmp_path / "state"), "XDG_CONFIG_HOME": str(tmp_path / "config")}


def until(condition: Any, seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def rows_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def tagged(run: str) -> list[int]:
    """Every process that was started for this run."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                environment = (folder / "environ").read_bytes()
                state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if f"QWEN_TUI_RUN={run}".encode() in environment.split(b"\0") and state != "Z":
                found.append(int(folder.name))
    return found


def test_killed_half_way_it_goes_on_and_every_row_is_there_once(
    engine: Engine, demo_model: Path, home: dict[str, str], tmp_path: Path
) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    lines: list[Any] = [{"prompt": f"{number} plus one is"} for number in range(PROMPTS)]
    lines[10] = {"custom_id": "chat", "body": {"messages": [{"role": "user", "content": "Say hello"}], "top_p": 0.9}}
    lines[20] = {"prompt": "word " * 600}
    lines[30] = {"prompt": "x", "temperature": "hot"}
    source.write_text("".join(json.dumps(line) + "\n" for line in lines) + "torn {\n")
    command = [
        str(PROGRAM), "batch", "--engine", str(engine.python), "--model", str(demo_model), "--input", str(source),
        "--output", str(output), "--max-tokens", "24", "--temperature", "0", "--ignore-eos", "--max-model-len", "256",
        "--max-num-seqs", "8", "--enforce-eager", "--json",
    ]  # fmt: skip
    first = subprocess.Popen(command, env=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until(lambda: len(rows_of(output)) >= 8)
    (folder,) = (tmp_path / "state" / "qwen-tui" / "batches").iterdir()
    run = json.loads((folder / "launch.json").read_text())["id"]
    os.kill(json.loads((folder / "state.json").read_text())["server"]["pid"], signal.SIGKILL)
    first.communicate(timeout=120)
    assert first.returncode == 1
    until(lambda: not tagged(run), 60)  # no engine is left without its worker
    kept = {row["line"]: row["text"] for row in rows_of(output)}
    assert 8 <= len(kept) < PROMPTS - 2
    second = subprocess.run(command, env=home, capture_output=True, text=True, check=False)
    assert second.returncode == 0, second.stderr[-3000:]
    state = json.loads(second.stdout)
    assert (state["finished"], state["failed"], state["too_long"]) == (PROMPTS - 2, 3, 1)
    assert state["finished_before"] == len(kept)
    rows = rows_of(output)
    assert Counter(row["line"] for row in rows) == Counter(set(range(1, PROMPTS + 1)) - {21, 31})
    assert all(row["output_tokens"] == 24 for row in rows)
    assert {row["line"]: row["text"] for row in rows}.items() >= kept.items()
    assert next(row["id"] for row in rows if "messages" in row) == "chat"
    errors = {row["line"]: row["error"]["code"] for row in rows_of(tmp_path / "out.errors.jsonl")}
    assert errors == {21: "too_long", 31: "bad_parameter", PROMPTS + 1: "not_json"}
