"""Every model on this machine: in ModelScope's cache, in Hugging Face's, in qwen-tui's folder, in the user's.

Reads folders and headers only; nothing of vLLM, torch, transformers or a hub's client is imported.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from qwen_tui.models.local_model import LocalModel
from qwen_tui.paths import Paths


@dataclass
class Catalogue:
    """The models on this machine.

    folders: places the user named besides the caches. used: model path or id, as servers were given it → Unix time of
    the last start (`qwen_tui.server.model_records`).
    """

    paths: Paths
    folders: Sequence[Path] = ()
    used: Mapping[str, float] = field(default_factory=dict)

    async def scan(self) -> AsyncIterator[Sequence[LocalModel]]:
        """The models in batches, as they are found, a few times a second; all work is done in a thread."""
        raise NotImplementedError
        yield ()

    def list(self) -> list[LocalModel]:
        """All of them, sorted by id; blocking. Never raises: what can't be read is listed with its problems."""
        raise NotImplementedError

    def find(self, name: str) -> LocalModel:
        """The model of this id, name or path. Raises ModelError naming those that are near."""
        raise NotImplementedError
