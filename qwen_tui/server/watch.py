"""The live view of one server: its /metrics, the GPUs and the host, each second, on one time axis.

Runs only while somebody looks. One request is under way at most: a server too busy to answer gets no second one.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from qwen_tui.errors import ServerError
from qwen_tui.hardware.gpus import Gpu
from qwen_tui.hardware.machine import Machine, MachineState
from qwen_tui.i18n import _
from qwen_tui.server.endpoint_status import EndpointState, EndpointStatus
from qwen_tui.server.metrics import MetricsSample, parse_metrics
from qwen_tui.server.metrics_window import Figures, MetricsWindow
from qwen_tui.server.status import ServerState, ServerStatus

if TYPE_CHECKING:
    import httpx

#: Seconds between two samples, and how many of them are kept: ten minutes.
INTERVAL = 1.0
KEPT = 600
#: Seconds that a point's latencies look back: one second rarely holds enough requests for a percentile.
_LATENCY_SPAN = 10.0
#: Seconds after which an answer is no longer waited for.
_PATIENCE = 10.0


@dataclass(frozen=True)
class Source:
    """Where a server's metrics are. base_url: of the OpenAI API, ending in /v1. key: sent along, or None.

    elsewhere: whether it is an endpoint, and not a server of this machine's.
    """

    name: str
    base_url: str
    key: str | None = field(default=None, repr=False)
    elsewhere: bool = False

    @classmethod
    def of(cls, status: ServerStatus | EndpointStatus) -> Source:
        if isinstance(status, EndpointStatus):
            return cls(status.name, status.endpoint.base_url, status.endpoint.api_key, elsewhere=True)
        return cls(status.name, status.spec.base_url, status.api_key)


def can_be_asked(status: ServerStatus | EndpointStatus | None) -> bool:
    """Whether a server has metrics to give now: it was ready once and lives, or answered when it was last asked."""
    if isinstance(status, EndpointStatus):
        return status.state is EndpointState.REACHABLE
    return status is not None and status.state in (ServerState.READY, ServerState.UNRESPONSIVE)


@dataclass(frozen=True)
class Point:
    """What was seen in one second; None where nothing was.

    tick: whole seconds of the monotonic clock. *_rate: per second. kv_usage, cpu, ram: 0..1. ttft, itl: p95 of the last
    seconds, in seconds. gpu: mean utilization 0..1; gpu_memory: 0..1; gpu_power: W in all.
    """

    tick: int
    generation_rate: float | None = None
    prompt_rate: float | None = None
    request_rate: float | None = None
    running: float | None = None
    waiting: float | None = None
    kv_usage: float | None = None
    ttft: float | None = None
    itl: float | None = None
    cpu: float | None = None
    ram: float | None = None
    gpu: float | None = None
    gpu_memory: float | None = None
    gpu_power: float | None = None


class MetricsClient:
    """Asks servers for their metrics over connections that are kept open. Close it when done."""

    def __init__(self) -> None:
        #: For this machine's servers, and for endpoints: those are reached as the environment says, by a proxy too.
        self._clients: dict[bool, httpx.AsyncClient] = {}
        self._urls: dict[str, str] = {}

    async def close(self) -> None:
        while self._clients:
            await self._clients.popitem()[1].aclose()

    async def fetch(self, source: Source) -> tuple[float, MetricsSample]:
        """When the answer came (monotonic seconds), and what it says. Raises ServerError without an answer."""
        client = self._clients.get(source.elsewhere)
        if client is None:
            made = await asyncio.to_thread(_http_client, source.elsewhere)
            client = self._clients.setdefault(source.elsewhere, made)
        from httpx import HTTPError, InvalidURL

        url = self._urls.get(source.base_url) or f"{source.base_url.removesuffix('/v1')}/metrics"
        headers = {"Authorization": f"Bearer {source.key}"} if source.key else {}
        try:
            answer = await client.get(url, headers=headers)
            answer.raise_for_status()
        except (HTTPError, InvalidURL) as error:
            raise ServerError(
                _("“{name}” does not tell its metrics").format(name=source.name), str(error) or type(error).__name__
            ) from None
        at = time.monotonic()
        # vLLM before 0.5 sends /metrics on to /metrics/.
        self._urls[source.base_url] = str(answer.url)
        sample = await asyncio.to_thread(lambda: parse_metrics(answer.text))
        return at, sample


def _http_client(elsewhere: bool) -> httpx.AsyncClient:
    """Imports httpx and reads certificates: for a thread."""
    import httpx

    # Compressing would cost the server more than it saves on this machine.
    headers = {"Accept-Encoding": "identity"}
    return httpx.AsyncClient(trust_env=elsewhere, timeout=_PATIENCE, follow_redirects=True, headers=headers)


class Watch:
    """What is seen of one server and of this machine.

    points: the last ten minutes, a Point for each second that was looked at. figures: the newest numbers of the server,
    seen at `seen_at` (Unix time); they stay when it goes. machine: the newest state of GPUs and host.
    problem: why the last question to the server had no answer; None when it had.
    """

    def __init__(self, machine: Machine, client: MetricsClient | None = None, interval: float = INTERVAL) -> None:
        """interval: seconds between two looks, other than a second for tests."""
        self._machine = machine
        self._interval = interval
        self._client = client or MetricsClient()
        self._window = MetricsWindow()
        self._source: Source | None = None
        self._alive = False
        self._scrape: asyncio.Task[tuple[float, MetricsSample]] | None = None
        self._reading: asyncio.Task[MachineState] | None = None
        self.points: deque[Point] = deque(maxlen=KEPT)
        self.figures = Figures()
        self.seen_at: float | None = None
        self.machine: MachineState | None = None
        self.problem: ServerError | None = None

    @property
    def source(self) -> Source | None:
        """The server that is watched, or was last."""
        return self._source

    @property
    def latest(self) -> MetricsSample | None:
        """The newest answer as it came."""
        return self._window.latest

    def look_at(self, source: Source | None, *, alive: bool = True) -> None:
        """Watch this server from now on. Another name begins a new history.

        alive: False for a server that is not there to be asked; what was last seen of it stays.
        """
        earlier = self._source
        if source is not None and (earlier is None or _name(earlier) != _name(source)):
            self.points.clear()
            self.figures, self.seen_at, self.problem = Figures(), None, None
            self._window.clear()
        if source != earlier or not alive:
            self._drop_scrape()
        if source is not None:
            self._source = source
        self._alive = alive and source is not None

    async def close(self) -> None:
        """End what is under way and close the connections."""
        self._drop_scrape()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        await self._client.close()

    async def run(self, on_point: Callable[[], None]) -> None:
        """Look each second until cancelled; `on_point` is called after each look."""
        try:
            while True:
                now = time.monotonic()
                tick = math.ceil(now / self._interval + 0.05)
                await self.look(tick)
                on_point()
                await asyncio.sleep(max(0.05, tick * self._interval - time.monotonic()))
        finally:
            self._drop_scrape()

    async def look(self, tick: int) -> None:
        """Take one look: ask the server and read the machine, wait most of a second at most, note what came."""
        if self._reading is None:
            self._reading = asyncio.create_task(self._machine.read())
        if self._scrape is None and self._alive and self._source is not None:
            self._scrape = asyncio.create_task(self._client.fetch(self._source))
        tasks = [task for task in (self._reading, self._scrape) if task is not None]
        await asyncio.wait(tasks, timeout=0.8 * self._interval)
        machine = self._machine_read()
        fresh = self._scraped()
        self.points.append(_point(tick, self._window if fresh else None, machine))

    def _machine_read(self) -> MachineState | None:
        """The state that was read since the last look."""
        task = self._reading
        if task is None or not task.done():
            return None
        self._reading = None
        self.machine = task.result()
        return self.machine

    def _scraped(self) -> bool:
        """Take in the server's answer, if one came; whether it did."""
        task = self._scrape
        if task is None or not task.done():
            return False
        self._scrape = None
        if task.cancelled():
            return False
        error = task.exception()
        if error is not None:
            if not isinstance(error, ServerError):
                raise error
            self.problem = error
            return False
        at, sample = task.result()
        if sample.is_empty:
            self.problem = ServerError(
                _("The server tells no statistics"),
                _("It was started with --disable-log-stats, or it is not vLLM"),
            )
            return False
        self.problem = None
        self._window.add(at, sample)
        self.figures = self._window.figures()
        self.seen_at = time.time()
        return True

    def _drop_scrape(self) -> None:
        task, self._scrape = self._scrape, None
        if task is not None:
            task.cancel()
            # A failure that nobody waits for any more is not told to asyncio's log either.
            task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())


def _name(source: Source) -> tuple[bool, str]:
    return source.elsewhere, source.name


def _point(tick: int, window: MetricsWindow | None, machine: MachineState | None) -> Point:
    latest = window.latest if window is not None else None
    host = machine.host if machine is not None else None
    gpus = machine.gpus if machine is not None else ()
    used = host.memory_total - host.memory_available if host is not None else 0
    total = sum(gpu.memory_total for gpu in gpus)
    powers = [gpu.power for gpu in gpus if gpu.power is not None]
    return Point(
        tick=tick,
        generation_rate=window.rate("generation_tokens", INTERVAL) if window else None,
        prompt_rate=window.rate("prompt_tokens", INTERVAL) if window else None,
        request_rate=window.request_rate(INTERVAL) if window else None,
        running=latest.running if latest else None,
        waiting=latest.waiting if latest else None,
        kv_usage=latest.kv_usage if latest else None,
        ttft=_p95(window, "ttft"),
        itl=_p95(window, "itl"),
        cpu=machine.cpu if machine is not None else None,
        ram=used / host.memory_total if host is not None and host.memory_total else None,
        gpu=mean_utilization(gpus),
        gpu_memory=sum(gpu.memory_used for gpu in gpus) / total if total else None,
        gpu_power=sum(powers) if powers else None,
    )


def mean_utilization(gpus: Sequence[Gpu]) -> float | None:
    """0..1 over the GPUs that tell it."""
    told = [gpu.utilization for gpu in gpus if gpu.utilization is not None]
    return sum(told) / len(told) / 100 if told else None


def _p95(window: MetricsWindow | None, name: str) -> float | None:
    latency = window.latency(name, _LATENCY_SPAN) if window is not None else None
    return latency.p95.value if latency is not None else None
