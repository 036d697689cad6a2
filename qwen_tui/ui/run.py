"""Opens the screens: makes the services and hands them to the app."""

from __future__ import annotations

from qwen_tui.paths import Paths
from qwen_tui.server.service import Servers
from qwen_tui.settings import Settings
from qwen_tui.ui.app import QwenApp
from qwen_tui.ui.services import Services


def run_app(paths: Paths, settings: Settings, room: str = "servers", server: str = "") -> int:
    """Run the app on this terminal until it is quit; the exit status. server: the one Logs and Chat begin with."""
    app = QwenApp(Services(paths, settings, Servers(paths)), room=room)
    if server:
        app.choose(server)
    app.run()
    return app.return_code or 0
