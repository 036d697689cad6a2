"""Which endpoints answer: all of them asked now and then, each in a thread of its own, and what they said last."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from qwen_tui.errors import ServerError, SettingsError
from qwen_tui.paths import Paths
from qwen_tui.server.endpoint_status import EndpointState, EndpointStatus

if TYPE_CHECKING:
    from qwen_tui.server.endpoints import Endpoint, Endpoints, Probe

#: Seconds between two questions while somebody looks.
ASK_EVERY = 60.0


class EndpointWatch:
    """The endpoints of one user. `statuses`: by name. `problem`: why their file can't be read, or None."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self.statuses: Sequence[EndpointStatus] = ()
        self.problem: SettingsError | None = None
        self._due = 0.0

    @property
    def is_due(self) -> bool:
        """Whether it is time to ask again."""
        return time.monotonic() >= self._due

    def get(self, name: str | None) -> EndpointStatus | None:
        """What is known of the endpoint `name`."""
        return next((status for status in self.statuses if status.name == name), None)

    @property
    def _endpoints(self) -> Endpoints:
        from qwen_tui.server.endpoints import Endpoints  # not needed for the first paint

        return Endpoints(self._paths)

    async def read(self) -> None:
        """Read the files; what was known of an endpoint that is as it was stays."""
        try:
            found = await asyncio.to_thread(lambda: self._endpoints.list())
        except SettingsError as error:
            self.problem, self.statuses = error, ()
            return
        known = {status.endpoint: status for status in self.statuses}
        self.problem = None
        self.statuses = [known.get(endpoint, EndpointStatus(endpoint)) for endpoint in found]

    async def ask(self) -> None:
        """Read the files and ask every endpoint which models it serves: ten seconds at most."""
        self._due = time.monotonic() + ASK_EVERY
        await self.read()
        await asyncio.gather(*(self._ask(status.endpoint) for status in self.statuses))

    async def _ask(self, endpoint: Endpoint) -> None:
        # In a thread: the first request of a client reads the certificates, for tens of milliseconds.
        try:
            said = await asyncio.to_thread(_probe, endpoint)
        except ServerError as error:
            self._note(EndpointStatus(endpoint, EndpointState.UNREACHABLE, problem=error))
        else:
            self._note(EndpointStatus(endpoint, EndpointState.REACHABLE, said.models, said.seconds))

    def _note(self, status: EndpointStatus) -> None:
        # It may have been changed or removed meanwhile.
        self.statuses = [status if known.endpoint == status.endpoint else known for known in self.statuses]

    async def add(self, name: str, base_url: str, model: str, api_key: str) -> None:
        """Keep another one. Raises UsageError, SettingsError."""
        await asyncio.to_thread(self._endpoints.add, name, base_url, model, api_key)
        await self.read()

    async def change(self, name: str, base_url: str, model: str, api_key: str | None) -> None:
        """Change one; api_key None leaves its key as it is. Raises UsageError, ServerNotFound, SettingsError."""
        await asyncio.to_thread(self._endpoints.change, name, base_url, model, api_key)
        await self.read()

    async def remove(self, name: str) -> None:
        """Forget one and its key. Raises ServerNotFound, SettingsError."""
        await asyncio.to_thread(self._endpoints.remove, name)
        await self.read()


def _probe(endpoint: Endpoint) -> Probe:
    from qwen_tui.server.endpoints import probe

    return asyncio.run(probe(endpoint))
