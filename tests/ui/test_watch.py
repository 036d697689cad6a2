"""The Watch room: its numbers, charts and tables, its states, and that it looks only while it is shown."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import math
from collections.abc import Callable
from typing import Any, cast

import pytest
from textual.content import Content
from textual.widgets import Static

from qwen_tui.errors import ServerError
from qwen_tui.hardware.gpus import Gpu, GpuProcess
from qwen_tui.hardware.machine import MachineState
from qwen_tui.server.metrics import Histogram, MetricsSample
from qwen_tui.server.metrics_window import Figures, MetricsWindow
from qwen_tui.server.watch import Point, Source, Watch
from qwen_tui.ui.app import QwenApp
from qwen_tui.ui.screens.help import HelpScreen
from qwen_tui.ui.screens.watch import WatchScreen, columns
from qwen_tui.ui.services import Services
from qwen_tui.ui.widgets.charts import Chart, nice_ceiling, plot, span_words
from qwen_tui.ui.widgets.status_header import StatusHeader, gpu_summary

from .conftest import NOW, StillMachine, ready, running, starting, stopped, wait_until, with_servers

GPU = Gpu(
    0, "GPU-1", "NVIDIA GeForce RTX 4090", 24_000_000_000, 2_600_000_000, 21_400_000_000, (8, 9), 93, 40, 412.0,
    450.0, 71, 1980, 10501, 0x04, (GpuProcess(4711, 21_000_000_000, "VLLM::EngineCore \x1b[2J[bold]"),),
)  # fmt: skip


def sample(second: int) -> MetricsSample:
    """A busy server after so many seconds: 4,952 tokens/s, a request of 0.15 s to its first token each second."""
    count = float(second)
    return MetricsSample(
        running=25.0, waiting=3.0, kv_usage=0.37, kv_tokens=46592, prompt_tokens=1203.0 * second,
        generation_tokens=4952.0 * second, prefix_queries=100.0 * second, prefix_hits=20.0 * second,
        preemptions=count, finished={"stop": 3 * count, "length": 25 * count},
        ttft=Histogram((0.1, 0.2, math.inf), (0.0, count, count), 0.15 * second),
        e2e=Histogram((1.0, 2.0, math.inf), (0.0, 0.0, count), 9.0 * second), started=1.0,
    )  # fmt: skip


class StillWatch(Watch):
    """A Watch that saw a minute, and looks again only when the test says so."""

    def __init__(self, machine: StillMachine) -> None:
        super().__init__(cast(Any, machine))
        self.state = machine.state
        self.runs = 0
        self.running = 0
        self.again: Callable[[], None] = lambda: None
        self.sources: list[tuple[Source | None, bool]] = []

    def look_at(self, source: Source | None, *, alive: bool = True) -> None:
        self.sources.append((source, alive))
        self._source = source

    def fill(self) -> None:
        """Have seen a minute of a busy server, until five seconds ago."""
        window = MetricsWindow()
        for second in range(61):
            window.add(float(second), sample(second))
            rate = 4000.0 + 900 * math.sin(second / 5)
            self.points.append(
                Point(second, rate, 1203.0, 28.0, 25.0, second % 4, 0.37, 0.2, 0.0102, 0.4, 0.3, 0.9, 0.8, 400.0)
            )
        self.figures, self.seen_at, self.machine = window.figures(), NOW - 5, self.state

    async def run(self, on_point: Callable[[], None]) -> None:
        self.runs += 1
        self.running += 1
        self.again = on_point
        on_point()
        try:
            await asyncio.Event().wait()
        finally:
            self.running -= 1


@pytest.fixture
def watch(services: Services) -> StillWatch:
    """A minute of a busy server, on a machine with two cores and no GPU."""
    still = StillWatch(cast(StillMachine, services.machine))
    still.fill()
    services.watch = still
    return still


def text_of(app: QwenApp, selector: str) -> str:
    content = app.screen_stack[0].query_one(selector, Static).content
    return content.plain if isinstance(content, Content) else str(content)


def chart(app: QwenApp, name: str) -> str:
    return "\n".join(app.screen_stack[0].query_one(f"#chart-{name}", Chart).lines)


async def test_the_numbers_the_charts_and_the_tables(services: Services, watch: StillWatch) -> None:
    with_servers(services, ready())
    async with running(services, "watch") as (app, pilot):
        await wait_until(pilot, lambda: "↑5,000" in chart(app, "output"))
        numbers = text_of(app, "#numbers")
        for part in ("4,952", "1,203", "25", "3", "37 %", "20 %"):
            assert part in numbers
        assert "█" in chart(app, "output")
        assert "running + waiting" in chart(app, "queue")
        assert "↑30" in chart(app, "queue")
        assert "↑100 %" in chart(app, "kv")
        assert "ITL p95 10.2 ms" in chart(app, "itl")
        table = text_of(app, "#latencies")
        assert "TTFT     150 ms    195 ms    199 ms" in table
        assert "> 2.00 s" in table
        assert "last 60 s: preemptions 60" in table
        assert "finished: length 1,500 · stop 180" in table
        machine = text_of(app, "#machine")
        assert "CPU    37 %" in machine
        assert "9 GB / 24 GB" in machine
        assert "KV cache holds 46,592 tokens" in text_of(app, "#state")


async def test_everything_fits_on_the_smallest_screen(services: Services, watch: StillWatch) -> None:
    with_servers(services, ready())
    async with running(services, "watch") as (app, pilot):
        await wait_until(pilot, lambda: "↑5,000" in chart(app, "output"))
        room = app.screen.query_one("#watch")
        assert room.max_scroll_y == 0
        assert {widget.id for widget in app.screen.query(Chart) if widget.display} == {
            "chart-output", "chart-queue", "chart-kv", "chart-prompt", "chart-ttft", "chart-itl",
        }  # fmt: skip


async def test_a_terminal_that_shrinks_and_grows_is_filled_again(services: Services, watch: StillWatch) -> None:
    with_servers(services, ready())
    async with running(services, "watch", size=(200, 60)) as (app, pilot):
        await wait_until(pilot, lambda: "↑5,000" in chart(app, "output"))
        room, below = app.screen.query_one("#watch"), app.screen.query_one("#below")
        await pilot.resize_terminal(80, 24)
        await wait_until(pilot, lambda: room.max_scroll_y == 0 and below.region.bottom == room.region.bottom)
        await pilot.resize_terminal(200, 60)
        await wait_until(pilot, lambda: len(chart(app, "cpu").split("\n")) > 8)
        await wait_until(pilot, lambda: room.max_scroll_y == 0 and below.region.bottom == room.region.bottom)


@pytest.mark.parametrize("size", [(80, 24), (200, 60)], ids=["80x24", "200x60"])
def test_watch(services: Services, watch: StillWatch, snap_compare: Any, size: tuple[int, int]) -> None:
    with_servers(services, ready())
    if size[0] == 200:
        machine = cast(StillMachine, services.machine)
        machine.state = watch.machine = dataclasses.replace(machine.state, gpus=(GPU,))

    async def drawn(pilot: Any) -> None:
        await wait_until(
            pilot, lambda: "↑5,000" in chart(pilot.app, "output") and "CPU" in text_of(pilot.app, "#machine")
        )
        if size[0] == 200:
            header = pilot.app.screen.query_one(StatusHeader)
            await wait_until(pilot, lambda: "GPU0" in cast(Content, header.render()).plain)

    assert snap_compare(QwenApp(services, "watch"), terminal_size=size, run_before=drawn)


async def test_it_looks_only_while_it_is_shown_and_a_dialog_does_not_stop_it(
    services: Services, watch: StillWatch
) -> None:
    with_servers(services, ready())
    async with running(services) as (app, pilot):
        assert watch.runs == 0
        await pilot.press("w")
        await wait_until(pilot, lambda: watch.running == 1)
        await pilot.press("question_mark")
        await wait_until(pilot, lambda: isinstance(app.screen, HelpScreen))
        await pilot.press("escape")
        await wait_until(pilot, lambda: isinstance(app.screen, WatchScreen))
        assert (watch.running, watch.runs) == (1, 1)
        await pilot.press("s")
        await wait_until(pilot, lambda: watch.running == 0)
        await pilot.press("w")
        await wait_until(pilot, lambda: watch.running == 1)
        assert watch.runs == 2


async def test_without_a_server_it_says_what_to_press_and_shows_the_machine(
    services: Services, watch: StillWatch
) -> None:
    watch.figures, watch.seen_at = Figures(), None
    async with running(services, "watch") as (app, pilot):
        await wait_until(pilot, lambda: "Press s, then n" in text_of(app, "#state"))
        assert not app.screen.query_one("#numbers").display
        assert not app.screen.query_one("#chart-output").display
        await wait_until(pilot, lambda: "CPU" in chart(app, "cpu"))
        assert "CPU    37 %" in text_of(app, "#machine")
        assert watch.sources[-1] == (None, False)


async def test_a_starting_server_is_not_asked_and_its_phase_is_told(services: Services, watch: StillWatch) -> None:
    watch.figures, watch.seen_at = Figures(), None
    with_servers(services, starting())
    async with running(services, "watch") as (app, pilot):
        await wait_until(pilot, lambda: "loading weights 2/4 · about 22 s to go" in text_of(app, "#state"))
        assert watch.sources[-1][1] is False
        assert "no numbers yet" in text_of(app, "#latencies")


async def test_a_server_that_went_leaves_its_last_numbers_with_their_time(
    services: Services, watch: StillWatch
) -> None:
    with_servers(services, stopped())
    async with running(services, "watch") as (app, pilot):
        await wait_until(pilot, lambda: "5 s ago" in text_of(app, "#state"))
        assert "last seen at" in text_of(app, "#state")
        assert "4,952" in text_of(app, "#numbers")
        room = app.screen
        assert isinstance(room, WatchScreen)
        assert room.is_faded


async def test_why_there_are_no_numbers_is_told_and_not_as_markup(services: Services, watch: StillWatch) -> None:
    with_servers(services, ready())
    async with running(services, "watch", size=(140, 30)) as (app, pilot):
        watch.problem = ServerError("It does not tell its metrics", "404 [bold]\x1b[2J")
        watch.again()
        await wait_until(pilot, lambda: "404 [bold]�[2J" in text_of(app, "#state"))
        watch.problem = None
        watch.again()
        await wait_until(pilot, lambda: "404" not in text_of(app, "#state"))


async def test_the_span_of_the_charts_grows_and_shrinks(services: Services, watch: StillWatch) -> None:
    with_servers(services, ready())
    async with running(services, "watch") as (app, pilot):
        await wait_until(pilot, lambda: "last 72 s" in text_of(app, "#state"))
        await pilot.press("plus")
        await wait_until(pilot, lambda: "last 3 min" in text_of(app, "#state"))
        await pilot.press("plus", "plus")
        await wait_until(pilot, lambda: "last 10 min" in text_of(app, "#state"))
        await pilot.press("minus")
        await wait_until(pilot, lambda: "last 3 min" in text_of(app, "#state"))


async def test_the_arrows_go_from_server_to_server(services: Services, watch: StillWatch) -> None:
    with_servers(services, ready("a"), ready("b"))
    async with running(services, "watch") as (app, pilot):
        for key, name in (("right", "b"), ("right", "a"), ("left", "b")):
            await pilot.press(key)
            await wait_until(pilot, lambda name=name: app.target is not None and app.target.name == name)
            source = watch.sources[-1][0]
            assert source is not None
            assert source.name == name


async def test_the_numbers_are_copied_as_json(services: Services, watch: StillWatch) -> None:
    with_servers(services, ready())
    async with running(services, "watch") as (app, pilot):
        await pilot.press("y")
        await wait_until(pilot, lambda: bool(app.clipboard))
        copied = json.loads(app.clipboard)
        assert copied["generation_tokens_per_second"] == 4952
        assert copied["server"] == "Qwen2-7B-Instruct"


async def test_the_language_changes_in_place(services: Services, watch: StillWatch) -> None:
    with_servers(services, ready())
    async with running(services, "watch") as (app, pilot):
        await wait_until(pilot, lambda: "ready" in text_of(app, "#state"))
        await pilot.press("ctrl+g")
        await wait_until(pilot, lambda: "就绪" in text_of(app, "#state"))


# GPUs


async def test_gpus_in_the_header_and_in_the_room(services: Services, watch: StillWatch) -> None:
    machine = cast(StillMachine, services.machine)
    machine.state = watch.machine = dataclasses.replace(machine.state, gpus=(GPU,))
    with_servers(services, ready("a"))
    async with running(services, "watch", size=(120, 45)) as (app, pilot):
        header = app.screen.query_one(StatusHeader)
        await wait_until(pilot, lambda: "GPU0 93% 21.4/24.0 GB 71°C" in cast(Content, header.render()).plain)
        assert cast(Content, header.render()).plain.endswith("zh/en")
        await wait_until(pilot, lambda: "GPU0" in text_of(app, "#machine"))
        text = text_of(app, "#machine")
        for part in ("93 %", "21.4/24.0 GB", "71 °C", "412/450 W", "slowed down by: power limit", "4711", "�[2J[bold]"):
            assert part in text
        await wait_until(pilot, lambda: "GPU power" in chart(app, "requests"))


def test_several_gpus_in_one_word() -> None:
    other = dataclasses.replace(GPU, index=1, utilization=7, temperature=80)
    assert gpu_summary([GPU, other]) == "2 GPU 50% 42.8/48.0 GB 80°C"
    assert gpu_summary([dataclasses.replace(GPU, utilization=None, temperature=None)]) == "GPU0 21.4/24.0 GB"
    assert gpu_summary([]) == ""


async def test_the_header_shows_the_gpus_of_its_server_only(services: Services, watch: StillWatch) -> None:
    machine = cast(StillMachine, services.machine)
    other = dataclasses.replace(GPU, index=1, uuid="GPU-2", utilization=7)
    machine.state = MachineState(0.0, (GPU, other), machine.state.host, 0.3)
    one = ready("a")
    spec = dataclasses.replace(one.spec, env={"CUDA_VISIBLE_DEVICES": "1"})
    with_servers(services, dataclasses.replace(one, spec=spec))
    async with running(services, size=(120, 30)) as (app, pilot):
        header = app.screen.query_one(StatusHeader)
        await wait_until(pilot, lambda: "GPU1 7%" in cast(Content, header.render()).plain)


# Charts


def test_columns_stand_on_whole_multiples_of_their_seconds() -> None:
    points = [Point(tick, running=float(tick)) for tick in range(10, 20) if tick != 14]
    assert columns(points, "running", 19, 5, 1, by_max=False) == [15, 16, 17, 18, 19]
    assert columns(points, "running", 19, 5, 2, by_max=False) == [10.5, 12.5, 15, 16.5, 18.5]
    assert columns(points, "running", 19, 5, 2, by_max=True) == [11, 13, 15, 17, 19]
    moved = columns([*points, Point(20, running=20.0)], "running", 20, 5, 2, by_max=False)
    assert moved == [12.5, 15, 16.5, 18.5, 20]
    assert columns([], "running", 0, 3, 1, by_max=False) == [None, None, None]


def test_a_plot_is_drawn_in_eighths_and_nothing_differs_from_zero() -> None:
    rows = plot([[None, 0.0, 0.5, 4.0, 8.0, 99.0]], 2, 8.0)
    assert ["".join(text for text, _look in row) for row in rows] == ["    ██", " ▁▁███"]
    assert rows[1][:3] == [(" ", ""), ("▁", "zero"), ("▁███", "first")]


def test_the_second_series_stands_on_the_first() -> None:
    rows = plot([[2.0, 4.0, 0.0], [6.0, 4.0, 1.0]], 1, 8.0)
    assert rows == [[("▂▄", "both"), ("▁", "second")]]


def test_the_top_of_a_chart_is_a_round_number() -> None:
    assert [nice_ceiling(value) for value in (0, 1, 1.2, 4952, 79, 81, float("nan"))] == [1, 1, 2, 5000, 80, 100, 1]
    assert nice_ceiling(3, least=10) == 10
    assert nice_ceiling(0.0042, least=0.001) == pytest.approx(0.005)


def test_words_for_a_span() -> None:
    assert [span_words(seconds) for seconds in (72, 119, 192, 600)] == ["72 s", "119 s", "3 min", "10 min"]
