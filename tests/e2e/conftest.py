"""The real engine and a real model, made by qwen-tui itself and kept between runs.

They lie in the folder that QWEN_TUI_TEST_CACHE names, else in ~/.cache/qwen-tui-tests: about 3 GB. The first run takes
two minutes and the network. Without them these tests fail; they are never skipped.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from qwen_tui.engine.find import Engine
from qwen_tui.models.demo_model import prepare_demo_model
from qwen_tui.paths import Paths

PROGRAM = Path(sys.executable).parent / "qwen-tui"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One process runs all of these: two engines at once are too much for a small machine."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("engine"))


@pytest.fixture(scope="session")
def cache() -> Path:
    """The folder that outlasts the tests."""
    named = os.environ.get("QWEN_TUI_TEST_CACHE", "")
    folder = Path(named) if named else Path.home() / ".cache" / "qwen-tui-tests"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def cached_home(cache: Path) -> dict[str, str]:
    """The environment variables of a user whose folders are kept in the cache."""
    kinds = ("CONFIG", "DATA", "STATE", "CACHE")
    return {f"XDG_{kind}_HOME": str(cache / "home" / kind.lower()) for kind in kinds} | {"LANG": "C.UTF-8"}


@pytest.fixture(scope="session")
def engine(cached_home: dict[str, str]) -> Engine:
    """A proved CPU engine, by `qwen-tui setup`."""
    done = subprocess.run(
        [PROGRAM, "setup", "--cpu", "--yes", "--json"],
        env={**os.environ, **cached_home},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.fail(f"qwen-tui setup ended with {done.returncode}:\n{done.stderr[-4000:]}")
    answer = json.loads(done.stdout.splitlines()[-1])
    return Engine(Path(answer["python"]), answer["version"], answer["platform"], "option")


@pytest.fixture(scope="session")
def demo_model(engine: Engine, cache: Path) -> Path:
    """The folder of SmolLM2-135M-Instruct."""
    paths = Paths(*(cache / "home" / kind / "qwen-tui" for kind in ("config", "data", "state", "cache")))
    # A loop of its own, in a thread of its own: the test that asks for it may have one running.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(prepare_demo_model(paths, engine, lambda progress: None))).result()
