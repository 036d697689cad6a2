"""An offline speed test from beginning to end: prompts, one backend after the other, the ledger."""

from __future__ import annotations

import asyncio
import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from qwen_tui import __version__
from qwen_tui.bench.health import ClientHealth
from qwen_tui.bench.ledger import Ledger, Run, new_id
from qwen_tui.bench.load import Load
from qwen_tui.bench.statistics import Figures, Limits
from qwen_tui.bench.target import BenchError
from qwen_tui.bench.throughput import BackendName, Failure, Outcome, Round, Work
from qwen_tui.bench.throughput_backends import Job, ServerBackend, Step, WorkerEnded, backend_of, messages
from qwen_tui.bench.workload import Workload
from qwen_tui.errors import QwenTuiError, WorkerError
from qwen_tui.hardware.machine import Machine
from qwen_tui.i18n import N_, _
from qwen_tui.paths import Paths, private_folder

#: Phase of a step → what is being done then.
PHASE_WORDS: Mapping[str, str] = {
    "import": N_("importing"),
    "download": N_("downloading the model"),
    "prompts": N_("making prompts"),
    "load": N_("loading the model"),
    "warmup": N_("warming up"),
    "round": N_("generating"),
    "end": N_("letting the memory go"),
}
#: Logs that are kept.
_LOGS = 40

#: Explains a failure from a backend's log and its exit status: the sentence and what to do, None if it can't.
Explain = Callable[[Path, int | None], tuple[str, str] | None]


@dataclass(frozen=True)
class Watcher:
    """Who wants to hear. on_step: where it is, several times a second. on_outcome: a backend is through."""

    on_step: Callable[[Step], None] = lambda step: None
    on_outcome: Callable[[Outcome], None] = lambda outcome: None


@dataclass
class _Kept:
    """What of a backend is there already, should it fail or be stopped."""

    rounds: list[Round] = field(default_factory=list)


class Comparison:
    """Runs `work` through its backends, one after the other; each process is gone before the next begins.

    python: the engine's interpreter. explain: see `Explain`. server: for the backend of that name. argv: the command
    that asked for it, for the ledger. keep: put it there.
    """

    def __init__(
        self,
        paths: Paths,
        work: Work,
        python: Path,
        *,
        explain: Explain | None = None,
        server: ServerBackend | None = None,
        engine_version: str = "",
        argv: Sequence[str] = (),
        keep: bool = True,
    ) -> None:
        self._paths = paths
        self._work = work
        self._python = python
        self._explain = explain or (lambda log, code: None)
        self._server = server
        self._engine_version = engine_version
        self._argv = list(argv)
        self._keep = keep
        self._about: Mapping[str, Any] = {}
        self.ledger = Ledger(paths)
        self.id = new_id()

    async def run(self, watcher: Watcher | None = None) -> list[Outcome]:
        """What each backend did, in their order; a failed one has its `failure` set, and the others go on.

        Cancelling it ends every process; the backends that were through by then are in the ledger.
        Raises UsageError, BenchError where the prompts can't be made: then nothing was measured.
        """
        watcher = watcher or Watcher()
        self._work.check()
        backends = [backend_of(name, self._server) for name in self._work.backends]
        machine = await _machine()
        folder = private_folder(self._paths.cache / "throughput")
        with tempfile.TemporaryDirectory(dir=folder) as name:
            job = await self._prepare(Path(name) / "prompts.json", watcher)
            outcomes = []
            for backend in backends:
                kept = _Kept()
                one = replace(job, log=self._log(backend.name))
                created = time.time()
                try:
                    made = await backend.run(one, watcher.on_step, kept.rounds.append)
                    about = {**made.about, "prompts_repeat": job.repeats}
                    outcome = Outcome(backend.name, made.rounds, made.load_seconds, about)
                except QwenTuiError as error:
                    failure = await asyncio.to_thread(self._failure, error, one.log)
                    outcome = Outcome(backend.name, tuple(kept.rounds), failure=failure)
                if outcome.rounds and self._keep:
                    outcome = await asyncio.to_thread(self._save, outcome, {**self._about, **machine}, created)
                outcomes.append(outcome)
                watcher.on_outcome(outcome)
        return outcomes

    async def _prepare(self, out: Path, watcher: Watcher) -> Job:
        """Make the prompts. Raises BenchError."""
        work, log = self._work, self._log("prompts")
        request = _prompts_request(work, out)
        found: dict[str, Any] | None = None
        try:
            async with aclosing(messages(self._python, "throughput_prompts.py", request, log)) as said:
                async for message in said:
                    if message.get("kind") == "phase":
                        watcher.on_step(Step(work.backends[0], str(message["phase"]), time.monotonic()))
                    elif message.get("kind") == "result":
                        found = message
        except WorkerError as error:
            if error.title == "DataSetError":
                hint = _("It is ShareGPT's JSON, or has a prompt, or messages, as JSON in each line")
                raise BenchError(_("{file} is no data set").format(file=work.dataset), error.why, hint) from None
            failure = await asyncio.to_thread(self._failure, error, log)
            raise BenchError(_("The prompts could not be made"), _joined(failure), failure.hint) from None
        if found is None:
            raise BenchError(_("The prompts could not be made"), "", _("The whole output is in {log}").format(log=log))
        self._about = found["about"]
        return Job(
            work=work,
            model=found["model"],
            python=self._python,
            prompts=out,
            wanted=found["output_lens"],
            log=log,
            paths=self._paths,
            packages=found["packages"],
            repeats=bool(found["repeats"]),
        )

    def _log(self, name: str) -> Path:
        """A new log; the oldest ones go."""
        folder = private_folder(self._paths.state / "throughput")
        for old in sorted(folder.glob("*.log"))[: -_LOGS + 1]:
            old.unlink(missing_ok=True)
        return folder / f"{self.id}-{name}.log"

    def _failure(self, error: QwenTuiError, log: Path) -> Failure:
        """The error, told by whoever knows the log's language where that says more."""
        if not isinstance(error, WorkerError):
            return Failure(error.title, error.why, error.hint, log if log.exists() else None)
        known = self._explain(log, error.code if isinstance(error, WorkerEnded) else None)
        if known is not None:
            cause, remedy = known
            return Failure(cause, "", remedy, log)
        return Failure(error.title, error.why, error.hint, log)

    def _save(self, outcome: Outcome, about: Mapping[str, Any], created: float) -> Outcome:
        """Put it into the ledger; the outcome that knows its id there. Raises BenchError."""
        run = self._run(outcome, about, created)
        self.ledger.save(run, [])
        return replace(outcome, run=run.id, about={**about, **outcome.about})

    def _run(self, outcome: Outcome, about: Mapping[str, Any], created: float) -> Run:
        work, rounds = self._work, outcome.rounds
        prompts = sum(one.prompts for one in rounds)
        figures = Figures(
            duration=sum(one.elapsed for one in rounds),
            completed=prompts,
            total_input_tokens=sum(one.prompt_tokens for one in rounds),
            total_output_tokens=sum(one.output_tokens for one in rounds),
            request_throughput=outcome.requests.mean,
            output_throughput=outcome.output.mean,
            total_token_throughput=outcome.tokens.mean,
            max_concurrent_requests=work.num_prompts,
        )
        return Run(
            id=new_id(created),
            created=created,
            base_url=str(outcome.about.get("base_url", "")),
            model=work.model,
            api="completions",
            workload=_workload(work),
            load=Load(rate=math.inf, count=prompts, warmup=work.warmup_prompts),
            limits=Limits(),
            seed=work.seed,
            figures=figures,
            health=ClientHealth(()),
            partial=outcome.failure is not None,
            repeats=bool(work.dataset) and work.repeat > 1,
            tokenizer="engine",
            tags=(outcome.backend,),
            kind="offline",
            about={
                "engine_version": self._engine_version,
                "qwen_tui_version": __version__,
                "argv": self._argv,
                **about,
                **outcome.about,
                "backend": outcome.backend,
                "comparison": self.id,
                "work": work.to_json(),
                "load_seconds": outcome.load_seconds,
                "rounds": [one.to_json() for one in rounds],
            },
        )


def _prompts_request(work: Work, out: Path) -> dict[str, Any]:
    return {
        "model": work.model,
        "tokenizer": work.tokenizer,
        "trust_remote_code": work.trust_remote_code,
        "seed": work.seed,
        "input_len": work.input_len,
        "output_len": work.output_len,
        "prompts": work.num_prompts,
        "warmups": work.warmup_prompts,
        "rounds": work.repeat,
        "dataset": str(Path(work.dataset).expanduser()) if work.dataset else "",
        "out": str(out),
    }


def _workload(work: Work) -> Workload:
    if not work.dataset:
        return Workload("random", work.input_len, work.output_len)
    kind: Any = "jsonl" if work.dataset.endswith(".jsonl") else "sharegpt"
    return Workload(kind, output_len=work.output_len, path=work.dataset, ignore_eos=True)


def _joined(failure: Failure) -> str:
    return ": ".join(part for part in (failure.title, failure.why) if part)


async def _machine() -> dict[str, Any]:
    """The cards of this machine and their driver, where there are any."""
    machine = Machine()
    try:
        state = await machine.read()
    finally:
        await machine.close()
    if not state.gpus:
        return {}
    return {"gpus": [gpu.name for gpu in state.gpus], "driver": str(getattr(machine, "driver", ""))}


def finished(outcomes: Sequence[Outcome], names: Sequence[BackendName]) -> bool:
    """Whether every backend came to its end."""
    return [one.backend for one in outcomes] == list(names) and all(one.failure is None for one in outcomes)
