"""Whole runs against servers that behave, and that do not: what is sent, counted and kept."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import itertools
import json
import math
import os
import signal
import socket
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qwen_tui.bench.generator import Generator, Tick
from qwen_tui.bench.load import Load
from qwen_tui.bench.run import Bench, Plan
from qwen_tui.bench.statistics import Limits
from qwen_tui.bench.target import BenchError, Target
from qwen_tui.bench.workload import Workload
from qwen_tui.headless import bench_kept
from qwen_tui.paths import Paths
from qwen_tui.settings import Settings
from qwen_tui.workers.host import FOLDER
from tests.conftest import until
from tests.fakes.openai_server import CLOSE, DONE, HANG, FakeOpenAI, answer, finish, usage

GOOD = ["a", "b", finish(), usage(7, 2), DONE]


def plan(server: FakeOpenAI, load: Load, **more: Any) -> Plan:
    return Plan(Target(server.base_url, "fake-model", more.pop("key", None)), Workload(), load, **more)


async def test_a_run_is_counted_kept_and_read_again(paths: Paths) -> None:
    ticks: list[Tick] = []
    counters = itertools.chain([{"preemptions": 2.0}], itertools.repeat({"preemptions": 5.0}))

    async def observe() -> dict[str, float]:
        return next(counters)

    async with FakeOpenAI(GOOD) as server:
        runner = Bench(paths, observe)
        wanted = plan(
            server, Load(streams=3, count=8, warmup=2), limits=Limits(ttft=60), seed=5, key="secret", processes=2
        )
        run = await runner.run(wanted, ticks.append)
    assert (run.figures.completed, run.figures.failed) == (8, 0)
    assert (run.figures.total_input_tokens, run.figures.total_output_tokens) == (56, 16)
    assert run.figures.good_share == 1.0
    assert run.server == {"preemptions": 3.0}
    assert len(run.health.processes) == 2
    assert not any(process.died for process in run.health.processes)
    # One request ahead, two to warm up, eight that count; no prompt twice.
    assert len(server.requests) == 11
    assert len({request.body["messages"][0]["content"] for request in server.requests}) == 11
    assert all(request.headers["authorization"] == "Bearer secret" for request in server.requests)
    body = server.requests[0].body
    assert (body["max_tokens"], body["stream_options"], body["ignore_eos"]) == (128, {"include_usage": True}, True)
    assert [tick.phase for tick in ticks][:2] == ["preparing", "probing"]
    assert sum(len(tick.records) for tick in ticks) == 8
    assert runner.ledger.get(run.id[-4:]) == run
    records = runner.ledger.records(run)
    assert sorted(record.index for record in records) == list(range(2, 10))
    assert all(0 <= record.due <= record.sent <= record.stamps[0] <= record.end for record in records)
    for file in runner.ledger.folder.iterdir():
        assert file.stat().st_mode & 0o777 == 0o600
        assert b"secret" not in file.read_bytes()
    assert not list((paths.cache / "bench").iterdir()), "prompts were left behind"


async def test_every_failure_is_counted_by_its_kind(paths: Paths) -> None:
    scripts = [
        GOOD,  # the request ahead
        GOOD,
        [answer(429, {"error": {"message": "slow down"}})],
        [answer(400, {"error": {"message": "This model's maximum context length is 8 tokens"}})],
        ["a", CLOSE],
        ["a", b"data: {half\n\n"],
        [finish(), usage(7, 0), DONE],
        [b'data: {"error": {"message": "engine died"}}\n\n', DONE],
        [HANG],
        GOOD,
    ]
    async with FakeOpenAI(*scripts) as server:
        run = await Bench(paths).run(plan(server, Load(streams=1, count=9), silence=0.3))
    assert run.figures.completed == 2
    assert Counter(run.figures.failures) == Counter(
        ["rate_limited", "too_long", "broken", "malformed", "empty", "error_event", "timeout"]
    )
    assert run.figures.messages["rate_limited"] == "slow down"
    assert run.figures.messages["error_event"] == "engine died"
    assert run.figures.ttft.count == 2


async def test_a_server_that_dies_ends_the_run_in_order(paths: Paths) -> None:
    ticks: list[Tick] = []
    async with FakeOpenAI(GOOD, GOOD, GOOD, ["a", HANG]) as server:
        task = asyncio.ensure_future(Bench(paths).run(plan(server, Load(streams=2, count=20)), ticks.append))
        await until(lambda: len(server.requests) >= 5)
    run = await task  # the server is closed
    assert run.figures.completed == 2
    assert run.figures.failed == 18
    assert set(run.figures.failures) == {"broken", "connect"}
    assert not run.partial


async def test_stopping_keeps_what_there_is(paths: Paths) -> None:
    runner = Bench(paths)
    async with FakeOpenAI(GOOD, GOOD, GOOD, ["a", HANG]) as server:
        task = asyncio.ensure_future(runner.run(plan(server, Load(streams=2, count=20))))
        await until(lambda: len(server.requests) >= 5)
        runner.stop()
        run = await task
    assert run.partial
    assert (run.figures.completed, run.figures.cancelled, run.figures.failed) == (2, 2, 0)
    assert runner.ledger.get("last") == run


async def test_an_open_loop_sends_on_time_whatever_is_answered(paths: Paths) -> None:
    async with FakeOpenAI(GOOD, ["a", HANG]) as server:
        load = Load(rate=100, burstiness=math.inf, count=5)
        run = await Bench(paths).run(plan(server, load, silence=0.5))
        assert run.figures.failures == {"timeout": 5}
    records = Bench(paths).ledger.records(run)
    assert [round(record.due, 6) for record in sorted(records, key=lambda r: r.index)] == [0, 0.01, 0.02, 0.03, 0.04]
    assert all(record.sent >= record.due for record in records)


async def test_a_name_with_several_addresses_is_tried_at_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """localhost is often ::1 first, where nobody listens."""
    monkeypatch.syspath_prepend(str(FOLDER))
    connections = importlib.import_module("bench_connections")
    async with FakeOpenAI(GOOD) as server:
        nobody, somebody = ("127.0.0.1", 9), ("127.0.0.1", server.port)
        entries = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in (nobody, somebody)]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_more: entries)
        _made, address = await asyncio.to_thread(connections._reachable, "somewhere", 1)
        assert address == somebody


async def test_a_cap_holds_back_an_open_loop(paths: Paths) -> None:
    async with FakeOpenAI(GOOD, ["a", 0.05, finish(), usage(1, 1), DONE]) as server:
        run = await Bench(paths).run(plan(server, Load(rate=math.inf, count=6, most_at_once=2)))
    assert run.figures.completed == 6
    assert run.figures.max_concurrent_requests == 2
    assert run.figures.queue.max > 0.05
    assert run.health.late_p99 is None


class Words:
    """Counts words."""

    name = "words"

    def count(self, text: str) -> int:
        return len(text.split())


async def test_tokens_that_the_server_does_not_tell_are_counted(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qwen_tui.bench.run.counter_for", lambda *_: Words())
    async with FakeOpenAI(["one two", " three", finish(), DONE]) as server:
        run = await Bench(paths).run(plan(server, Load(streams=1, count=2)))
        assert (run.figures.total_output_tokens, run.figures.tokens_from) == (6, "tokenizer")
        assert {record.text for record in Bench(paths).ledger.records(run)} == {""}
        monkeypatch.setattr("qwen_tui.bench.run.counter_for", lambda *_: None)
        run = await Bench(paths).run(plan(server, Load(streams=1, count=2)))
        assert (run.figures.total_output_tokens, run.figures.tokens_from) == (6, "chunks"), "three chunks with a choice"


async def test_a_run_by_time_ends(paths: Paths) -> None:
    async with FakeOpenAI(GOOD) as server:
        run = await Bench(paths).run(plan(server, Load(streams=2, seconds=0.4)))
    records = Bench(paths).ledger.records(run)
    assert run.figures.completed == len(records) > 2
    assert max(record.sent for record in records) < 0.4 + 0.01


async def test_nothing_is_measured_where_nothing_answers(paths: Paths) -> None:
    async with FakeOpenAI([answer(404, {"error": {"message": "no model x"}})]) as server:
        with pytest.raises(BenchError) as caught:
            await Bench(paths).run(plan(server, Load(streams=1, count=1)))
    assert "404" in caught.value.why
    assert "no model x" in caught.value.why
    with pytest.raises(BenchError):
        await Bench(paths).run(plan(server, Load(streams=1, count=1)))
    assert not Bench(paths).ledger.list()


async def test_one_long_prompt_of_a_data_set_does_not_end_it_all(paths: Paths, tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "a", "max_tokens": 2}\n' * 2)
    long = [answer(400, {"error": {"message": "maximum context length is 8 tokens"}})]
    async with FakeOpenAI(long, long, GOOD, long, GOOD) as server:
        wanted = replace(plan(server, Load(streams=1, count=2)), workload=Workload("jsonl", path=str(file)))
        run = await Bench(paths).run(wanted)
    assert run.figures.failures == {"too_long": 1}
    assert run.figures.completed == 1


async def test_a_generator_process_that_is_killed_is_told(paths: Paths) -> None:
    def kill() -> bool:
        """Kill the process once it has sent something."""
        if len(server.requests) < 3:
            return False
        for child in Path("/proc").glob("[0-9]*/cmdline"):
            text = child.read_bytes() if os.access(child, os.R_OK) else b""
            if b"bench_load.py" in text and str(paths.cache).encode() in text:
                os.kill(int(child.parent.name), signal.SIGKILL)
                return True
        return False

    async with FakeOpenAI(GOOD, ["a", HANG]) as server:
        generator = Generator(paths, Target(server.base_url, "m"), Load(streams=3, count=3))
        bodies = [Target(server.base_url, "m").body("x", 1, False)] * 3
        task = asyncio.ensure_future(generator.run(bodies, None))
        await until(kill)
        generated = await task
    assert generated.health[0].died
    assert generated.records == []


async def test_the_command_from_beginning_to_end(
    paths: Paths, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = {**os.environ, "LANG": "C.UTF-8", "VLLM_API_KEY": "secret"}
    for kind in ("config", "data", "state", "cache"):
        environment[f"XDG_{kind.upper()}_HOME"] = str(tmp_path / kind)
    saved = tmp_path / "result.json"
    bad = [answer(429, {"error": {"message": "slow\x1b[31m down"}})]
    words = (
        "--preset",
        "tutorial",
        "--num-prompts",
        "3",
        "--concurrency",
        "1",
        "--tag",
        "x",
        "--save-result",
        str(saved),
    )
    async with FakeOpenAI(GOOD, GOOD, GOOD, bad) as server:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "qwen_tui", "bench", "--base-url", server.base_url, *words,
            env=environment, stdout=-1, stderr=-1,
        )  # fmt: skip
        out, err = (data.decode() for data in await process.communicate())
    assert process.returncode == 1, err
    assert "429" in out
    assert "\x1b" not in out
    assert "Measuring" in err
    result = json.loads(saved.read_text())
    assert (result["completed"], result["failed"], result["total_output_tokens"]) == (2, 1, 4)
    assert (result["max_concurrency"], result["tags"]) == (1, ["x"])
    assert sorted(result["output_lens"]) == [0, 2, 2]
    assert len(result["errors"]) == len(result["ttfts"]) == len(result["itls"]) == 3

    def kept(*words: str) -> str:
        parser = argparse.ArgumentParser()
        bench_kept.add_arguments(parser)
        there = Paths(*(tmp_path / kind / "qwen-tui" for kind in ("config", "data", "state", "cache")))
        assert bench_kept.run(parser.parse_args(words), there, Settings(hourly_price="¥18")) == 0
        return capsys.readouterr().out

    assert result["run_id"] in kept("runs", "--tag", "x")
    assert "429" in kept("show", "last")
    assert "¥" in kept("show", result["run_id"])
