"""The benchmark of this run of the program: what is measured now or was last, whichever room is shown."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from qwen_tui.bench.capacity import Capacity, Search
from qwen_tui.bench.generator import Tick
from qwen_tui.bench.ledger import Ledger, Run
from qwen_tui.bench.live import Live
from qwen_tui.bench.load import Load
from qwen_tui.bench.run import Bench, Plan
from qwen_tui.bench.series import Series
from qwen_tui.bench.sweep import By, Sweep, load_at, sweep
from qwen_tui.errors import QwenTuiError
from qwen_tui.listened import Listened
from qwen_tui.paths import Paths
from qwen_tui.progress import RateMeter

if TYPE_CHECKING:
    from qwen_tui.hardware.machine import Machine

Kind = Literal["run", "sweep", "capacity"]
#: Seconds that a run gets to end in order when the program is left.
_PATIENCE = 10.0
#: Phases of a run in which nothing has been measured.
_BEFORE = ("", "preparing", "probing")


@dataclass(frozen=True)
class Order:
    """What is to be measured. command: the same on a command line.

    by, levels: of a sweep. share (0..1), most, repeats: of a search for the capacity. count: requests at each load of
    either; 0 for as many as it takes.
    """

    kind: Kind
    plan: Plan
    command: str = ""
    by: By = "users"
    levels: Sequence[float] = ()
    share: float = 0.9
    most: float = 1024
    repeats: int = 3
    count: int = 0
    budget: float = 120.0


@dataclass
class Job:
    """One order and what has come of it. live: of the run under way, or the last one. level: its load, in a ladder.

    runs: those that have ended. result: once all is done. problem: why it ended without one. stopping: x was pressed.
    """

    order: Order
    live: Live = field(default_factory=Live)
    load: Load | None = None
    level: float | None = None
    runs: list[Run] = field(default_factory=list)
    result: Run | Sweep | Capacity | None = None
    problem: Exception | None = None
    stopping: bool = False
    is_over: bool = False
    began: float = field(default_factory=time.monotonic)
    search: Search | None = None

    @property
    def fraction(self) -> float:
        """How much of the run under way is done, 0..1."""
        load, live = self.load, self.live
        if self.is_over or live.phase == "finishing":
            return 1.0
        if load is None or live.phase != "running":
            return 0.0
        done = (live.completed + live.failed) / load.count if load.count else live.at / load.seconds
        return min(1.0, done)

    @property
    def eta(self) -> float | None:
        """Seconds until the run under way has ended, or the whole search; None where that can't be told."""
        load, live = self.load, self.live
        if self.search is not None and not self.is_over:
            return self.search.eta
        if self.is_over or load is None or live.phase != "running":
            return None
        if not load.count:
            return max(0.0, load.seconds - live.at)
        done = live.completed + live.failed
        return RateMeter.eta(done, load.count, done / live.at if live.at > 0.5 else None)


class BenchDesk(Listened):
    """Does one order after the other. `subscribe` to hear of every tick; what hears must be quick."""

    def __init__(self, paths: Paths, machine: Callable[[], Machine]) -> None:
        super().__init__()
        """machine: the one whose GPUs are looked at while a server on it is measured."""
        self._paths = paths
        self._machine = machine
        self._bench: Bench | None = None
        self._task: asyncio.Task[None] | None = None
        self.ledger = Ledger(paths)
        self.job: Job | None = None

    @property
    def is_busy(self) -> bool:
        return self._task is not None and not self._task.done()

    @property
    def series(self) -> Series:
        """What the server and the GPUs did so far, on the monotonic clock; of the run under way or the last one."""
        return self._bench.series if self._bench is not None else Series()

    def start(self, order: Order, observe: Any) -> None:
        """Begin. observe: reads the server's own figures. Does nothing while a run is under way."""
        if self.is_busy:
            return
        self.job = Job(order)
        on_loopback = order.plan.target.host in ("127.0.0.1", "localhost", "::1")
        machine = self._machine() if on_loopback else None
        self._bench = Bench(self._paths, observe, machine)
        self._task = asyncio.ensure_future(self._do(self.job, self._bench, machine))

    def stop(self) -> None:
        """End what is under way in order; what was measured is kept and marked as partial."""
        job = self.job
        if not self.is_busy or job is None or self._task is None or self._bench is None:
            return
        if job.live.phase in _BEFORE and not job.runs and not (job.search is not None and job.search.trials):
            self._task.cancel()  # there is nothing that could be kept
        job.stopping = True
        if job.search is not None:
            job.search.stop()
        else:
            self._bench.stop()
        self._changed()

    async def close(self) -> None:
        """Stop, and wait until it has ended."""
        self._listeners.clear()
        if self._task is not None and self.is_busy:
            self.stop()
            await asyncio.wait([self._task], timeout=_PATIENCE)
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    # Doing

    async def _do(self, job: Job, bench: Bench, machine: Machine | None) -> None:
        try:
            if machine is not None and (gpus := (await machine.read()).gpus):
                about = {**job.order.plan.about, "gpus": [gpu.name for gpu in gpus], "driver": machine.driver}
                job.order = replace(job.order, plan=replace(job.order.plan, about=about))
            job.result = await self._work(job, bench)
        except asyncio.CancelledError:
            job.stopping = True
        except QwenTuiError as error:
            job.problem = None if job.stopping else error
            if job.stopping and job.order.kind == "sweep" and job.runs:
                job.result = Sweep(job.order.by, sorted(set(job.order.levels)), job.runs)
        except Exception as error:  # noqa: BLE001 - the room shows it; the app goes on
            job.problem = error
        job.is_over = True
        self._changed()

    def _work(self, job: Job, bench: Bench) -> Coroutine[Any, Any, Run | Sweep | Capacity]:
        order = job.order
        if order.kind == "run":
            job.load = order.plan.load
            return self._one(job, bench)
        if order.kind == "sweep":
            return self._sweep(job, bench)
        job.search = Search(
            bench, order.plan, order.share, by=order.by, most=order.most, repeats=order.repeats, count=order.count,
            budget=order.budget, on_tick=lambda level, tick: self._level_tick(job, level, tick),
        )  # fmt: skip
        return job.search.run()

    async def _one(self, job: Job, bench: Bench) -> Run:
        run = await bench.run(job.order.plan, lambda tick: self._tick(job, tick))
        job.runs.append(run)
        return run

    async def _sweep(self, job: Job, bench: Bench) -> Sweep:
        order = job.order
        return await sweep(
            bench, order.plan, order.levels, order.by, lambda level, tick: self._level_tick(job, level, tick),
            order.count, job.runs.append,
        )  # fmt: skip

    def _level_tick(self, job: Job, level: float, tick: Tick) -> None:
        begins = tick.phase == "preparing" and job.live.phase not in ("preparing", "probing")
        if level != job.level or begins:
            order = job.order
            job.level, job.live = level, Live()
            search_load = job.search.load if job.search is not None else None  # a short run's is another
            job.load = search_load or load_at(order.plan.load, level, order.by, order.count)
        self._tick(job, tick)

    def _tick(self, job: Job, tick: Tick) -> None:
        job.live.take(tick)
        self._changed()
