"""The benchmark on the real engine: prompts of exact lengths, the server's own counters, one run beside vLLM's own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qwen_tui.engine.find import Engine
from qwen_tui.server.launch import free_port
from tests.e2e.conftest import PROGRAM

#: vLLM's own client; its wheel for CPUs has no metadata to tell the version by.
VLLM = """
import importlib.metadata, sys
told = importlib.metadata.version
importlib.metadata.version = lambda name: "0" if name == "vllm" else told(name)
sys.argv = ["vllm", "bench", "serve", *sys.argv[1:]]
from vllm.entrypoints.cli.main import main
main()
"""


@pytest.fixture(scope="module")
def home(cached_home: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A user with servers, runs and settings of this module's own."""
    folder = tmp_path_factory.mktemp("bench")
    own = {f"XDG_{kind}_HOME": str(folder / kind.lower()) for kind in ("CONFIG", "STATE", "CACHE", "DATA")}
    return {**os.environ, **cached_home, **own, "LANG": "C.UTF-8"}


@pytest.fixture(scope="module")
def server(home: dict[str, str], demo_model: Path, engine: Engine) -> Iterator[str]:
    """A server named “bench”."""
    words = [
        "serve",
        str(demo_model),
        "--name",
        "bench",
        "--port",
        str(free_port(first=19100)),
        "--max-model-len",
        "512",
    ]
    options = ["--engine", str(engine.python), "--", "--enforce-eager"]
    environment = {**home, "VLLM_CPU_KVCACHE_SPACE": "1"}
    done = subprocess.run([PROGRAM, *words, *options], env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    yield "bench"
    subprocess.run([PROGRAM, "stop", "bench"], env=home, capture_output=True, check=True)


def bench(home: dict[str, str], *words: str) -> dict[str, Any]:
    done = subprocess.run([PROGRAM, "bench", *words, "--json"], env=home, capture_output=True, text=True, timeout=300)
    assert done.returncode in (0, 1), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_prompts_are_exact_and_the_server_agrees(server: str, home: dict[str, str], tmp_path: Path) -> None:
    saved = tmp_path / "run.json"
    words = ("--input-len", "40", "--output-len", "16", "--num-prompts", "6", "--concurrency", "3", "--seed", "2024")
    plain = bench(home, server, "--api", "completions", *words, "--save-result", str(saved))
    assert (plain["completed"], plain["failed"]) == (6, 0)
    assert plain["total_output_tokens"] == 6 * 16
    assert plain["prompt_lengths_from"] == "server"
    assert set(json.loads(saved.read_text())["input_lens"]) == {40}, "a prompt is as long as it was asked to be"
    assert plain["server"]["generation_tokens"] == 6 * 16
    assert plain["server"]["prompt_tokens"] == 6 * 40
    assert plain["around"]["server.kv_usage"]["max"] > 0, "the server was looked at while it worked"
    assert plain["engine_version"]
    assert "--max-model-len" in plain["argv"]
    chat = bench(home, server, *words)
    overhead = chat["total_input_tokens"] - 6 * 40
    assert overhead > 0
    assert overhead % 6 == 0, "the chat template adds the same to every prompt"
    assert chat["tokens_per_chunk"] == pytest.approx(1, abs=0.3)


def test_what_does_not_fit_the_context_is_told(server: str, home: dict[str, str]) -> None:
    done = subprocess.run(
        [PROGRAM, "bench", server, "--input-len", "600", "--num-prompts", "2"], env=home, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "does not fit the model's context" in done.stderr


def test_beside_vllms_own_client(
    server: str, home: dict[str, str], engine: Engine, demo_model: Path, tmp_path: Path
) -> None:
    """Both count the same tokens of the same work; how fast they say it was is printed, for the machine is shared."""
    status = json.loads(subprocess.run([PROGRAM, "ps", "--json"], env=home, capture_output=True, check=True).stdout)
    (port,) = (one["port"] for one in status if one["name"] == server)
    words = [
        "--base-url", f"http://127.0.0.1:{port}", "--model", status[0]["model"], "--tokenizer", str(demo_model),
        "--backend", "openai-chat", "--endpoint", "/v1/chat/completions", "--dataset-name", "random",
        "--random-input-len", "32", "--random-output-len", "24", "--num-prompts", "8", "--max-concurrency", "4",
        "--ignore-eos", "--disable-tqdm", "--save-result", "--result-dir", str(tmp_path),
        "--result-filename", "vllm.json",
    ]  # fmt: skip
    environment = {**home, "HF_HUB_OFFLINE": "1"}
    subprocess.run([engine.python, "-c", VLLM, *words], env=environment, capture_output=True, timeout=300, check=True)
    theirs = json.loads((tmp_path / "vllm.json").read_text())
    ours = bench(home, server, "--input-len", "32", "--output-len", "24", "--num-prompts", "8", "--concurrency", "4")
    for name in ("completed", "total_output_tokens", "num_prompts"):
        assert ours[name] == theirs[name]
    for name in ("request_throughput", "output_throughput", "mean_ttft_ms", "mean_itl_ms", "p99_itl_ms"):
        print(f"{name}: {ours[name]:.2f}, vllm bench serve {theirs[name]:.2f}")

    def program(*words: str) -> str:
        return subprocess.run(
            [PROGRAM, "bench", *words], env=home, capture_output=True, text=True, check=True, timeout=120
        ).stdout

    (taken,) = json.loads(program("import", str(tmp_path / "vllm.json"), "--json"))
    assert taken["output_throughput"] == pytest.approx(theirs["output_throughput"])
    assert taken["p99_ttft_ms"] == pytest.approx(theirs["p99_ttft_ms"])
    assert "imported" in program("compare", taken["run_id"], ours["run_id"])
    again = json.loads(program("rerun", ours["run_id"], "--json"))
    assert again["total_output_tokens"] == ours["total_output_tokens"]
    assert again["seed"] != ours["seed"]
    assert "<svg" in program("export", ours["run_id"], again["run_id"], "--format", "html")
