"""The models on this machine: served, chatted with, compared, checked, read about, moved and deleted."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widgets import Input

from qwen_tui.errors import QwenTuiError
from qwen_tui.i18n import N_, _, ngettext
from qwen_tui.models.fit_propose import compare
from qwen_tui.models.hub import HUBS, is_hub_id
from qwen_tui.models.local_model import LocalModel
from qwen_tui.models.verify import Verification
from qwen_tui.progress import Progress, format_bytes
from qwen_tui.ui.model_shelf import ModelShelf, server_of
from qwen_tui.ui.rooms import HERE
from qwen_tui.ui.widgets import model_detail
from qwen_tui.ui.widgets.model_part import Part
from qwen_tui.ui.widgets.model_rows import model_row

#: What the list is sorted by → its words, and what models are compared by; the order by name is the shelf's.
_SORTS: tuple[tuple[str, Callable[[LocalModel], float]], ...] = (
    ("", lambda _model: 0.0),
    (N_("largest first"), lambda model: -model.size),
    (N_("last used first"), lambda model: -(model.last_used or 0.0)),
)


class HerePart(Part):
    """What is here. The work on a model is done by `qwen_tui.ui.screens.models_work`."""

    TITLE = N_("Here")
    FIELD_HINT = N_("part of a name")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "main", N_("serve"), id="models.serve", group=HERE),
        Binding("space", "mark", N_("mark to compare"), id="models.mark", group=HERE),
        Binding("slash", "filter", N_("filter"), id="models.filter", group=HERE),
        Binding("o", "card", N_("card"), id="models.card", group=HERE),
        Binding("V", "verify", N_("verify"), id="models.verify", group=HERE),
        Binding("x", "stop", N_("stop this"), id="models.stop", group=HERE),
        Binding("d", "delete", N_("delete"), id="models.delete", group=HERE),
        Binding("M", "move", N_("move"), id="models.move", group=HERE),
        Binding("S", "sort", N_("sort"), id="models.sort", group=HERE),
        Binding("y", "copy", N_("copy path"), id="models.copy", group=HERE),
        Binding("r", "refresh", N_("refresh"), id="models.refresh", group=HERE),
        Binding("B", "throughput", N_("speed test"), id="models.throughput", group=HERE),
    ]

    class Looked(Message):
        """The shelf has changed."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._models: list[LocalModel] = []
        self._marked: list[Path] = []
        self._sort = 0
        self.looked_at = 0.0
        #: Folders that something is being downloaded into.
        self.coming: frozenset[Path] = frozenset()
        #: Model's path → the work on it that runs, and what its last verification came to.
        self.jobs: dict[Path, Progress] = {}
        self.verified: dict[Path, Verification | QwenTuiError] = {}

    @property
    def shelf(self) -> ModelShelf:
        return self.qwen.services.shelf

    @property
    def chosen(self) -> LocalModel | None:
        """The model under the cursor."""
        key = self.listing.key if self.is_mounted else None
        return next((model for model in self._models if str(model.path) == key), None)

    @property
    def marked(self) -> list[LocalModel]:
        """The models to compare, at most two, in the order of marking."""
        by_path = {model.path: model for model in self.shelf.models}
        return [by_path[path] for path in self._marked if path in by_path]

    def has_damage(self, model: LocalModel) -> bool:
        """Whether a hub can mend what was found wrong with `model`."""
        found = self.verified.get(model.path)
        is_bad = isinstance(found, Verification) and not found.is_good
        return is_bad and model.source in HUBS and is_hub_id(model.id)

    # Drawing

    def retranslate(self) -> None:
        super().retranslate()
        self.look_at_box()  # what fits is told in sentences, which are made then

    @property
    def wants_field(self) -> bool:
        field = self.field
        return field is not None and (bool(field.value) or field.has_focus)

    def draw(self) -> None:
        """Show the shelf as it is now."""
        field = self.field
        wanted = field.value.strip().casefold() if field is not None else ""
        self._models = [
            model
            for model in self.shelf.models
            if not wanted or wanted in f"{model.id} {model.architecture} {model.quantization}".casefold()
        ]
        self._models.sort(key=_SORTS[self._sort][1])
        self.listing.show([str(model.path) for model in self._models], self._rows)
        self.changed()

    def _rows(self, width: int) -> list[Content]:
        statuses = self.qwen.statuses
        return [
            model_row(
                model,
                self.shelf.fits.get(model.path),
                server_of(model, statuses),
                width,
                is_marked=model.path in self._marked,
                is_coming=model.path in self.coming,
            )
            for model in self._models
        ]

    def summary(self) -> str:
        models = self.shelf.models
        if not models:
            return "" if self.shelf.looked else _("looking…")
        count = ngettext("{count} model", "{count} models", len(models)).format(count=len(models))
        roots = {model.root: model.size for model in models}
        text = f"{count}, {format_bytes(sum(roots.values()))}"
        if len(self._models) < len(models):
            text += "  " + _("{count} shown").format(count=len(self._models))
        if self._sort:
            text += " · " + _(_SORTS[self._sort][0])
        return text if self.shelf.looked else text + "  " + _("looking…")

    def detail(self, width: int, height: int) -> Content:
        model, marked = self.chosen, self.marked
        if model is None:
            return _empty_text(is_filtered=bool(self.shelf.models)) if self.shelf.looked else Content(_("looking…"))
        parts: list[Content | None] = []
        if model.path in self.jobs:
            parts.append(model_detail.job_lines(self.jobs[model.path], width))
        elif model.path in self.verified:
            parts.append(model_detail.verification(self.verified[model.path]))
            if self.has_damage(model):
                text = _("download it again: only what is wrong is fetched")
                parts.append(Content.assemble(("n", "bold $text-accent"), "  ", text))
        if len(marked) == 2:
            parts.append(self._comparison(marked, width))
        elif marked:
            parts.append(Content.styled(_("space on a second model compares the two"), "$foreground-muted"))
        found = self.shelf.fits.get(model.path)
        server, is_coming = server_of(model, self.qwen.statuses), model.path in self.coming
        parts.append(model_detail.model_facts(model, found, server, is_coming=is_coming))
        return model_detail.joined(parts)

    def _comparison(self, marked: list[LocalModel], width: int) -> Content | None:
        """Both reckoned for one context, the longest that both have and have room for."""
        own = [self.shelf.fits.get(model.path) for model in marked]
        contexts = [found.context for found in own if found is not None and found.context]
        context = min(contexts) if contexts else None
        pairs = [(model, self.shelf.fit_for(model, context)) for model in marked]
        known = [(model, found) for model, found in pairs if found is not None]
        return model_detail.comparison(marked, compare(known), width) if len(known) == len(marked) else None

    def binding_text(self, binding: Binding) -> str:
        model = self.chosen
        if binding.action in ("refresh", "filter", "sort"):
            return binding.description
        if model is None:
            return ""
        is_busy = model.path in self.jobs
        if binding.action == "stop":
            return binding.description if is_busy else ""
        if binding.action in ("verify", "delete", "move") and is_busy:
            return ""
        if binding.action == "main" and not model.is_whole:
            return N_("download the rest") if model.source in HUBS and model.path not in self.coming else ""
        if binding.action == "main" and model.kind != "model":
            return ""
        if binding.action == "mark" and model.path in self._marked:
            return N_("unmark")
        return binding.description

    # Keys

    def action_filter(self) -> None:
        field = self.field
        if field is not None:
            self.show_field(field)

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.draw()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.listing.focus()
        event.input.display = bool(event.input.value)

    def action_sort(self) -> None:
        self._sort = (self._sort + 1) % len(_SORTS)
        self.draw()

    def action_mark(self) -> None:
        model = self.chosen
        if model is None:
            return
        if model.path in self._marked:
            self._marked.remove(model.path)
        else:
            self._marked = [*self._marked, model.path][-2:]
        self.draw()

    def action_copy(self) -> None:
        model = self.chosen
        if model is not None:
            self.app.copy_to_clipboard(str(model.path))
            self.notify(_("The path is copied"), markup=False)

    def action_main(self) -> None:
        from qwen_tui.ui.screens.models_work import serve

        model = self.chosen
        if model is not None:
            self.run_worker(serve(self, model), group="serve", exclusive=True)

    def action_card(self) -> None:
        from qwen_tui.ui.screens.models_card import CardScreen

        model = self.chosen
        if model is not None:
            self.app.push_screen(CardScreen(model))

    def action_throughput(self) -> None:
        from qwen_tui.ui.screens.throughput import open_throughput

        open_throughput(self.qwen, str(self.chosen.path) if self.chosen is not None else "")

    def action_verify(self) -> None:
        from qwen_tui.ui.screens.models_work import verify

        model = self.chosen
        if model is not None and model.path not in self.jobs:
            self.run_worker(verify(self, model), group=f"work {model.path}", exclusive=True)

    def action_stop(self) -> None:
        model = self.chosen
        if model is None or model.path not in self.jobs:
            self.notify(_("Nothing is being done with it"), markup=False)
            return
        for worker in self.workers:
            if worker.node is self and worker.group == f"work {model.path}":
                worker.cancel()

    def action_delete(self) -> None:
        from qwen_tui.ui.screens.models_work import delete

        model = self.chosen
        if model is not None and model.path not in self.jobs:
            self.run_worker(delete(self, model), group=f"work {model.path}", exclusive=True)

    def action_move(self) -> None:
        from qwen_tui.ui.screens.models_work import move

        model = self.chosen
        if model is not None and model.path not in self.jobs:
            self.run_worker(move(self, model), group=f"work {model.path}", exclusive=True)

    def action_refresh(self) -> None:
        self.look()

    def look(self) -> None:
        """Find the models anew."""
        self.looked_at = time.monotonic()
        self.run_worker(self.shelf.look(self._tell), group="look", exclusive=True)

    def look_at_box(self) -> None:
        """See anew what fits: memory was taken or given back."""
        self.run_worker(self.shelf.look_at_box(self._tell), group="box", exclusive=True)

    def _tell(self) -> None:
        if self.is_mounted:
            self.draw()
            self.post_message(self.Looked())


def _empty_text(*, is_filtered: bool) -> Content:
    if is_filtered:
        return Content(_("No model has that in its name."))
    return Content.assemble(
        (_("No models yet."), "bold"),
        "\n\n",
        ("n", "bold $text-accent"),
        "  ",
        _("download one by its id, such as qwen/Qwen2-7B-Instruct"),
        "\n",
        ("tab", "bold $text-accent"),
        "  ",
        _("to the hub, to search for one"),
        "\n\n",
        _("Looked at: the caches of ModelScope and Hugging Face, qwen-tui's own folder, and the folders that "
          "“model_folders” in the settings names."),
    )  # fmt: skip
