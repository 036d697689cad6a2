"""What the app is given; nothing in the UI makes these for itself."""

from __future__ import annotations

from dataclasses import dataclass

from qwen_tui.paths import Paths
from qwen_tui.server.service import Servers
from qwen_tui.settings import Settings


@dataclass
class Services:
    """The domain services of one run of the program."""

    paths: Paths
    settings: Settings
    servers: Servers
