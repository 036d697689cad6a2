"""The offline speed test on the real engine: both backends, and nothing of it left when its parent is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from qwen_tui.bench.ledger import Ledger
from qwen_tui.engine.find import Engine
from qwen_tui.paths import Paths
from tests.e2e.conftest import PROGRAM

WORK = ["--input-len", "16", "--output-len", "8", "--num-prompts", "3", "--dtype", "bfloat16", "--max-model-len", "128"]


@pytest.fixture
def home(cached_home: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """A user of this test's own."""
    own = {f"XDG_{kind}_HOME": str(tmp_path / kind.lower()) for kind in ("CONFIG", "STATE", "CACHE", "DATA")}
    return {**os.environ, **cached_home, **own, "LANG": "C.UTF-8", "VLLM_CPU_KVCACHE_SPACE": "1", "K8": str(tmp_path)}


def with_mark(mark: str) -> list[int]:
    """The living processes that inherited this variable, whatever became of their parents."""
    found = []
    for entry in os.scandir("/proc"):
        try:
            if entry.name.isdigit() and mark.encode() in Path(entry.path, "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def wait_for(condition: Callable[[], object], seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.05)


def test_both_backends_and_the_ledger(home: dict[str, str], demo_model: Path, engine: Engine, tmp_path: Path) -> None:
    words = ["throughput", "--model", str(demo_model), "--engine", str(engine.python), *WORK, "--repeat", "2", "--json"]
    done = subprocess.run(
        [PROGRAM, *words, "--enforce-eager"], env=home, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert [one["backend"] for one in result["backends"]] == ["vllm", "hf"]
    for one in result["backends"]:
        assert [(each["prompts"], each["prompt_tokens"], each["output_tokens"]) for each in one["rounds"]] == [
            (3, 48, 24),
            (3, 48, 24),
        ]
        assert one["about"]["dtype"] == "bfloat16"
        assert one["load_seconds"] > 0.5
    assert result["backends"][0]["about"]["vllm_version"] == engine.version
    assert "vllm: loading the model" in done.stderr
    assert "hf: generating" in done.stderr
    folders = [tmp_path / kind / "qwen-tui" for kind in ("config", "data", "state", "cache")]
    kept = Ledger(Paths(*folders)).list()
    assert {run.id for run in kept} == {one["run_id"] for one in result["backends"]}
    assert not with_mark(f"K8={tmp_path}")


def test_killing_the_parent_leaves_nothing_of_a_loaded_engine(
    home: dict[str, str], demo_model: Path, engine: Engine, tmp_path: Path
) -> None:
    words = ["throughput", "--model", str(demo_model), "--engine", str(engine.python), "--backend", "vllm", *WORK]
    # So many rounds that it is still generating when it is killed.
    process = subprocess.Popen(
        [PROGRAM, *words, "--repeat", "1000", "--enforce-eager"],
        env=home,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("vllm: generating"):
            break
    assert len(with_mark(f"K8={tmp_path}")) >= 4, "the program, the guard, the worker and its EngineCore"
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(lambda: not with_mark(f"K8={tmp_path}"))
