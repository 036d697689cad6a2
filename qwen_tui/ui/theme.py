"""How a state looks: a symbol and a colour of the theme, always beside its word."""

from __future__ import annotations

from qwen_tui.server.status import ServerState

#: Server state → symbol, theme colour.
STATE_LOOK: dict[ServerState, tuple[str, str]] = {
    ServerState.STARTING: ("◐", "$text-warning"),
    ServerState.READY: ("●", "$text-success"),
    ServerState.UNRESPONSIVE: ("!", "$text-error"),
    ServerState.STOPPING: ("◑", "$text-warning"),
    ServerState.STOPPED: ("○", "$foreground-muted"),
    ServerState.FAILED: ("✗", "$text-error"),
}
