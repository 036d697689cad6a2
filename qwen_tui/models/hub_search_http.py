"""Ask a hub over HTTP: bounded in time and size, every failure in words."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qwen_tui.errors import ModelError
from qwen_tui.i18n import _
from qwen_tui.models.hub import Hub
from qwen_tui.models.tokens import TokenNeeded

if TYPE_CHECKING:
    import httpx

#: Seconds that a question may take in all, and bytes that its answer may have.
LIMIT, _MOST = 10.0, 16_000_000


@dataclass(frozen=True)
class Answer:
    """text: the body; what is beyond the limit is left out, and `is_cut` then. next_url: of the next page, or empty."""

    text: bytes
    is_cut: bool = False
    next_url: str = ""

    def json(self, hub: Hub) -> Any:
        """The parsed body. Raises ModelError."""
        try:
            return json.loads(self.text)
        except (ValueError, RecursionError):
            raise nonsense(hub) from None


class Asking:
    """A connection to a hub, for a few questions; `async with`."""

    def __init__(self, hub: Hub, token: str = "", seconds: float = LIMIT) -> None:
        self._hub = hub
        self._seconds = seconds
        self._headers = {"User-Agent": "qwen-tui", "Accept-Encoding": "gzip"}
        if token:
            # Neither goes along where the hub sends us elsewhere: httpx takes both off.
            self._headers["Authorization"] = f"Bearer {token}"
            if hub.key == "modelscope":
                self._headers["Cookie"] = f"m_session_id={token}"  # what its older endpoints look at

    async def __aenter__(self) -> Asking:
        # Importing it and reading the certificates take a tenth of a second.
        self._client = await asyncio.to_thread(self._connection)
        return self

    def _connection(self) -> httpx.AsyncClient:
        import httpx

        return httpx.AsyncClient(headers=self._headers, timeout=self._seconds, follow_redirects=True)

    async def __aexit__(self, *_exception: object) -> None:
        await self._client.aclose()

    async def get(
        self, url: str, query: Sequence[tuple[str, str]] = (), most: int = _MOST, missing: str = ""
    ) -> Answer:
        """The answer to a GET. missing: what to say of a 404. Raises ModelError; TokenNeeded for 401 and 403."""
        import httpx

        try:
            return await asyncio.wait_for(self._get(url, query, most, missing), self._seconds)
        except asyncio.TimeoutError:
            why = _("No answer within {seconds:.0f} s").format(seconds=self._seconds)
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError, ValueError) as error:
            why = str(error) or type(error).__name__
        raise ModelError(
            _("{hub} can't be reached").format(hub=self._hub.host()),
            why,
            _("Check the network; {variable} names another address. What is on this machine works without").format(
                variable=self._hub.endpoint_variable
            ),
        )

    async def _get(self, url: str, query: Sequence[tuple[str, str]], most: int, missing: str) -> Answer:
        import httpx

        async with self._client.stream("GET", url, params=list(query) or None) as response:
            if response.status_code != 200:
                raise self._refusal(response, missing)
            found = bytearray()
            is_cut = False
            async for block in response.aiter_bytes(65536):
                found += block
                if len(found) > most:
                    is_cut = True
                    break
            following = response.links.get("next", {}).get("url", "")
            if following:
                # On the host that was asked: a mirror may pass on another hub's address, which must not get the token.
                asked = httpx.URL(url)
                following = str(asked.join(asked.join(following).raw_path.decode("ascii")))
            return Answer(bytes(found[:most]), is_cut, following)

    def _refusal(self, response: httpx.Response, missing: str) -> ModelError:
        status, host = response.status_code, self._hub.host()
        why = f"HTTP {status}"
        if status in (401, 403):
            return TokenNeeded(
                _("{hub} wants a token").format(hub=host),
                why,
                _("Set {variable}, or give a token with the download").format(variable=self._hub.token_variable),
            )
        if status == 404 and missing:
            return ModelError(missing, why)
        if status == 429:
            return ModelError(_("{hub} was asked too often").format(hub=host), why, _("Wait a minute, then try again"))
        if status >= 500:
            return ModelError(_("{hub} is in trouble").format(hub=host), why, _("Try again later"))
        return ModelError(_("{hub} refuses to answer").format(hub=host), why)


def nonsense(hub: Hub) -> ModelError:
    """The error for an answer that is not what a hub says."""
    return ModelError(
        _("{hub} answered something else than was asked").format(hub=hub.host()),
        _("A login page of the network, or another kind of server, may stand in between"),
        _("Look at {variable}").format(variable=hub.endpoint_variable),
    )
