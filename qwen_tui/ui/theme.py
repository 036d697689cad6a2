"""How a state looks: a symbol and a colour of the theme, always beside its word."""

from __future__ import annotations

from qwen_tui.server.endpoint_status import EndpointState
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

#: The same for an endpoint, and for a process that was left over.
ENDPOINT_LOOK: dict[EndpointState, tuple[str, str]] = {
    EndpointState.ASKING: ("◌", "$foreground-muted"),
    EndpointState.REACHABLE: ("◆", "$text-success"),
    EndpointState.UNREACHABLE: ("◇", "$text-error"),
}
LEFT_OVER_LOOK = ("!", "$text-warning")
