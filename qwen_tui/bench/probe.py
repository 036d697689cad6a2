"""One request ahead of a run: does the server answer, does it tell usage, how fast is a lone stream."""

from __future__ import annotations

import math
import socket
import ssl
import time
from dataclasses import dataclass

from qwen_tui.bench.target import BenchError, Target
from qwen_tui.bench.words import KIND_WORDS
from qwen_tui.i18n import _
from qwen_tui.workers.bench_answer import Answer, MalformedError


class TooLongError(BenchError):
    """The prompt of the first request does not fit; another one of the same data set may."""


@dataclass(frozen=True)
class Probe:
    """seconds: the whole request took. chunk_rate: chunks per second after the first. -1 for tokens not told."""

    seconds: float
    chunk_rate: float
    chunks: int
    prompt_tokens: int
    completion_tokens: int

    @property
    def tells_usage(self) -> bool:
        return self.completion_tokens >= 0


def send_one(target: Target, body: bytes, timeout: float = 120.0) -> Probe:
    """Send `body` and read its answer; blocks. Raises BenchError if it fails, TooLongError of these."""
    answer = Answer()
    kind, why = "", ""
    began = time.monotonic()
    try:
        with _connected(target, min(timeout, 10.0)) as sock:
            began = time.monotonic()
            sock.sendall(_head(target, len(body)) + body)
            while not answer.is_whole:
                if (left := began + timeout - time.monotonic()) <= 0:
                    raise TimeoutError
                sock.settimeout(left)
                data = sock.recv(65536)
                if not data:
                    answer.closed()
                    break
                answer.feed(data, time.monotonic())
        answer.finish()
        kind, why = answer.outcome
    except TimeoutError:
        kind = "timeout"
    except MalformedError as error:
        kind, why = "malformed", str(error)
    except OSError as error:
        kind, why = "broken" if answer.begun else "connect", error.strerror or str(error)
    if kind != "ok":
        failure = TooLongError if kind == "too_long" else BenchError
        raise failure(
            _("A first request to {url} failed: {what}").format(url=target.base_url, what=_(KIND_WORDS[kind])),
            "\n".join(part for part in (_("HTTP status {status}").format(status=answer.status), why) if part)
            if answer.status not in (0, 200)
            else why,
            _("Nothing was measured. Check the address, the model's name, the key and the length of the prompts"),
        )
    stamps = answer.stamps
    span = stamps[-1] - stamps[0]
    rate = (len(stamps) - 1) / span if span > 0 else math.inf if len(stamps) > 1 else 0.0
    return Probe(time.monotonic() - began, rate, len(stamps), answer.prompt_tokens, answer.completion_tokens)


def _head(target: Target, length: int) -> bytes:
    host = f"[{target.host}]" if ":" in target.host else target.host
    key = f"authorization: Bearer {target.api_key}\r\n" if target.api_key else ""
    return (
        f"POST {target.path} HTTP/1.1\r\nhost: {host}:{target.port}\r\ncontent-type: application/json\r\n"
        f"accept: text/event-stream\r\naccept-encoding: identity\r\n{key}content-length: {length}\r\n\r\n"
    ).encode("latin-1", "replace")


def _connected(target: Target, timeout: float) -> socket.socket:
    sock = socket.create_connection((target.host, target.port), timeout)
    if not target.is_tls:
        return sock
    try:
        return ssl.create_default_context().wrap_socket(sock, server_hostname=target.host)
    except BaseException:
        sock.close()
        raise
