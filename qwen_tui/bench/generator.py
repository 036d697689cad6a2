"""Put a load on a server from processes of their own, and hand over what they saw a few times a second."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import struct
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qwen_tui.bench.load import Load
from qwen_tui.bench.target import BenchError, Target
from qwen_tui.errors import WorkerError
from qwen_tui.i18n import _
from qwen_tui.paths import Paths, private_folder
from qwen_tui.workers.bench_record import Record, unpack_all
from qwen_tui.workers.bench_work import KEY_VARIABLE
from qwen_tui.workers.host import FOLDER, child

#: Seconds between "go" and the run's zero: every process has the word by then.
_HEAD_START = 0.15
#: Connections that an open loop without a cap begins with; more are opened as they are needed.
_OPEN_LOOP_CONNECTIONS = 64
_CONNECTIONS_MOST = 4096


@dataclass(frozen=True)
class ProcessHealth:
    """How one generator process fared, in seconds.

    cpu of wall: its use of a core. waited: it was ready to run and got no core; -1 where the kernel does not tell.
    lag_p99, lag_max: how late its loop came round. resent: requests that an old connection took along. died: it ended
    before its time, and what it had not yet written is lost.
    """

    cpu: float = 0.0
    wall: float = 0.0
    waited: float = -1.0
    lag_p99: float = 0.0
    lag_max: float = 0.0
    resent: int = 0
    died: bool = False


@dataclass(frozen=True)
class Tick:
    """News of a run under way, at most five times a second.

    phase: "opening", "warmup" or "running". at: seconds since the run's zero. running: requests under way.
    chunks: arrived so far, those of unfinished requests included. records: requests that ended since the last tick.
    begun: of answers under way, some hundreds at most: seconds to the first chunk, and for each after it on average, 0
    where there is no other yet.
    """

    phase: str
    at: float = 0.0
    running: int = 0
    chunks: int = 0
    cpu: float = 0.0
    records: Sequence[Record] = ()
    begun: Sequence[tuple[float, float]] = ()


@dataclass
class Generated:
    """A whole run as the processes saw it. began: Unix time of the run's zero. seconds: until the last was drained.

    zero: `began` on the monotonic clock.
    """

    records: list[Record] = field(default_factory=list)
    health: list[ProcessHealth] = field(default_factory=list)
    began: float = 0.0
    seconds: float = 0.0
    stopped: bool = False
    zero: float = 0.0


@dataclass
class _Process:
    """One generator process, as the parent knows it."""

    process: asyncio.subprocess.Process
    results: Path
    log: Path
    is_drained: bool = False
    is_gone: bool = False
    is_ready: bool = False
    opened: int = 0
    problem: str = ""
    running: int = 0
    chunks: int = 0
    cpu: float = 0.0
    begun: list[tuple[float, float]] = field(default_factory=list)
    health: ProcessHealth = field(default_factory=ProcessHealth)
    read: int = 0

    def tell(self, command: str) -> None:
        if self.process.stdin is not None and not self.is_gone:
            with contextlib.suppress(OSError, RuntimeError):
                self.process.stdin.write(f"{command}\n".encode())

    def heard(self, message: dict[str, Any]) -> None:
        kind = message.get("kind")
        if kind == "ready":
            self.is_ready, self.opened, self.problem = True, message["open"], message["problem"]
        elif kind == "batch":
            self.running, self.chunks, self.cpu = message["running"], message["chunks"], message["cpu"]
            self.begun = [(first, after) for first, after in message.get("begun", ())]
        elif kind == "drained":
            names = ("cpu", "wall", "waited", "lag_p99", "lag_max", "resent")
            self.health = ProcessHealth(**{name: message[name] for name in names})
            self.is_drained, self.running, self.begun = True, 0, []
        elif kind == "error":
            self.problem = f"{message.get('title', '')}: {message.get('why', '')}"

    def new_records(self, zero: float) -> list[Record]:
        """What it has written since the last call; file work, for a thread."""
        try:
            with self.results.open("rb") as file:
                file.seek(self.read)
                records, size = unpack_all(file.read(), zero)
        except FileNotFoundError:
            return []
        self.read += size
        return records


class Generator:
    """Runs one load. `stop()` ends it early: what is under way is kept as cancelled, and `run` returns in order.

    processes: how many to spread the load over. silence: seconds without a byte after which a request has failed.
    keep_text: keep the answers' texts, where the server tells no usage and their tokens are to be counted.
    """

    def __init__(
        self,
        paths: Paths,
        target: Target,
        load: Load,
        *,
        processes: int = 1,
        silence: float = 600.0,
        keep_text: bool = False,
        python: Path | None = None,
    ) -> None:
        self._folder = paths.cache / "bench"
        self._log = paths.state / "bench.log"
        self._target = target
        self._load = load
        self._count = max(1, min(processes, load.slots or processes))
        self._silence = silence
        self._keep_text = keep_text
        self._python = python or Path(sys.executable)
        self._stopped = False
        self._changed = asyncio.Event()
        self._processes: list[_Process] = []
        self._zero = 0.0

    def stop(self) -> None:
        """End the run in order. May be called at any time, and again."""
        self._stopped = True
        for process in self._processes:
            process.tell("stop")
        self._changed.set()

    async def run(
        self, bodies: Sequence[bytes], arrivals: array[float] | None, on_tick: Callable[[Tick], None] | None = None
    ) -> Generated:
        """Send the requests and wait for their answers.

        bodies: the warm-up's first, then the run's; a run by time begins again with the first when they are used up.
        arrivals: when each is due in an open loop. Raises BenchError when no process can open a connection.
        """
        on_tick = on_tick or (lambda tick: None)
        private_folder(self._folder)
        async with AsyncExitStack() as stack:
            name = stack.enter_context(tempfile.TemporaryDirectory(dir=self._folder))
            folder = Path(name)
            await asyncio.to_thread(_write_work, folder, bodies, arrivals)
            on_tick(Tick("opening"))
            readers = [
                asyncio.ensure_future(self._listen(process, lines))
                async for process, lines in self._start(stack, folder, arrivals is not None)
            ]
            try:
                if arrivals is not None:
                    last = self._load.warmup + (self._load.count or len(arrivals))
                else:
                    last = len(bodies) if self._load.count else 10**15
                return await self._phases(folder, last, on_tick)
            finally:
                for process in self._processes:
                    process.tell("end")
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(asyncio.gather(*readers, return_exceptions=True), 5.0)
                for reader in readers:
                    reader.cancel()

    async def _start(
        self, stack: AsyncExitStack, folder: Path, is_open_loop: bool
    ) -> AsyncIterator[tuple[_Process, AsyncIterator[bytes]]]:
        for number in range(self._count):
            slots = _share(self._load.slots, self._count, number) if self._load.slots else 10**9
            wanted = min(slots, _share(self._connections(), self._count, number))
            results = folder / f"results-{number}"
            request = {
                "host": self._target.host,
                "port": self._target.port,
                "tls": self._target.is_tls,
                "path": self._target.path,
                "bodies": str(folder / "bodies"),
                "offsets": str(folder / "offsets"),
                "counter": str(folder / "counter"),
                "arrivals": str(folder / "arrivals") if is_open_loop else None,
                "slots": slots,
                "connections": wanted,
                "results": str(results),
                "silence": self._silence,
                "keep_text": self._keep_text,
            }
            argv = [str(self._python), str(FOLDER / "bench_load.py"), json.dumps(request)]
            key = {KEY_VARIABLE: self._target.api_key} if self._target.api_key else {}
            started, lines = await stack.enter_async_context(child(argv, self._log, key, stdin=subprocess.PIPE))
            process = _Process(started, results, self._log)
            self._processes.append(process)
            yield process, lines

    def _connections(self) -> int:
        """How many to open before the clock starts, over all processes."""
        load = self._load
        if load.is_open_loop and not load.most_at_once:
            return min(load.count, _CONNECTIONS_MOST) if math.isinf(load.rate) else _OPEN_LOOP_CONNECTIONS
        return load.slots if load.streams else min(load.slots, _CONNECTIONS_MOST)

    async def _listen(self, process: _Process, lines: AsyncIterator[bytes]) -> None:
        """Hear what a process says until it ends."""
        try:
            async for line in lines:
                with contextlib.suppress(ValueError, KeyError):
                    process.heard(json.loads(line))
                self._changed.set()
        finally:
            process.is_gone = True
            self._changed.set()

    # -- the phases of a run --------------------------------------------------------------------------

    async def _phases(self, folder: Path, last: int, on_tick: Callable[[Tick], None]) -> Generated:
        await self._until(lambda: all(p.is_ready or p.is_gone for p in self._processes))
        if not any(process.opened for process in self._processes) and not self._stopped:
            problem = next((process.problem for process in self._processes if process.problem), "")
            raise BenchError(
                _("No connection to {host}:{port}").format(host=self._target.host, port=self._target.port), problem
            )
        warmup = self._load.warmup
        if warmup and not self._stopped:
            await self._phase("warmup", folder, (0, warmup), 0.0, on_tick)
        generated = Generated(began=time.time() + _HEAD_START)
        if not self._stopped:
            generated.records = await self._phase("running", folder, (warmup, last), self._load.seconds, on_tick)
            generated.seconds, generated.zero = time.monotonic() - self._zero, self._zero
        generated.stopped = self._stopped
        generated.health = [
            process.health if process.is_drained else ProcessHealth(died=True) for process in self._processes
        ]
        return generated

    async def _phase(
        self, name: str, folder: Path, span: tuple[int, int], seconds: float, on_tick: Callable[[Tick], None]
    ) -> list[Record]:
        """One "go": every process works until nothing is left."""
        (folder / "counter").write_bytes(struct.pack("q", span[0]))
        self._zero = time.monotonic() + _HEAD_START
        until = self._zero + seconds if seconds else 0.0
        for process in self._processes:
            process.is_drained, process.chunks = False, 0
            process.tell(f"go {self._zero!r} {span[0]} {span[1]} {until!r} {int(name == 'running')}")
        if self._stopped:
            self.stop()
        records: list[Record] = []
        is_over = False
        while not is_over:
            is_over = await self._until(lambda: all(p.is_drained or p.is_gone for p in self._processes), 0.2)
            new = await asyncio.to_thread(self._new_records) if name == "running" else []
            records += new
            on_tick(
                Tick(
                    name,
                    max(0.0, time.monotonic() - self._zero),
                    sum(process.running for process in self._processes),
                    sum(process.chunks for process in self._processes),
                    sum(process.cpu for process in self._processes),
                    new,
                    [pair for process in self._processes for pair in process.begun],
                )
            )
        return records

    def _new_records(self) -> list[Record]:
        return [record for process in self._processes for record in process.new_records(self._zero)]

    async def _until(self, condition: Callable[[], bool], seconds: float | None = None) -> bool:
        """Wait until `condition()`, at most `seconds`; whether it holds. Raises WorkerError if none is left."""
        end = None if seconds is None else time.monotonic() + seconds
        while not condition():
            self._changed.clear()
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                return False
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._changed.wait(), left)
        if self._processes and all(p.is_gone and not p.is_ready for p in self._processes):
            raise WorkerError(
                _("The load generator ended before it began"),
                next((process.problem for process in self._processes if process.problem), ""),
                _("Its whole output is in {log}").format(log=self._log),
            )
        return True


def _share(total: int, count: int, number: int) -> int:
    """What falls to process `number` of `count`."""
    return total // count + (number < total % count)


def _write_work(folder: Path, bodies: Sequence[bytes], arrivals: array[float] | None) -> None:
    offsets = array("Q", [0])
    with (folder / "bodies").open("wb") as file:
        for body in bodies:
            file.write(body)
            offsets.append(offsets[-1] + len(body))
    (folder / "offsets").write_bytes(offsets.tobytes())
    (folder / "counter").write_bytes(struct.pack("q", 0))
    if arrivals is not None:
        (folder / "arrivals").write_bytes(arrivals.tobytes())
    for file_name in os.listdir(folder):  # noqa: PTH208 - names only
        (folder / file_name).chmod(0o600)
