"""Pick a theme: the one under the cursor is shown at once, enter keeps it, esc goes back."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from qwen_tui.i18n import N_, _

if TYPE_CHECKING:
    from qwen_tui.ui.app import QwenApp


class ThemePicker(ModalScreen[None], inherit_bindings=False):
    """Lists the themes there are."""

    CSS_PATH = "themes.tcss"
    AUTO_FOCUS = "OptionList"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "back", N_("cancel"), id="themes.cancel")]

    def compose(self) -> ComposeResult:
        with Vertical(id="themes"):
            yield Static(Content.styled(_("Theme"), "bold"), id="title")
            yield OptionList(*(Option(Content(name), id=name) for name in self._names()), markup=False, compact=True)
            yield Static(Content.styled(_("enter keep   esc cancel"), "$foreground-muted"), id="keys")

    def on_mount(self) -> None:
        self._before = self.app.theme
        self.query_one(OptionList).highlighted = self._names().index(self._before)

    def _names(self) -> list[str]:
        return sorted(self.app.available_themes)

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        self.app.theme = event.option.id or self._before

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        cast("QwenApp", self.app).save_setting(theme=self.app.theme)
        self.dismiss(None)

    def action_back(self) -> None:
        self.app.theme = self._before
        self.dismiss(None)
