"""What the app is given; nothing in the UI makes these for itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from qwen_tui.chat.session import ChatSession
from qwen_tui.engine.find import Engine, find_engine
from qwen_tui.paths import Paths
from qwen_tui.server.launch import free_port
from qwen_tui.server.service import Servers
from qwen_tui.settings import Settings


@dataclass
class Services:
    """The domain services of one run of the program.

    find_engine: the engine to start servers with; blocking, so it is called in a thread.
    free_port: the first port from a number on that nobody listens on, at a host.
    clock: Unix time, seconds.
    chat: the conversation of this run, whatever room is shown.
    """

    paths: Paths
    settings: Settings
    servers: Servers
    find_engine: Callable[[Paths, str], Engine] = find_engine
    free_port: Callable[[str, int], int] = free_port
    clock: Callable[[], float] = time.time
    chat: ChatSession = field(default_factory=ChatSession)
