"""A model's card: its README.md as Markdown, from the hub or from the folder. Others' words: bounded and harmless."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from qwen_tui.models.hub_search import HubName


@dataclass(frozen=True)
class Card:
    """text: Markdown without the front matter, without control characters. fields: the front matter's plain entries
    (license, pipeline_tag, …). is_cut: whether the rest of a very long card was left out."""

    text: str
    fields: Mapping[str, str] = field(default_factory=dict)
    is_cut: bool = False


def local_card(path: Path) -> Card | None:
    """The card in a model's folder; None without one. Blocking."""
    raise NotImplementedError


async def hub_card(model: str, hub: HubName = "modelscope", *, revision: str = "", token: str = "") -> Card:
    """The card of a hub's model; 10 s at most. Raises ModelError."""
    raise NotImplementedError
