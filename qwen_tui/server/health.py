"""Asking a server whether it is there: /health and /v1/models, over connections that are kept open."""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import Hashable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx

#: Seconds between two checks of a server that is ready; each leaves a line in its log. That its process lives is seen
#: every second, without asking.
_READY_INTERVAL = 30.0
#: Seconds without an answer after which a ready server counts as not answering.
_PATIENCE = 65.0


class Health:
    """Health checks of any number of servers."""

    def __init__(self) -> None:
        self._client: httpx.AsyncClient | None = None
        self._checked: dict[Hashable, float] = {}
        self._answered: dict[Hashable, float] = {}

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def _answers(self, url: str, key: str | None = None) -> bool:
        if self._client is None:
            # Importing takes a tenth of a second; the screen must not stand still for it.
            module = await asyncio.to_thread(importlib.import_module, "httpx")
            self._client = self._client or module.AsyncClient(trust_env=False, timeout=2.0)
        from httpx import HTTPError

        headers = {"Authorization": f"Bearer {key}"} if key else {}
        try:
            return (await self._client.get(url, headers=headers)).is_success
        except HTTPError:
            return False

    async def is_ready(self, base_url: str, key: str | None) -> bool:
        """Whether /health and /v1/models both answer with success."""
        return await self._answers(f"{base_url.removesuffix('/v1')}/health") and await self._answers(
            f"{base_url}/models", key
        )

    async def still_answers(self, base_url: str, run: Hashable) -> bool:
        """Whether a ready server has answered lately; asks at most every few seconds.

        run: names the server's current run, so that a new one starts with a clean slate.
        """
        now = time.monotonic()
        if now - self._checked.get(run, -_READY_INTERVAL) >= _READY_INTERVAL:
            self._checked[run] = now
            self._answered.setdefault(run, now)
            if await self._answers(f"{base_url.removesuffix('/v1')}/health"):
                self._answered[run] = time.monotonic()
        return time.monotonic() - self._answered[run] < _PATIENCE
