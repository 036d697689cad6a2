"""How long a request waited in vLLM's queue: the difference of a histogram in /metrics, if nothing else ran."""

from __future__ import annotations

import asyncio
import contextlib
from urllib.parse import urlsplit

from qwen_tui.chat.client import Timeouts, http_client
from qwen_tui.chat.events import Target
from qwen_tui.errors import ChatError

_NAME = "vllm:request_queue_time_seconds_"
_LIMIT = 4 * 1024 * 1024
_PATIENCE = Timeouts(1.0, 2.0)


class QueueTime:
    """Begin it with the request, and ask it afterwards. Only a server of this machine is asked for its metrics."""

    def __init__(self, target: Target) -> None:
        self._url = _metrics_url(target.base_url)
        self._target = target
        self._before: asyncio.Task[tuple[int, float] | None] | None = None
        if self._url:
            self._before = asyncio.get_running_loop().create_task(self._read(), name="queue time")

    async def found(self) -> float | None:
        """Seconds; None if the server does not say, or if another request ended meanwhile."""
        if self._before is None:
            return None
        before = await self._before
        after = await self._read() if before is not None else None
        if before is None or after is None or after[0] - before[0] != 1:
            return None
        return max(0.0, after[1] - before[1])

    def cancel(self) -> None:
        """It is not wanted any more."""
        if self._before is not None:
            self._before.cancel()

    async def _read(self) -> tuple[int, float] | None:
        """How many requests have been through the queue, and their seconds in it, over all engines."""
        import httpx

        try:
            async with (
                http_client(self._target, _PATIENCE) as client,
                client.stream("GET", self._url) as response,
            ):
                if response.status_code != 200 or "text/plain" not in response.headers.get("content-type", ""):
                    return None
                body = bytearray()
                async for part in response.aiter_bytes():
                    body += part
                    if len(body) > _LIMIT:
                        return None
        except (httpx.HTTPError, httpx.InvalidURL, ChatError, OSError):
            return None
        return read_queue(body.decode("utf-8", "replace"))


def read_queue(metrics: str) -> tuple[int, float] | None:
    """Count and sum of the histogram in the text of /metrics; None if it is not there."""
    count, seconds, found = 0, 0.0, False
    for line in metrics.splitlines():
        if line.startswith(_NAME):
            name, _space, value = line.removeprefix(_NAME).rpartition(" ")
            with contextlib.suppress(ValueError):
                if name.startswith("count"):
                    count, found = count + int(float(value)), True
                elif name.startswith("sum"):
                    seconds += float(value)
    return (count, seconds) if found else None


def _metrics_url(base_url: str) -> str:
    try:
        address = urlsplit(base_url)
        is_here = address.hostname in ("127.0.0.1", "localhost", "::1")
    except ValueError:
        return ""
    return f"{address.scheme}://{address.netloc}/metrics" if is_here else ""
