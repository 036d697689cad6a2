"""What the backends of an offline speed test have in common: their prompts, and telling how far they are.

Standard library only. What a backend says, besides the result: {"kind": "phase", "phase": "import" | "load" |
"warmup" | "round" | "end", "round": number}, {"kind": "tick", "done", "total" (prompts), "tokens"}, and for each round
{"kind": "round", "elapsed" (seconds of generation only), "prompt_lens", "output_lens" (tokens, of all n answers)}.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qwen_tui.workers import protocol
else:
    import protocol

#: Seconds between two ticks, at least.
EVERY = 0.25

Prompt = tuple[list[int], int]
#: Generates for these prompts: the seconds it took, and for each prompt the tokens it was read and answered with.
Generate = Callable[[list[Prompt], "Ticker"], tuple[float, list[int], list[int]]]


class Ticker:
    """Tells how far a round is. Cheap: it is called in every step of the generation."""

    def __init__(self, total: int, is_told: bool = True) -> None:
        self.done = 0
        self.tokens = 0
        self._total = total
        self._is_told = is_told
        self._due = 0.0

    def add(self, done: int = 0, tokens: int = 0) -> None:
        """So many prompts, and so many tokens of answers, more."""
        self.done += done
        self.tokens += tokens
        now = time.monotonic()
        if self._is_told and now >= self._due:
            self._due = now + EVERY
            protocol.emit("tick", done=self.done, total=self._total, tokens=self.tokens)


def behind_the_engine() -> None:
    """Have this folder's modules found after the engine's: one of them may have the same name."""
    folder = str(Path(__file__).resolve().parent)
    if folder in sys.path:
        sys.path.remove(folder)
        sys.path.append(folder)


def read_prompts(file: str) -> tuple[list[Prompt], list[list[Prompt]], list[str]]:
    """The warm-up's, those of each round, and the first round's texts."""
    content: dict[str, Any] = json.loads(Path(file).read_text(encoding="utf-8"))

    def plain(prompts: list[Any]) -> list[Prompt]:
        return [(list(ids), int(length)) for ids, length in prompts]

    return plain(content["warmups"]), [plain(prompts) for prompts in content["rounds"]], content["texts"]


def run_rounds(request: dict[str, Any], generate: Generate, between: Callable[[], object] | None = None) -> None:
    """The warm-up and the rounds that `request` asks for. between: called ahead of each round, outside the clock."""
    warmups, rounds, _texts = read_prompts(request["prompts"])
    if warmups:
        protocol.emit("phase", phase="warmup")
        generate(warmups, Ticker(len(warmups), is_told=False))
    for number, prompts in enumerate(rounds):
        if between is not None:
            between()
        protocol.emit("phase", phase="round", round=number)
        ticker = Ticker(len(prompts))
        ticker.add()
        elapsed, prompt_lens, output_lens = generate(prompts, ticker)
        protocol.emit("round", elapsed=elapsed, prompt_lens=prompt_lens, output_lens=output_lens)
    protocol.emit("phase", phase="end")
