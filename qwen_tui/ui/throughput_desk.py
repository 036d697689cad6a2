"""The offline speed test of this run of the program: what is measured now or was last, whichever room is shown."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

from qwen_tui.bench.throughput import Outcome, Work
from qwen_tui.bench.throughput_backends import ServerBackend, Step
from qwen_tui.bench.throughput_run import Comparison, Watcher
from qwen_tui.engine.find import Engine
from qwen_tui.errors import QwenTuiError
from qwen_tui.listened import Listened
from qwen_tui.paths import Paths
from qwen_tui.server.offline_failure import explain


@dataclass
class ThroughputJob:
    """One test and what has come of it. step: where it is. problem: why it ended as a whole. stopped: x was pressed."""

    work: Work
    command: str
    step: Step | None = None
    outcomes: list[Outcome] = field(default_factory=list)
    problem: Exception | None = None
    stopped: bool = False
    is_over: bool = False


class ThroughputDesk(Listened):
    """Does one test at a time. values: what was last filled into the form. listener: called at every change."""

    def __init__(self, paths: Paths) -> None:
        super().__init__()
        self._paths = paths
        self._task: asyncio.Task[None] | None = None
        self.job: ThroughputJob | None = None
        self.values: dict[str, str] = {}

    @property
    def is_busy(self) -> bool:
        return self._task is not None and not self._task.done()

    def start(self, work: Work, engine: Engine, server: ServerBackend | None = None, base_url: str = "") -> None:
        """Begin; nothing else may be under way. Raises UsageError for work that makes no sense."""
        work.check()
        command = work.command(base_url)
        comparison = Comparison(
            self._paths,
            work,
            engine.python,
            explain=explain,
            server=server,
            engine_version=engine.version,
            argv=[command],
        )
        self.job = ThroughputJob(work, command)
        self._task = asyncio.ensure_future(self._run(comparison, self.job))
        self._changed()

    def stop(self) -> None:
        """End it and every process of it; what was through by then stays."""
        if self.is_busy and self._task is not None and self.job is not None:
            self.job.stopped = True
            self._task.cancel()

    async def close(self) -> None:
        """End what is under way, and wait until its processes are gone."""
        self.stop()
        if self._task is not None:
            await asyncio.wait({self._task})

    async def _run(self, comparison: Comparison, job: ThroughputJob) -> None:
        def step(step: Step) -> None:
            job.step = step
            self._changed()

        def through(outcome: Outcome) -> None:
            job.outcomes.append(outcome)
            job.step = None
            self._changed()

        try:
            await comparison.run(Watcher(step, through))
        except asyncio.CancelledError:
            job.stopped = True
        except (QwenTuiError, OSError) as error:
            job.problem = error
        finally:
            job.is_over = True
            job.step = None
            self._changed()

    def _changed(self) -> None:
        for listener in list(self._listeners):
            with contextlib.suppress(Exception):  # a screen that is being closed must not end the test
                listener()
