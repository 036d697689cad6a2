"""Opens the screens: makes the services and hands them to the app."""

from __future__ import annotations

import os
import signal

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
    signal.signal(signal.SIGHUP, lambda _number, _frame: hung_up(app))
    signal.signal(signal.SIGTERM, lambda _number, _frame: told_to_end(app))
    app.run()
    return app.return_code or 0


def hung_up(app: QwenApp) -> None:
    """The connection is gone: what was typed and not sent is kept; then this process ends as it would have."""
    try:
        _keep_drafts(app)
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGHUP)


def told_to_end(app: QwenApp) -> None:
    """SIGTERM: the same, and the terminal is given back as it was."""
    try:
        _keep_drafts(app)
    finally:
        app.exit(return_code=128 + signal.SIGTERM)


def _keep_drafts(app: QwenApp) -> None:
    from qwen_tui.ui.widgets.prompt import Prompt

    for room in app.rooms.values():
        for prompt in room.query(Prompt):
            prompt.keep_draft()
