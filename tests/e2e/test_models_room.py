"""From an empty folder to a served model in the terminal: a hub on this machine, the real engine, the real model."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from qwen_tui.engine.find import Engine
from qwen_tui.models.download_queue import Downloads
from qwen_tui.models.download_state import DownloadStatus
from qwen_tui.paths import Paths, write_private
from qwen_tui.server.service import Servers
from tests.conftest import nothing_is_left
from tests.fakes.hub import FakeHub
from tests.terminal import Terminal

PROGRAM = Path(sys.executable).parent / "qwen-tui"
ID = "owner/SmolLM2-135M-Instruct"


def test_from_an_empty_folder_to_a_served_model(engine: Engine, demo_model: Path, tmp_path: Path) -> None:
    paths = Paths(*(tmp_path / kind / "qwen-tui" for kind in ("config", "data", "state", "cache")))
    write_private(paths.settings_file, f'engine = "{engine.python}"\n')
    with FakeHub({file.name: file.read_bytes() for file in demo_model.iterdir()}, ID) as hub:
        environment = {
            "XDG_CONFIG_HOME": str(tmp_path / "config"), "XDG_STATE_HOME": str(tmp_path / "state"),
            "XDG_DATA_HOME": str(tmp_path / "data"), "XDG_CACHE_HOME": str(tmp_path / "cache"),
            "MODELSCOPE_ENDPOINT": hub.url, "MODELSCOPE_CACHE": str(tmp_path / "modelscope"),
            "LANG": "C.UTF-8", "LC_ALL": "", "LANGUAGE": "",
        }  # fmt: skip
        try:
            with Terminal([str(PROGRAM)], environment) as terminal:
                terminal.wait_for("n +new")
                terminal.press("m")
                terminal.wait_for("No models yet")
                download(terminal)
                serve(terminal)
                terminal.press("c")
                terminal.wait_for("Message to SmolLM2")
                terminal.type("What is the capital of France?")
                terminal.press("enter")
                terminal.wait_for(r"TTFT [\d,.]+ m?s · [\d.]+ tokens/s · \d+ tokens", 120)
                assert "Paris" in terminal.text
            assert [state.status for state in Downloads(paths).list()] == [DownloadStatus.DONE]
        finally:
            asyncio.run(_stop_all(paths))
    asyncio.run(nothing_is_left(paths))


def download(terminal: Terminal) -> None:
    """Fetch the model; the plan is there before the first byte."""
    terminal.press("n")
    terminal.wait_for("New download")
    terminal.type(ID)
    terminal.wait_for(r"\d files, 273 MB", 60)
    terminal.wait_for("0 B of it are here already, 273 MB to fetch")
    terminal.press("ctrl+s")
    terminal.wait_for("✓ done  6 of 6 files", 120)


def serve(terminal: Terminal) -> None:
    """Choose it and start it, with little memory and without compiling, as that takes minutes here."""
    terminal.wait_for("enter serve")
    terminal.press("enter")
    terminal.wait_for(r"Served model name +SmolLM2-135M-Instruct")
    terminal.press(*["tab"] * 7)
    terminal.type("--enforce-eager")
    terminal.press("tab", "ctrl+u")  # what is proposed depends on the memory that is free
    terminal.type("VLLM_CPU_KVCACHE_SPACE=1")
    terminal.wait_for("Environment +VLLM_CPU_KVCACHE_SPACE=1 ")
    terminal.press("ctrl+s")
    if "Plan of" in terminal.wait_for("starting Python|Plan of", 90)[0]:
        terminal.press("enter")  # a machine short of memory is warned of it
    terminal.wait_for(r"● SmolLM2-135M-Instruct +ready", 240)


async def _stop_all(paths: Paths) -> None:
    servers = Servers(paths)
    for status in servers.list():
        await servers.stop(status.name)
    await servers.close()
