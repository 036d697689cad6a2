"""How quickly qwen-tui opens and how little it does when nothing happens, beside references of the same run.

    python tests/performance/startup.py [-n RUNS] [--idle SECONDS]

First full paint: `qwen-tui` against a bare Textual app (Header, Footer, Static) in a terminal of the same size, in
turn. `qwen-tui --help` against `python -c pass`. Then RSS and CPU of an idle qwen-tui that is attached to a living
server (the tests' fake engine). Bars: paint ≤ 1.3, help ≤ 3, RSS ≤ 90 MB, CPU ≤ 1 % of a core.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import json
import os
import pty
import select
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from qwen_tui.engine.find import Engine
from qwen_tui.paths import Paths
from qwen_tui.server.launch import free_port
from qwen_tui.server.service import Servers
from qwen_tui.server.spec import ServerSpec

COLUMNS, ROWS = 100, 30
QWEN_TUI = [str(Path(sys.executable).parent / "qwen-tui")]
FAKE_ENGINE = Path(__file__).parents[1] / "fakes" / "engine"
BARE = """
from textual.app import App
from textual.widgets import Footer, Header, Static

class Bare(App):
    BINDINGS = [("q", "quit", "leave")]
    def compose(self):
        yield Header()
        yield Static("No servers yet")
        yield Footer()

Bare().run()
"""


class Terminal:
    """A program on a pseudo terminal of COLUMNS × ROWS."""

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self.began = time.monotonic()
        self._process = subprocess.Popen(
            argv, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, env=dict(environment)
        )
        os.close(theirs)
        self.pid = self._process.pid
        self.received = b""

    def read(self, seconds: float) -> None:
        """Take in what comes within `seconds`; returns with the first piece."""
        if select.select([self._ours], [], [], seconds)[0]:
            self.received += os.read(self._ours, 1 << 16)

    def wait_for(self, *texts: bytes) -> float:
        """Seconds from the start until all of `texts` were written."""
        while not all(text in self.received for text in texts):
            if time.monotonic() - self.began > 60:
                raise TimeoutError(f"no {texts!r} in {self.received[-2000:]!r}")
            self.read(1.0)
        return time.monotonic() - self.began

    def close(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._ours)


def first_paint(argv: Sequence[str], environment: Mapping[str, str], *texts: bytes) -> float:
    terminal = Terminal(argv, environment)
    try:
        return terminal.wait_for(*texts)
    finally:
        terminal.close()


def command_time(argv: Sequence[str], environment: Mapping[str, str]) -> float:
    began = time.monotonic()
    subprocess.run(argv, stdout=subprocess.DEVNULL, check=True, env=dict(environment))
    return time.monotonic() - began


def compare(name: str, ours: list[float], reference: list[float], bar: float) -> None:
    first, second = statistics.median(ours), statistics.median(reference)
    print(
        f"{name}: {first * 1000:.0f} ms, reference {second * 1000:.0f} ms, ratio {first / second:.2f} (bar {bar});"
        f" medians of {len(ours)}, spread {min(ours) * 1000:.0f} to {max(ours) * 1000:.0f}"
        f" and {min(reference) * 1000:.0f} to {max(reference) * 1000:.0f} ms"
    )


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_megabytes(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024 / 1e6


async def idle(environment: Mapping[str, str], seconds: float) -> None:
    """RSS and CPU of qwen-tui while a server is ready and nobody presses anything."""
    servers = Servers(Paths.from_environment())
    variables = {"PYTHONPATH": str(FAKE_ENGINE), "FAKE_ENGINE": json.dumps({"pause": 0.005})}
    spec = ServerSpec("idle", "some/model", "fake-model", port=free_port(first=18700), env=variables)
    await servers.start(spec, Engine(Path(sys.executable), "0.32.0", "cpu", "option"))
    try:
        await servers.wait_ready("idle")
        terminal = Terminal(QWEN_TUI, environment)
        try:
            # Past the first minute the uptime is in minutes; before it, each second is drawn.
            terminal.wait_for(b"ready", b"help")
            while time.monotonic() - terminal.began < 62:
                terminal.read(1.0)
            before, written, began = cpu_seconds(terminal.pid), len(terminal.received), time.monotonic()
            while time.monotonic() - began < seconds:
                terminal.read(0.5)
            took = time.monotonic() - began
            share = (cpu_seconds(terminal.pid) - before) / took * 100
            print(
                f"idle: {share:.2f} % of a core over {took:.0f} s (bar 1 %), {resident_megabytes(terminal.pid):.0f} MB"
            )
            print(f"idle: {len(terminal.received) - written:,} bytes written to the terminal")
        finally:
            terminal.close()
    finally:
        await servers.stop("idle", grace=0.5)
        await servers.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("-n", type=int, default=15, help="runs of each")
    parser.add_argument("--idle", type=float, default=30.0, help="seconds of idling that are measured; 0 leaves it out")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in ("CONFIG", "DATA", "STATE", "CACHE"):
            os.environ[f"XDG_{name}_HOME"] = f"{folder}/{name.lower()}"
        environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "C.UTF-8"}
        for name in ("LANGUAGE", "LC_ALL", "LC_MESSAGES"):
            environment.pop(name, None)
        bare = Path(folder) / "bare.py"
        bare.write_text(BARE)
        bare_argv = [sys.executable, str(bare)]
        # Once each unmeasured: byte code and the page cache.
        first_paint(QWEN_TUI, environment, b"No servers yet", b"help")
        first_paint(bare_argv, environment, b"No servers yet", b"leave")
        paints: list[float] = []
        bare_paints: list[float] = []
        for _run in range(arguments.n):
            paints.append(first_paint(QWEN_TUI, environment, b"No servers yet", b"help"))
            bare_paints.append(first_paint(bare_argv, environment, b"No servers yet", b"leave"))
        compare("first full paint", paints, bare_paints, 1.3)
        helps: list[float] = []
        passes: list[float] = []
        for _run in range(arguments.n):
            helps.append(command_time([*QWEN_TUI, "--help"], environment))
            passes.append(command_time([sys.executable, "-c", "pass"], environment))
        compare("--help", helps, passes, 3)
        if arguments.idle:
            asyncio.run(idle(environment, arguments.idle))


if __name__ == "__main__":
    main()
