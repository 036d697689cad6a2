"""The HTTP client, against servers that answer byte by byte what a test says."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterator, Sequence

import pytest

from qwen_tui.workers.host import FOLDER

sys.path.append(str(FOLDER))  # as where the scripts run
import hub_client
import hub_http


class Server:
    """Answers each request with the next of `answers`; None closes the connection instead."""

    def __init__(self, answers: Sequence[bytes | None]) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self._answers = list(answers)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def _serve(self) -> None:
        while self._answers:
            try:
                connection, _address = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            with connection:
                self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        data = b""
        while self._answers:
            while b"\r\n\r\n" not in data:
                piece = connection.recv(65536)
                if not piece:
                    return
                data += piece
            request, _blank, data = data.partition(b"\r\n\r\n")
            self.requests.append(request)
            answer = self._answers.pop(0)
            if answer is None:
                return
            connection.sendall(answer)
            if b"Connection: close" in answer:
                return

    def close(self) -> None:
        self._answers.clear()
        self._socket.close()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    running: list[Server] = []
    yield running
    for server in running:
        server.close()


def serve(servers: list[Server], *answers: bytes | None) -> Server:
    servers.append(Server(answers))
    return servers[-1]


def client(home: str, timeout: float = 5.0) -> hub_client.Client:
    return hub_client.Client(hub_http.Site.of(home), {"Authorization": "Bearer secret"}, timeout, hub_http.tls_context)


def body(connection: hub_http.Connection) -> bytes:
    data, view = b"", memoryview(bytearray(7))
    while count := connection.read_into(view):
        data += bytes(view[:count])
    connection.finish()
    return data


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nTrailer: x\r\n\r\n"
)


def test_bodies_with_a_length_in_chunks_and_until_the_end(servers: list[Server]) -> None:
    endless = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall that comes"
    server = serve(servers, OK, CHUNKED, OK, endless)
    got = client(server.url)
    bodies = [body(got.get(f"{server.url}/x")[1]) for _count in range(4)]
    assert bodies == [b"hello", b"hello world", b"hello", b"all that comes"]
    assert server.connections == 1  # kept throughout
    assert server.requests[0].startswith(b"GET /x HTTP/1.1\r\nHost: 127.0.0.1:")


def test_a_kept_connection_that_was_closed_meanwhile_is_no_trouble(servers: list[Server]) -> None:
    server = serve(servers, OK, None, OK)
    got = client(server.url)
    assert body(got.get(f"{server.url}/a")[1]) == b"hello"
    assert body(got.get(f"{server.url}/b")[1]) == b"hello"
    assert server.connections == 2


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (None, "cut"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\nConnection: close\r\n\r\nhello", "cut"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nhel", "cut"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\nzz\r\n", "protocol"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "protocol"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx", "protocol"),
        (b"HTTP/1.1 502 Bad\r\nContent-Length: 0\r\n\r\n", "status"),
        (b"HTTP/1.1 302 Found\r\nLocation: ftp://example.org/\r\nContent-Length: 0\r\n\r\n", "protocol"),
    ],
)
def test_what_may_pass_is_named(servers: list[Server], answer: bytes | None, code: str) -> None:
    server = serve(servers, answer)
    with pytest.raises(hub_http.Trouble) as raised:
        body(client(server.url).get(f"{server.url}/x")[1])
    assert raised.value.code == code


def test_silence_is_named_and_refusals_are_final(servers: list[Server]) -> None:
    server = serve(servers, b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello", OK)
    with pytest.raises(hub_http.Trouble) as raised:
        body(client(server.url, timeout=0.1).get(f"{server.url}/x")[1])
    assert raised.value.code == "silent"
    server = serve(servers, b"HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno")
    with pytest.raises(hub_http.Refused) as refused:
        client(server.url).get(f"{server.url}/x")
    assert refused.value.status == 404
    with pytest.raises(hub_http.Trouble) as raised:
        client("http://no-such-host.invalid").get("http://no-such-host.invalid/x")
    assert raised.value.code == "dns"


def test_how_long_to_wait_is_read(servers: list[Server]) -> None:
    server = serve(servers, b"HTTP/1.1 429 Slow\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n")
    with pytest.raises(hub_http.Trouble) as raised:
        client(server.url).get(f"{server.url}/x")
    assert (raised.value.detail, raised.value.wait) == ("429", 7.0)


def test_a_way_that_no_longer_works_is_asked_for_again(servers: list[Server]) -> None:
    """A hub sends to signed addresses, which are good for a while only."""
    elsewhere = serve(servers, OK, b"HTTP/1.1 403 Expired\r\nContent-Length: 0\r\n\r\n", OK)
    found = f"HTTP/1.1 302 Found\r\nLocation: {elsewhere.url}/signed\r\nContent-Length: 0\r\n\r\n".encode()
    hub = serve(servers, found, found)
    got = client(hub.url)
    for _count in range(2):
        assert body(got.get(f"{hub.url}/x")[1]) == b"hello"
    assert len(hub.requests) == 2
    assert all(b"secret" in request for request in hub.requests)
    assert not any(b"secret" in request for request in elsewhere.requests)


def test_a_way_that_is_not_escaped_is_escaped(servers: list[Server]) -> None:
    found = "HTTP/1.1 302 Found\r\nLocation: /模型 a%20b?sign=x%2F+y\r\nContent-Length: 0\r\n\r\n".encode()
    server = serve(servers, found, OK)
    assert body(client(server.url).get(f"{server.url}/x")[1]) == b"hello"
    assert server.requests[1].startswith(b"GET /%E6%A8%A1%E5%9E%8B%20a%20b?sign=x%2F+y HTTP/1.1\r\n")


def test_redirects_that_never_end_are_left(servers: list[Server]) -> None:
    again = b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n"
    server = serve(servers, *[again] * 20)
    with pytest.raises(hub_http.Trouble, match="redirects"):
        client(server.url).get(f"{server.url}/x")


def test_a_proxy_is_asked_for_the_whole_address(servers: list[Server], monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = serve(servers, OK)
    monkeypatch.setenv("http_proxy", proxy.url.replace("//", "//me:pass%20word@"))
    assert body(client("http://hub.example").get("http://hub.example/file")[1]) == b"hello"
    lines = proxy.requests[0].split(b"\r\n")
    assert lines[0] == b"GET http://hub.example/file HTTP/1.1"
    assert b"Proxy-Authorization: Basic bWU6cGFzcyB3b3Jk" in lines


def test_a_proxy_that_will_not_tunnel_is_named(servers: list[Server], monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = serve(servers, b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n")
    monkeypatch.setenv("https_proxy", proxy.url)
    with pytest.raises(hub_http.Trouble, match="407"):
        client("https://hub.example").get("https://hub.example/file")
    assert proxy.requests[0].startswith(b"CONNECT hub.example:443 HTTP/1.1")
