"""Ask a server which models it serves."""

from __future__ import annotations

import json

from qwen_tui.chat import failures
from qwen_tui.chat.client import Timeouts, http_client
from qwen_tui.chat.events import Target


async def served_models(base_url: str, api_key: str | None = None) -> list[str]:
    """The names at /v1/models, in the server's order. Raises ChatError."""
    import httpx

    target = Target(base_url, "", api_key)
    headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
    try:
        async with http_client(target, Timeouts(silence=10.0)) as client:
            response = await client.get(base_url.rstrip("/") + "/models", headers=headers)
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeEncodeError) as error:
        raise failures.from_transport(error, target, False) from error
    if response.status_code != 200:
        raise failures.from_status(response.status_code, response.content, target)
    try:
        return [str(entry["id"]) for entry in json.loads(response.content)["data"]]
    except (ValueError, LookupError, TypeError, RecursionError):
        raise failures.not_an_answer(failures.readable(response.content)) from None
