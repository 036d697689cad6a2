"""How much later a server is ready under qwen-tui than with the bare command.

    python tests/performance/server_ready.py MODEL [-n RUNS] [-- VLLM ARGUMENTS]

Runs both in turn, N times, with the same arguments, and asks the same question in the same way: when do /health
and /v1/models answer? For qwen-tui the time that `serve` takes to return is shown too. Bar: within 0.5 s.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from qwen_tui.engine.find import find_engine
from qwen_tui.paths import Paths
from qwen_tui.server.launch import free_port
from qwen_tui.server.spec import ServerSpec


def wait_answer(port: int, began: float) -> float:
    """Seconds from `began` until the server answers; asked every 20 ms."""
    while True:
        try:
            for path in ("/health", "/v1/models"):
                urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2).read()
            return time.monotonic() - began
        except (urllib.error.URLError, OSError):
            time.sleep(0.02)


def bare(argv: list[str], port: int) -> float:
    began = time.monotonic()
    with Path("/tmp/bare-server.log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log, start_new_session=True)
    seconds = wait_answer(port, began)
    os.killpg(process.pid, signal.SIGTERM)
    process.wait()
    return seconds


def kept(model: str, port: int, extra: list[str]) -> tuple[float, float]:
    """Seconds until the server answers, and until `qwen-tui serve` says so."""
    command = [str(Path(sys.executable).parent / "qwen-tui")]
    answered: list[float] = []
    began = time.monotonic()
    watcher = threading.Thread(target=lambda: answered.append(wait_answer(port, began)))
    watcher.start()
    subprocess.run(
        [*command, "serve", model, "--name", "ready-bench", "--port", str(port), "--", *extra],
        check=True, capture_output=True,
    )  # fmt: skip
    said = time.monotonic() - began
    watcher.join()
    subprocess.run([*command, "stop", "ready-bench"], check=True, capture_output=True)
    return answered[0], said


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("-n", type=int, default=3)
    parser.add_argument("extra", nargs="*", help="after --: further arguments for vLLM")
    arguments = parser.parse_args()
    engine = find_engine(Paths.from_environment())
    bares, answers, saids = [], [], []
    for number in range(arguments.n):
        port = free_port()
        spec = ServerSpec("x", arguments.model, port=port, extra_args=tuple(arguments.extra))
        bares.append(bare(spec.argv(engine.python), port))
        answer, said = kept(arguments.model, free_port(port + 1), arguments.extra)
        answers.append(answer)
        saids.append(said)
        print(f"{number}: bare {bares[-1]:.2f} s, kept {answer:.2f} s, said {said:.2f} s", flush=True)
    median = statistics.median
    print(f"median: bare {median(bares):.2f} s, kept {median(answers):.2f} s, said {median(saids):.2f} s")
    print(
        f"kept − bare {median(answers) - median(bares):+.2f} s, said − answers {median(saids) - median(answers):+.2f} s"
    )


if __name__ == "__main__":
    main()
