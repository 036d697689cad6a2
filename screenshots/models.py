"""Makes the picture of the Models room: `python -m screenshots.models`, also done by `screenshots.make`.

Needs what `qwen-tui demo` leaves behind. The demo model is downloaded from a hub on this machine, slowly, while the
picture is taken; everything else is as it is here.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from qwen_tui.engine.find import find_engine
from qwen_tui.models import demo_model
from qwen_tui.models.download_queue import Downloads
from qwen_tui.paths import Paths, write_private
from tests.fakes.hub import FakeHub, Faults
from tests.terminal import Terminal

FOLDER = Path(__file__).parent
PROGRAM = Path(sys.executable).parent / "qwen-tui"
SIZE = (120, 36)
ID = "HuggingFaceTB/SmolLM2-135M-Instruct"


def picture(environment: dict[str, str]) -> None:
    with Terminal([str(PROGRAM)], environment, *SIZE) as terminal:
        terminal.wait_for("n +new")
        terminal.press("m")
        terminal.wait_for("fits +[0-9]", 60)
        terminal.press("n")
        terminal.wait_for("New download")
        terminal.type(ID)
        terminal.wait_for(r"[0-9]+ files, [0-9]+ MB", 60)
        terminal.press("ctrl+s")
        terminal.wait_for(r"[2-9][0-9] % [^\n]*MB/s", 120)
        (FOLDER / "models-en.svg").write_text(terminal.svg("qwen-tui"), encoding="utf-8")
        print("models-en.svg", flush=True)


def main() -> None:
    own = Paths.from_environment()
    engine = find_engine(own)
    model = own.models / demo_model.NAME
    if not model.is_dir():
        sys.exit("run `qwen-tui demo --headless` first: it makes the model")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        paths = Paths(home / "config" / "qwen-tui", own.data, home / "state" / "qwen-tui", home / "cache")
        write_private(paths.settings_file, f'engine = "{engine.python}"\n')
        with FakeHub({file.name: file.read_bytes() for file in model.iterdir()}, ID) as hub:
            hub.faults["model.safetensors"] = Faults(bytes_per_second=3e6)
            environment = {
                "XDG_CONFIG_HOME": str(home / "config"), "XDG_STATE_HOME": str(home / "state"),
                "XDG_CACHE_HOME": str(home / "cache"), "LC_ALL": "", "LANGUAGE": "", "LANG": "C.UTF-8",
                "MODELSCOPE_ENDPOINT": hub.url, "MODELSCOPE_CACHE": str(home / "modelscope"), "HF_HOME": str(home),
            }  # fmt: skip
            try:
                picture(environment)
            finally:
                asyncio.run(cancel_all(paths))


async def cancel_all(paths: Paths) -> None:
    downloads = Downloads(paths)
    for state in downloads.list():
        await downloads.cancel(state.id, delete_files=True)


if __name__ == "__main__":
    main()
