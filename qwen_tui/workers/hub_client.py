"""Gets addresses over connections that are kept: follows redirects, and gives a hub's token to that hub only.

Standard library only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote, urljoin

if TYPE_CHECKING:
    import ssl

    from qwen_tui.workers.hub_http import Connection, Refused, Response, Site, Trouble
else:
    from hub_http import Connection, Refused, Response, Site, Trouble

#: Bytes to ask for at once of a large file: what of them is on its way is lost if this process is killed, and each
#: request costs one way there and back. So there are as many as a fast line brings in so many of these ways.
_LEAST_SPAN = 2 * 1024 * 1024
_FASTEST, _WAYS = 25_000_000, 20
_REDIRECTS = (301, 302, 303, 307, 308)
_MOST_REDIRECTS = 8
_ESCAPED_ALREADY = "!#$%&'()*+,/:;=?@[]~"


@dataclass
class Client:
    """Gets addresses, following redirects; one per thread. authorization: headers for the hub's own host only.

    timeout: seconds without a byte after which a connection counts as silent.
    """

    home: Site
    authorization: dict[str, str]
    timeout: float
    context: Callable[[], ssl.SSLContext]
    _connections: dict[str, tuple[Connection, str]] = field(default_factory=dict)
    _moved: dict[str, str] = field(default_factory=dict)

    def get(self, url: str, start: int | None = None, end: int | None = None) -> tuple[Response, Connection]:
        """Ask for `url`, of it the bytes `start` to `end` (both included). The answer's status is 200 or 206.

        Where it was redirected is remembered for the next part of the same file. Raises Trouble or Refused.
        """
        known = self._moved.get(url)
        if known is not None:
            try:
                return self._get(url, known, start, end)
            except (Refused, Trouble):
                del self._moved[url]  # such addresses are good for a while only
        return self._get(url, url, start, end)

    def _get(self, asked: str, url: str, start: int | None, end: int | None) -> tuple[Response, Connection]:
        for _count in range(_MOST_REDIRECTS):
            connection, headers, path = self._way(url)
            if start is not None:
                headers = f"{headers}Range: bytes={start}-{'' if end is None else end}\r\n"
            response = connection.request(url, path, headers)
            if response.status in _REDIRECTS and response.headers.get("location"):
                connection.finish()
                # Some say it unescaped; here each character is still one byte.
                url = urljoin(url, quote(response.headers["location"], _ESCAPED_ALREADY, "latin-1"))
                continue
            if response.status in (200, 206):
                if url != asked:
                    self._moved[asked] = url
                if response.headers.get("content-encoding", "identity").lower() not in ("", "identity"):
                    connection.close()
                    raise Trouble("protocol", "a compressed answer")
                return response, connection
            connection.finish()
            raise _refusal(response, url)
        raise Trouble("protocol", "too many redirects")

    def span(self, url: str) -> int:
        """How many bytes of `url` to ask for at once."""
        connection, _headers, _path = self._way(self._moved.get(url, url))
        return max(_LEAST_SPAN, int(_FASTEST * _WAYS * connection.way))

    def _way(self, url: str) -> tuple[Connection, str, str]:
        """The connection to the host of `url`, the headers for that host, and the path to ask it for."""
        end = url.find("/", url.find("://") + 3)
        root, path = (url, "/") if end < 0 else (url[:end], url[end:].partition("#")[0])
        known = self._connections.get(root)
        if known is None:
            site = Site.of(root)
            headers = {"User-Agent": "qwen-tui", "Accept": "*/*", "Accept-Encoding": "identity"}
            if site == self.home:
                headers.update(self.authorization)
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            known = self._connections[root] = Connection(site, self.context, self.timeout), lines
        return *known, path

    def close(self) -> None:
        """Close all connections."""
        for connection, _headers in self._connections.values():
            connection.close()


def _refusal(response: Response, url: str) -> Exception:
    if response.status in (408, 425, 429) or response.status >= 500:
        asked = response.headers.get("retry-after", "")
        return Trouble("status", str(response.status), float(asked) if asked.isdecimal() else None)
    return Refused(response.status, url)
