"""What the Watch room writes beside its charts: the numbers, the latencies, the GPUs and the host."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from textual.content import Content
from textual.renderables.digits import DIGITS, DIGITS3X3_BOLD

from qwen_tui.hardware.gpus import Gpu
from qwen_tui.hardware.machine import MachineState
from qwen_tui.i18n import _
from qwen_tui.progress import format_bytes
from qwen_tui.server.metrics_window import LATENCIES, Figures
from qwen_tui.server.metrics_words import (
    LATENCY_WORDS,
    UNKNOWN,
    finished_words,
    format_latency,
    format_per_second,
    format_quantile,
    format_share,
    format_whole,
)
from qwen_tui.ui.text import cut_middle, fit, one_line
from qwen_tui.ui.widgets.phase_bar import bar

_MUTED = "$foreground-muted"
_LARGE = DIGITS3X3_BOLD
#: Share from which a bar is drawn as a warning.
_HIGH = 0.95


def numbers(figures: Figures, width: int, *, large: bool, faded: bool) -> Content:
    """The six numbers that matter most, side by side; `large` draws them three lines high."""
    tiles = [
        (_("output tok/s"), format_per_second(figures.generation_rate)),
        (_("prompt tok/s"), format_per_second(figures.prompt_rate)),
        (_("running"), format_whole(figures.running)),
        (_("waiting"), format_whole(figures.waiting)),
        (_("KV cache"), format_share(figures.kv_usage)),
        (_("prefix hits"), format_share(figures.hit_rate)),
    ]
    return tile_lines(tiles, width, large=large, faded=faded)


def tile_lines(tiles: Sequence[tuple[str, str]], width: int, *, large: bool, faded: bool) -> Content:
    """Labels with their values under them, side by side in `width` cells."""
    # By the labels, not by the values, so that nothing moves when a number grows.
    widths = [max(cell_len(label), 7) for label, _value in tiles]
    spare = max(1, (width - sum(widths)) // len(tiles))
    widths = [cells + spare for cells in widths]
    style = _MUTED if faded else "bold"
    values = [_large(value) if large else [value] for _label, value in tiles]
    rows = [[label for label, _value in tiles], *zip(*values, strict=True)]
    lines = ["".join(fit(text, cells) for text, cells in zip(row, widths, strict=True)) for row in rows]
    return Content("\n").join([Content.styled(lines[0], _MUTED), *(Content.styled(line, style) for line in lines[1:])])


def _large(text: str) -> list[str]:
    """`text` in three lines; what has no large form stands on the last one."""
    rows = ["", "", ""]
    for letter in text:
        place = DIGITS.find(letter) if letter != " " else -1
        for y in range(3):
            if place >= 0:
                rows[y] += _LARGE[place * 3 + y].ljust(3)
            else:
                rows[y] += letter if y == 2 else " "
    return rows


def latencies(figures: Figures, width: int, *, faded: bool) -> Content:
    """The percentiles as a table, and what else is counted over the last minute."""
    style = _MUTED if faded else ""
    with_mean = width >= 56
    heads = ["p50", "p95", "p99", *([_("mean"), _("count")] if with_mean else [])]
    lines = [Content.styled(_cells("", heads), _MUTED)]
    for name in LATENCIES:
        latency = figures.latencies.get(name)
        if latency is None:
            texts = [UNKNOWN] * len(heads)
        else:
            texts = [format_quantile(quantile) for quantile in (latency.p50, latency.p95, latency.p99)]
            texts += [format_latency(latency.mean), f"{latency.count:,}"] if with_mean else []
        lines.append(Content.styled(_cells(LATENCY_WORDS[name], texts), style))
    seconds = round(figures.seconds)
    finished = finished_words(figures.finished) or UNKNOWN
    if figures.seconds:
        counted = _("last {seconds} s: preemptions {count}").format(
            seconds=seconds, count=format_whole(figures.preemptions)
        )
    else:
        counted = _("no numbers yet")
    lines.append(Content.styled(cut_middle(counted, width), _MUTED))
    lines.append(Content.styled(cut_middle(_("finished: {reasons}").format(reasons=one_line(finished)), width), _MUTED))
    return Content("\n").join(lines)


def _cells(name: str, texts: Sequence[str]) -> str:
    return f"{name:<5}" + "".join(" " * max(1, 10 - cell_len(text)) + text for text in texts)


def machine(state: MachineState | None, width: int, *, processes: bool) -> Content:
    """The GPUs, a line each (with `processes` a line for each of theirs), then processor, memory and disk."""
    if state is None:
        return Content("")
    lines: list[Content] = []
    for gpu in state.gpus:
        lines += _gpu(gpu, width, processes=processes)
    host = state.host
    used = host.memory_total - host.memory_available
    cores = f"{host.cores:g}"
    rows = [
        ("CPU", state.cpu, _("{cores} cores, load {load:.2f}").format(cores=cores, load=host.load)),
        (
            "RAM",
            used / host.memory_total if host.memory_total else None,
            f"{format_bytes(used)} / {format_bytes(host.memory_total)}",
        ),
    ]
    lines += [_meter(name, share, text, width) for name, share, text in rows]
    disk = state.disk
    if disk is not None and disk.total:
        text = _("{size} free").format(size=format_bytes(disk.free))
        lines.append(_meter(_("disk"), 1 - disk.free / disk.total, text, width))
    return Content("\n").join(lines)


def _meter(name: str, share: float | None, text: str, width: int) -> Content:
    """Name, percent, bar and text in `width` cells."""
    head = fit(name, 5) + f"{UNKNOWN if share is None else f'{share * 100:.0f} %':>6} "
    cells = max(4, min(24, width - len(head) - 24))
    filled, rest = bar(share or 0.0, cells)
    colour = "$warning" if (share or 0.0) >= _HIGH else "$primary"
    tail = cut_middle(text, max(1, width - cell_len(head) - cells - 1))
    return Content.assemble(head, (filled, f"{colour} on $surface-lighten-1"), (rest, "on $surface-lighten-1"),
                            " ", (tail, _MUTED))  # fmt: skip


def gpu_figures(gpu: Gpu) -> list[str]:
    """Utilization, memory, temperature, power and clock, as far as the driver tells them."""
    figures = [
        f"{gpu.utilization} %" if gpu.utilization is not None else "",
        memory_words(gpu.memory_used, gpu.memory_total),
        f"{gpu.temperature} °C" if gpu.temperature is not None else "",
    ]
    if gpu.power is not None:
        limit = f"/{gpu.power_limit:.0f}" if gpu.power_limit else ""
        figures.append(f"{gpu.power:.0f}{limit} W")
    if gpu.clock_sm is not None:
        figures.append(f"{gpu.clock_sm:,} MHz")
    return [figure for figure in figures if figure]


def memory_words(used: int, total: int) -> str:
    """'21.4/24.0 GB', in units of 10⁹ bytes."""
    return f"{used / 1e9:.1f}/{total / 1e9:.1f} GB"


def _gpu(gpu: Gpu, width: int, *, processes: bool) -> list[Content]:
    name = f"GPU{gpu.index}"
    figures = gpu_figures(gpu)
    while figures and cell_len("  ".join([name, *figures])) > width:
        figures.pop()
    text = "  ".join([name, *figures])
    model = one_line(gpu.name)
    if model and cell_len(text) + 2 + min(cell_len(model), 12) <= width:
        text += "  " + cut_middle(model, width - cell_len(text) - 2)
    lines = [Content(text)]
    if gpu.throttle_words:
        slowed = _("slowed down by: {reasons}").format(reasons=", ".join(gpu.throttle_words))
        lines.append(Content.styled(cut_middle(f"  ! {slowed}", width), "$text-warning"))
    if processes:
        for process in gpu.processes:
            size = format_bytes(process.memory) if process.memory is not None else UNKNOWN
            words = f"  {process.pid:>8} {size:>8}  {one_line(process.command)}"
            lines.append(Content.styled(cut_middle(words, width), _MUTED))
    return lines
