"""The live view: one request at a time, one time axis, and what stays when a server goes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from qwen_tui.engine.find import Engine
from qwen_tui.hardware.gpus import Gpu, GpuProcess
from qwen_tui.hardware.host import Host
from qwen_tui.hardware.machine import Machine, MachineState
from qwen_tui.headless.top import _lines, sample_json
from qwen_tui.server.quiet import quiet_words, quieted, without_quiet_words
from qwen_tui.server.spec import ServerSpec
from qwen_tui.server.status import ServerState, ServerStatus
from qwen_tui.server.watch import MetricsClient, Source, Watch, can_be_asked
from tests.conftest import until

GPU = Gpu(
    0, "GPU-1", "NVIDIA H200", 150_000_000_000, 17_000_000_000, 133_000_000_000, (9, 0), 93, 40, 412.0, 700.0, 71,
    1980, 3201, 0x04, (GpuProcess(4711, 132_000_000_000, "VLLM::EngineCore \x1b[2J"),),
)  # fmt: skip


def metrics(tokens: float, running: int = 1) -> str:
    """An answer of /metrics after `tokens` tokens and tokens/10 requests of 0.1 to 0.2 s to the first token."""
    requests = tokens / 10
    return (
        f'vllm:num_requests_running{{engine="0"}} {running}.0\n'
        'vllm:num_requests_waiting{engine="0"} 0.0\n'
        'vllm:kv_cache_usage_perc{engine="0"} 0.25\n'
        f'vllm:prompt_tokens_total{{engine="0"}} {tokens}\n'
        f'vllm:generation_tokens_total{{engine="0"}} {tokens}\n'
        f'vllm:request_success_total{{engine="0",finished_reason="stop"}} {requests}\n'
        'vllm:time_to_first_token_seconds_bucket{le="0.1"} 0\n'
        f'vllm:time_to_first_token_seconds_bucket{{le="0.2"}} {requests}\n'
        f'vllm:time_to_first_token_seconds_bucket{{le="+Inf"}} {requests}\n'
    )


class FakeServer:
    """Answers GET /metrics with `text`; while `gate` is closed it does not answer."""

    def __init__(self) -> None:
        self.text = metrics(0)
        self.status = "200 OK"
        self.location = ""
        self.requests: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await reader.readuntil(b"\r\n\r\n"):
                head = request.decode()
                self.requests.append(head)
                await self.gate.wait()
                body = self.text.encode()
                moved = self.location and not head.startswith(f"GET {self.location} ")
                status = "307 Temporary Redirect" if moved else self.status
                where = f"Location: {self.location}\r\n" if moved else ""
                writer.write(f"HTTP/1.1 {status}\r\n{where}Content-Length: {len(body)}\r\n\r\n".encode() + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def fake_server() -> AsyncIterator[tuple[FakeServer, Source]]:
    fake = FakeServer()
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield fake, Source("w", f"http://127.0.0.1:{port}/v1", "secret")
    finally:
        fake.gate.set()
        server.close()


class NoGpus:
    """`Gpus` of a machine; the test sets `gpus`."""

    def __init__(self, *gpus: Gpu) -> None:
        self.gpus = list(gpus)
        self.reads = 0

    def read(self) -> list[Gpu]:
        self.reads += 1
        return self.gpus

    def close(self) -> None:
        pass


def machine(*gpus: Gpu) -> Machine:
    return Machine(Path("/"), NoGpus(*gpus), lambda: Host(16_000_000_000, 4_000_000_000, 0, 2, 0.5))  # type: ignore[arg-type]


@pytest.fixture
async def watch() -> AsyncIterator[Watch]:
    service = Watch(machine(GPU))
    yield service
    await service.close()


async def test_two_looks_give_rates_and_the_machine_on_one_axis(watch: Watch) -> None:
    async with fake_server() as (fake, source):
        watch.look_at(source)
        await watch.look(1)
        assert watch.figures.running == 1
        assert watch.points[-1].generation_rate is None
        fake.text = metrics(100, running=3)
        await watch.look(2)
        point = watch.points[-1]
        assert (point.tick, point.running, point.kv_usage) == (2, 3, 0.25)
        assert point.generation_rate is not None
        assert point.generation_rate > 0
        assert 0.1 < (point.ttft or 0) <= 0.2
        assert (point.gpu, point.gpu_power, point.ram) == (0.93, 412.0, 0.75)
        assert watch.figures.latencies["ttft"].count == 10
        assert watch.problem is None


async def test_the_key_is_sent_and_nothing_is_compressed(watch: Watch) -> None:
    async with fake_server() as (fake, source):
        watch.look_at(source)
        await watch.look(1)
        head = fake.requests[0].lower()
        assert head.startswith("get /metrics http")
        assert "authorization: bearer secret" in head
        assert "accept-encoding: identity" in head


async def test_a_redirect_is_followed_once_and_remembered(watch: Watch) -> None:
    async with fake_server() as (fake, source):
        fake.location = "/metrics/"
        watch.look_at(source)
        await watch.look(1)
        await watch.look(2)
        assert [request.split()[1] for request in fake.requests] == ["/metrics", "/metrics/", "/metrics/"]
        assert watch.problem is None


async def test_a_server_too_busy_to_answer_gets_no_second_question() -> None:
    watch = Watch(machine(), interval=0.3)
    async with fake_server() as (fake, source):
        watch.look_at(source)
        tick = 0
        while watch.seen_at is None and tick < 100:  # the first answer waits for an import
            tick += 1
            await watch.look(tick)
        asked = len(fake.requests)
        watch.points.clear()
        fake.gate.clear()
        await watch.look(101)
        await watch.look(102)
        assert len(fake.requests) == asked + 1
        assert [point.running for point in watch.points] == [None, None]
        fake.gate.set()
        await until(lambda: watch._scrape is not None and watch._scrape.done())
        await watch.look(103)
        assert watch.points[-1].running == 1
        assert len(fake.requests) == asked + 1
        assert [point.tick for point in watch.points] == [101, 102, 103]
    await watch.close()


async def test_what_was_last_seen_stays_when_the_server_goes(watch: Watch) -> None:
    async with fake_server() as (fake, source):
        watch.look_at(source)
        await watch.look(1)
        seen = watch.seen_at
        fake.status = "500 Internal Server Error"
        await watch.look(2)
        assert watch.problem is not None
        assert "500" in watch.problem.why
        assert (watch.figures.running, watch.seen_at) == (1, seen)
        watch.look_at(source, alive=False)
        await watch.look(3)
        assert len(fake.requests) == 2
        assert watch.points[-1].ram == 0.75
        fake.status = "200 OK"
        watch.look_at(source)
        await watch.look(4)
        assert watch.problem is None


async def test_a_server_without_statistics_says_why_there_are_none(watch: Watch) -> None:
    async with fake_server() as (fake, source):
        fake.text = "process_start_time_seconds 1.0\n"
        watch.look_at(source)
        await watch.look(1)
        assert watch.problem is not None
        assert "--disable-log-stats" in watch.problem.why
        assert watch.seen_at is None


async def test_another_server_begins_a_history_of_its_own(watch: Watch) -> None:
    async with fake_server() as (_fake, source):
        watch.look_at(source)
        await watch.look(1)
        watch.look_at(Source("other", "http://127.0.0.1:9/v1"), alive=False)
        assert not watch.points
        assert watch.figures.running is None
        await watch.look(2)
        assert watch.points[-1].running is None


async def test_running_looks_until_it_is_cancelled_and_asks_nothing_after() -> None:
    watch = Watch(machine(), interval=0.4)
    async with fake_server() as (fake, source):
        watch.look_at(source)
        calls: list[int] = []
        task = asyncio.create_task(watch.run(lambda: calls.append(1)))
        await until(lambda: len(calls) >= 2)
        ticks = [point.tick for point in watch.points]
        assert ticks == list(range(ticks[0], ticks[0] + len(ticks)))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert watch._scrape is None
        assert len(fake.requests) <= len(calls)
    await watch.close()


async def test_whoever_asks_soon_after_gets_the_same_reading_of_the_machine() -> None:
    gpus = NoGpus(GPU)
    shared = Machine(None, gpus)  # type: ignore[arg-type]
    first, second = await asyncio.gather(shared.read(), shared.read())
    assert first is second
    assert gpus.reads == 1
    assert first.disk is None
    await shared.close()


async def test_a_wrong_address_is_a_problem_and_no_crash() -> None:
    client = MetricsClient()
    watch = Watch(machine(), client)
    watch.look_at(Source("w", "http://127.0.0.1:1/v1"))
    await watch.look(1)
    assert watch.problem is not None
    await watch.close()


def status(state: ServerState = ServerState.READY) -> ServerStatus:
    return ServerStatus(ServerSpec("w\x1b[2J", "some/model"), state, Path("/log"))


def test_only_a_server_that_was_ready_is_asked() -> None:
    assert [state.value for state in ServerState if can_be_asked(status(state))] == ["ready", "unresponsive"]
    assert not can_be_asked(None)


async def test_top_prints_one_sample_as_json_and_for_people(watch: Watch) -> None:
    async with fake_server() as (fake, source):
        watch.look_at(source)
        await watch.look(1)
        fake.text = metrics(200)
        await watch.look(2)
    told: dict[str, Any] = json.loads(json.dumps(sample_json(status(), watch)))
    assert told["server"]["running"] == 1
    assert told["server"]["generation_tokens_per_second"] > 0
    assert told["server"]["since_start"]["generation_tokens"] == 200
    assert told["gpus"][0]["utilization"] == 93
    assert told["gpus"][0]["throttle"] == ["power limit"]
    assert told["host"]["memory_total"] == 16_000_000_000
    text = "\n".join(_lines(status(), watch))
    assert "\x1b" not in text
    for part in ("ready", "since its start", "TTFT", "GPU0 NVIDIA H200", "93 %", "4711", "VLLM::EngineCore"):
        assert part in text


def test_top_without_a_server_shows_the_machine() -> None:
    watch = Watch(machine())
    watch.machine = MachineState(0.0, (), Host(16_000_000_000, 4_000_000_000, 0, 2, 0.5), 0.5)
    assert sample_json(None, watch)["server"] is None
    assert _lines(None, watch)[0] == "No server runs"


@pytest.fixture
def engine_with(tmp_path: Path) -> Callable[[str], Engine]:
    """Makes an engine whose sources hold this text."""

    def make(source: str) -> Engine:
        folder = tmp_path / "lib" / "python3.11" / "site-packages" / "vllm" / "entrypoints" / "openai"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cli_args.py").write_text(source)
        python = tmp_path / "bin" / "python"
        python.parent.mkdir(exist_ok=True)
        python.touch()
        (tmp_path / "pyvenv.cfg").write_text("include-system-site-packages = false\n")
        return Engine(python, "0.24.0", "cuda", "option")

    return make


def test_our_questions_stay_out_of_the_log_where_the_engine_can(engine_with: Callable[[str], Engine]) -> None:
    engine = engine_with("disable_access_log_for_endpoints: str | None = None")
    words = ("--disable-access-log-for-endpoints", "/health,/metrics")
    assert quiet_words(engine, ["--enforce-eager"]) == words
    for given in ("--disable_access_log_for_endpoints=/x", "--disable-uvicorn-access-log", "--config", *words[:1]):
        assert quiet_words(engine, [given]) == ()
    assert quiet_words(engine_with("disable_uvicorn_access_log = False"), []) == ()


def test_a_specification_follows_the_engine_it_is_started_with(engine_with: Callable[[str], Engine]) -> None:
    spec = ServerSpec("w", "some/model", extra_args=("--enforce-eager",))
    knows = engine_with("disable_access_log_for_endpoints: str | None = None")
    quiet = quieted(spec, knows)
    assert quiet.argv("python")[-3:] == ["--enforce-eager", "--disable-access-log-for-endpoints", "/health,/metrics"]
    assert quieted(quiet, knows) == quiet
    assert without_quiet_words(quiet.extra_args) == spec.extra_args
    assert quieted(quiet, engine_with("")) == spec
