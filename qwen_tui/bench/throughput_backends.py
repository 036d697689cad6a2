"""The backends of an offline speed test behind one interface: give it a job, hear how far it is, get its rounds."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from qwen_tui.bench.generator import Generator, Tick
from qwen_tui.bench.load import Load
from qwen_tui.bench.probe import send_one
from qwen_tui.bench.statistics import output_tokens
from qwen_tui.bench.target import BenchError, Target
from qwen_tui.bench.throughput import BackendName, Round, Work
from qwen_tui.errors import WorkerError
from qwen_tui.i18n import _
from qwen_tui.paths import Paths
from qwen_tui.workers.host import FOLDER, child, last_line

#: Seconds that a dead guard's pipe is still read, should something hold on to it.
_DRAIN = 2.0


@dataclass(frozen=True)
class Step:
    """Where a backend is. phase: a key of PHASE_WORDS; began: monotonic, when the phase did.

    round: counted from 0. done, total: prompts of the round. tokens: of answers, so far in the round; wanted: of all.
    """

    backend: BackendName
    phase: str
    began: float
    round: int = 0
    done: int = 0
    total: int = 0
    tokens: int = 0
    wanted: int = 0


@dataclass(frozen=True)
class Job:
    """What a backend gets. prompts: the file that throughput_prompts wrote. model: a folder, or a hub id.

    wanted: for each round the tokens that each answer is to have. log: for the backend's whole output.
    packages: what the engine's environment has. repeats: whether a round has the same prompt more than once.
    """

    work: Work
    model: str
    python: Path
    prompts: Path
    wanted: Sequence[Sequence[int]]
    log: Path
    paths: Paths
    packages: Mapping[str, bool] = field(default_factory=dict)
    repeats: bool = False

    def tokens_of(self, number: int) -> int:
        """How many tokens the answers of that round have together."""
        return self.work.n * sum(self.wanted[number]) if number < len(self.wanted) else 0


@dataclass(frozen=True)
class Produced:
    """What a backend made of its job. load_seconds: None for a server. about: versions, device, …"""

    rounds: tuple[Round, ...]
    load_seconds: float | None
    about: Mapping[str, Any]


class Backend(Protocol):
    """One way of running a model."""

    name: BackendName

    async def run(self, job: Job, on_step: Callable[[Step], None], on_round: Callable[[Round], None]) -> Produced:
        """Do the job; cancelling it ends every process of it. on_round: told of each round that is over.

        Raises WorkerError, or BenchError, with the rounds before that told.
        """
        ...


class WorkerBackend:
    """A backend that runs in a process of its own under the engine's interpreter, with a guard over it.

    needs: the package that it can't do without. extra: what its request has besides the prompts.
    """

    def __init__(self, name: BackendName, script: str, needs: str, extra: Callable[[Job], Mapping[str, Any]]) -> None:
        self.name = name
        self._script = script
        self._needs = needs
        self._extra = extra

    async def run(self, job: Job, on_step: Callable[[Step], None], on_round: Callable[[Round], None]) -> Produced:
        """See `Backend`."""
        if not job.packages.get(self._needs, True):
            raise _missing(self._needs, job.python)
        request = {"prompts": str(job.prompts), "n": job.work.n, "seed": job.work.seed, **self._extra(job)}
        step = Step(self.name, "import", time.monotonic(), total=job.work.num_prompts)
        rounds: list[Round] = []
        result: dict[str, Any] | None = None
        async with aclosing(messages(job.python, self._script, request, job.log)) as said:
            async for message in said:
                kind = message.get("kind")
                if kind == "phase":
                    step = replace(
                        step, phase=str(message["phase"]), began=time.monotonic(), round=int(message.get("round", 0)),
                        done=0, tokens=0, wanted=job.tokens_of(len(rounds)),
                    )  # fmt: skip
                    on_step(step)
                elif kind == "tick":
                    step = replace(step, done=int(message["done"]), tokens=int(message["tokens"]))
                    on_step(step)
                elif kind == "round":
                    rounds.append(checked(message, job.wanted[len(rounds)], job.work.n))
                    on_round(rounds[-1])
                elif kind == "result":
                    result = message
        if result is None or len(rounds) < len(job.wanted):
            raise WorkerError(_("It ended before it was done"), last_line(job.log))
        return Produced(tuple(rounds), float(result["load_seconds"]), dict(result["about"]))


class ServerBackend:
    """A server that runs already, here or elsewhere: all prompts of a round at once, through the load generator."""

    name: BackendName = "server"

    def __init__(self, target: Target, about: Mapping[str, Any] | None = None) -> None:
        self._target = replace(target, api="completions", extra={**target.extra, "temperature": 1.0, "top_p": 1.0})
        self._about = dict(about or {})

    async def run(self, job: Job, on_step: Callable[[Step], None], on_round: Callable[[Round], None]) -> Produced:
        """See `Backend`."""
        on_step(Step(self.name, "warmup", time.monotonic(), total=job.work.num_prompts))
        content = await asyncio.to_thread(_read_json, job.prompts)
        for ids, length in content["warmups"] or content["rounds"][0][:1]:
            await asyncio.to_thread(send_one, self._target, self._target.body(ids, length, True), 600.0)
        rounds = []
        for number, prompts in enumerate(content["rounds"]):
            rounds.append(await self._round(job, number, prompts, on_step))
            on_round(rounds[-1])
        return Produced(tuple(rounds), None, {"base_url": self._target.base_url, **self._about})

    async def _round(self, job: Job, number: int, prompts: Sequence[Any], on_step: Callable[[Step], None]) -> Round:
        bodies = [self._target.body(ids, length, True) for ids, length in prompts]
        load = Load(rate=math.inf, count=len(bodies))
        step = Step(self.name, "round", time.monotonic(), number, total=len(bodies), wanted=job.tokens_of(number))

        def tick(tick: Tick) -> None:
            nonlocal step
            if tick.phase == "running":
                step = replace(step, done=step.done + len(tick.records), tokens=tick.chunks)
                on_step(step)

        on_step(step)
        generator = Generator(job.paths, self._target, load)
        generated = await generator.run(bodies, load.arrivals(_no_chance()), tick)
        failed = [record for record in generated.records if not record.is_ok]
        if failed or len(generated.records) < len(bodies):
            raise BenchError(
                _("{failed} of {all} requests failed").format(
                    failed=len(bodies) - len(generated.records) + len(failed), all=len(bodies)
                ),
                failed[0].message or failed[0].kind if failed else "",
            )
        records = sorted(generated.records, key=lambda record: record.index)
        message = {
            "elapsed": max(record.end for record in records) - min(record.sent for record in records),
            "prompt_lens": [max(0, record.prompt_tokens) for record in records],
            "output_lens": [output_tokens(record) for record in records],
        }
        return checked(message, job.wanted[number], 1)


def checked(message: Mapping[str, Any], wanted: Sequence[int], n: int) -> Round:
    """A round as a backend told it. Raises WorkerError where an answer is not as long as asked for."""
    made = [int(length) for length in message["output_lens"]]
    if len(made) != len(wanted):
        raise WorkerError(
            _("{made} of {wanted} prompts were answered").format(made=len(made), wanted=len(wanted)),
            _("Its figure would say nothing"),
        )
    for number, (length, asked) in enumerate(zip(made, wanted, strict=True), 1):
        if length != n * asked:
            raise WorkerError(
                _("Answer {number} has {made} tokens, asked for were {wanted}").format(
                    number=number, made=length, wanted=n * asked
                ),
                _("Its figure would count tokens that were never made"),
            )
    return Round(float(message["elapsed"]), len(made), sum(map(int, message["prompt_lens"])), sum(made))


async def messages(
    python: Path, script: str, request: Mapping[str, Any], log: Path
) -> AsyncGenerator[dict[str, Any], None]:
    """What a worker under a guard says, its error raised as a WorkerError. Closing it early ends all its processes."""
    # Of its own, and short: a socket's path has 107 bytes at most. The guard removes it, should this process be killed.
    sockets = "" if os.environ.get("VLLM_RPC_BASE_PATH") else tempfile.mkdtemp(prefix="qwen-tui-", dir="/tmp")
    guard = [sys.executable, "-E", "-S", "-s", str(FOLDER / "throughput_guard.py"), sockets]
    argv = [*guard, str(python), str(FOLDER / script), json.dumps(request, ensure_ascii=False)]
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, sockets, ignore_errors=True)
        process, lines = await stack.enter_async_context(child(argv, log))
        ended = asyncio.ensure_future(process.wait())
        try:
            async for line in _until(lines, ended):
                try:
                    message = json.loads(line)
                except ValueError:
                    continue  # half a line of a process that was killed
                if message.get("kind") == "error":
                    raise WorkerError(message.get("title", ""), message.get("why", ""), message.get("hint", ""))
                yield message
            code = await ended
        finally:
            ended.cancel()
    if code:
        raise WorkerEnded(code, last_line(log))


class WorkerEnded(WorkerError):
    """A backend's process ended without a word of why. code: its exit status, 128 + the number of a signal."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(_("It ended with status {code} before it was done").format(code=code), why)
        self.code = code


async def _until(lines: AsyncIterator[bytes], ended: asyncio.Future[int]) -> AsyncIterator[bytes]:
    """The lines, until there are no more; or until `ended`, and a moment more for what was written before that."""
    reading: asyncio.Future[bytes] | None = None
    try:
        while True:
            reading = asyncio.ensure_future(_next(lines))
            both: set[asyncio.Future[Any]] = {reading, ended}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                await asyncio.wait({reading}, timeout=_DRAIN)
            if not reading.done() or not (line := reading.result()):
                return
            yield line
    finally:
        if reading is not None and not reading.done():
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading


async def _next(lines: AsyncIterator[bytes]) -> bytes:
    async for line in lines:
        return line
    return b""


def _read_json(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content


def _no_chance() -> Any:
    """All at once takes nothing from chance."""
    import random

    return random.Random(0)


def _missing(package: str, python: Path) -> BenchError:
    name, install = {
        "mii": ("DeepSpeed-MII", "deepspeed-mii"),
        "vllm": ("vLLM", "vllm"),
    }.get(package, (package, package))
    hint = _("Install it: {command}").format(command=f"{python} -m pip install {install}")
    if package == "mii":
        hint += "\n" + _(
            "It needs an NVIDIA GPU, and may bring another torch than vLLM's: an environment of its own, named by"
            " --engine, is safer"
        )
    return BenchError(_("{name} is not in the engine's environment").format(name=name), str(python), hint)


def backend_of(name: BackendName, server: ServerBackend | None) -> Backend:
    """The backend of this name. server: the one to ask. Raises BenchError where that is asked for and not given."""
    if name == "vllm":
        return WorkerBackend(
            name, "throughput_vllm.py", "vllm",
            lambda job: {"arguments": job.work.vllm_arguments(job.model, repeats=job.repeats)},
        )  # fmt: skip
    if name == "hf":
        return WorkerBackend(name, "throughput_hf.py", "torch", _hf_request)
    if name == "mii":
        return WorkerBackend(name, "throughput_mii.py", "mii", lambda job: {"model": job.model})
    if server is None:
        raise BenchError(_("The backend “server” needs a server: SERVER, --base-url or --endpoint"))
    return server


def _hf_request(job: Job) -> Mapping[str, Any]:
    return {
        "model": job.model,
        "tokenizer": job.work.tokenizer,
        "trust_remote_code": job.work.trust_remote_code,
        "dtype": job.work.dtype,
        "max_batch_size": job.work.hf_max_batch_size,
    }
