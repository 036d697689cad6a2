"""Every model on this machine: in ModelScope's cache, in Hugging Face's, in qwen-tui's folder, in the user's.

Reads folders and headers only; nothing of vLLM, torch, transformers or a hub's client is imported.
"""

from __future__ import annotations

import asyncio
import difflib
import os
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from qwen_tui.errors import ModelError
from qwen_tui.i18n import _
from qwen_tui.models.local_cache import TallyCache
from qwen_tui.models.local_folders import Place, find_models, places
from qwen_tui.models.local_model import LocalModel
from qwen_tui.models.local_reading import read_model
from qwen_tui.paths import Paths

#: Seconds of work that make a batch.
_BATCH = 0.1


@dataclass
class Catalogue:
    """The models on this machine.

    folders: places the user named besides the caches. used: model path or id, as servers were given it → Unix time of
    the last start (`qwen_tui.server.model_records`). where: the places to look through, given by tests.
    """

    paths: Paths
    folders: Sequence[Path] = ()
    used: Mapping[str, float] = field(default_factory=dict)
    where: Sequence[Place] | None = None

    async def scan(self) -> AsyncIterator[Sequence[LocalModel]]:
        """The models in batches, as they are found, about ten times a second; all work is done in a thread.

        Ends early when it is closed. The batches are not sorted."""
        models = self._models()
        is_done = False
        while not is_done:
            batch, is_done = await asyncio.to_thread(_take, models, _BATCH)
            if batch:
                yield batch

    def list(self) -> list[LocalModel]:
        """All of them, sorted by id; blocking. Never raises: what can't be read is listed with its problems."""
        return sorted(self._models(), key=lambda model: (model.id.casefold(), model.revision, str(model.path)))

    def find(self, name: str) -> LocalModel:
        """The model of this id, last part of an id, or path; whole ones first. Blocking. Raises ModelError."""
        models = self.list()
        path = Path(name).expanduser()
        wanted = path.resolve() if path.exists() else None
        by_path = [model for model in models if wanted in (model.path, model.root, model.path.resolve())]
        if not by_path and wanted is not None and "/" in name:
            # As it was named: of a link, deleting takes the link and not what it leads to.
            named = Place(Path(os.path.abspath(path)), "folder")  # noqa: PTH100 - .absolute() keeps ".."
            by_path = list(Catalogue(self.paths, used=self.used, where=[named])._models())
        folded = name.casefold()
        by_id = [model for model in models if model.id.casefold() == folded]
        by_name = [model for model in models if model.name.casefold() == folded]
        found = by_path or by_id or by_name
        if found:
            return max(found, key=lambda model: (model.is_whole, model.modified))
        near = [model.id for model in models if folded in model.id.casefold() or model.name.casefold() in folded][:3]
        near = near or difflib.get_close_matches(name, [model.id for model in models], 3, 0.5)
        raise ModelError(
            _("There is no model “{name}” on this machine").format(name=name),
            _("Did you mean {names}?").format(names=", ".join(dict.fromkeys(near))) if near else "",
            _("`qwen-tui models` lists those that are here"),
        )

    def _models(self) -> Iterator[LocalModel]:
        cache = TallyCache(self.paths.cache / "catalogue.json")
        for found in find_models(places(self.paths, self.folders) if self.where is None else self.where):
            yield read_model(found, cache, self.used)
        cache.save()


def _take(models: Iterator[LocalModel], seconds: float) -> tuple[list[LocalModel], bool]:
    """What comes within `seconds`, and whether that was all."""
    batch: list[LocalModel] = []
    until = time.monotonic() + seconds
    for model in models:
        batch.append(model)
        if time.monotonic() >= until:
            return batch, False
    return batch, True
