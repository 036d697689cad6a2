"""`qwen-tui top [NAME]`: how loaded a server, the GPUs and this machine are."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qwen_tui.i18n import _
from qwen_tui.logs.plain_text import printable
from qwen_tui.paths import Paths
from qwen_tui.settings import Settings

if TYPE_CHECKING:
    from qwen_tui.hardware.machine import MachineState
    from qwen_tui.server.metrics import MetricsSample
    from qwen_tui.server.metrics_window import Figures
    from qwen_tui.server.service import Servers
    from qwen_tui.server.status import ServerStatus
    from qwen_tui.server.watch import Watch


#: Looks after which what is known is shown, if the server has not answered twice by then.
_PATIENCE = 12
#: Seconds from which the latencies of a window say more than those of the server's whole life.
_TELLING = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help=_("the server (default: the first that is ready)"))
    parser.add_argument("--json", action="store_true", help=_("print one sample as a JSON object"))
    parser.add_argument("--watch", action="store_true", help=_("go on each second, until Ctrl-C"))


def run(arguments: argparse.Namespace, paths: Paths, settings: Settings) -> int:
    from qwen_tui.headless.running import run_interruptible

    return run_interruptible(lambda: _top(arguments, paths), lambda: "")


async def _top(arguments: argparse.Namespace, paths: Paths) -> int:
    from qwen_tui.hardware.machine import Machine
    from qwen_tui.server.service import Servers
    from qwen_tui.server.watch import INTERVAL, Source, Watch, can_be_asked

    servers = Servers(paths)
    machine = Machine(paths.data)
    watch = Watch(machine)
    try:
        looks = shown = 0
        while True:
            status = await _chosen(servers, arguments.name)
            watch.look_at(Source.of(status) if status is not None else None, alive=can_be_asked(status))
            await watch.look(looks)
            looks += 1
            # Rates and the processor's share need two looks; a server that is busy may answer a few looks late.
            is_known = watch.figures.seconds > 0 or watch.problem is not None or not can_be_asked(status)
            if shown or (looks > 1 and (is_known or looks > _PATIENCE)):
                _show(status, watch, as_json=arguments.json, again=shown > 0)
                shown += 1
                if not arguments.watch:
                    return 0
            await asyncio.sleep(INTERVAL)
    finally:
        await watch.close()
        await machine.close()
        await servers.close()


async def _chosen(servers: Servers, name: str | None) -> ServerStatus | None:
    """The server named, else the first that is ready, else the first that lives. Raises ServerNotFound for a name."""
    from qwen_tui.server.status import ServerState

    if name:
        servers.get(name)  # says which ones there are, if not this one
    statuses = await servers.refresh()
    if name:
        return next((status for status in statuses if status.name == name), None)
    living = [status for status in statuses if status.state.is_alive]
    return min(living, key=lambda status: status.state is not ServerState.READY, default=None)


def _show(status: ServerStatus | None, watch: Watch, *, as_json: bool, again: bool) -> None:
    if as_json:
        print(json.dumps(sample_json(status, watch), ensure_ascii=False), flush=True)
        return
    text = "\n".join(_lines(status, watch))
    if again and sys.stdout.isatty():
        text = f"\x1b[H\x1b[J{text}"
    elif again:
        text = f"\n{text}"
    print(text, flush=True)


def sample_json(status: ServerStatus | None, watch: Watch) -> dict[str, Any]:
    """One sample: the server's numbers (null without one), GPUs (bytes, W, °C, MHz) and host (bytes)."""
    machine = watch.machine
    return {
        "at": round(time.time(), 3),
        "server": _server_json(status, watch) if status is not None else None,
        "gpus": [_gpu_json(gpu) for gpu in machine.gpus] if machine is not None else [],
        "host": _host_json(machine) if machine is not None else None,
    }


def _server_json(status: ServerStatus, watch: Watch) -> dict[str, Any]:
    from qwen_tui.server.metrics_window import figures_since_start

    sample: MetricsSample | None = watch.latest
    problem = watch.problem
    return {
        "name": status.name,
        "state": status.state.value,
        "model": status.model_name,
        "problem": f"{problem.title}: {problem.why}" if problem is not None else None,
        **watch.figures.to_json(),
        "since_start": figures_since_start(sample) if sample is not None else None,
    }


def _gpu_json(gpu: Any) -> dict[str, Any]:
    from dataclasses import asdict

    data = asdict(gpu)
    capability = gpu.compute_capability
    data["compute_capability"] = ".".join(map(str, capability)) if capability else None
    data["throttle"] = gpu.throttle_words
    return data


def _host_json(machine: MachineState) -> dict[str, Any]:
    host, disk = machine.host, machine.disk
    return {
        "cpu": None if machine.cpu is None else round(machine.cpu, 4),
        "cores": host.cores,
        "load": host.load,
        "memory_total": host.memory_total,
        "memory_available": host.memory_available,
        "disk_total": disk.total if disk is not None else None,
        "disk_free": disk.free if disk is not None else None,
    }


def _lines(status: ServerStatus | None, watch: Watch) -> list[str]:
    """The same for people."""
    from qwen_tui.server.status import STATE_WORDS

    lines: list[str] = []
    if status is None:
        lines.append(_("No server runs"))
    else:
        lines.append(f"{printable(status.name)}  {_(STATE_WORDS[status.state])}")
        if watch.problem is not None:
            lines.append(f"  {printable(watch.problem.title)}: {printable(watch.problem.why)}")
        elif watch.seen_at is not None:
            lines += _server_lines(watch.figures, watch.latest)
    machine = watch.machine
    if machine is not None:
        lines += _machine_lines(machine)
    return lines


def _server_lines(figures: Figures, sample: MetricsSample | None) -> list[str]:
    from qwen_tui.server import metrics_words as words
    from qwen_tui.server.metrics_window import LATENCIES, Latency

    pairs = [
        (_("output tokens/s"), words.format_per_second(figures.generation_rate)),
        (_("prompt tokens/s"), words.format_per_second(figures.prompt_rate)),
        (_("requests running"), words.format_whole(figures.running)),
        (_("requests waiting"), words.format_whole(figures.waiting)),
        (_("KV cache in use"), words.format_share(figures.kv_usage)),
        (_("prefix cache hits"), words.format_share(figures.hit_rate)),
        (_("preemptions"), words.format_whole(figures.preemptions)),
        (_("finished"), printable(words.finished_words(figures.finished)) or words.UNKNOWN),
    ]
    lines = _table([[f"  {label}", value] for label, value in pairs])
    heading = _("last {seconds} s").format(seconds=round(figures.seconds))
    found = dict(figures.latencies)
    if figures.seconds < _TELLING and sample is not None:
        heading = _("since its start")
        whole = {name: Latency.of(getattr(sample, name)) for name in LATENCIES}
        found = {name: latency for name, latency in whole.items() if latency is not None}
    rows = [[f"  {heading}", "p50", "p95", "p99", _("mean"), _("count")]]
    for name, latency in found.items():
        quantiles = [words.format_quantile(one) for one in (latency.p50, latency.p95, latency.p99)]
        rows.append([f"  {words.LATENCY_WORDS[name]}", *quantiles, words.format_latency(latency.mean),
                     f"{latency.count:,}"])  # fmt: skip
    return lines + (_table(rows) if found else [])


def _machine_lines(machine: MachineState) -> list[str]:
    from qwen_tui.progress import format_bytes
    from qwen_tui.server.metrics_words import format_share

    lines = []
    for gpu in machine.gpus:
        parts = [
            f"GPU{gpu.index} {printable(gpu.name)}",
            f"{gpu.utilization} %" if gpu.utilization is not None else "",
            f"{format_bytes(gpu.memory_used)} / {format_bytes(gpu.memory_total)}",
            f"{gpu.temperature} °C" if gpu.temperature is not None else "",
            f"{gpu.power:.0f} W" if gpu.power is not None else "",
            f"{gpu.clock_sm:,} MHz" if gpu.clock_sm is not None else "",
            *gpu.throttle_words,
        ]
        lines.append("  ".join(part for part in parts if part))
        for process in gpu.processes:
            memory = format_bytes(process.memory) if process.memory is not None else "–"
            lines.append(f"  {process.pid}  {memory}  {printable(process.command)}")
    host, disk = machine.host, machine.disk
    used = host.memory_total - host.memory_available
    lines.append(
        _("CPU {share} of {cores} cores, load {load}").format(
            share=format_share(machine.cpu), cores=f"{host.cores:g}", load=f"{host.load:.2f}"
        )
    )
    lines.append(f"RAM {format_bytes(used)} / {format_bytes(host.memory_total)}")
    if disk is not None:
        lines.append(_("disk {free} free of {total}").format(free=format_bytes(disk.free),
                                                             total=format_bytes(disk.total)))  # fmt: skip
    return lines


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows with every column as wide as its widest cell; the first to the left, the others to the right."""
    from rich.cells import cell_len

    widths = [max(cell_len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        padded = [" " * (width - cell_len(text)) for text, width in zip(row, widths, strict=True)]
        cells = [row[0] + padded[0], *(pad + text for pad, text in zip(padded[1:], row[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return lines
