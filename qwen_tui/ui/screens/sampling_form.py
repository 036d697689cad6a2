"""Asks how replies are to be drawn: every parameter of vLLM, presets, and the model's own defaults beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from qwen_tui.chat.sampling import PARAMETERS, Parameter, Sampling, make_sampling
from qwen_tui.chat.sampling_presets import ABOUT, SamplingPresets
from qwen_tui.errors import QwenTuiError
from qwen_tui.i18n import N_, _
from qwen_tui.paths import Paths
from qwen_tui.ui.rooms import DO, MOVE
from qwen_tui.ui.screens.profile_dialogs import AskName
from qwen_tui.ui.text import plain
from qwen_tui.ui.widgets.key_bar import KeyBar
from qwen_tui.ui.widgets.prose import Prose

#: Where a single answer is asked for.
_LEFT_OUT = ("n",)


class SamplingForm(ModalScreen[Sampling | None], inherit_bindings=False):
    """Dismissed with the sampling that was entered, or None."""

    CSS_PATH = "sampling_form.tcss"
    AUTO_FOCUS = "Input"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "keep", N_("use it"), id="sampling.use", group=DO, priority=True),
        Binding("enter", "advance", N_("next field, then use it"), id="sampling.advance", group=MOVE, priority=True),
        Binding("ctrl+k", "save_preset", N_("keep as preset"), id="sampling.preset", group=DO, priority=True),
        Binding("escape", "cancel", N_("cancel"), id="sampling.cancel", group=DO),
        Binding("tab", "app.focus_next", N_("next field"), id="sampling.next", group=MOVE),
        Binding(
            "shift+tab", "app.focus_previous", N_("previous field"), id="sampling.previous", group=MOVE, show=False
        ),
    ]

    def __init__(
        self, sampling: Sampling, defaults: Mapping[str, Any], paths: Paths, left_out: Sequence[str] = _LEFT_OUT
    ) -> None:
        """defaults: what the model's own generation_config says, by name. left_out: parameters not to ask for."""
        super().__init__()
        self._left_out = left_out
        self._sampling = sampling
        self._defaults = defaults
        self._presets = SamplingPresets(paths)

    @property
    def _parameters(self) -> list[Parameter]:
        return [parameter for parameter in PARAMETERS if parameter.name not in self._left_out]

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Static(Content.styled(_("How replies are drawn"), "bold"), id="title")
            with Horizontal(id="parts"):
                yield OptionList(id="presets", markup=False, compact=True)
                with VerticalScroll(id="fields", can_focus=False):
                    for parameter in self._parameters:
                        with Horizontal(classes="row"):
                            yield Static(Content(parameter.name), classes="label")
                            yield Input(
                                plain(_written(getattr(self._sampling, parameter.name))),
                                placeholder=self._hint(parameter),
                                id=f"field-{parameter.name}",
                                compact=True,
                                select_on_focus=False,
                            )
            yield Prose(id="note")
            yield KeyBar()

    def on_mount(self) -> None:
        for field in self.query(Input):
            field.cursor_blink = False  # each blink would cross the SSH connection
        self._show_presets()

    def _hint(self, parameter: Parameter) -> str:
        """The default, where the model has one, and what may be entered."""
        default = self._defaults.get(parameter.name)
        parts = [_("the model's: {value}").format(value=_written(default))] if default is not None else []
        return plain(" · ".join(filter(None, (*parts, parameter.range_text() or _(parameter.about)))))

    def _show_presets(self) -> None:
        presets = self.query_one("#presets", OptionList)
        presets.clear_options()
        try:
            names = list(self._presets.all())
        except QwenTuiError as error:
            self._say(str(error))
            return
        presets.add_options([Option(Content(plain(name)), id=name) for name in names])

    def on_descendant_focus(self) -> None:
        """Say what the field under the cursor is about."""
        focused = self.focused
        if isinstance(focused, Input) and focused.id:
            name = focused.id.removeprefix("field-")
            about = next(_(parameter.about) for parameter in PARAMETERS if parameter.name == name)
            self._say(f"{name}: {about}", "$text-muted")
        elif isinstance(focused, OptionList):
            self._say(_("enter takes the preset over"), "$text-muted")

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        if event.option_list.has_focus:
            about = ABOUT.get(event.option.id or "")
            self._say(f"{event.option.id}: {_(about)}" if about else str(event.option.id), "$text-muted")

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self._take_over(event.option.id or "")

    def _take_over(self, name: str) -> None:
        try:
            sampling = self._presets.get(name)
        except QwenTuiError as error:
            self._say(str(error))
            return
        for parameter in self._parameters:
            field = self.query_one(f"#field-{parameter.name}", Input)
            field.value = plain(_written(getattr(sampling, parameter.name)))
        self._say(_("{name} taken over").format(name=name), "$text-success")

    def _entered(self) -> Sampling:
        """What stands in the fields. Raises UsageError, with the cursor in the field that is wrong."""
        values: dict[str, Any] = {}
        for parameter in self._parameters:
            field = self.query_one(f"#field-{parameter.name}", Input)
            if field.value.strip():
                try:
                    values[parameter.name] = parameter.parse(field.value)
                except QwenTuiError:
                    field.focus()
                    raise
        return make_sampling(values)

    def _say(self, text: str, colour: str = "$text-error") -> None:
        self.query_one("#note", Prose).update(Content.styled(plain(text), colour))

    def action_advance(self) -> None:
        """A preset is taken over; from a field on to the next, after the last one all is used."""
        focused = self.focused
        if isinstance(focused, OptionList):
            focused.action_select()
        elif focused is self.query(Input).last():
            self.action_keep()
        else:
            self.focus_next()

    def action_keep(self) -> None:
        try:
            self.dismiss(self._entered())
        except QwenTuiError as error:
            self.call_after_refresh(self._say, str(error))

    def action_save_preset(self) -> None:
        try:
            sampling = self._entered()
        except QwenTuiError as error:
            self.call_after_refresh(self._say, str(error))
            return

        def named(name: str | None) -> None:
            if name is None:
                return
            try:
                self._presets.save(name, sampling)
            except QwenTuiError as error:
                self._say(str(error))
                return
            self._show_presets()
            self._say(_("Kept as {name}").format(name=name), "$text-success")

        self.app.push_screen(AskName(_("Keep as a preset"), "", lambda _name: ""), named)

    def action_cancel(self) -> None:
        self.dismiss(None)


def _written(value: Any) -> str:
    """A value as a person would write it into its field."""
    if value is None or value in ((), {}):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list):
        if all(isinstance(part, int) for part in value):
            return ", ".join(map(str, value))
        return json.dumps(list(value), ensure_ascii=False)
    if isinstance(value, Mapping):
        return json.dumps(value, ensure_ascii=False)
    return f"{value:g}" if isinstance(value, float) else str(value)
