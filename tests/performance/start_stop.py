"""What starting and stopping a server costs, and that nothing of it stays behind.

    python tests/performance/start_stop.py [-n CYCLES]

Starts and stops the fake engine CYCLES times (200) through one service, in folders of its own, and prints time per
cycle, open descriptors, memory and processes before and after. The reference for the time, in the same run: the same
command started, asked and ended by hand, without a keeper.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from qwen_tui.engine.find import Engine  # noqa: E402
from qwen_tui.paths import Paths  # noqa: E402
from qwen_tui.server.launch import free_port  # noqa: E402
from qwen_tui.server.service import Servers  # noqa: E402
from qwen_tui.server.spec import ServerSpec  # noqa: E402
from tests.conftest import FAKE_ENGINE, run_processes  # noqa: E402
from tests.performance.server_ready import wait_answer  # noqa: E402


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def memory() -> float:
    """Resident memory of this process, MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def bare(spec: ServerSpec) -> float:
    """Seconds for one start, answer and end without qwen-tui."""
    began = time.monotonic()
    process = subprocess.Popen(
        spec.argv(sys.executable),
        env={**os.environ, **spec.env},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_answer(spec.port, began)
    process.send_signal(signal.SIGTERM)
    process.wait()
    seconds = time.monotonic() - began
    os.killpg(process.pid, signal.SIGKILL)  # the engine core that the fake leaves, as a real one may
    return seconds


async def kept(servers: Servers, engine: Engine, spec: ServerSpec) -> float:
    began = time.monotonic()
    await servers.start(spec, engine)
    await servers.wait_ready(spec.name)
    await servers.stop(spec.name)
    return time.monotonic() - began


async def measure(cycles: int, folder: Path) -> int:
    paths = Paths(*(folder / name for name in ("config", "data", "state", "cache")))
    servers = Servers(paths)
    engine = Engine(Path(sys.executable), "0.32.0", "cpu", "option")
    environment = {"PYTHONPATH": str(FAKE_ENGINE), "FAKE_ENGINE": json.dumps({"pause": 0})}
    spec = ServerSpec("cycle", "some/model", port=free_port(first=18700), env=environment)
    await kept(servers, engine, spec)  # imports and connections of the first time
    opened, resident = descriptors(), memory()
    times, references = [], []
    for number in range(cycles):
        times.append(await kept(servers, engine, spec))
        if number % 10 == 0:
            references.append(bare(spec))
            print(f"{number:4d}  descriptors {descriptors()}  memory {memory():.1f} MB", flush=True)
    files = sum(1 for _path in paths.servers.rglob("*"))
    left = run_processes(paths)
    median, reference = statistics.median(times), statistics.median(references)
    print(f"descriptors {opened} before, {descriptors()} after {cycles} cycles")
    print(f"memory      {resident:.1f} MB before, {memory():.1f} MB after")
    print(f"files       {files} in the server's folder; processes left: {len(left)}")
    print(f"one cycle   {median:.3f} s, by hand {reference:.3f} s: {median / reference:.2f} times as long")
    await servers.close()
    return 1 if left or descriptors() > opened else 0


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("-n", type=int, default=200)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(measure(arguments.n, Path(folder)))


if __name__ == "__main__":
    sys.exit(main())
