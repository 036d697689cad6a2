"""Whether a measurement is the same with the screens on: the same run without them, with them, and in bad company.

    python tests/performance/bench_screen.py [-n ROUNDS] [--streams N] [--seconds S]

Each round measures the same paced server (paced_server.c, built with cc: 100 tokens/s a stream, 50 ms to the first one)
in turn: without screens; with the Bench room on a real pseudo terminal of 200x60; with the Logs room in front, whose
log grows by 20,000 lines a second; with a terminal that takes 4 kB a second. Printed is each figure's median and its
ratio to the run without screens. A shared machine is noisy: the spread of the runs without screens is shown beside.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pexpect

from qwen_tui.bench.load import Load
from qwen_tui.bench.run import Bench, Plan
from qwen_tui.bench.target import Target
from qwen_tui.bench.workload import Workload
from qwen_tui.paths import Paths
from tests.conftest import until
from tests.performance.bench_client import SOURCE, paced_server, truth

LOG = "flood.log"
CASES = ("off", "screen", "flood", "slow")
FIGURES = ("ttft", "itl", "rate")
#: Appends lines to the file named by its argument, 20,000 a second, in batches of a twentieth of a second.
FLOOD = """
import sys, time
line = "(EngineCore pid=8) INFO 11-22 15:59:26 [loggers.py:1] Engine 000: Avg generation throughput: 4952.1 tokens/s\\n"
with open(sys.argv[1], "a", buffering=1 << 20) as file:
    while True:
        file.write(line * 1000); file.flush(); time.sleep(0.05)
"""


def plan_for(port: int, streams: int, seconds: float) -> Plan:
    """As many streams as asked, each request a second long."""
    load = Load(streams=streams, count=round(streams * seconds))
    return Plan(Target(f"http://127.0.0.1:{port}/v1", "paced"), Workload(output_len=100), load, seed=1, processes=1)


def paths_in(folder: Path) -> Paths:
    return Paths(folder / "config", folder / "data", folder / "state", folder / "cache")


def figures_of(run: Any) -> dict[str, float]:
    figures = run.figures
    return {"ttft": figures.ttft.mean * 1e3, "itl": figures.itl.p99 * 1e3, "rate": figures.output_throughput}


async def inside(folder: Path, room: str, port: int, streams: int, seconds: float, result: Path) -> None:
    """The program itself: measures as the Bench room does, and leaves when it has."""
    from qwen_tui.server.service import Servers
    from qwen_tui.server.spec import ServerSpec
    from qwen_tui.server.status import ServerState, ServerStatus
    from qwen_tui.settings import Settings
    from qwen_tui.ui.app import QwenApp
    from qwen_tui.ui.bench_desk import Order
    from qwen_tui.ui.screens.bench import BenchScreen
    from qwen_tui.ui.services import Services

    paths = paths_in(folder)
    status = ServerStatus(ServerSpec("flooded", "m", port=port), ServerState.STARTING, folder / LOG, pid=os.getpid())

    class OneServer(Servers):
        """A server whose log is there, and that is never asked."""

        def list(self) -> Sequence[ServerStatus]:
            return [status]

        async def refresh(self) -> Sequence[ServerStatus]:
            return [status]

    app = QwenApp(Services(paths, Settings(language="en"), OneServer(paths)), "bench")

    async def drive() -> None:
        await until(lambda: isinstance(app.room, BenchScreen) and app.room.is_mounted and app.looked)
        bench = app.room
        assert isinstance(bench, BenchScreen)
        order = Order("run", plan_for(port, streams, seconds))

        async def begin() -> None:
            bench.begin(order)
            await app.switch_mode(room)

        bench.call_later(begin)
        await until(lambda: app.services.bench.job is not None)
        job = app.services.bench.job
        assert job is not None
        await until(lambda: job.is_over)
        result.write_text(json.dumps(figures_of(job.result)) if job.problem is None else repr(job.problem))
        app.exit()

    task = asyncio.ensure_future(drive())
    await app.run_async()
    await task


def on_screen(folder: Path, room: str, arguments: argparse.Namespace, port: int, slow: bool) -> dict[str, float]:
    result = folder / f"result-{time.monotonic_ns()}"
    words = [__file__, "--inside", str(folder), room, str(port), str(arguments.streams), str(arguments.seconds)]
    child = pexpect.spawn(sys.executable, [*words, str(result)], dimensions=(60, 200), timeout=None, encoding=None)

    def take() -> None:
        try:
            while True:
                child.read_nonblocking(400 if slow else 65536, timeout=None)
                if slow:
                    time.sleep(0.1)
        except (pexpect.EOF, OSError, ValueError):
            pass

    reader = threading.Thread(target=take, daemon=True)
    reader.start()
    deadline = time.monotonic() + 20 * arguments.seconds + 60
    while not result.exists() or not result.read_text():
        if time.monotonic() > deadline:
            raise SystemExit("the program on the screen did not end its run: " + " ".join(words))
        time.sleep(0.05)
    child.close(force=True)
    reader.join(5)
    return json.loads(result.read_text())  # type: ignore[no-any-return]


def flooded(folder: Path, arguments: argparse.Namespace, port: int) -> dict[str, float]:
    """With the Logs room in front, and the log that it follows growing."""
    log = folder / LOG
    log.write_text("")
    writer = subprocess.Popen([sys.executable, "-c", FLOOD, str(log)])
    try:
        return on_screen(folder, "logs", arguments, port, slow=False)
    finally:
        writer.kill()
        writer.wait()


def once(case: str, folder: Path, arguments: argparse.Namespace, port: int) -> dict[str, float]:
    """The figures of one run, in ms and tokens/s."""
    truth(port)  # what it knew before is forgotten
    if case == "off":
        plan = plan_for(port, arguments.streams, arguments.seconds)
        found = figures_of(asyncio.run(Bench(paths_in(folder)).run(plan, keep=False)))
    elif case == "flood":
        found = flooded(folder, arguments, port)
    else:
        found = on_screen(folder, "bench", arguments, port, slow=case == "slow")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", "--rounds", type=int, default=3)
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=6.0)
    arguments = parser.parse_args()
    seen: dict[str, list[dict[str, float]]] = {case: [] for case in CASES}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = folder / "paced_server"
        subprocess.run(["cc", "-O2", "-o", program, SOURCE, "-lpthread", "-lm"], check=True)
        (folder / LOG).write_text("")
        with paced_server(program, 10.0) as port:
            for number in range(arguments.rounds):
                for case in CASES if number % 2 == 0 else CASES[::-1]:
                    found = once(case, folder, arguments, port)
                    seen[case].append(found)
                    print(f"  {case:8} TTFT mean {found['ttft']:7.2f} ms  ITL p99 {found['itl']:6.2f} ms  "
                          f"{found['rate']:8,.1f} tokens/s  load {os.getloadavg()[0]:.1f}", flush=True)  # fmt: skip
    print("\nmedian, and its ratio to the run without screens (its own spread: highest / lowest)")
    for figure in FIGURES:
        base = [found[figure] for found in seen["off"]]
        line = f"  {figure:5} off {statistics.median(base):9,.2f} (x{max(base) / min(base):.3f})"
        for case in CASES[1:]:
            middle = statistics.median(found[figure] for found in seen[case])
            line += f"   {case} x{middle / statistics.median(base):.3f}"
        print(line)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        _flag, where, shown, at, wanted, long, into = sys.argv[1:]
        asyncio.run(inside(Path(where), shown, int(at), int(wanted), float(long), Path(into)))
    else:
        main()
