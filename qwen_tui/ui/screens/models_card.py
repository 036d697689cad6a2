"""A model's card, from its folder or from the hub, for reading."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from qwen_tui.errors import QwenTuiError
from qwen_tui.i18n import N_, _
from qwen_tui.models.card import Card, hub_card, local_card
from qwen_tui.models.hub import HUBS, is_hub_id
from qwen_tui.models.hub_search import HubModel, HubName
from qwen_tui.models.local_model import LocalModel
from qwen_tui.models.tokens import Tokens
from qwen_tui.ui.rooms import DO
from qwen_tui.ui.text import one_line, plain
from qwen_tui.ui.widgets.card_view import CardView
from qwen_tui.ui.widgets.key_bar import KeyBar

if TYPE_CHECKING:
    from qwen_tui.ui.app import QwenApp

#: Of the front matter, what is worth a line.
_FIELDS = ("license", "pipeline_tag", "tasks", "base_model", "language")


class CardScreen(ModalScreen[None], inherit_bindings=False):
    """Shows the card of `model`."""

    CSS_PATH = "models_dialogs.tcss"
    AUTO_FOCUS = "CardView"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,o", "close", N_("close"), id="card.close", group=DO),
    ]

    def __init__(self, model: LocalModel | HubModel) -> None:
        super().__init__()
        self._model = model

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Static(Content.styled(one_line(self._model.id), "bold"), id="title")
            yield Static(Content(_("reading the card…")), id="fields")
            yield CardView(id="card")
            yield KeyBar()

    def on_mount(self) -> None:
        self.run_worker(self._read(), group="card")

    async def _read(self) -> None:
        try:
            card = await self._card()
        except QwenTuiError as error:
            self.query_one("#fields", Static).update(Content.styled(plain(str(error)), "$text-error"))
            return
        if not self.is_attached:
            return
        parts = [f"{name} {one_line(card.fields[name])}" for name in _FIELDS if card.fields.get(name)]
        if card.is_cut:
            parts.append(_("its end is left out: it is very long"))
        fields = self.query_one("#fields", Static)
        fields.update(Content(" · ".join(parts)))
        fields.display = bool(parts)
        self.query_one(CardView).show(card.text or _("The card is empty."))

    async def _card(self) -> Card:
        """The card in the folder; where there is none, or nothing is here, the hub's. Raises ModelError."""
        model = self._model
        if isinstance(model, HubModel):
            return await self._from_hub(model.id, model.hub)
        card = await asyncio.to_thread(local_card, model.path)
        if card is not None:
            return card
        if model.source in HUBS and is_hub_id(model.id):
            return await self._from_hub(model.id, cast(HubName, model.source))
        return Card(_("There is no README.md in its folder."))

    async def _from_hub(self, id: str, hub: HubName) -> Card:
        paths = cast("QwenApp", self.app).services.paths
        token = await asyncio.to_thread(Tokens(paths).load, HUBS[hub])
        return await hub_card(id, hub, token=token)

    def action_close(self) -> None:
        self.dismiss(None)
