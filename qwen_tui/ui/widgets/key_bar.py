"""The last line: what can be pressed now, the most important first, `? help` always."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from textual.binding import ActiveBinding, Binding
from textual.content import Content
from textual.keys import format_key
from textual.screen import Screen
from textual.widget import Widget

from qwen_tui.i18n import _

HELP_ID = "app.help"
# Where Textual draws a symbol that many fonts lack, the word.
_NAMES = {"enter": "enter", "backspace": "backspace"}


def key_name(key: str) -> str:
    """How a key is written for a person: 'question_mark' → '?', 'escape' → 'esc', 'ctrl+p' stays."""
    *modifiers, last = key.split("+")
    name = _NAMES.get(last) or format_key(last)
    return "+".join([*modifiers, name])


class KeyBar(Widget):
    """Draws the active bindings of its screen that fit into one line."""

    ALLOW_SELECT = False
    DEFAULT_CSS = """
    KeyBar { height: 1; padding: 0 1; background: $panel; color: $foreground; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._entries: tuple[tuple[str, str], ...] = ()

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, self._bindings_updated)
        self._bindings_updated(self.screen)

    def _bindings_updated(self, screen: Screen[Any]) -> None:
        if not self.screen.is_active:
            return  # below a dialog, what stood here stays until it is answered; or another room is being shown
        entries = tuple(self._active_entries())
        if entries != self._entries:
            self._entries = entries
            self.refresh()

    def retranslate(self) -> None:
        self._bindings_updated(self.screen)

    def _active_entries(self) -> Iterable[tuple[str, str]]:
        """Key and description: the screen's own first, then the focused widget's, then the app's; help at the end."""
        active = list(self.screen.active_bindings.values())
        active.sort(key=lambda entry: 0 if entry.node is self.screen else 2 if entry.node is self.app else 1)
        seen: set[str] = set()
        last: tuple[str, str] | None = None
        for entry in active:
            binding = entry.binding
            name = binding.id or binding.action
            text = self._text(entry)
            if name in seen or not text:
                continue
            seen.add(name)
            if binding.id == HELP_ID:
                last = (key_name(binding.key), text)
            else:
                yield key_name(binding.key), text
        if last:
            yield last

    def _text(self, entry: ActiveBinding) -> str:
        binding: Binding = entry.binding
        if not binding.show or not entry.enabled:
            return ""
        describe = getattr(entry.node, "binding_text", None)
        return _(describe(binding) if describe else binding.description)

    def render(self) -> Content:
        if not self._entries:
            return Content("")
        drawn = [
            Content.assemble((key, "bold $text-accent"), " ", (text, "$foreground")) for key, text in self._entries
        ]
        *others, last = drawn
        width = self.content_size.width - last.cell_length
        kept: list[Content] = []
        for entry in others:
            width -= entry.cell_length + 2
            if width < 0:
                break
            kept.append(entry)
        return Content("  ").join([*kept, last])
