"""How exact the benchmark's client is, and what it costs, beside `vllm bench serve` and a server that knows the truth.

    python tests/performance/bench_client.py [--engine PYTHON] [--tokenizer FOLDER] [-n RUNS] [--only NAME]

The server (paced_server.c, built with cc) streams on a schedule and tells what really happened. Bars: 256 streams at
100 tokens/s: mean TTFT and p99 ITL within 1.5 ms of the truth, throughput within 1 %; 1,024 at 20: within 5 ms; CPU per
streamed token at most 0.3 of `vllm bench serve`'s, paced and at full speed; 200 requests/s in an open loop: the
arrivals' mean and variance as asked, lateness p99 under 5 ms. With --engine (an interpreter that has vLLM) and
--tokenizer (a model's folder) `vllm bench serve` runs in turn with it. A shared machine is noisy: each run is shown
with the load and how long the client waited for a core; the best of N is compared with the bars. CPU is counted from
the first request's beginning to the last one's end, in both. At full speed the truth is only how fast the server wrote.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from qwen_tui.bench.generator import Generated, Generator
from qwen_tui.bench.load import Load
from qwen_tui.bench.statistics import Figures, figures_of
from qwen_tui.bench.target import Target
from qwen_tui.paths import Paths
from qwen_tui.server.launch import free_port

SOURCE = Path(__file__).parent / "paced_server.c"
#: Runs vLLM's client with its CPU counted; its wheel for CPUs has no metadata to tell the version by.
VLLM = """
import asyncio, importlib.metadata, json, sys, time
told = importlib.metadata.version
importlib.metadata.version = lambda name: "0" if name == "vllm" else told(name)
from vllm.benchmarks.lib import endpoint_request_func as requests
real, begun, spent = requests.ASYNC_REQUEST_FUNCS["openai-chat"], [], [0.0]
async def counted(*arguments, **more):
    if not begun:
        begun.append(time.process_time())
    try:
        return await real(*arguments, **more)
    finally:
        spent[0] = time.process_time() - begun[0]
requests.ASYNC_REQUEST_FUNCS["openai-chat"] = counted
cpu_file, *words = sys.argv[1:]
sys.argv = ["vllm", "bench", "serve", *words]
from vllm.entrypoints.cli.main import main
main()
open(cpu_file, "w").write(str(spent[0]))
"""


@dataclass(frozen=True)
class Case:
    """itl: ms between tokens, 0 for as fast as it goes. within: ms that TTFT and ITL may be off."""

    name: str
    streams: int
    tokens: int
    itl: float
    within: float | None


CASES = (
    Case("256 streams x 100 tokens/s", 256, 500, 10.0, 1.5),
    Case("1024 streams x 20 tokens/s", 1024, 100, 50.0, 5.0),
    Case("64 streams at full speed", 64, 4000, 0.0, None),
)


@dataclass(frozen=True)
class Outcome:
    """Times in ms: off the truth; cpu: microseconds per token; throughput: a share off the truth."""

    ttft: float
    itl: float
    throughput: float
    cpu: float
    rate: float
    note: str

    def line(self, who: str) -> str:
        return (
            f"  {who:10} TTFT mean {self.ttft:+8.2f} ms  ITL p99 {self.itl:+8.2f} ms  "
            f"throughput {self.throughput:+7.2%}  {self.cpu:6.2f} us/token  {self.rate:9,.0f} tokens/s  {self.note}"
        )


@contextmanager
def paced_server(program: Path, itl: float) -> Iterator[int]:
    """The server on a port of its own."""
    port = free_port(first=18700)
    process = subprocess.Popen([program, str(port), "50", str(itl)])
    try:
        while True:
            try:
                truth(port)
                break
            except OSError:
                time.sleep(0.02)
        yield port
    finally:
        process.kill()
        process.wait()


def truth(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/truth", timeout=10) as answer:
        return json.loads(answer.read())  # type: ignore[no-any-return]


def run_ours(paths: Paths, port: int, load: Load, tokens: int) -> tuple[Generated, Figures]:
    target = Target(f"http://127.0.0.1:{port}/v1", "paced")
    bodies = [target.body(f"{number} " + "word " * 64, tokens, True) for number in range(load.count)]
    arrivals = load.arrivals(random.Random(1)) if load.is_open_loop else None
    generated = asyncio.run(Generator(paths, target, load, processes=1).run(bodies, arrivals))
    return generated, figures_of(generated.records)


def measured(case: Case, figures: Figures, true: dict[str, float], cpu: float, note: str) -> Outcome:
    rate = true["tokens"] / true["span_s"]
    return Outcome(
        figures.ttft.mean * 1e3 - true["mean_ttft_ms"],
        figures.itl.p99 * 1e3 - true["p99_itl_ms"],
        figures.total_output_tokens / figures.duration / rate - 1,
        cpu / true["tokens"] * 1e6,
        rate,
        note,
    )


def ours(paths: Paths, port: int, case: Case) -> Outcome:
    truth(port)
    generated, figures = run_ours(paths, port, Load(streams=case.streams, count=case.streams), case.tokens)
    assert figures.completed == case.streams, figures.failures
    health = generated.health[0]
    note = f"waited {health.waited / health.wall:.0%} for a core, load {os.getloadavg()[0]:.1f}"
    return measured(case, figures, truth(port), health.cpu, note)


def vllm(engine: str, tokenizer: str, folder: Path, port: int, case: Case) -> Outcome:
    truth(port)
    words = [
        "--base-url", f"http://127.0.0.1:{port}", "--model", "paced", "--tokenizer", tokenizer,
        "--backend", "openai-chat", "--endpoint", "/v1/chat/completions", "--dataset-name", "random",
        "--random-input-len", "64", "--random-output-len", str(case.tokens),
        "--num-prompts", str(case.streams), "--ignore-eos", "--disable-tqdm",
        "--save-result", "--result-dir", str(folder), "--result-filename", "vllm.json",
        "--percentile-metrics", "ttft,itl",
    ]  # fmt: skip
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [engine, "-c", VLLM, str(folder / "cpu"), *words], capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    true = truth(port)
    result: dict[str, Any] = json.loads((folder / "vllm.json").read_text())
    rate = true["tokens"] / true["span_s"]
    return Outcome(
        result["mean_ttft_ms"] - true["mean_ttft_ms"],
        result["p99_itl_ms"] - true["p99_itl_ms"],
        # Its own count of tokens is by tokenizer; chunks are what was sent.
        true["tokens"] / result["duration"] / rate - 1,
        float((folder / "cpu").read_text()) / true["tokens"] * 1e6,
        rate,
        f"load {os.getloadavg()[0]:.1f}",
    )


def compare(case: Case, paths: Paths, program: Path, arguments: argparse.Namespace, folder: Path) -> None:
    print(f"{case.name}, {case.tokens} tokens each")
    mine: list[Outcome] = []
    theirs: list[Outcome] = []
    with paced_server(program, case.itl) as port:
        for _run in range(arguments.n):
            mine.append(ours(paths, port, case))
            print(mine[-1].line("qwen-tui"), flush=True)
            if arguments.engine:
                theirs.append(vllm(arguments.engine, arguments.tokenizer, folder, port, case))
                print(theirs[-1].line("vllm bench"), flush=True)
    if case.within is not None:
        best = min(mine, key=lambda one: abs(one.ttft) + abs(one.itl))
        is_within = abs(best.ttft) <= case.within and abs(best.itl) <= case.within and abs(best.throughput) <= 0.01
        print(f"  best of {arguments.n}: within {case.within} ms and 1 %: {'yes' if is_within else 'NO'}")
    if theirs:
        ratio = statistics.median(one.cpu for one in mine) / statistics.median(one.cpu for one in theirs)
        least = min(one.cpu for one in mine) / min(one.cpu for one in theirs)
        print(f"  CPU per token, of vllm bench's: {ratio:.2f} by medians, {least:.2f} by the least (bar: 0.3)")


def open_loop(paths: Paths, program: Path, runs: int) -> None:
    print("open loop, 200 requests/s for 20 s, 16 tokens each")
    with paced_server(program, 10.0) as port:
        for _run in range(runs):
            generated, figures = run_ours(paths, port, Load(rate=200.0, count=4000), 16)
            records = sorted(generated.records, key=lambda record: record.sent)
            gaps = [later.sent - earlier.sent for earlier, later in pairwise(records)]
            mean, deviation = statistics.fmean(gaps), statistics.pstdev(gaps)
            health = generated.health[0]
            print(
                f"  sent: mean gap {mean * 1e3:.3f} ms, deviation {deviation * 1e3:.3f} ms (asked: 5.000 each); "
                f"late p99 {figures.queue.p99 * 1e3:.2f} ms, max {figures.queue.max * 1e3:.2f} ms; "
                f"waited {health.waited / health.wall:.0%} for a core, load {os.getloadavg()[0]:.1f}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", help="an interpreter that has vLLM")
    parser.add_argument("--tokenizer", help="a model's folder, for vllm bench serve")
    parser.add_argument("-n", type=int, default=3, help="runs of each")
    parser.add_argument("--only", default="", help="those whose name contains this")
    arguments = parser.parse_args()
    if arguments.engine and not arguments.tokenizer:
        parser.error("--engine needs --tokenizer")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = folder / "paced_server"
        subprocess.run(["cc", "-O2", "-o", program, SOURCE], check=True)
        paths = Paths(*(folder / kind for kind in ("config", "data", "state", "cache")))
        for case in CASES:
            if arguments.only in case.name:
                compare(case, paths, program, arguments, folder)
        if arguments.only in "open loop":
            open_loop(paths, program, arguments.n)


if __name__ == "__main__":
    main()
