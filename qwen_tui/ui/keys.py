"""Which keys there are: for the help screen, and to check the ones that the settings change."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from dataclasses import dataclass

from textual.binding import Binding
from textual.dom import DOMNode
from textual.screen import Screen

from qwen_tui.ui.rooms import COMING, DO, EVERYWHERE, GO, HERE, HUB, KEPT, MOVE
from qwen_tui.ui.widgets.key_bar import key_name

#: The order of the groups in the help screen.
GROUPS: tuple[str, ...] = tuple(group.description for group in (DO, KEPT, HERE, COMING, HUB, MOVE, GO, EVERYWHERE))


@dataclass(frozen=True)
class HelpLine:
    """One thing that can be pressed: the group's msgid, the keys as a person writes them, the description's msgid."""

    group: str
    keys: tuple[str, ...]
    description: str


def declared_bindings(node: type[DOMNode]) -> list[Binding]:
    """The bindings that a class of this program and its bases in this program declare; one per key.

    What comes from Textual's own classes is left out.
    """
    by_key: dict[str, Binding] = {}
    for base in reversed(node.__mro__):
        if base.__module__.startswith("qwen_tui."):
            for binding in Binding.make_bindings(base.__dict__.get("BINDINGS", ())):
                by_key[binding.key] = binding
    return list(by_key.values())


def help_lines(screen: Screen[object], keymap: dict[str, str]) -> list[HelpLine]:
    """Everything that can be pressed on `screen`, with the keys that the settings give; grouped in order."""
    nodes: list[tuple[type[DOMNode], str]] = [(type(screen), DO.description)]
    for widget in screen.walk_children():
        if type(widget).__module__.startswith("qwen_tui.") and (type(widget), MOVE.description) not in nodes:
            nodes.append((type(widget), MOVE.description))
    nodes.append((type(screen.app), EVERYWHERE.description))
    found: dict[str, HelpLine] = {}
    for node, usual_group in nodes:
        for binding in declared_bindings(node):
            name = binding.id or f"{node.__name__}.{binding.action}"
            keys = keymap[name].split(",") if name in keymap else [binding.key]
            group = binding.group.description if binding.group else usual_group
            known = found.get(name)
            shown = tuple(dict.fromkeys([*(known.keys if known else ()), *(key_name(key.strip()) for key in keys)]))
            found[name] = HelpLine(group, shown, binding.description)
    order = {group: place for place, group in enumerate(GROUPS)}
    return sorted(found.values(), key=lambda line: order.get(line.group, len(order)))


def known_binding_ids() -> set[str]:
    """The ids of all bindings of the program. Imports every module of the UI: for when it is needed only."""
    import qwen_tui.ui

    for module in pkgutil.walk_packages(qwen_tui.ui.__path__, "qwen_tui.ui."):
        importlib.import_module(module.name)
    return {binding.id for node in _subclasses(DOMNode) for binding in declared_bindings(node) if binding.id}


def _subclasses(node: type[DOMNode]) -> Iterable[type[DOMNode]]:
    for child in node.__subclasses__():
        yield child
        yield from _subclasses(child)
