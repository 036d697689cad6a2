"""A small ModelScope: the file list and the files, with ranges, and with the faults a real hub has.

with FakeHub({"config.json": b"{}", "model.safetensors": data}) as hub:
    environment = {"MODELSCOPE_ENDPOINT": hub.url}
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
from urllib.parse import parse_qs, urlsplit


@dataclass
class Faults:
    """What goes wrong with one file.

    truncate_first: bytes after which the first answer's connection is cut. corrupt: how many answers carry a wrong
    last byte. ignore_range: answers 200 with the whole file to a range request. bytes_per_second: slow.
    """

    truncate_first: int | None = None
    corrupt: int = 0
    ignore_range: bool = False
    bytes_per_second: float | None = None


class FakeHub:
    """The hub, on a port of its own, with one model."""

    def __init__(self, files: Mapping[str, bytes], model: str = "owner/tiny") -> None:
        self.files = dict(files)
        self.model = model
        self.faults: dict[str, Faults] = {}
        #: (path of the file, start of the range or 0) of each answer given.
        self.served: list[tuple[str, int]] = []
        self.sent: Counter[str] = Counter()
        self.listings = 0
        #: Set: bodies flow. Clear: they pause after `pause_after` bytes.
        self.flow = threading.Event()
        self.flow.set()
        self.pause_after = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.hub = self  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> FakeHub:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flow.set()
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
        base = f"/api/v1/models/{self.hub.model}"
        if parts.path == f"{base}/repo/files":
            self._list()
        elif parts.path == f"{base}/repo" and query.get("FilePath") in self.hub.files:
            self._file(query["FilePath"])
        elif parts.path == base:
            self._json(200, {"Code": 200, "Data": {"Name": self.hub.model}, "Success": True})
        else:
            self._json(404, {"Code": 404, "Message": "not found", "Success": False})

    do_HEAD = do_GET  # noqa: N815

    def _json(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _list(self) -> None:
        self.hub.listings += 1
        entries = [
            {
                "Path": name,
                "Name": name.rsplit("/", 1)[-1],
                "Size": len(data),
                "Sha256": hashlib.sha256(data).hexdigest(),
                "Type": "blob",
            }
            for name, data in self.hub.files.items()
        ]
        folders = sorted({name.rsplit("/", 1)[0] for name in self.hub.files if "/" in name})
        entries += [{"Path": name, "Name": name, "Size": 0, "Type": "tree"} for name in folders]
        self._json(200, {"Code": 200, "Data": {"Files": entries}, "Success": True})

    def _file(self, name: str) -> None:
        data = self.hub.files[name]
        faults = self.hub.faults.get(name, Faults())
        start = 0
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if match and not faults.ignore_range:
            start = int(match.group(1))
            if start >= len(data):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(data)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if self.command == "HEAD":
            return
        answers = sum(1 for served, _start in self.hub.served if served == name)
        self.hub.served.append((name, start))
        if answers < faults.corrupt:
            data = data[:-1] + bytes([data[-1] ^ 0xFF])
        end = len(data)
        if faults.truncate_first is not None and answers == 0:
            end = min(end, start + faults.truncate_first)
            self.close_connection = True
        self._send(name, data[start:end], faults.bytes_per_second)

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
