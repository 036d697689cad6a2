"""Makes the pictures of what goes without a server: `python -m screenshots.offline`, also done by `screenshots.make`.

Needs what `qwen-tui demo` leaves behind. Answers a file of prompts with the demo model on its CPU engine, and measures
vLLM against transformers with it, on short prompts.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from qwen_tui.batch.jobs import Batches
from qwen_tui.engine.find import find_engine
from qwen_tui.models import demo_model
from qwen_tui.paths import Paths, write_private
from qwen_tui.server import keeper
from tests.terminal import Terminal

FOLDER = Path(__file__).parent
PROGRAM = Path(sys.executable).parent / "qwen-tui"
SIZE = (120, 36)
PROMPTS = (
    "The capital of France is", "Water boils at", "The largest planet is", "Once upon a time", "In Python, a list is",
    "The first person on the moon was", "A good breakfast is", "The opposite of cold is", "To make tea, one",
    "The sea is blue because", "Seven days make a", "The fastest animal on land is",
)  # fmt: skip
#: Field of the speed test's form → what it is filled with; in the form's order, None: left as it is.
WORK = ("32", "64", "16", None, "bfloat16", "512", "16", "3")


def save(terminal: Terminal, name: str) -> None:
    terminal.settle()
    (FOLDER / f"{name}.svg").write_text(terminal.svg("qwen-tui"), encoding="utf-8")
    print(f"{name}.svg", flush=True)


def refill(terminal: Terminal, text: str, room: int) -> None:
    """Write over a field that has at most `room` letters."""
    terminal.press("end", *["backspace"] * room)
    terminal.type(text)
    terminal.wait_for(text[-20:])


def batch(terminal: Terminal, model: Path, prompts: Path) -> None:
    """The Batch room with the results of a run."""
    terminal.press("t")
    terminal.wait_for("No batch yet")
    terminal.press("n")
    terminal.wait_for("New batch")
    for text in (str(model), None, str(prompts), None, None, None, "temperature=0.8 seed=7 max_tokens=48"):
        if text:
            terminal.type(text)
            terminal.wait_for(text[-20:])
        terminal.press("tab")
    terminal.type("--max-model-len 1024 --enforce-eager")
    terminal.wait_for(f"Rows: {len(PROMPTS)}")
    terminal.press("ctrl+s")
    terminal.wait_gone("New batch", 120)
    terminal.wait_for("✓ done", 300)
    terminal.wait_for("capital of France")
    save(terminal, "batch-en")


def throughput(terminal: Terminal, model: Path) -> None:
    """The speed test's table, from the room that `batch` has left."""
    terminal.press("B")
    terminal.wait_for("HF batch size")
    refill(terminal, str(model), 200)
    for text in WORK:
        terminal.press("tab")
        if text is not None:
            refill(terminal, text, 12)
    terminal.press("tab", "tab")
    terminal.type("--enforce-eager")
    terminal.wait_for("-- --enforce-eager")
    terminal.press("ctrl+s")
    terminal.wait_for(r"is \d+ ?% faster than", 600)
    save(terminal, "throughput-en")


def pictures(environment: Mapping[str, str], model: Path, folder: Path) -> None:
    """Take them. environment: whose folders the program uses. folder: where the prompts and the results are put."""
    prompts = folder / "prompts.txt"
    prompts.write_text("".join(f"{prompt}\n" for prompt in PROMPTS), encoding="utf-8")
    with Terminal([str(PROGRAM)], {**environment, "LANG": "C.UTF-8"}, *SIZE) as terminal:
        terminal.wait_for("n +new")
        batch(terminal, model, prompts)
        throughput(terminal, model)


def main() -> None:
    own = Paths.from_environment()
    engine = find_engine(own)
    model = own.models / demo_model.NAME
    if not model.is_dir():
        sys.exit("run `qwen-tui demo --headless` first: it makes the model")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        paths = Paths(home / "config" / "qwen-tui", own.data, home / "state" / "qwen-tui", home / "cache" / "qwen-tui")
        write_private(paths.settings_file, f'engine = "{engine.python}"\n')
        environment = {
            "XDG_CONFIG_HOME": str(home / "config"), "XDG_STATE_HOME": str(home / "state"), "LC_ALL": "",
            "XDG_CACHE_HOME": str(home / "cache"), "LANGUAGE": "", "VLLM_CPU_KVCACHE_SPACE": "1",
        }  # fmt: skip
        try:
            pictures(environment, model, home)
        finally:
            asyncio.run(cancel_all(paths))


async def cancel_all(paths: Paths) -> None:
    batches = Batches(paths, Path(keeper.__file__))
    for state in batches.list():
        await batches.cancel(state.id)


if __name__ == "__main__":
    main()
