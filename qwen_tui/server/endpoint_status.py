"""What is known of an endpoint at one moment; front ends draw it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from qwen_tui.errors import ServerError
from qwen_tui.i18n import N_

if TYPE_CHECKING:
    from qwen_tui.server.endpoints import Endpoint


class EndpointState(str, Enum):
    """What is known of an endpoint."""

    ASKING = "asking"
    REACHABLE = "reachable"
    UNREACHABLE = "unreachable"


ENDPOINT_WORDS: dict[EndpointState, str] = {
    EndpointState.ASKING: N_("asking"),
    EndpointState.REACHABLE: N_("reachable"),
    EndpointState.UNREACHABLE: N_("out of reach"),
}


@dataclass(frozen=True)
class EndpointStatus:
    """One endpoint and its last answer.

    models: in its order. seconds: until it had answered. problem: why it did not.
    """

    endpoint: Endpoint
    state: EndpointState = EndpointState.ASKING
    models: tuple[str, ...] = ()
    seconds: float = 0.0
    problem: ServerError | None = None

    @property
    def name(self) -> str:
        return self.endpoint.name

    @property
    def model_name(self) -> str:
        """The name to send as `model`: the one that was set, else the first that it serves; empty if not known."""
        return self.endpoint.model or (self.models[0] if self.models else "")
