"""A stand-in for vLLM's API server: its processes, its log, its routes, and every way of misbehaving.

Run as the real one: `python -m vllm.entrypoints.openai.api_server --model … --port …`, with this folder's
parent on PYTHONPATH. FAKE_ENGINE holds a JSON object:

    pause           seconds between two log lines (0.02)
    crash_after     end with a traceback and status 1 after the log line that holds this text
    stall_after     say nothing more and never get ready after the log line that holds this text
    ignore_sigterm  the API server and its children ignore SIGTERM
    children        how many EngineCore processes to start (1); each has a worker of its own
    child_setsid    the children leave the session
    slow_health     seconds that /health takes to answer
    hang_health     a file; while it exists, /health does not answer
    exit_status     with crash_after: this status instead of 1
    tokens          how many tokens a reply has (20), token_pause seconds between them (0.01)
    break_after     cut the connection of a reply after so many tokens
    metrics         whether /metrics has figures (true)

As with the real one, an EngineCore ends with its worker, the API server with an EngineCore, and a log that can't be
written to ends nothing. An API server that is killed leaves the others alive.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import signal
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

OPTIONS = json.loads(os.environ.get("FAKE_ENGINE", "{}"))
PAUSE = float(OPTIONS.get("pause", 0.02))

LOG = """\
(APIServer pid={pid}) INFO 11-22 15:58:57 [api_utils.py:286] non-default args: {{'port': {port}, 'model': '{model}'}}
(APIServer pid={pid}) INFO 11-22 15:59:08 [model.py:733] Resolved architecture: LlamaForCausalLM
(APIServer pid={pid}) INFO 11-22 15:59:08 [model.py:2152] Using max model len 2048
(EngineCore pid={core}) INFO 11-22 15:59:16 [core.py:133] Initializing a V1 LLM engine (v0.32.0) with config: …
(Worker pid={core}) INFO 11-22 15:59:24 [cpu_model_runner.py:68] Starting to load model {model}...
\rLoading safetensors checkpoint shards:   0% Completed | 0/2 [00:00<?, ?it/s]
\rLoading safetensors checkpoint shards:  50% Completed | 1/2 [00:01<00:01,  1.27s/it]
\rLoading safetensors checkpoint shards: 100% Completed | 2/2 [00:02<00:00,  1.27s/it]
(EngineCore pid={core}) INFO 11-22 15:59:27 [kv_cache_utils.py:2327] CPU KV cache size: 46,592 tokens
(EngineCore pid={core}) INFO 11-22 15:59:30 [core.py:402] init engine (profile, create kv cache) took 2.83 s
(APIServer pid={pid}) INFO 11-22 15:59:32 [entry.py:140] Starting vLLM server on http://{host}:{port}
INFO:     Started server process [{pid}]
INFO:     Application startup complete.
"""

TRACEBACK = """\
(EngineCore pid={core}) ERROR 11-22 15:59:26 [core.py:1] Traceback (most recent call last):
(EngineCore pid={core}) ERROR 11-22 15:59:26 [core.py:1]   File "kv_cache_utils.py", line 1, in check
(EngineCore pid={core}) ERROR 11-22 15:59:26 [core.py:1] ValueError: No available memory for the cache blocks.
Traceback (most recent call last):
  File "api_server.py", line 59, in <module>
RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {{}}
"""


def name_process(name: str) -> None:
    """Set the name that /proc/PID/stat shows. Source: prctl(2), PR_SET_NAME."""
    ctypes.CDLL(None).prctl(15, name.encode(), 0, 0, 0)


def child(name: str, depth: int) -> int:
    """A process that does nothing until it is killed, with a child of its own if `depth`."""
    pid = os.fork()
    if pid:
        return pid
    if OPTIONS.get("child_setsid"):
        os.setsid()
    if OPTIONS.get("ignore_sigterm"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    name_process(name)
    if depth:
        os.waitpid(child("VLLM::Worker", depth - 1), 0)
        os._exit(1)
    while True:
        signal.pause()


def end_with(core: int) -> None:
    """Wait for an EngineCore to end, and end as vLLM does then."""
    os.waitpid(core, 0)
    say("(APIServer) ERROR 11-22 15:59:40 [core_client.py:1] Engine core proc EngineCore died unexpectedly\n")
    os._exit(1)


def say(text: str) -> None:
    """Write to the log; the real one's logging does not fail either."""
    with contextlib.suppress(OSError):
        os.write(1, text.encode())


class Handler(BaseHTTPRequestHandler):
    """The routes that qwen-tui uses."""

    protocol_version = "HTTP/1.1"
    model = ""
    running, replies = 0, 0
    key = os.environ.get("VLLM_API_KEY")

    def log_message(self, format: str, *arguments: object) -> None:
        say(f'INFO:     {self.address_string()} - "{self.requestline}" 200 OK\n')

    def answer(self, data: object, status: int = 200) -> None:
        body = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        if self.path == "/health":
            time.sleep(float(OPTIONS.get("slow_health", 0)))
            while OPTIONS.get("hang_health") and Path(OPTIONS["hang_health"]).exists():
                time.sleep(0.05)
            self.answer({})
        elif self.path == "/metrics":
            self.answer_metrics()
        elif self.key and self.headers.get("Authorization") != f"Bearer {self.key}":
            self.answer({"error": "Unauthorized"}, 401)
        elif self.path == "/v1/models":
            self.answer({"object": "list", "data": [{"id": self.model, "object": "model", "max_model_len": 2048}]})
        else:
            self.answer({"detail": "Not Found"}, 404)

    def answer_metrics(self) -> None:
        labels = f'{{engine="0",model_name="{self.model}"}}'
        lines = [f"vllm:num_requests_running{labels} {Handler.running}.0", f"vllm:num_requests_waiting{labels} 0.0"]
        lines += [f"vllm:request_success_total{labels} {Handler.replies}.0"]
        body = ("\n".join(["# HELP x y", *lines]) + "\n" if OPTIONS.get("metrics", True) else "# nothing\n").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        request = json.loads(self.rfile.read(length) or b"{}")
        if self.path != "/v1/chat/completions":
            self.answer({"detail": "Not Found"}, 404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            Handler.running += 1
            self.stream(request)
            Handler.replies += 1
        except (BrokenPipeError, ConnectionResetError):
            say("fake engine: the client went away, request aborted\n")
            self.close_connection = True
        finally:
            Handler.running -= 1

    def chunk(self, data: object) -> None:
        text = data if isinstance(data, str) else json.dumps(data)
        body = f"data: {text}\n\n".encode()
        self.wfile.write(f"{len(body):x}\r\n".encode() + body + b"\r\n")
        self.wfile.flush()

    def stream(self, request: dict[str, object]) -> None:
        count = int(OPTIONS.get("tokens", 20))
        base = {"id": "chatcmpl-fake", "object": "chat.completion.chunk", "model": self.model}
        self.chunk({**base, "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
        for number in range(count):
            if OPTIONS.get("break_after") == number:
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self.chunk({**base, "choices": [{"index": 0, "delta": {"content": f"token{number} "}}]})
            time.sleep(float(OPTIONS.get("token_pause", 0.01)))
        self.chunk({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        usage = {"prompt_tokens": 7, "completion_tokens": count, "total_tokens": 7 + count}
        self.chunk({**base, "choices": [], "usage": usage})
        self.chunk("[DONE]")
        self.wfile.write(b"0\r\n\r\n")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--served-model-name")
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--max-model-len", type=int)
    parser.add_argument("--enforce-eager", action="store_true")
    parser.add_argument("--chat-template")
    arguments = parser.parse_args()
    Handler.model = arguments.served_model_name or arguments.model

    if OPTIONS.get("ignore_sigterm"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    core = 0
    fields = {"pid": os.getpid(), "port": arguments.port, "host": arguments.host, "model": arguments.model}
    for line in LOG.splitlines(keepends=True):
        if "Initializing" in line:
            for _number in range(int(OPTIONS.get("children", 1))):
                core = child("VLLM::EngineCore", 1)
                threading.Thread(target=end_with, args=(core,), daemon=True).start()
        say(line.format(core=core, **fields))
        time.sleep(PAUSE)
        if OPTIONS.get("crash_after") and OPTIONS["crash_after"] in line:
            say(OPTIONS["last_words"] + "\n" if "last_words" in OPTIONS else TRACEBACK.format(core=core))
            os._exit(int(OPTIONS.get("exit_status", 1)))
        if OPTIONS.get("stall_after") and OPTIONS["stall_after"] in line:
            while True:
                signal.pause()
    server = ThreadingHTTPServer((arguments.host, arguments.port), Handler)
    server.daemon_threads = True

    def end(_number: int, _frame: object) -> None:
        # The real one lets its engine go too, when it is asked politely.
        threading.Thread(target=server.shutdown).start()

    if not OPTIONS.get("ignore_sigterm"):
        signal.signal(signal.SIGTERM, end)
    server.serve_forever(poll_interval=0.02)


if __name__ == "__main__":
    main()
