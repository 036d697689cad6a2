"""One line in which one of a few things is chosen with the arrows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widget import Widget

from qwen_tui.i18n import N_, _
from qwen_tui.ui.rooms import MOVE
from qwen_tui.ui.text import cut_middle, one_line


class Chooser(Widget, can_focus=True, inherit_bindings=False):
    """All choices side by side where they fit, else the chosen one with its place among them."""

    ALLOW_SELECT = False
    DEFAULT_CSS = """
    Chooser { height: 1; width: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right,space", "choose(1)", N_("choose"), id="chooser.next", group=MOVE),
        Binding("left", "choose(-1)", N_("choose the one before"), id="chooser.before", show=False, group=MOVE),
    ]

    class Changed(Message):
        """Another one is chosen."""

        def __init__(self, chooser: Chooser) -> None:
            super().__init__()
            self.chooser = chooser

        @property
        def control(self) -> Chooser:
            return self.chooser

    def __init__(self, choices: Mapping[str, str], chosen: str, *, id: str | None = None) -> None:
        """choices: value → msgid, or a name that has no translation."""
        super().__init__(id=id)
        self._choices = dict(choices)
        self._chosen = chosen if chosen in self._choices else next(iter(self._choices), "")

    @property
    def value(self) -> str:
        """What is chosen; empty where there is nothing to choose from."""
        return self._chosen

    @value.setter
    def value(self, value: str) -> None:
        if value in self._choices and value != self._chosen:
            self._chosen = value
            self.refresh()
            self.post_message(self.Changed(self))

    def action_choose(self, by: int) -> None:
        values = list(self._choices)
        if values:
            self.value = values[(values.index(self._chosen) + by) % len(values)]

    def on_click(self, event: events.Click) -> None:
        self.action_choose(1)

    def on_focus(self) -> None:
        self.refresh()

    def on_blur(self) -> None:
        self.refresh()

    def render(self) -> Content:
        width = self.content_size.width
        names = {value: one_line(_(name)) for value, name in self._choices.items()}
        chosen = "bold reverse" if self.has_focus else "bold underline"
        parts = [
            Content.styled(name, chosen if value == self._chosen else "$foreground-muted")
            for value, name in names.items()
        ]
        line = Content("  ").join(parts)
        if line.cell_length <= width:
            return line
        place = f"  {list(names).index(self._chosen) + 1}/{len(names)}"
        name = cut_middle(names[self._chosen], max(1, width - len(place) - 4))
        return Content.assemble(("‹ ", "$foreground-muted"), (name, chosen), (" ›", "$foreground-muted"), place)
