"""Find the Python environment that holds vLLM, without importing vLLM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from qwen_tui.paths import Paths

Source = Literal["option", "setting", "current", "managed", "path"]
Platform = Literal["cpu", "cuda", "unknown"]


@dataclass(frozen=True)
class Engine:
    """An environment with vLLM in it.

    python: its interpreter. version: vLLM's, such as "0.24.0". platform: what the vLLM build runs on.
    source: where it was found.
    """

    python: Path
    version: str
    platform: Platform
    source: Source


def find_engine(paths: Paths, setting: str = "", option: str = "") -> Engine:
    """The engine to use: `option` (--engine), else `setting`, the current interpreter, the managed environment,
    or the `vllm` command on PATH.

    Raises EngineNotFound saying where it looked; EngineError if the one that was named has no vLLM.
    """
    raise NotImplementedError


def candidates(paths: Paths, setting: str = "") -> Sequence[Engine]:
    """Every engine that can be found, the one to use first."""
    raise NotImplementedError
