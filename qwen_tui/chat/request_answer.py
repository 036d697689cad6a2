"""Send a request and keep everything about the answer: status, headers, the JSON as it came, and when."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qwen_tui.chat import failures
from qwen_tui.chat.client import Timeouts, encoded, http_client
from qwen_tui.chat.events import Target
from qwen_tui.chat.harmless import harmless, harmless_json
from qwen_tui.chat.request_code import Request

_LIMIT = 32 * 1024 * 1024


@dataclass(frozen=True)
class RawAnswer:
    """What a server answered, whatever its status.

    headers_s, total_s: seconds from the request to the last header, and to the last byte of the body.
    whole: False if the body was larger than 32 MiB, and cut there.
    """

    status: int
    reason: str
    http_version: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    headers_s: float
    total_s: float
    whole: bool = True

    @property
    def decoded(self) -> Any:
        """The body as JSON; None if it is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None

    @property
    def id(self) -> str:
        """The server's id of this answer; empty if it gave none."""
        found = self.decoded
        found = found.get("id") if isinstance(found, dict) else None
        return found if isinstance(found, str) else ""

    @property
    def usage(self) -> Mapping[str, Any]:
        """The server's count of tokens; empty if it gave none."""
        found = self.decoded
        found = found.get("usage") if isinstance(found, dict) else None
        return found if isinstance(found, dict) else {}

    @property
    def finish_reasons(self) -> tuple[str, ...]:
        """Why each answer ended."""
        found = self.decoded
        choices = found.get("choices") if isinstance(found, dict) else None
        reasons = [choice.get("finish_reason") for choice in choices or () if isinstance(choice, dict)] \
            if isinstance(choices, list) else []  # fmt: skip
        return tuple(reason for reason in reasons if isinstance(reason, str))

    def body_text(self) -> str:
        """The body for a person: JSON with its indentation, anything else as it is; nothing a terminal would obey."""
        found = self.decoded
        if found is None:
            return harmless(self.body.decode("utf-8", "replace"))
        return harmless_json(found, indent=2)

    def to_json(self) -> dict[str, Any]:
        """For --json: everything that is known."""
        found = self.decoded
        return {
            "status": self.status,
            "headers": [list(pair) for pair in self.headers],
            "seconds_to_headers": round(self.headers_s, 6),
            "seconds": round(self.total_s, 6),
            "body": self.body.decode("utf-8", "replace") if found is None else found,
        }


async def send(request: Request, api_key: str | None = None, timeouts: Timeouts | None = None) -> RawAnswer:
    """Send `request`; any status is an answer. Raises ChatError if none comes."""
    import httpx

    target = Target(request.base_url, "", api_key)
    headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
    if request.body is not None:
        headers["content-type"] = "application/json"
    began = time.monotonic()
    answered = False
    try:
        async with (
            http_client(target, timeouts or Timeouts()) as client,
            client.stream(
                "GET" if request.body is None else "POST",
                request.url,
                content=None if request.body is None else encoded(dict(request.body)),
                headers=headers,
            ) as response,
        ):
            headers_s = time.monotonic() - began
            answered = True
            body = bytearray()
            async for part in response.aiter_bytes():
                body += part
                if len(body) > _LIMIT:
                    break
            return RawAnswer(
                response.status_code,
                harmless(response.reason_phrase),
                response.http_version,
                tuple((harmless(name), harmless(value)) for name, value in response.headers.items()),
                bytes(body[:_LIMIT]),
                headers_s,
                time.monotonic() - began,
                len(body) <= _LIMIT,
            )
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeEncodeError) as error:
        raise failures.from_transport(error, target, answered) from error
