"""How fast a very large log opens, and how the view behaves while one grows: figures beside a reference.

    python tests/performance/logs.py [--megabytes 1020] [--rate 50000] [--seconds 5]

Writes a log of that size under --folder (a temporary one unless given), and measures the domain calls against
`tail -n 50`, then the view in a terminal of 110 × 40 against the same view on a file of a few lines.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
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
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

LINE = b"(EngineCore pid=13294) INFO 11-22 16:00:22 [loggers.py:335] Engine 000: Running: 3 reqs, %012d\n"
COLUMNS, ROWS = 110, 40
TICKS = os.sysconf("SC_CLK_TCK")

HOST = """
import sys, time
from pathlib import Path
from textual.app import App
from qwen_tui.ui.widgets.log_panel import LogPanel
from qwen_tui.ui.widgets.log_view import LogView

class Host(App):
    BINDINGS = [("q", "quit", "quit")]
    def compose(self):
        yield LogPanel(Path(sys.argv[1]))
    def on_mount(self):
        self.query_one(LogView).focus()

Host().run()
"""

WRITER = """
import sys, time
path, rate, line = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode() + b"\\n"
number, start = 0, time.perf_counter()
with open(path, "ab", buffering=0) as file:
    while True:
        due = int((time.perf_counter() - start) * rate)
        if due > number:
            file.write(b"".join([line % n for n in range(number, due)]))
            number = due
        time.sleep(0.005)
"""

READER = """
import resource, sys, time
from qwen_tui.logs.parse import parse
from qwen_tui.logs.reader import LogReader
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before, start = peak(), time.perf_counter()
page = [parse(line) for line in LogReader(sys.argv[1]).last_page(50)]
assert len(page) == 50 or len(page) == 10
print(time.perf_counter() - start, peak() - before)
"""


def make_log(path: Path, megabytes: int) -> int:
    """Write a log of about that size, each line different; how many lines."""
    count = megabytes * 1_000_000 // len(LINE % 0)
    with path.open("wb") as file:
        for first in range(0, count, 50_000):
            file.write(b"".join([LINE % number for number in range(first, min(first + 50_000, count))]))
    return count


@dataclass
class Terminal:
    """A program in a terminal of its own; what it writes is read and counted."""

    pid: int
    descriptor: int
    written: int = 0
    recent: bytes = field(default=b"", repr=False)

    @classmethod
    def start(cls, argv: list[str]) -> Terminal:
        pid, descriptor = pty.fork()
        if pid == 0:
            os.environ.update(TERM="xterm-256color", COLORTERM="truecolor")
            os.execv(argv[0], argv)
        fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        return cls(pid, descriptor)

    def pump(self, seconds: float) -> None:
        """Read what comes for this long."""
        end = time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0:
            self._read(left)

    def _read(self, timeout: float) -> None:
        if select.select([self.descriptor], [], [], timeout)[0]:
            data = os.read(self.descriptor, 1 << 16)
            self.written += len(data)
            self.recent = (self.recent + data)[-(1 << 17) :]

    def wait_for(self, text: bytes, seconds: float = 30) -> float:
        """Seconds until `text` is written from now on, if it is not already among what was not looked at."""
        start = time.perf_counter()
        while text not in self.recent:
            if time.perf_counter() - start > seconds:
                raise TimeoutError(f"{text!r} did not come; last: {self.recent[-500:]!r}")
            self._read(0.05)
        return time.perf_counter() - start

    def press(self, key: bytes, answer: bytes) -> float:
        """Seconds from a key to the text it makes appear."""
        self.recent = b""
        os.write(self.descriptor, key)
        return self.wait_for(answer)

    def cpu(self) -> float:
        """Seconds of processor time used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory(self) -> float:
        """Resident, MB."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1000

    def end(self) -> None:
        with contextlib.suppress(OSError):
            os.write(self.descriptor, b"q")
        deadline = time.perf_counter() + 5
        while os.waitpid(self.pid, os.WNOHANG)[0] == 0:
            with contextlib.suppress(OSError):
                self._read(0.05)
            if time.perf_counter() > deadline:
                os.kill(self.pid, signal.SIGKILL)
        os.close(self.descriptor)


@contextlib.contextmanager
def view_of(log: Path) -> Iterator[tuple[Terminal, float]]:
    """The view on `log` in a terminal, and the seconds from its start to the log's last line on the screen."""
    start = time.perf_counter()
    terminal = Terminal.start([sys.executable, "-c", HOST, str(log)])
    try:
        terminal.wait_for(b"following")
        yield terminal, time.perf_counter() - start
    finally:
        terminal.end()


def keys(terminal: Terminal, presses: int) -> list[float]:
    """Milliseconds from key to answer, pausing and following in turn, as often as asked."""
    times = []
    for number in range(presses):
        times.append(1000 * terminal.press(b"f", b"following" if number % 2 else b"paused"))
        terminal.pump(0.07)
    return times


def usage(terminal: Terminal, seconds: float) -> tuple[float, float]:
    """Processor time as a share of one core, and bytes written per second, over that long."""
    cpu, written, start = terminal.cpu(), terminal.written, time.perf_counter()
    terminal.pump(seconds)
    elapsed = time.perf_counter() - start
    return (terminal.cpu() - cpu) / elapsed, (terminal.written - written) / elapsed


def report_domain(large: Path, small: Path) -> None:
    def tail() -> float:
        start = time.perf_counter()
        subprocess.run(["tail", "-n", "50", str(large)], stdout=subprocess.DEVNULL, check=True)
        return time.perf_counter() - start

    def read(log: Path) -> tuple[float, float]:
        words = subprocess.run([sys.executable, "-c", READER, str(log)], capture_output=True, text=True, check=True)
        seconds, kilobytes = words.stdout.split()
        return float(seconds), float(kilobytes)

    reference = statistics.median(tail() for _turn in range(7))
    runs = [read(large) for _turn in range(5)]
    few = statistics.median(read(small)[0] for _turn in range(5))
    seconds = statistics.median(run[0] for run in runs)
    print(f"last page, parsed      {1000 * seconds:8.2f} ms    {seconds / reference:6.2f} × `tail -n 50`")
    print(f"                                      {seconds / few:6.2f} × the same on 10 lines")
    print(f"memory for that        {max(run[1] for run in runs) / 1000:8.2f} MB")


SEARCHER = """
import sys, time
from qwen_tui.logs.filters import Filter, Pattern, Sieve
from qwen_tui.logs.parse import Level
from qwen_tui.logs.reader import LogReader
from qwen_tui.logs.search import Finder
wanted = {
    "text": Filter(pattern=Pattern.of("no such text")),
    "expression": Filter(pattern=Pattern.of("no such .* text$")),
    "errors": Filter(level=Level.ERROR),
}[sys.argv[2]]
start, longest, last = time.perf_counter(), 0.0, time.perf_counter()
finder = Finder(Sieve(wanted))
def look():
    global longest, last
    now = time.perf_counter()
    longest, last = max(longest, now - last), now
finder.on_look = look
with LogReader(sys.argv[1]).snapshot() as snapshot:
    assert list(finder.before(snapshot, snapshot.size)) == []
    whole = time.perf_counter() - start
    start = time.perf_counter()
    assert list(finder.before(snapshot, snapshot.size)) == []
print(whole, longest, time.perf_counter() - start)
"""


def report_search(large: Path) -> None:
    """Looking through all of it for what is not there, backwards, against `grep`."""
    start = time.perf_counter()
    subprocess.run(["grep", "-ci", "no such text", str(large)], stdout=subprocess.DEVNULL, check=False)
    reference = time.perf_counter() - start
    for what in ("text", "expression", "errors"):
        words = subprocess.run(
            [sys.executable, "-c", SEARCHER, str(large), what], capture_output=True, text=True, check=True
        )
        whole, longest, again = map(float, words.stdout.split())
        print(
            f"all of it for {what:<10} {whole:7.2f} s    {whole / reference:6.2f} × `grep -i`; "
            f"lets keys in every {1000 * longest:.1f} ms; again {1000 * again:.2f} ms"
        )


#: What is looked for in the view, by the key that asks: nothing in the log matches.
LOOKS = {
    "text": (b"/no such text", b"No line matches"),
    "expression": (b"/no such .* text$", b"No line matches"),
    "filter": (b"&no such .* text$", b"No line passes"),
}


@contextlib.contextmanager
def asked(log: Path, typed: bytes) -> Iterator[Terminal]:
    """The view on `log` with `typed` in its field, so that enter begins to look."""
    with view_of(log) as (terminal, _seconds):
        terminal.pump(1)
        for byte in typed:
            os.write(terminal.descriptor, bytes([byte]))
            terminal.pump(0.05)
        yield terminal


def fields(terminal: Terminal, end: bytes) -> list[float]:
    """Milliseconds from a key to the field that it opens, up to eight times, until `end` shows."""
    times: list[float] = []
    while len(times) < 8 and end not in terminal.recent:
        times.append(1000 * terminal.press(b":", b"o to line"))  # the cursor stands on the first letter
        os.write(terminal.descriptor, b"\r")
        terminal.pump(0.1)
    return times


def report_look(large: Path, small: Path, what: str) -> None:
    """A search or filter over all of the log in the view, and keys that are pressed meanwhile."""
    typed, answer = LOOKS[what]
    with asked(small, typed) as terminal:
        reference = terminal.press(b"\r", answer)
        terminal.pump(0.3)
        resting = fields(terminal, b"never")
    with asked(large, typed) as terminal:
        whole = terminal.press(b"\r", answer)
    with asked(large, typed) as terminal:
        os.write(terminal.descriptor, b"\r")
        terminal.pump(0.2)
        pressed = fields(terminal, answer)
        last = 1000 * terminal.press(b"g", b"  0 %") if what != "filter" else 0.0
    print(
        f"{what:<11}in the view {1000 * whole:8.0f} ms    {whole / reference:6.2f} × the same on 10 lines; "
        f"{len(pressed)} keys meanwhile: {statistics.median(pressed):.1f} ms, longest {max(pressed):.1f} ms "
        f"(at rest {statistics.median(resting):.1f}, {max(resting):.1f}); "
        f"one that ends it {last:.1f} ms"
    )


def report_view(large: Path, small: Path, rate: int, seconds: float) -> None:
    with view_of(small) as (terminal, few):
        terminal.pump(1)
        idle_memory = terminal.memory()
        resting = keys(terminal, 20)
    with view_of(large) as (terminal, many):
        terminal.pump(1)
        print(f"first page in the view {1000 * many:8.0f} ms    {many / few:6.2f} × the same on 10 lines")
        print(f"  more than those      {1000 * (many - few):8.0f} ms")
        print(f"memory of the process  {terminal.memory():8.1f} MB    {terminal.memory() / idle_memory:6.2f} ×")
        idle_cpu, idle_bytes = usage(terminal, seconds)
        print(f"while errors are counted{100 * idle_cpu:7.2f} % of a core, {idle_bytes:.0f} bytes/s to the terminal")
        jump = [1000 * terminal.press(key, answer) for key, answer in ((b"g", b"  0 %"), (b"G", b"following")) * 5]
        print(f"start and end, g and G {statistics.median(jump):8.1f} ms    longest {max(jump):.1f} ms")
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(large), str(rate), LINE.decode().rstrip("\n")]
        )  # fmt: skip
        try:
            terminal.pump(1)
            before, started = large.stat().st_size, time.perf_counter()
            cpu, written = usage(terminal, seconds)
            lines = (large.stat().st_size - before) / len(LINE % 0) / (time.perf_counter() - started)
            following = keys(terminal, 40)
            memory = terminal.memory()
        finally:
            writer.kill()
            writer.wait()
    share = written / (lines * len(LINE % 0))
    print(f"following {lines:8,.0f} lines/s: {100 * cpu:6.1f} % of a core, {memory:.1f} MB resident")
    print(f"  to the terminal      {written / 1000:8.1f} kB/s  {share:6.4f} × what is logged")
    median, rest = statistics.median(following), statistics.median(resting)
    print(f"a key while following  {median:8.1f} ms    {median / rest:6.2f} × at rest; longest {max(following):.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--megabytes", type=int, default=1020)
    parser.add_argument("--rate", type=int, default=50_000, help="lines per second written while following")
    parser.add_argument("--seconds", type=float, default=5, help="for each measurement of processor time")
    parser.add_argument("--folder", type=Path, help="where the log is written")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        large, small = Path(folder) / "large.log", Path(folder) / "small.log"
        small.write_bytes(b"".join(LINE % number for number in range(10)))
        count = make_log(large, arguments.megabytes)
        print(f"a log of {large.stat().st_size / 1e9:.2f} GB, {count:,} lines")
        report_domain(large, small)
        report_search(large)
        for what in LOOKS:
            report_look(large, small, what)
        report_view(large, small, arguments.rate, arguments.seconds)


if __name__ == "__main__":
    main()
