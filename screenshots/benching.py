"""Makes the pictures of a ladder of loads and of two runs side by side, from real runs: called by `screenshots.make`.

The server is the one that `screenshots.make` has started.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.terminal import Terminal

FOLDER = Path(__file__).parent
PROGRAM = Path(sys.executable).parent / "qwen-tui"
SIZE = (150, 44)
#: What is measured: the same work twice, and a ladder.
WORK = ("--dataset", "random", "--input-len", "32", "--output-len", "32")
REPEATED = ("--num-prompts", "16", "--concurrency", "4", "--seed", "2024")
LADDER = "1 2 4 8"


def save(terminal: Terminal, name: str) -> None:
    terminal.settle()
    (FOLDER / f"{name}.svg").write_text(terminal.svg("qwen-tui"), encoding="utf-8")
    print(f"{name}.svg", flush=True)


def compare(terminal: Terminal) -> None:
    """The two runs that are there, marked."""
    terminal.press("b")
    terminal.wait_for("×4[^×]*×4")
    for _run in range(2):  # it goes on to the next
        terminal.child.send(" ")
        terminal.read(0.5)
    terminal.wait_for("difference")
    save(terminal, "bench-compare-en")


def ladder(terminal: Terminal) -> None:
    """Another ladder than the preset's, to its end."""
    terminal.press("n")
    terminal.wait_for("What to measure")
    for _preset in range(4):
        terminal.press("down")
        terminal.read(0.4)
    terminal.wait_for("1 2 4 8 16 32")
    fill(terminal, {5: "32", 6: "32", 10: LADDER, 11: "12"})
    terminal.wait_for("--sweep 1,2,4,8 .*--num-prompts 12")
    terminal.child.sendcontrol("s")
    terminal.wait_for("8 at once +[0-9]", 300)
    terminal.settle(1.0)
    save(terminal, "bench-ladder-en")


def fill(terminal: Terminal, texts: Mapping[int, str]) -> None:
    """Put texts into fields by their number in the order of tab, the list of presets being 0."""
    for number in range(1, max(texts) + 1):
        terminal.press("tab")
        terminal.read(0.3)
        if number in texts:
            terminal.press("end", *["backspace"] * 16)
            terminal.read(0.3)
            terminal.type(texts[number])
            terminal.read(0.3)


def pictures(environment: Mapping[str, str]) -> None:
    """Measure, and draw what the Bench room shows. environment: of a qwen-tui whose server runs."""
    for _run in range(2):
        words = [str(PROGRAM), "bench", *WORK, *REPEATED]
        subprocess.run(words, env={**os.environ, **environment}, check=True, stdout=subprocess.DEVNULL)
    with Terminal([str(PROGRAM)], {**environment, "LANG": "C.UTF-8"}, *SIZE) as terminal:
        terminal.wait_for("● SmolLM2 +ready")
        compare(terminal)
        ladder(terminal)
