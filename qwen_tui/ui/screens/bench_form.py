"""Asks what to measure: a preset first, then each field, checked as it is typed, and the same on a command line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from qwen_tui.bench.presets import PRESETS
from qwen_tui.i18n import N_, _
from qwen_tui.paths import write_private
from qwen_tui.ui.bench_desk import Order
from qwen_tui.ui.bench_places import Place
from qwen_tui.ui.rooms import DO, MOVE
from qwen_tui.ui.screens.bench_fields import CHOICES, FIRST, HINTS, LABELS, Reading, is_shown, read, values_of
from qwen_tui.ui.text import one_line, plain
from qwen_tui.ui.widgets.bench_chooser import Chooser
from qwen_tui.ui.widgets.key_bar import KeyBar
from qwen_tui.ui.widgets.model_part import QuietInput
from qwen_tui.ui.widgets.prose import Prose

if TYPE_CHECKING:
    from qwen_tui.ui.app import QwenApp

_LAST = "last"
#: Beside the domain's presets: name → what it is about, and the texts that it puts into the form.
_MORE: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "ladder": (
        N_("people chatting, 1 to 32 at a time: where more load stops paying"),
        {**values_of(PRESETS["chat"]), "kind": "sweep", "count": "", "warmup": "2"},
    ),
    "users": (
        N_("how many people at once get their first token within 500 ms, and 20 tokens a second"),
        {**values_of(PRESETS["chat"]), "kind": "capacity", "count": "", "ttft": "500", "tpot": "50"},
    ),
}


def presets() -> dict[str, tuple[str, Mapping[str, str]]]:
    """Every preset: name → what it is about, a msgid, and its texts."""
    found = {name: (preset.about, {"kind": "run", **values_of(preset)}) for name, preset in PRESETS.items()}
    return {**found, **_MORE}


class BenchForm(ModalScreen[Order | None], inherit_bindings=False):
    """Dismissed with what is to be measured, or None. `values` has what was filled in."""

    CSS_PATH = "bench_form.tcss"
    AUTO_FOCUS = "#presets"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "start", N_("measure"), id="bench_form.start", group=DO, priority=True),
        Binding("enter", "advance", N_("next field, then measure"), id="bench_form.advance", group=MOVE, priority=True),
        Binding("ctrl+y", "copy", N_("copy the command"), id="bench_form.copy", group=DO, priority=True),
        Binding("escape", "cancel", N_("cancel"), id="bench_form.cancel", group=DO),
        Binding("tab,down", "app.focus_next", N_("next field"), id="bench_form.next", group=MOVE, show=False),
        Binding(
            "shift+tab,up", "app.focus_previous", N_("previous field"), id="bench_form.previous", group=MOVE, show=False
        ),
    ]

    def __init__(self, places: Sequence[Place], values: Mapping[str, str], price: str, target: str = "") -> None:
        """values: what was filled in the last time; empty at first. price: of an hour. target: the key of a place."""
        super().__init__()
        self._places = places
        self._last = dict(values)
        self._target = target or values.get("target", "")
        first = {**FIRST, **presets()["tutorial"][1], **values, "price": price}
        self.values: dict[str, str] = first
        self._reading = Reading()

    @property
    def _qwen(self) -> QwenApp:
        return cast("QwenApp", self.app)

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Static(Content.styled(_("What to measure"), "bold"), id="title")
            with Horizontal(id="parts"):
                yield OptionList(*self._options(), id="presets", markup=False, compact=True)
                with VerticalScroll(id="fields", can_focus=False):
                    for name, label in LABELS.items():
                        with Horizontal(classes="row", id=f"row-{name}"):
                            yield Static(Content(_(label)), classes="label")
                            yield self._field(name)
            yield Prose(id="note")
            yield Prose(id="command")
            yield KeyBar()

    def _options(self) -> list[Option]:
        names = [*([_LAST] if self._last else []), *presets()]
        return [Option(Content(_("as last time") if name == _LAST else name), id=name) for name in names]

    def _field(self, name: str) -> Chooser | QuietInput:
        if name == "target":
            names = {place.key: f"{place.name} ({place.model})" for place in self._places}
            return Chooser(names, self._target, id="field-target")
        if name in CHOICES:
            return Chooser(CHOICES[name], self.values.get(name, ""), id=f"field-{name}")
        text, hint = plain(self.values.get(name, "")), HINTS.get(name, "")
        return QuietInput(
            text, placeholder=_(hint) if hint else "", id=f"field-{name}", compact=True, select_on_focus=False
        )

    def on_mount(self) -> None:
        self.query_one("#presets", OptionList).highlighted = 0
        self._look()

    # What is filled in

    def _read_values(self) -> None:
        for name in LABELS:
            self.values[name] = self._entry(name).value

    def _entry(self, name: str) -> Chooser | Input:
        return cast("Chooser | Input", self.query_one(f"#field-{name}"))

    def _look(self) -> None:
        """Show the fields that mean something, what is wrong with them, and the command."""
        self._read_values()
        self._reading = read(self.values, self._places, self._conversation)
        for name in LABELS:
            row = self.query_one(f"#row-{name}")
            row.display = is_shown(name, self.values)
            row.set_class(name in self._reading.errors, "-wrong")
        self._say_about(self.focused)
        command = self._reading.command
        self.query_one("#command", Prose).update(
            Content.styled(f"$ {plain(command)}" if command else "", "$text-muted")
        )

    def _conversation(self) -> tuple[Path, Sequence[Any]] | None:
        """What is said in Chat, and the file that it goes to when the run is begun or its command copied."""
        chat = self._qwen.services.chat.conversation
        messages = [{"role": turn.role, "content": turn.text} for turn in chat.turns if turn.text]
        while messages and messages[-1]["role"] != "user":
            messages.pop()
        if not messages:
            return None
        system = [{"role": "system", "content": chat.system}] if chat.system else []
        return self._qwen.services.paths.data / "bench-conversation.json", [*system, *messages]

    def _keep_conversation(self) -> None:
        found = (
            self._conversation() if self.values.get("dataset") == "conversation" and not self.values["path"] else None
        )
        if found is not None:
            write_private(found[0], json.dumps(found[1], ensure_ascii=False, indent=1))

    def _say_about(self, focused: object) -> None:
        """What is wrong with the field under the cursor, else with the first one, else what it is about."""
        errors = self._reading.errors
        name = (getattr(focused, "id", None) or "").removeprefix("field-")
        wrong = name if name in errors else next((one for one in LABELS if one in errors), "" if "" in errors else None)
        if wrong is not None:
            label = f"{_(LABELS[wrong])}: " if wrong else ""
            text, colour = label + errors[wrong], "$text-error"
        elif name == "presets":
            key = self._preset_key
            about = presets()[key][0] if key in presets() else ""
            text, colour = _(about) if about else _("enter measures it; tab goes to the fields"), "$text-muted"
        else:
            hint = HINTS.get(name, "")
            text, colour = (f"{_(LABELS[name])}: {_(hint)}" if hint else ""), "$text-muted"
        self.query_one("#note", Prose).update(Content.styled(plain(text), colour))

    @property
    def _preset_key(self) -> str:
        option = self.query_one("#presets", OptionList).highlighted_option
        return option.id or "" if option is not None else ""

    def _take_over(self, name: str) -> None:
        """Put a preset's texts into the fields; limits, tags and what else it does not speak of stay."""
        values = self._last if name == _LAST else presets()[name][1]
        for field, text in values.items():
            widget = self._entry(field)
            if field != "price" and widget.value != text:
                widget.value = text

    # Events

    def on_descendant_focus(self) -> None:
        self._say_about(self.focused)

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        if event.option_list.has_focus:
            self._take_over(event.option.id or "")
            self._look()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()  # a click only marks it
        self._take_over(event.option.id or "")
        self._look()

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self._look()

    def on_chooser_changed(self, event: Chooser.Changed) -> None:
        event.stop()
        self._look()

    # Keys

    def action_advance(self) -> None:
        """On a preset: measure. In a field: on to the next, after the last one measure."""
        fields = [name for name in LABELS if is_shown(name, self.values)]
        if isinstance(self.focused, OptionList) or (self.focused and self.focused.id == f"field-{fields[-1]}"):
            self.action_start()
        else:
            self.focus_next()

    def action_start(self) -> None:
        self._look()
        errors, order = self._reading.errors, self._reading.order
        if order is None:
            wrong = next((name for name in LABELS if name in errors), "kind")
            self.query_one(f"#field-{wrong}").focus()
            return
        self._keep_conversation()
        if self._reading.price != self._qwen.services.settings.hourly_price:
            self._qwen.save_setting(hourly_price=self._reading.price)
        self.dismiss(order)

    def action_copy(self) -> None:
        if self._reading.command:
            self._keep_conversation()
            self.app.copy_to_clipboard(self._reading.command)
            self.notify(_("Copied: {text}").format(text=one_line(self._reading.command)), markup=False)
        else:
            self.notify(_("There is no command yet: something is missing"), severity="warning", markup=False)

    def action_cancel(self) -> None:
        self.dismiss(None)
