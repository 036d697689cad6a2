"""One benchmark from beginning to end: prompts, a first request, the load, the figures, the ledger."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from qwen_tui import __version__
from qwen_tui.bench.generator import Generated, Generator, Tick
from qwen_tui.bench.health import ClientHealth
from qwen_tui.bench.ledger import Ledger, Run, new_id
from qwen_tui.bench.load import Load
from qwen_tui.bench.probe import Probe, TooLongError, send_one
from qwen_tui.bench.processes import processes_for, seconds_per_chunk
from qwen_tui.bench.series import Observe, Series, Watcher, gained
from qwen_tui.bench.statistics import Limits, figures_of
from qwen_tui.bench.target import BenchError, Target
from qwen_tui.bench.tokens import TokenCounter, counter_for
from qwen_tui.bench.workload import Vocabulary, Workload, make_items, vocabulary_of
from qwen_tui.errors import UsageError
from qwen_tui.hardware.machine import Machine
from qwen_tui.i18n import _
from qwen_tui.paths import Paths
from qwen_tui.workers.bench_record import Record

#: Prompts made for a run by time, at most; beyond that they repeat.
_PROMPTS_MOST = 50_000
#: Of a data set, the prompts that are tried until one fits the model's context.
_FIRST_TRIES = 10


@dataclass(frozen=True)
class Plan:
    """Everything about a run. seed: None draws one. processes: of the generator, 0 for as many as are needed.

    silence: seconds without a byte after which a request has failed. tokenizer_file: of the model, where it is at hand.
    about: what the result is to tell besides (engine_version, argv, gpus, …).
    """

    target: Target
    workload: Workload
    load: Load
    limits: Limits = field(default_factory=Limits)
    seed: int | None = None
    processes: int = 0
    silence: float = 600.0
    tokenizer_file: Path | None = None
    tags: tuple[str, ...] = ()
    note: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Known:
    """What was found out of a server and the work for it, before the first run of a series."""

    key: tuple[Target, Workload, Path | None]
    counter: TokenCounter | None
    vocabulary: Vocabulary | None
    probe: Probe


class Bench:
    """Runs plans. One at a time; `stop()` ends the one under way in order, and its partial result is kept.

    observe: the server's own figures; machine: the one whose GPUs it uses. Both are asked once a second during a run.
    """

    def __init__(self, paths: Paths, observe: Observe | None = None, machine: Machine | None = None) -> None:
        self.ledger = Ledger(paths)
        self._paths = paths
        self._observe = observe
        self._machine = machine
        self._generator: Generator | None = None
        self._stopped = False
        self._known: _Known | None = None
        #: What the server and the GPUs do during the run under way, or did in the last one, on the monotonic clock.
        self.series = Series()

    def stop(self) -> None:
        """End the run under way: what is not answered by now counts as stopped."""
        self._stopped = True
        if self._generator is not None:
            self._generator.stop()

    async def run(self, plan: Plan, on_tick: Callable[[Tick], None] | None = None, *, keep: bool = True) -> Run:
        """Run `plan`; its figures. on_tick: called at most five times a second. keep: put it into the ledger.

        Raises BenchError, UsageError, WorkerError; then there is nothing to keep.
        """
        on_tick = on_tick or (lambda tick: None)
        self._stopped = False
        seed = plan.seed if plan.seed is not None else secrets.randbelow(2**31)
        known = await self._look(plan, seed, on_tick)
        counter, probe = known.counter, known.probe
        chance = random.Random(seed)
        arrivals = plan.load.arrivals(chance) if plan.load.is_open_loop else None
        wanted = plan.load.warmup + self._count(plan.load, probe, len(arrivals) if arrivals is not None else 0)
        on_tick(Tick("preparing"))
        bodies = await self._bodies(plan, wanted, chance, known.counter, known.vocabulary)
        if self._stopped:
            raise BenchError(_("Stopped before anything was measured"))
        generator = Generator(
            self._paths,
            plan.target,
            plan.load,
            processes=plan.processes or await asyncio.to_thread(_processes, plan.load, probe),
            silence=plan.silence,
            keep_text=not probe.tells_usage and counter is not None,
        )
        self._generator = generator
        watcher = Watcher(self._observe, self._machine)
        self.series = watcher.series
        try:
            async with watcher.watching():
                generated = await generator.run(bodies, arrivals, on_tick)
        finally:
            self._generator = None
        on_tick(Tick("finishing"))
        return await asyncio.to_thread(self._conclude, plan, seed, counter, generated, len(bodies), watcher, keep)

    async def _look(self, plan: Plan, seed: int, on_tick: Callable[[Tick], None]) -> _Known:
        """What has to be known of the server before a run; once for runs of the same work. Raises BenchError."""
        key = (plan.target, plan.workload, plan.tokenizer_file)
        if self._known is not None and self._known.key == key:
            return self._known
        on_tick(Tick("preparing"))
        counter = await asyncio.to_thread(counter_for, plan.target, plan.tokenizer_file)
        try:
            vocabulary = await asyncio.to_thread(vocabulary_of, counter) if plan.workload.kind == "random" else None
        except (OSError, ValueError) as error:
            raise BenchError(_("The prompts could not be made"), str(error)) from None
        tries = 1 if plan.workload.kind == "random" else _FIRST_TRIES
        bodies = await self._bodies(plan, tries, random.Random(f"first {seed}"), counter, vocabulary)
        on_tick(Tick("probing"))
        probe = await _detached(lambda: _first_answer(plan, bodies))
        self._known = _Known(key, counter, vocabulary, probe)
        return self._known

    async def _bodies(
        self, plan: Plan, count: int, chance: random.Random, counter: TokenCounter | None, words: Vocabulary | None
    ) -> Sequence[bytes]:
        """The bodies of `count` requests. Raises BenchError."""
        target, workload = plan.target, plan.workload

        def make() -> list[bytes]:
            return [
                target.body(
                    item.prompt if target.api == "chat" else item.text, item.output_tokens, workload.ignores_eos
                )
                for item in make_items(workload, count, chance, counter, words)
            ]

        try:
            return await asyncio.to_thread(make)
        except (OSError, ValueError) as error:
            raise BenchError(_("The prompts could not be made"), str(error)) from None

    @staticmethod
    def _count(load: Load, probe: Probe, arrivals: int) -> int:
        """How many prompts a run may need. A stream among others is hardly faster than one alone."""
        if load.count:
            return load.count
        if arrivals:
            return min(_PROMPTS_MOST, arrivals)
        return min(_PROMPTS_MOST, math.ceil(load.streams * (load.seconds / max(probe.seconds, 1e-3) * 1.5 + 2)))

    def _conclude(
        self,
        plan: Plan,
        seed: int,
        counter: TokenCounter | None,
        generated: Generated,
        prompts: int,
        watcher: Watcher,
        keep: bool,
    ) -> Run:
        records = generated.records
        tokens_from = _count_missing(records, counter)
        figures = figures_of(records, plan.limits, tokens_from)
        is_free = plan.load.is_open_loop and not plan.load.most_at_once and math.isfinite(plan.load.rate)
        series = watcher.series.shifted(generated.zero) if generated.zero else Series()
        last = max((record.index for record in records), default=0)
        run = Run(
            id=new_id(generated.began or time.time()),
            created=generated.began or time.time(),
            base_url=plan.target.base_url,
            model=plan.target.model,
            api=plan.target.api,
            workload=plan.workload,
            load=plan.load,
            limits=plan.limits,
            seed=seed,
            figures=figures,
            health=ClientHealth.of(generated.health, figures, is_free),
            partial=generated.stopped,
            repeats=plan.workload.repeats or last >= prompts,
            tokenizer=counter.name if counter is not None else "",
            tags=plan.tags,
            note=plan.note,
            about={"qwen_tui_version": __version__, **plan.about},
            server=gained(watcher.before, watcher.after),
            around=series.summary(generated.seconds),
        )
        if keep:
            self.ledger.save(run, records, series)
        return run


def _first_answer(plan: Plan, bodies: Sequence[bytes]) -> Probe:
    """The first of these requests that fits the model's context, answered. Raises BenchError."""
    *others, last = bodies
    for body in others:
        try:
            return send_one(plan.target, body, max(120.0, plan.silence))
        except TooLongError:
            continue
    return send_one(plan.target, last, max(120.0, plan.silence))


async def _detached(call: Callable[[], Probe]) -> Probe:
    """What `call` gives, in a thread that nobody waits for once this is cancelled: a server may be silent for long."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Probe] = loop.create_future()

    def settle(found: Probe | None, error: BaseException | None) -> None:
        if error is not None and not future.done():
            future.set_exception(error)
        elif found is not None and not future.done():
            future.set_result(found)

    def work() -> None:
        found: Probe | None = None
        problem: BaseException | None = None
        try:
            found = call()
        except BaseException as error:  # noqa: BLE001 - handed on to whoever waits
            problem = error
        with contextlib.suppress(RuntimeError):  # the loop may have been closed meanwhile
            loop.call_soon_threadsafe(settle, found, problem)

    threading.Thread(target=work, name="bench probe", daemon=True).start()
    return await future


def _processes(load: Load, probe: Probe) -> int:
    """As many as the streams need if each were as fast as the first request's was, alone."""
    if load.streams or load.most_at_once:
        return processes_for(load.slots * probe.chunk_rate, seconds_per_chunk(), load.slots)
    if math.isinf(load.rate):
        return processes_for(load.count * probe.chunk_rate, seconds_per_chunk(), load.count)
    return processes_for(load.rate * probe.chunks, seconds_per_chunk(), 0)


def _count_missing(records: Sequence[Record], counter: TokenCounter | None) -> str:
    """Fill in the output tokens that the server did not tell; "tokenizer" if there were any, and a way."""
    missing = [record for record in records if record.is_ok and record.completion_tokens < 0 and record.text]
    if not missing or counter is None:
        return ""
    try:
        for record in missing:
            record.completion_tokens = counter.count(record.text)
    except (OSError, ValueError):
        return ""
    for record in records:
        record.text = ""  # answers are nobody's business once they are counted
    return "tokenizer"


def with_load(plan: Plan, load: Load) -> Plan:
    """The same plan under another load, with prompts of its own: no prefix cache knows them."""
    return replace(plan, load=load, seed=None if plan.seed is None else plan.seed + 1)


def plan_again(run: Run, target: Target, about: Mapping[str, Any], tokenizer_file: Path | None = None) -> Plan:
    """What makes a kept run once more, with other prompts. Raises UsageError for one that can't be."""
    if run.kind == "offline" or run.about.get("imported_from"):
        raise UsageError(
            _("{id} can't be run again from here").format(id=run.id),
            _("It was imported") if run.about.get("imported_from") else _("It measured an engine without a server"),
        )
    return Plan(
        target,
        run.workload,
        run.load,
        run.limits,
        processes=0,
        tokenizer_file=tokenizer_file,
        tags=run.tags,
        about=about,
    )
