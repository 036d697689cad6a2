"""HTTP/1.1 for big files: connections that are kept, bodies read straight into a buffer, errors that say what they are.

Standard library only, and no other module of the project. The usual clients cost 0.4 ms or more of Python a request
and copy each body two or three times; against a hub on a fast line that, not the line, is the limit. Knows TLS,
proxies (the usual environment variables; http and https, CONNECT), redirects, chunked bodies; no compression.
"""

from __future__ import annotations

import base64
import os
import socket
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    import ssl

_HEAD_LIMIT = 262_144
#: Little, so that most of the body is read straight to where it belongs.
_HEAD_READ = 2048
#: How a call says that nothing came for too long; BlockingIOError where the kernel kept the time.
_TOO_LONG = (socket.timeout, TimeoutError, BlockingIOError)


class Trouble(Exception):
    """Something on the way that may pass: try again.

    code: "refused", "dns", "unreachable", "silent" (no byte for the timeout), "cut" (the connection ended early),
    "tls", "proxy", "status" (detail: the number), "protocol". wait: seconds the other side asked for, or None.
    """

    def __init__(self, code: str, detail: str = "", wait: float | None = None) -> None:
        super().__init__(f"{code} {detail}".strip())
        self.code = code
        self.detail = detail
        self.wait = wait


class Refused(Exception):
    """An answer that another try won't change: a status from 400 on, but 408, 429 and 5xx."""

    def __init__(self, status: int, url: str) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.url = url


@dataclass
class Response:
    """The head of an answer; `Connection.read_into` gives its body. length: bytes of the body, None if not told."""

    status: int
    headers: dict[str, str]
    length: int | None
    is_chunked: bool
    url: str = ""


@dataclass(frozen=True)
class Site:
    """Where a connection leads: scheme, host, port."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Site:
        """The site of `url`. Raises Trouble for what is no http address."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Trouble("protocol", f"not an http address: {url[:200]}")
        return cls(parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80))

    @property
    def name(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.scheme == "https" else 80) else f"{host}:{self.port}"


def tls_context() -> ssl.SSLContext:
    """The usual checks. Authorities: what REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE names, the system's, certifi's.

    Takes some hundredths of a second, and so does the import: only where there is an https address.
    """
    import ssl

    named = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    context = ssl.create_default_context(cafile=named or None)
    if not named and not context.cert_store_stats()["x509_ca"] and not os.environ.get("SSL_CERT_DIR"):
        try:
            import certifi
        except ImportError:
            return context
        context.load_verify_locations(certifi.where())
    return context


def _leave_timeout_to_kernel(raw: socket.socket, timeout: float) -> None:
    """Python's own timeout asks, before each call, whether it would block: that is as much work again."""
    raw.settimeout(None)
    seconds, rest = divmod(timeout, 1.0)
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        raw.setsockopt(socket.SOL_SOCKET, option, struct.pack("@ll", int(seconds), int(rest * 1_000_000)))


def _explained(error: OSError) -> Trouble:
    """What a socket's error means."""
    if isinstance(error, _TOO_LONG):
        return Trouble("silent")
    ssl = sys.modules.get("ssl")
    if ssl is not None and isinstance(error, ssl.SSLError):
        return Trouble("tls", getattr(error, "reason", "") or str(error))
    if isinstance(error, socket.gaierror):
        return Trouble("dns", error.strerror or "")
    if isinstance(error, ConnectionRefusedError):
        return Trouble("refused")
    if isinstance(error, (ConnectionResetError, BrokenPipeError, ConnectionAbortedError)):
        return Trouble("cut")
    return Trouble("unreachable", error.strerror or str(error))


class Connection:
    """One connection, kept open between requests. Not for several threads at once.

    context: gives what `tls_context` makes, and is called where it is needed. way: seconds that the way there and back
    takes, as far as it is known.
    """

    def __init__(self, site: Site, context: Callable[[], ssl.SSLContext], timeout: float) -> None:
        self.site = site
        self.is_used = False
        self.way = 0.0
        self._timeout = timeout
        self._socket: socket.socket | ssl.SSLSocket | None = None
        self._context = context
        self._rest = b""
        self._left: int | None = 0
        self._is_chunked = False
        self._keeps = True
        self._proxy = self._find_proxy()

    def _find_proxy(self) -> str:
        if not any(name.lower().endswith("_proxy") for name in os.environ):
            return ""
        import urllib.request

        if urllib.request.proxy_bypass(self.site.host):
            return ""
        proxies = urllib.request.getproxies()
        return proxies.get(self.site.scheme) or proxies.get("all") or ""

    def close(self) -> None:
        """Close it; the next request opens it again."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self.is_used = False
        self._rest = b""

    def _open(self) -> socket.socket | ssl.SSLSocket:
        target = (self.site.host, self.site.port)
        if self._proxy:
            proxy = urlsplit(self._proxy if "://" in self._proxy else f"http://{self._proxy}")
            if proxy.scheme not in ("http", "https") or not proxy.hostname:
                raise Trouble("proxy", f"{proxy.scheme} proxies are not supported")
            target = (proxy.hostname, proxy.port or (443 if proxy.scheme == "https" else 8080))
        began = time.monotonic()
        raw: socket.socket | ssl.SSLSocket = socket.create_connection(target, min(self._timeout, 10.0))
        self.way = time.monotonic() - began
        try:
            raw.settimeout(self._timeout)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._proxy.startswith("https:"):
                raw = self._context().wrap_socket(raw, server_hostname=target[0])
            if self.site.scheme == "https":
                if self._proxy:
                    self._tunnel(raw)
                raw = self._context().wrap_socket(raw, server_hostname=self.site.host)
            elif not self._proxy.startswith("https:"):
                _leave_timeout_to_kernel(raw, self._timeout)
        except BaseException:
            raw.close()
            raise
        return raw

    def _proxy_authorization(self) -> str:
        parts = urlsplit(self._proxy if "://" in self._proxy else f"http://{self._proxy}")
        if not parts.username:
            return ""
        words = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        return f"Proxy-Authorization: Basic {base64.b64encode(words.encode()).decode()}\r\n"

    def _tunnel(self, raw: socket.socket) -> None:
        place = f"{self.site.host}:{self.site.port}"
        raw.sendall(f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n{self._proxy_authorization()}\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            piece = raw.recv(4096)
            if not piece or len(head) > _HEAD_LIMIT:
                raise Trouble("proxy", "it ended the connection")
            head += piece
        if head.split(b" ", 2)[1:2] != [b"200"]:
            raise Trouble("proxy", head.split(b"\r\n", 1)[0].decode("latin-1"))

    def request(self, url: str, path: str, headers: str) -> Response:
        """Send a GET for `path`, which is the part of `url` after the host, and read the answer's head.

        headers: whole lines. Raises Trouble.
        """
        extra = ""
        if self._proxy and self.site.scheme == "http":
            path, extra = f"http://{self.site.name}{path}", self._proxy_authorization()
        message = f"GET {path} HTTP/1.1\r\nHost: {self.site.name}\r\n{extra}{headers}\r\n".encode()
        was_used = self.is_used
        try:
            try:
                return self._exchange(message, url)
            except (OSError, Trouble) as error:
                stale = was_used and not (isinstance(error, Trouble) and error.code != "cut")
                if not stale or isinstance(error, _TOO_LONG):
                    raise
                self.close()  # the other side had closed a kept connection: that is no trouble
                return self._exchange(message, url)
        except OSError as error:
            self.close()
            raise _explained(error) from error
        except Trouble:
            self.close()
            raise

    def _exchange(self, message: bytes, url: str) -> Response:
        if self._socket is None:
            self._socket = self._open()
        self._socket.sendall(message)
        head = self._rest
        while (end := head.find(b"\r\n\r\n")) < 0:
            piece = self._socket.recv(_HEAD_READ)
            if not piece:
                raise Trouble("cut")
            head += piece
            if len(head) > _HEAD_LIMIT:
                raise Trouble("protocol", "an endless header")
        self._rest = head[end + 4 :]
        self.is_used = True
        return self._understand(head[:end], url)

    def _understand(self, head: bytes, url: str) -> Response:
        first, *lines = head.decode("latin-1").split("\r\n")
        words = first.split(" ", 2)
        if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdecimal():
            raise Trouble("protocol", first[:100])
        headers: dict[str, str] = {}
        for line in lines:
            name, _colon, value = line.partition(":")
            headers[name.lower()] = value.strip()
        status = int(words[1])
        is_chunked = headers.get("transfer-encoding", "").lower().endswith("chunked")
        told = headers.get("content-length", "")
        length = int(told) if told.isdecimal() and not is_chunked else None
        if status in (204, 304):
            length, is_chunked = 0, False
        self._keeps = words[0] != "HTTP/1.0" and headers.get("connection", "").lower() != "close"
        self._is_chunked = is_chunked
        self._left = 0 if is_chunked else length
        return Response(status, headers, length, is_chunked, url)

    def read_into(self, view: memoryview) -> int:
        """Read some of the body into `view`; bytes read, 0 at its end. Raises Trouble, also if it ends too early."""
        try:
            if self._is_chunked and self._left == 0 and not self._next_chunk():
                return 0
            if self._left == 0:
                return 0
            if self._left is not None:
                view = view[: self._left]
            count = self._some(view)
        except OSError as error:
            self.close()
            raise _explained(error) from error
        if count == 0:
            self.close()
            if self._left is None:
                return 0
            raise Trouble("cut")
        if self._left is not None:
            self._left -= count
            if self._left == 0 and self._is_chunked:
                self._line()
        return count

    def _some(self, view: memoryview) -> int:
        if self._rest:
            count = min(len(view), len(self._rest))
            view[:count] = self._rest[:count]
            self._rest = self._rest[count:]
            return count
        if self._socket is None:
            raise Trouble("cut")
        return self._socket.recv_into(view)

    def _line(self) -> bytes:
        while (end := self._rest.find(b"\r\n")) < 0:
            piece = self._socket.recv(65536) if self._socket is not None else b""
            if not piece or len(self._rest) > _HEAD_LIMIT:
                self.close()
                raise Trouble("cut")
            self._rest += piece
        line, self._rest = self._rest[:end], self._rest[end + 2 :]
        return line

    def _next_chunk(self) -> bool:
        try:
            size = int(self._line().split(b";", 1)[0], 16)
        except ValueError:
            self.close()
            raise Trouble("protocol", "a bad chunk") from None
        self._left = size
        if size == 0:
            while self._line():  # trailers
                pass
            self._is_chunked = False
        return size > 0

    def finish(self) -> None:
        """The body is read, or not wanted: keep the connection where that costs little, else close it."""
        rest = self._left
        if self._is_chunked or rest is None or not self._keeps or rest > 65536:
            self.close()
            return
        scrap = memoryview(bytearray(65536))
        try:
            while self._left:
                if not self.read_into(scrap):
                    break
        except Trouble:
            self.close()
