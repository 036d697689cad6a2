"""Whether anybody uses a server. Standard library only: the keeper asks, and ends a server that nobody uses.

The witness is the server's own /metrics: requests that run or wait, and counters of requests and tokens that moved
since the last look. Where it has none (statistics switched off, TLS), its access log is: a line for any route that is
not a health check. Where there is neither, nothing can be known, and a server that may be in use is not ended.
"""

from __future__ import annotations

import os
import re
import socket
import time
from pathlib import Path
from typing import Any, Literal

from qwen_tui.logs.holes import given_back

#: Seconds between two looks, unless the server is to end sooner than that.
LOOK_EVERY = 60.0
_TIMEOUT, _MOST_BYTES = 2.0, 8 * 2**20
_FIGURE = re.compile(
    rb"^vllm:(num_requests_running|num_requests_waiting|request_success(?:_total)?|prompt_tokens_total"
    rb"|generation_tokens_total)(?:\{[^\n]*\})?[ \t]+([-+.0-9eE]+)",
    re.M,
)
_QUEUES = (b"num_requests_running", b"num_requests_waiting")
_ACCESS = re.compile(rb'"(?:GET|POST|PUT|DELETE|HEAD|PATCH) (/[^ ?"]*)[^"]* HTTP/')
#: Routes that are asked for by watchers, qwen-tui among them, and not by users.
_WATCHED = {b"/health", b"/metrics", b"/ping", b"/version", b"/load", b"/server_info", b"/v1/models"}

Witness = Literal["active", "quiet", "silent"]


class IdleWatch:
    """Looks at one server from time to time.

    launch: the keeper's launch.json. It has `idle_minutes` and `log`, and the host, port and key to ask with.
    """

    def __init__(self, launch: dict[str, Any]) -> None:
        spec = launch.get("spec") or {}
        host = str(spec.get("host") or "127.0.0.1")
        self._address = ({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), int(spec.get("port") or 8000))
        self._key = str((launch.get("env") or {}).get("VLLM_API_KEY") or "")
        self._log = Path(launch["log"])
        self._seconds = float(launch["idle_minutes"]) * 60
        self.interval = min(LOOK_EVERY, self._seconds / 4)
        self._counters: dict[bytes, float] | None = None
        self._offset: int | None = None
        self._has_access_lines = False
        self._active_at = time.monotonic()
        self._looked_at = self._active_at

    def seconds_to_look(self) -> float:
        """Until the next look is due."""
        return max(0.0, self._looked_at + self.interval - time.monotonic())

    def is_over(self) -> bool:
        """Look, if a look is due, for up to two seconds; whether nobody has used the server for long enough."""
        if self.seconds_to_look() > 0:
            return False
        witness = self._by_metrics()
        if witness == "silent":
            witness = self._by_log()
        self._looked_at = time.monotonic()
        if witness != "quiet":
            self._active_at = self._looked_at
        return self._looked_at - self._active_at >= self._seconds

    def _by_metrics(self) -> Witness:
        """What /metrics says. A server that can't be reached at all is starting or hangs: that is not idleness."""
        try:
            body = self._get(b"/metrics")
        except OSError:
            return "active"
        figures: dict[bytes, float] = {}
        for name, value in _FIGURE.findall(body):
            try:
                figures[name] = figures.get(name, 0.0) + float(value)
            except ValueError:
                continue
        if not any(name in figures for name in _QUEUES):
            return "silent"
        counters = {name: value for name, value in figures.items() if name not in _QUEUES}
        before, self._counters = self._counters, counters
        return "active" if any(figures.get(name) for name in _QUEUES) or counters != before else "quiet"

    def _get(self, path: bytes) -> bytes:
        """The whole answer to a GET, head included. Raises OSError where nobody answers in time."""
        deadline = time.monotonic() + _TIMEOUT
        host = self._address[0].encode("ascii", "replace") if ":" not in self._address[0] else b"localhost"
        lines = [b"GET " + path + b" HTTP/1.0", b"Host: " + host, b"Connection: close"]
        if self._key:
            lines.append(b"Authorization: Bearer " + self._key.encode())
        answer = bytearray()
        with socket.create_connection(self._address, _TIMEOUT) as connection:
            connection.sendall(b"\r\n".join([*lines, b"", b""]))
            while len(answer) < _MOST_BYTES:
                connection.settimeout(max(0.01, deadline - time.monotonic()))
                piece = connection.recv(65536)
                if not piece:
                    break
                answer += piece
        return bytes(answer)

    def _by_log(self) -> Witness:
        """What the access lines since the last look say. A log that never had one is no witness."""
        try:
            with self._log.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if self._offset is None or size < self._offset:
                    self._offset = max(0, size - 2**20)
                # What rotation took out of the log reads as zeros, without a line in it.
                self._offset = max(self._offset, given_back(file.fileno()))
                file.seek(self._offset)
                text = file.read(2**24)
        except OSError:
            return "active"
        self._offset += text.rfind(b"\n") + 1
        routes = _ACCESS.findall(text)
        self._has_access_lines = self._has_access_lines or bool(routes)
        return "quiet" if self._has_access_lines and _WATCHED.issuperset(routes) else "active"
