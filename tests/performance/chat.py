"""What a long streamed reply costs on the screen: processor, terminal traffic, keys, memory, and whether it stays flat.

    python tests/performance/chat.py [--tokens 32000] [--rate 300] [--kind mixed|code|list|paragraph|chinese]
                                     [--peer FOLDER]

A server streams Markdown at that rate; qwen-tui shows it in a terminal of 120 × 40. The reference is
`qwen-tui chat` reading the same stream into nothing: what the client alone costs. Bars: never behind, keys within
50 ms, 0.35 of a core, 100 kB/s, flat as the answer grows, and 90 MB resident before it.

--peer: a virtual environment with elia (`python -m venv FOLDER && FOLDER/bin/pip install elia-chat`): it is then shown
the same stream from the same server in a terminal of the same size, and the figures are set beside ours.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import os
import pty
import select
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
COLUMNS, ROWS = 120, 40
TICKS = os.sysconf("SC_CLK_TCK")
#: A character that no reply has: seen in the output, it is the echo of the key.
PROBE = "⌘"

MIXED = """## Section {n}: how the scheduler decides

The scheduler looks at every waiting request, **in order**, and asks the block manager whether `num_blocks` are free;
if they are not, it preempts the *youngest* running one. See [the docs](https://docs.vllm.ai) for number {n}.

- first, the waiting queue is sorted by arrival
- then the running queue is extended by one token each
  - nested: swapped out requests come before new ones
1. measure 2. change one thing

```python
def step_{n}(self, budget: int = 2048) -> list[Request]:
    \"\"\"Choose what runs next.\"\"\"
    chosen = [request for request in self.waiting if request.tokens < budget]  # 第 {n} 步
    for request in chosen:
        self.running.append(request)
    return chosen
```

| batch | tokens/s | TTFT |
|------:|---------:|:-----|
| {n} | 4952 | 52 ms |

调度器会查看每一个等待中的请求，并询问显存块管理器是否还有空闲的块；如果没有，它就抢占最晚开始的请求。

"""
KINDS = {
    "mixed": MIXED,
    "code": "    value_{n} = compute(value, key={n}, name='x{n}')  # comment\n",
    "list": "- item number {n} with **some** words in it\n",
    "paragraph": "word{n} and another word that follows it, ",
    "chinese": "第{n}句：调度器会查看每一个等待中的请求，并询问显存块管理器是否还有空闲的块。",
}


def reply(kind: str, tokens: int) -> list[str]:
    """`tokens` pieces of four characters (two of Chinese)."""
    size = 2 if kind == "chinese" else 4
    head = "```python\n" if kind == "code" else ""
    parts, length, number = [head], len(head), 0
    while length < tokens * size:
        parts.append(KINDS[kind].replace("{n}", str(number)))
        length += len(parts[-1])
        number += 1
    text = "".join(parts)
    return [text[start : start + size] for start in range(0, tokens * size, size)]


# The three processes


async def serve(kind: str, tokens: int, rate: float) -> None:
    from tests.fakes.openai_server import DONE, Action, FakeOpenAI, finish, pieces, usage

    class Timed(FakeOpenAI):
        async def _step(self, step: object, writer: asyncio.StreamWriter, request: object) -> bool:
            played = await super()._step(step, writer, request)  # type: ignore[arg-type]
            if isinstance(step, Action) and step.name == "done":
                print(f"done {time.monotonic()}", flush=True)
            return played

        async def _paced(self, *arguments: Any) -> bool:
            print("asked", flush=True)
            return await super()._paced(*arguments)

    async with Timed([pieces(reply(kind, tokens), rate), finish(), usage(20, tokens), DONE]) as server:
        print(server.port, flush=True)
        await asyncio.Event().wait()


def show(port: int) -> None:
    from typing import cast

    from qwen_tui.paths import Paths
    from qwen_tui.server.service import Servers
    from qwen_tui.server.spec import ServerSpec
    from qwen_tui.server.status import ServerState, ServerStatus
    from qwen_tui.settings import Settings
    from qwen_tui.ui.app import QwenApp
    from qwen_tui.ui.services import Services

    status = ServerStatus(ServerSpec("fake", "fake", port=port), ServerState.READY, Path("/dev/null"))

    class OneServer(Servers):
        async def refresh(self) -> Any:
            return [status]

        async def close(self) -> None:
            pass

    paths = Paths.from_environment()
    QwenApp(Services(paths, Settings(language="en"), cast(Servers, OneServer(paths))), "chat").run()


# Measuring


def cpu(pid: int) -> float:
    """Seconds of processor that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident(pid: int) -> float:
    """Megabytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


@dataclass
class Screen:
    """The app in a pseudo-terminal."""

    pid: int
    master: int
    seen: int = 0
    recent: bytes = b""
    latencies: list[float] = field(default_factory=list)

    def read(self, seconds: float, until: str = "") -> bool:
        """Take what the app writes; True as soon as `until` is in it."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if select.select([self.master], [], [], left)[0]:
                data = os.read(self.master, 65536)
                self.seen += len(data)
                self.recent = (self.recent + data)[-200_000:]
                if until and until.encode() in self.recent:
                    return True
        return False

    def write(self, text: str) -> None:
        os.write(self.master, text.encode())

    def probe(self) -> None:
        """Type a character, wait for its echo, take it away."""
        self.recent = b""
        began = time.monotonic()
        self.write(PROBE)
        self.latencies.append((time.monotonic() - began) if self.read(3, PROBE) else 3.0)
        self.latencies[-1] = time.monotonic() - began
        self.write("\x7f")


def start_screen(port: int, folder: str) -> Screen:
    pid, master = pty.fork()
    if pid == 0:
        folders = {f"XDG_{kind}_HOME": folder for kind in ("CONFIG", "DATA", "STATE", "CACHE")}
        environment = {
            **os.environ,
            **folders,
            "TERM": "xterm-256color",
            "COLORTERM": "truecolor",
            "PYTHONPATH": str(ROOT),
        }
        os.execve(sys.executable, [sys.executable, __file__, "--show", str(port)], environment)
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    return Screen(pid, master)


@dataclass
class Window:
    """The figures of a part of the reply."""

    seconds: float
    cpu: float
    bytes: int
    latencies: list[float]
    resident: float

    def line(self, name: str) -> str:
        latency = f"{statistics.median(self.latencies) * 1000:6.1f} / {max(self.latencies) * 1000:6.1f}"
        return (
            f"{name:<12}{self.cpu / self.seconds:8.3f} cores{self.bytes / self.seconds / 1000:9.1f} kB/s"
            f"   keys {latency} ms (median / worst)   {self.resident:6.1f} MB"
        )


def measure(screen: Screen, seconds: float) -> Window:
    began, cpu_began, seen = time.monotonic(), cpu(screen.pid), screen.seen
    screen.latencies = []
    while time.monotonic() - began < seconds:
        screen.probe()
        screen.read(0.45)
    took = time.monotonic() - began
    latencies, used = screen.latencies, cpu(screen.pid) - cpu_began
    return Window(took, used, screen.seen - seen, latencies, resident(screen.pid))


def reference(port: int) -> float:
    """Processor seconds per second that `qwen-tui chat` needs for the first ten seconds of the stream."""
    command = [
        sys.executable,
        "-m",
        "qwen_tui",
        "chat",
        "--base-url",
        f"http://127.0.0.1:{port}/v1",
        "--model",
        "m",
        "x",
    ]
    null = subprocess.DEVNULL
    process = subprocess.Popen(command, stdin=null, stdout=null, stderr=null, cwd=ROOT)
    time.sleep(2)
    before = cpu(process.pid)
    time.sleep(10)
    used = (cpu(process.pid) - before) / 10
    process.terminate()
    process.wait()
    return used


class Server:
    """The server that streams; it prints a line when it is asked, and one with the moment when all is sent."""

    def __init__(self, kind: str, tokens: int, rate: float) -> None:
        words = [sys.executable, __file__, "--serve", kind, str(tokens), str(rate)]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)})
        assert self.process.stdout
        self._output = self.process.stdout.fileno()
        self._pending = b""
        self.port = int(self.line("", 30, lambda: time.sleep(0.05)))

    def line(self, word: str, seconds: float, meanwhile: Callable[[], object]) -> str:
        """The next line that begins with `word`; empty if none comes in time."""
        limit = time.monotonic() + seconds
        while time.monotonic() < limit:
            if select.select([self._output], [], [], 0)[0]:
                self._pending += os.read(self._output, 4096)
            while b"\n" in self._pending:
                line, self._pending = self._pending.split(b"\n", 1)
                if line.startswith(word.encode()):
                    return line.decode()
            meanwhile()
        return ""


def run(kind: str, tokens: int, rate: float, folder: str) -> Window:
    """Measure qwen-tui, and print it; the last quarter."""
    server = Server(kind, tokens, rate)
    screen = start_screen(server.port, folder)
    try:
        alone = reference(server.port)
        screen.read(5)
        idle = measure(screen, 6)
        print(idle.line("idle, typing"))
        before, seen = cpu(screen.pid), screen.seen
        screen.read(10)
        print(f"{'idle':<12}{(cpu(screen.pid) - before) / 10:8.3f} cores{(screen.seen - seen) / 10_000:9.1f} kB/s")
        screen.write("go\r")
        screen.read(1)
        length = tokens / rate - 5
        windows = [measure(screen, length / 4) for _ in range(4)]
        for number, window in enumerate(windows, 1):
            print(window.line(f"quarter {number}"))
        screen.recent = b""
        found = screen.read(30, f"{tokens:,} tokens")
        shown = time.monotonic()
        finished = float(server.line("done", 30, lambda: screen.read(0.05)).split()[1])
        print(f"the end was on the screen {(shown - finished) * 1000:.0f} ms after it was sent" if found else "BEHIND")
        first, last = windows[0], windows[-1]
        print(f"last quarter / first: cores × {last.cpu * first.seconds / (first.cpu * last.seconds):.2f}, "
              f"kB/s × {last.bytes * first.seconds / (first.bytes * last.seconds):.2f}")  # fmt: skip
        print(f"cores / the client alone ({alone:.3f}): × {last.cpu / last.seconds / alone:.1f}")
        return last
    finally:
        end(screen, server)


def end(screen: Screen, server: Server) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(screen.pid, 9)
    os.waitpid(screen.pid, 0)
    os.close(screen.master)
    server.process.kill()
    server.process.wait()


def start_elia(program: Path, port: int, folder: str) -> Screen:
    """elia in a terminal of the same size, with a configuration of its own."""
    config = Path(folder) / "elia" / "config.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(
        'default_model = "local"\n[[models]]\nid = "local"\nname = "openai/m"\ndisplay_name = "Local"\n'
        f'api_base = "http://127.0.0.1:{port}/v1"\napi_key = "x"\n'
    )
    pid, master = pty.fork()
    if pid == 0:
        folders = dict.fromkeys(("XDG_CONFIG_HOME", "XDG_DATA_HOME", "HOME"), folder)
        look = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        os.execve(program, [str(program)], {**os.environ, **folders, **look})
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    return Screen(pid, master)


def run_elia(program: Path, kind: str, tokens: int, rate: float, folder: str, ours: Window) -> None:
    """Measure elia in the same way, and print it beside ours."""
    server = Server(kind, tokens, rate)
    screen = start_elia(program, server.port, folder)
    try:
        if not screen.read(90, "Enter your "):
            print("elia did not come up: no comparison")
            return
        screen.read(3)
        screen.write("go")
        screen.read(1)
        screen.write("\n")  # ctrl+j
        if not server.line("asked", 120, lambda: screen.read(0.05)):  # it imports its client first
            print("elia asked for nothing: no comparison")
            return
        windows = [measure(screen, (tokens / rate - 3) / 4) for _ in range(4)]
        for number, window in enumerate(windows, 1):
            print(window.line(f"elia {number}"))
        if not server.line("done", 60, lambda: screen.read(0.05)):
            print("elia had not taken all of the stream 60 s after its end")
        last, time_ratio = windows[-1], ours.seconds / windows[-1].seconds
        typical = statistics.median(last.latencies) / statistics.median(ours.latencies)
        print(
            f"elia / qwen-tui, last quarter: cores × {last.cpu / ours.cpu * time_ratio:.1f}, "
            f"kB/s × {last.bytes / ours.bytes * time_ratio:.1f}, keys × {typical:.1f} (median), "
            f"× {max(last.latencies) / max(ours.latencies):.1f} (worst), MB × {last.resident / ours.resident:.1f}"
        )
    finally:
        end(screen, server)


def main() -> None:
    if sys.argv[1:2] == ["--serve"]:
        asyncio.run(serve(sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
        return
    if sys.argv[1:2] == ["--show"]:
        show(int(sys.argv[2]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=32_000)
    parser.add_argument("--rate", type=float, default=300)
    parser.add_argument("--kind", choices=KINDS, default="mixed")
    parser.add_argument("--peer", type=Path, metavar="FOLDER", help="a virtual environment with elia in it")
    options = parser.parse_args()
    print(f"{options.tokens:,} tokens at {options.rate:g}/s, {options.kind}, {COLUMNS} × {ROWS}")
    with tempfile.TemporaryDirectory() as folder:
        ours = run(options.kind, options.tokens, options.rate, folder)
    program = options.peer / "bin" / "elia" if options.peer else None
    if program is None or not program.exists():
        print(f"no comparison with elia: {f'{program} is not there' if program else 'give --peer FOLDER'}")
        return
    with tempfile.TemporaryDirectory() as folder:
        run_elia(program.absolute(), options.kind, options.tokens, options.rate, folder, ours)


if __name__ == "__main__":
    main()
