"""The models of this machine as the screens show them: found, and each with how it fits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qwen_tui.errors import QwenTuiError
from qwen_tui.models.catalogue import Catalogue
from qwen_tui.models.fit_box import Box, ModelFit, fit_model
from qwen_tui.models.local_model import LocalModel
from qwen_tui.server.model_records import ModelRecords, read_model_records
from qwen_tui.server.status import ServerStatus

if TYPE_CHECKING:
    from qwen_tui.ui.services import Services


class ModelShelf:
    """Keeps what was found; all reading is done in threads.

    models: sorted by id. fits: by a model's path; one that is missing is not reckoned yet. looked: whether a look was
    finished. box: the hardware as last read.
    """

    def __init__(
        self,
        catalogue: Callable[[ModelRecords], Catalogue],
        read_box: Callable[[], Box],
        read_records: Callable[[], ModelRecords],
    ) -> None:
        """catalogue: makes one with what is on record. read_box, read_records: blocking, called in threads."""
        self._catalogue, self._read_box, self._read_records = catalogue, read_box, read_records
        self.models: tuple[LocalModel, ...] = ()
        self.fits: dict[Path, ModelFit] = {}
        self.box: Box | None = None
        self.looked = False
        self._records = ModelRecords()
        self._looking = asyncio.Lock()

    async def look(self, tell: Callable[[], None]) -> None:
        """Find the models anew; `tell` is called whenever there is more to show."""
        async with self._looking:
            self._records = await asyncio.to_thread(self._read_records)
            found: list[LocalModel] = []
            async for batch in self._catalogue(self._records).scan():
                found += batch
                if not self.looked:
                    self._put(found)
                    tell()
            self._put(found)
            self.looked = True
            tell()
            self.box = await asyncio.to_thread(self._read_box)
            await self._reckon()
            tell()

    async def look_at_box(self, tell: Callable[[], None]) -> None:
        """Read the hardware anew, whose free memory changes, and see what fits now."""
        if not self.looked or self._looking.locked():
            return
        async with self._looking:
            self.box = await asyncio.to_thread(self._read_box)
            await self._reckon()
            tell()

    def fit_for(self, model: LocalModel, context: int | None = None) -> ModelFit | None:
        """How `model` fits, for a context of so many tokens; takes a millisecond. None while the box is unknown."""
        if self.box is None:
            return None
        return fit_model(model, self.box, context=context, measured=self._records.measured_for(model))

    async def fit_now(self, model: LocalModel) -> ModelFit:
        """The same; reads the hardware first where that is not done yet."""
        if self.box is None:
            self.box = await asyncio.to_thread(self._read_box)
        return fit_model(model, self.box, measured=self._records.measured_for(model))

    def at(self, path: Path) -> LocalModel | None:
        """The model in this folder, if it was found."""
        return next((model for model in self.models if path in (model.path, model.root)), None)

    def has(self, id: str) -> bool:
        """Whether a whole model of this id is here."""
        return any(model.id.casefold() == id.casefold() and model.is_whole for model in self.models)

    def _put(self, found: Sequence[LocalModel]) -> None:
        self.models = tuple(sorted(found, key=lambda model: (model.id.casefold(), model.revision, str(model.path))))

    async def _reckon(self) -> None:
        def fits() -> dict[Path, ModelFit]:
            found = ((model, self.fit_for(model)) for model in self.models)
            return {model.path: fit for model, fit in found if fit is not None}

        self.fits = await asyncio.to_thread(fits)


def names_of(model: LocalModel) -> set[str]:
    """What a server may have been given to serve `model`."""
    return {str(model.path), str(model.root), model.id}


def server_of(model: LocalModel, statuses: Sequence[ServerStatus]) -> ServerStatus | None:
    """The living server that serves `model`; one that is ready first."""
    names = names_of(model)
    serving = [status for status in statuses if status.state.is_alive and status.spec.model.rstrip("/") in names]
    return min(serving, key=lambda status: status.state.value != "ready", default=None)


def make_shelf(services: Services) -> ModelShelf:
    """The shelf of this user's folders, for the engine that servers are started with."""
    paths, settings = services.paths, services.settings

    def catalogue(records: ModelRecords) -> Catalogue:
        return records.catalogue(paths, settings.model_folders)

    def read_box() -> Box:
        try:
            engine = services.find_engine(paths, settings.engine)
        except QwenTuiError:  # no engine yet: what fits can be told from the hardware alone
            return Box.read()
        return Box.read(engine.platform, engine.version)

    return ModelShelf(catalogue, read_box, lambda: read_model_records(paths))
