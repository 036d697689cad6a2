"""The hub: models are searched for, read about and downloaded."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Input

from qwen_tui.errors import QwenTuiError
from qwen_tui.i18n import N_, _
from qwen_tui.models.hub import HUBS
from qwen_tui.models.hub_search import FAMILIES, SORTS, HubModel, HubName
from qwen_tui.ui.rooms import HUB
from qwen_tui.ui.text import plain
from qwen_tui.ui.widgets.model_detail import hub_facts
from qwen_tui.ui.widgets.model_part import Part
from qwen_tui.ui.widgets.model_rows import hub_row

_HUBS: tuple[HubName, ...] = ("modelscope", "huggingface")
_SORT_WORDS: dict[str, str] = {
    "downloads": N_("most downloaded first"),
    "likes": N_("most liked first"),
    "updated": N_("newest first"),
}


class HubPart(Part):
    """What the hub has."""

    TITLE = N_("Hub")
    FIELD_HINT = N_("what to search for, such as qwen2.5")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "main", N_("download"), id="hub.main", group=HUB),
        Binding("slash", "search", N_("search"), id="hub.search", group=HUB),
        Binding("F", "family", N_("family"), id="hub.family", group=HUB),
        Binding("S", "sort", N_("sort"), id="hub.sort", group=HUB),
        Binding("H", "hub", N_("other hub"), id="hub.hub", group=HUB),
        Binding("o", "card", N_("card"), id="hub.card", group=HUB),
        Binding("y", "copy", N_("copy id"), id="hub.copy", group=HUB),
        Binding("r", "refresh", N_("refresh"), id="hub.refresh", show=False, group=HUB),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._found: list[HubModel] = []
        self._hub: HubName = "modelscope"
        self._family = ""
        self._sort = SORTS[0]
        self._searching = self._searched = False
        self._error: QwenTuiError | None = None

    @property
    def chosen(self) -> HubModel | None:
        """The model under the cursor."""
        key = self.listing.key if self.is_mounted else None
        return next((model for model in self._found if model.id == key), None)

    def draw(self) -> None:
        """Show what was found."""
        self.listing.show([model.id for model in self._found], self._rows)
        self.changed()

    def _rows(self, width: int) -> list[Content]:
        shelf = self.qwen.services.shelf
        return [hub_row(model, width, is_here=shelf.has(model.id)) for model in self._found]

    def summary(self) -> str:
        parts = [HUBS[self._hub].label, self._family, _(_SORT_WORDS[self._sort])]
        return " · ".join(part for part in parts if part)

    def detail(self, width: int, height: int) -> Content:
        if self._searching:
            return Content(_("Searching {hub}…").format(hub=HUBS[self._hub].label))
        if self._error is not None:
            parts = [Content.styled(plain(self._error.title), "$text-error")]
            parts += [Content(plain(part)) for part in (self._error.why, self._error.hint) if part]
            return Content("\n").join(parts)
        model = self.chosen
        if model is not None:
            return hub_facts(model, is_here=self.qwen.services.shelf.has(model.id))
        if self._searched:
            return Content(_("Nothing was found."))
        return Content.assemble(("/", "bold $text-accent"), "  ", _("search the hub for models"))

    def binding_text(self, binding: Binding) -> str:
        if binding.action in ("main", "card", "copy") and self.chosen is None:
            return ""
        return binding.description

    # Searching

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.listing.focus()
        self._begin()

    def action_search(self) -> None:
        field = self.field
        if field is not None:
            self.show_field(field)

    def action_refresh(self) -> None:
        self._begin()

    def action_family(self) -> None:
        self._family = FAMILIES[(FAMILIES.index(self._family) + 1) % len(FAMILIES)]
        self._again()

    def action_sort(self) -> None:
        self._sort = SORTS[(SORTS.index(self._sort) + 1) % len(SORTS)]
        self._again()

    def action_hub(self) -> None:
        self._hub = _HUBS[(_HUBS.index(self._hub) + 1) % len(_HUBS)]
        self._found = []
        self._again()

    def _again(self) -> None:
        self.draw()
        if self._searched:
            self._begin()

    def _begin(self) -> None:
        self._searching = True
        self.changed()
        self.run_worker(self._search(), group="search", exclusive=True)

    async def _search(self) -> None:
        from qwen_tui.models.hub_search import search_hub
        from qwen_tui.models.tokens import Tokens

        field = self.field
        text = field.value.strip() if field is not None else ""
        token = Tokens(self.qwen.services.paths).load(HUBS[self._hub])
        try:
            self._found = await search_hub(text, self._hub, family=self._family, sort=self._sort, token=token)
            self._error = None
        except QwenTuiError as error:
            self._found, self._error = [], error
        self._searching, self._searched = False, True
        self.draw()

    # Keys

    def action_main(self) -> None:
        from qwen_tui.ui.screens.models_work import download

        model = self.chosen
        if model is None:
            self.action_search()
        else:
            download(self, model.id, model.hub)

    def action_card(self) -> None:
        from qwen_tui.ui.screens.models_card import CardScreen

        model = self.chosen
        if model is not None:
            self.app.push_screen(CardScreen(model))

    def action_copy(self) -> None:
        model = self.chosen
        if model is not None:
            self.app.copy_to_clipboard(model.id)
            self.notify(_("The id is copied"), markup=False)
