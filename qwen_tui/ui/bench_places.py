"""What a benchmark can measure: the servers that are ready, and the endpoints that answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qwen_tui.bench.ledger import Run
from qwen_tui.bench.target import Api, Target
from qwen_tui.server.endpoint_status import EndpointStatus
from qwen_tui.server.measured import counters_of, noted
from qwen_tui.server.status import ServerState, ServerStatus

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Place:
    """key: names it in a form. name: in words. words: how a command line names it. about: for the result."""

    key: str
    name: str
    base_url: str
    model: str
    words: tuple[str, ...]
    api_key: str | None = field(default=None, repr=False)
    about: Mapping[str, Any] = field(default_factory=dict)
    tokenizer_file: Path | None = None

    def target(self, api: Api) -> Target:
        """Raises UsageError for a URL that is none."""
        return Target(self.base_url, self.model, self.api_key, api)


def places(statuses: Sequence[ServerStatus], endpoints: Sequence[EndpointStatus]) -> list[Place]:
    """Servers first, then endpoints; those that were not asked yet, too, if the model's name is known."""
    found = [
        Place(
            f"server:{status.name}", status.name, status.spec.base_url, status.model_name, (status.name,),
            status.api_key, noted(status), Path(status.spec.model) / "tokenizer.json",
        )
        for status in statuses
        if status.state is ServerState.READY
    ]  # fmt: skip
    return found + [
        Place(
            f"endpoint:{one.name}", one.name, one.endpoint.base_url, one.model_name, ("--endpoint", one.name),
            one.endpoint.api_key,
        )
        for one in endpoints
        if one.model_name
    ]  # fmt: skip


def place_of(run: Run, known: Sequence[Place]) -> Place:
    """Where `run` can be run again: a place that serves this model at its address, else the address without a key."""
    for place in known:
        if place.base_url.rstrip("/") == run.base_url.rstrip("/"):
            return place if place.model == run.model else _renamed(place, run.model)
    return Place("", run.base_url, run.base_url, run.model, ("--base-url", run.base_url))


def _renamed(place: Place, model: str) -> Place:
    return Place(
        place.key, place.name, place.base_url, model, (*place.words, "--model", model), place.api_key, place.about
    )


def observer(target: Target) -> Any:
    """What reads the server's own figures."""
    return counters_of(target.root, target.api_key, is_loopback=target.host in _LOOPBACK)
