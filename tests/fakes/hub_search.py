"""A hub that can be searched: speaks ModelScope's open API and Hugging Face's, and serves cards. With faults."""

from __future__ import annotations

import json
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Entry:
    """A model of the hub."""

    id: str
    downloads: int = 0
    card: bytes | None = b"# Card\n"


@dataclass
class SearchHub:
    """models: what it has. status: answered to everything instead of 200. body: answered instead of JSON.

    token: wanted with each question. one_word: finds nothing for two words. silent: never answers.
    next_at: the host that the address of the next page names, instead of its own. asked: path and query of each
    question.
    """

    models: list[Entry] = field(default_factory=list)
    status: int = 200
    body: bytes | None = None
    token: str = ""
    one_word: bool = False
    silent: bool = False
    asked: list[tuple[str, dict[str, list[str]]]] = field(default_factory=list)
    url: str = ""
    next_at: str = ""
    released: threading.Event = field(default_factory=threading.Event)

    def found(self, text: str) -> list[Entry]:
        """As a hub does: every word is in the id; most downloads first."""
        words = text.casefold().split()
        if self.one_word and len(words) > 1:
            return []
        chosen = [entry for entry in self.models if all(word in entry.id.casefold() for word in words)]
        return sorted(chosen, key=lambda entry: -entry.downloads)


@contextmanager
def search_hub_server(hub: SearchHub) -> Iterator[SearchHub]:
    """`hub`, served on a free port of 127.0.0.1 for the time of the block; its address is `hub.url`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *arguments: object) -> None:
            pass

        def do_GET(self) -> None:
            _answer(hub, self)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.released.set()
        server.shutdown()
        server.server_close()


def _answer(hub: SearchHub, handler: BaseHTTPRequestHandler) -> None:
    parts = urllib.parse.urlsplit(handler.path)
    query = urllib.parse.parse_qs(parts.query)
    hub.asked.append((parts.path, query))
    if hub.silent:
        hub.released.wait(30)
        return
    headers: dict[str, str] = {}
    status, body = hub.status, hub.body
    given = handler.headers.get("Authorization"), handler.headers.get("Cookie", "")
    is_old = parts.path.startswith("/api/v1/")  # ModelScope's older endpoints know the cookie only
    if hub.token and (hub.token not in given[1] if is_old else given[0] != f"Bearer {hub.token}"):
        status = 401
    if status == 200 and body is None:
        status, body, headers = _found(hub, parts.path, query)
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body or b"")))
    handler.end_headers()
    handler.wfile.write(body or b"")


def _found(hub: SearchHub, path: str, query: dict[str, list[str]]) -> tuple[int, bytes, dict[str, str]]:
    def word(name: str, default: str) -> str:
        return query.get(name, [default])[0]

    if path == "/openapi/v1/models":
        size, page = int(word("page_size", "10")), int(word("page_number", "1"))
        found = hub.found(word("search", ""))
        models = [_as_modelscope(entry) for entry in found[(page - 1) * size : page * size]]
        data = {"models": models, "total_count": len(found), "page_number": page, "page_size": size}
        return 200, json.dumps({"success": True, "data": data}).encode(), {}
    if path == "/api/models":
        size, start = int(word("limit", "10")), int(word("cursor", "0"))
        found = hub.found(word("search", ""))
        headers = {}
        if len(found) > start + size:
            following = urllib.parse.urlencode([*((k, v) for k, vs in query.items() if k != "cursor" for v in vs),
                                                ("cursor", start + size)])  # fmt: skip
            headers["Link"] = f'<{hub.next_at or hub.url}/api/models?{following}>; rel="next"'
        return 200, json.dumps([_as_huggingface(entry) for entry in found[start : start + size]]).encode(), headers
    for entry in hub.models:
        is_card = path == f"/{entry.id}/resolve/main/README.md"
        is_card |= path == f"/api/v1/models/{entry.id}/repo" and query.get("FilePath") == ["README.md"]
        if is_card and entry.card is not None:
            return 200, entry.card, {}
    return 404, b"", {}


def _as_modelscope(entry: Entry) -> dict[str, Any]:
    return {
        "id": entry.id, "display_name": entry.id.split("/")[-1], "downloads": entry.downloads, "likes": 7,
        "license": "Apache-2.0", "tasks": ["text-generation"], "tags": [], "file_size": 15_231_000_000,
        "created_at": "2024-06-03T01:09:19Z", "last_modified": "2026-05-15T01:09:19Z", "private": False, "gated": False,
    }  # fmt: skip


def _as_huggingface(entry: Entry) -> dict[str, Any]:
    return {
        "_id": "x", "id": entry.id, "downloads": entry.downloads, "likes": 7, "pipeline_tag": "text-generation",
        "lastModified": "2026-05-15T01:09:19.000Z", "tags": ["safetensors", "license:apache-2.0"], "gated": "auto",
        "safetensors": {"parameters": {"BF16": 7_615_616_512}, "total": 7_615_616_512}, "usedStorage": 15_231_000_000,
    }  # fmt: skip
