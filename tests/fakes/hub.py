"""A small hub that speaks ModelScope's protocol and Hugging Face's, with ranges, and with the faults of real ones.

with FakeHub({"config.json": b"{}", "model.safetensors": data}) as hub:
    environment = {"MODELSCOPE_ENDPOINT": hub.url, "HF_ENDPOINT": hub.url}
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass
class Faults:
    """What goes wrong with one file.

    truncate_first: bytes after which the first answer's connection is cut. cut_each: the same for every answer.
    corrupt: how many answers carry a wrong last byte. ignore_range: answers 200 with the whole file to a range
    request. bytes_per_second: slow. refuse: how many answers are `status` instead. silent: how many answers stop, the
    connection open, after `silent_after` bytes.
    """

    truncate_first: int | None = None
    cut_each: int | None = None
    corrupt: int = 0
    ignore_range: bool = False
    bytes_per_second: float | None = None
    refuse: int = 0
    status: int = 503
    silent: int = 0
    silent_after: int = 0


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _is_large(name: str) -> bool:
    """Whether Hugging Face keeps it as a large file, whose SHA-256 it tells."""
    return name.endswith((".safetensors", ".bin"))


class FakeHub:
    """The hub, on a port of its own, with one model."""

    def __init__(self, files: Mapping[str, bytes], model: str = "owner/tiny") -> None:
        self.files = dict(files)
        self.model = model
        self.faults: dict[str, Faults] = {}
        #: (path of the file, start of the range or 0) of each answer given.
        self.served: list[tuple[str, int]] = []
        self.sent: Counter[str] = Counter()
        self.refused = 0
        self.ended = threading.Event()
        self.listings = 0
        #: What it wants to be given before it lists or serves anything; empty: nothing.
        self.token = ""
        #: Files from this size on are served from another host (localhost), by way of a redirect.
        self.redirect_from: int | None = None
        #: The headers of each request that came to that other host.
        self.redirected: list[dict[str, str]] = []
        #: Hashes to list that are not the files' own.
        self.false_hashes: dict[str, str] = {}
        #: What each `status` fault's answer says in Retry-After.
        self.retry_after = ""
        #: Set: bodies flow. Clear: they pause after `pause_after` bytes.
        self.flow = threading.Event()
        self.flow.set()
        self.pause_after = 0
        #: Clear: it does not answer when it is asked for a list.
        self.lists = threading.Event()
        self.lists.set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.hub = self  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def commit(self) -> str:
        """What Hugging Face's branch "main" stands for."""
        names = "".join(f"{name}{_sha256(data)}" for name, data in sorted(self.files.items()))
        return hashlib.sha1(names.encode()).hexdigest()

    def __enter__(self) -> FakeHub:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flow.set()
        self.lists.set()
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> FakeHub:
        return self.server.hub  # type: ignore[attr-defined,no-any-return]

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        model, path = self.hub.model, unquote(parts.path)
        base = f"/api/v1/models/{model}"
        resolved = re.fullmatch(rf"/{re.escape(model)}/resolve/[^/]+/(.+)", path)
        if path.startswith("/cdn/"):
            self.hub.redirected.append(dict(self.headers.items()))
            self._file(path.removeprefix("/cdn/"))
        elif not self._is_allowed():
            self._json(401, {"Code": 401, "Message": "invalid user token", "error": "Unauthorized", "Success": False})
        elif path == f"{base}/repo/files":
            self._list()
        elif path == f"{base}/repo" and query.get("FilePath") in self.hub.files:
            self._file_or_redirect(query["FilePath"])
        elif path == base:
            self._json(200, {"Code": 200, "Data": {"Name": model}, "Success": True})
        elif path in (f"/api/models/{model}", f"/api/models/{model}/revision/main"):
            self._info()
        elif resolved and resolved.group(1) in self.hub.files:
            self._file_or_redirect(resolved.group(1))
        else:
            self._json(404, {"Code": 404, "Message": "not found", "error": "Not Found", "Success": False})

    do_HEAD = do_GET  # noqa: N815

    def _is_allowed(self) -> bool:
        token = self.hub.token
        given = (self.headers.get("Authorization", ""), self.headers.get("Cookie", ""))
        return not token or given[0] == f"Bearer {token}" or f"m_session_id={token}" in given[1]

    def _json(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _list(self) -> None:
        """As ModelScope lists. Fields: modelscope_hub 0.5.1, api.py, list_repo_files."""
        self.hub.listings += 1
        self.hub.lists.wait()
        entries = [
            {
                "Path": name,
                "Name": name.rsplit("/", 1)[-1],
                "Size": len(data),
                "Sha256": self.hub.false_hashes.get(name) or _sha256(data),
                "Type": "blob",
            }
            for name, data in self.hub.files.items()
        ]
        folders = sorted({name.rsplit("/", 1)[0] for name in self.hub.files if "/" in name})
        entries += [{"Path": name, "Name": name, "Size": 0, "Type": "tree"} for name in folders]
        self._json(200, {"Code": 200, "Data": {"Files": entries}, "Success": True})

    def _info(self) -> None:
        """As Hugging Face lists. Fields: huggingface_hub 2.4.0, hf_api.py, ModelInfo."""
        self.hub.listings += 1
        self.hub.lists.wait()
        siblings = []
        for name, data in self.hub.files.items():
            entry: dict[str, object] = {"rfilename": name, "size": len(data), "blobId": _git_sha1(data)}
            if _is_large(name):
                sha256 = self.hub.false_hashes.get(name) or _sha256(data)
                entry["lfs"] = {"sha256": sha256, "size": len(data), "pointerSize": 134}
            siblings.append(entry)
        model = self.hub.model
        self._json(200, {"_id": "1", "id": model, "modelId": model, "sha": self.hub.commit, "siblings": siblings})

    def _file_or_redirect(self, name: str) -> None:
        limit = self.hub.redirect_from
        if limit is None or len(self.hub.files[name]) < limit:
            self._file(name)
            return
        self.send_response(302)
        self._say_which(name)
        self.send_header("Location", f"http://localhost:{self.server.server_address[1]}/cdn/{name}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _say_which(self, name: str) -> None:
        """The headers that Hugging Face's client reads."""
        data = self.hub.files[name]
        etag = _sha256(data) if _is_large(name) else _git_sha1(data)
        self.send_header("ETag", f'"{etag}"')
        self.send_header("X-Repo-Commit", self.hub.commit)
        if _is_large(name):
            self.send_header("X-Linked-ETag", f'"{etag}"')
            self.send_header("X-Linked-Size", str(len(data)))

    def _file(self, name: str) -> None:
        data = self.hub.files[name]
        faults = self.hub.faults.get(name, Faults())
        if self.command != "HEAD" and faults.refuse > 0:
            faults.refuse -= 1
            self.hub.refused += 1
            self.send_response(faults.status)
            if self.hub.retry_after:
                self.send_header("Retry-After", self.hub.retry_after)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start, end = 0, len(data)
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if match and not faults.ignore_range:
            start = int(match.group(1))
            end = min(end, int(match.group(2)) + 1) if match.group(2) else end
            if start >= len(data):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(data)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(end - start))
        self._say_which(name)
        self.end_headers()
        if self.command != "HEAD":
            self._body(name, data, start, end, faults)

    def _body(self, name: str, data: bytes, start: int, end: int, faults: Faults) -> None:
        answers = sum(1 for served, _start in self.hub.served if served == name)
        self.hub.served.append((name, start))
        if answers < faults.corrupt:
            data = data[:-1] + bytes([data[-1] ^ 0xFF])
        limit = faults.truncate_first if faults.truncate_first is not None and answers == 0 else faults.cut_each
        is_silent = faults.silent > 0
        if is_silent:
            faults.silent -= 1
            limit = faults.silent_after
        if limit is not None and start + limit < end:
            end = start + limit
            self.close_connection = True
        self._send(name, data[start:end], faults.bytes_per_second)
        if is_silent:
            self.hub.ended.wait()

    def _send(self, name: str, data: bytes, speed: float | None) -> None:
        block = 65536 if speed is None else max(1, int(speed / 20))
        for offset in range(0, len(data), block):
            piece = data[offset : offset + block]
            if offset >= self.hub.pause_after:
                self.hub.flow.wait()
            try:
                self.wfile.write(piece)
                self.wfile.flush()
            except OSError:
                self.close_connection = True
                return
            self.hub.sent[name] += len(piece)
            if speed is not None:
                time.sleep(len(piece) / speed)
