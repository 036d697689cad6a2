"""A small writer of charts as SVG: lines, dots and bars. No script, everything escaped, dark and light."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 720, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 44, 36
_COLORS = 6
#: Points of a line, at most: more than there are pixels would only make the file large.
_MOST_POINTS = 1500

#: For the element that the charts stand in. Colours are told apart in both schemes, and by the colour-blind.
STYLE = """
.chart text { font: 12px system-ui, sans-serif; fill: #444; }
.chart .title { font-size: 14px; font-weight: 600; fill: #111; }
.chart .axis { stroke: #999; stroke-width: 1; fill: none; }
.chart .grid { stroke: #e4e4e4; stroke-width: 1; fill: none; }
.chart .back { fill: #fff; }
.chart .line { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
.chart .c0 { stroke: #0072b2; } .chart .f0 { fill: #0072b2; }
.chart .c1 { stroke: #d55e00; } .chart .f1 { fill: #d55e00; }
.chart .c2 { stroke: #009e73; } .chart .f2 { fill: #009e73; }
.chart .c3 { stroke: #aa4499; } .chart .f3 { fill: #aa4499; }
.chart .c4 { stroke: #b8860b; } .chart .f4 { fill: #b8860b; }
.chart .c5 { stroke: #56b4e9; } .chart .f5 { fill: #56b4e9; }
@media (prefers-color-scheme: dark) {
.chart text { fill: #bbb; } .chart .title { fill: #eee; } .chart .back { fill: #161616; }
.chart .grid { stroke: #333; } .chart .axis { stroke: #777; }
.chart .c0 { stroke: #56a9e8; } .chart .f0 { fill: #56a9e8; }
.chart .c1 { stroke: #ff8c42; } .chart .f1 { fill: #ff8c42; }
.chart .c2 { stroke: #3fd0a0; } .chart .f2 { fill: #3fd0a0; }
}
"""


@dataclass(frozen=True)
class Line:
    """A named curve. is_dots: its points are not joined. A NaN breaks the line."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    is_dots: bool = False


def line_chart(title: str, lines: Sequence[Line], x_name: str, y_name: str, *, log_x: bool = False) -> str:
    """The chart as an element of WIDTH × HEIGHT; empty where there is nothing to draw. The y axis begins at 0."""
    lines = [_thinned(line) for line in lines if any(math.isfinite(value) for value in line.ys)]
    xs = [x for line in lines for x in line.xs if math.isfinite(x) and (x > 0 or not log_x)]
    ys = [y for line in lines for y in line.ys if math.isfinite(y)]
    if not xs:
        return ""
    low, high = (min(xs), max(xs)) if log_x else (min(0.0, *xs), max(xs))
    x_at = _scale(math.log10(low), math.log10(high), _LEFT, WIDTH - _RIGHT) if log_x else _scale(
        low, high, _LEFT, WIDTH - _RIGHT
    )  # fmt: skip
    top = max(ys) or 1.0
    y_at = _scale(0.0, top, HEIGHT - _BOTTOM, _TOP)
    place: Callable[[float], float] = (lambda x: x_at(math.log10(x))) if log_x else x_at
    parts = [_frame(title, [line.name for line in lines]), _y_axis(top, y_at, y_name)]
    for tick in _log_ticks(low, high) if log_x else ticks(low, high):
        parts.append(_text(place(tick), HEIGHT - _BOTTOM + 16, _number(tick), "middle"))
    parts.append(_text(WIDTH - _RIGHT, HEIGHT - 4, x_name, "end"))
    for number, line in enumerate(lines):
        parts.append(
            _dots(line, number, place, y_at, log_x) if line.is_dots else _curve(line, number, place, y_at, log_x)
        )
    return f"<g>{''.join(parts)}</g>"


def bar_chart(title: str, groups: Sequence[tuple[str, Sequence[float]]], names: Sequence[str], unit: str) -> str:
    """Groups of bars beside each other: each has a label, and a value for each of `names`."""
    values = [value for _label, values in groups for value in values if math.isfinite(value)]
    if not values or max(values) <= 0:
        return ""
    y_at = _scale(0.0, max(values), HEIGHT - _BOTTOM, _TOP)
    parts = [_frame(title, names if len(names) > 1 else ()), _y_axis(max(values), y_at, unit)]
    wide = (WIDTH - _LEFT - _RIGHT) / len(groups)
    bar = min(60.0, wide * 0.8 / len(names))
    for place, (label, heights) in enumerate(groups):
        middle = _LEFT + wide * (place + 0.5)
        parts.append(_text(middle, HEIGHT - _BOTTOM + 16, _shortened(label, int(wide / 6.5)), "middle"))
        for number, value in enumerate(heights):
            if math.isfinite(value):
                x, y = middle + bar * (number - len(heights) / 2), y_at(value)
                parts.append(
                    f'<rect class="f{number % _COLORS}" x="{x + 1:.1f}" y="{y:.1f}" width="{max(1.0, bar - 2):.1f}" '
                    f'height="{HEIGHT - _BOTTOM - y:.1f}"/>'
                )
                if bar >= 24:
                    parts.append(_text(x + bar / 2, y - 4, _number(value), "middle"))
    return f"<g>{''.join(parts)}</g>"


def document(charts: Sequence[str], title: str) -> str:
    """The charts one below the other as a file of their own."""
    drawn = [chart for chart in charts if chart]
    body = "".join(f'<g transform="translate(0 {HEIGHT * number})">{chart}</g>' for number, chart in enumerate(drawn))
    height = HEIGHT * max(1, len(drawn))
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<svg xmlns="http://www.w3.org/2000/svg" class="chart" '
        f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"><title>{escaped(title)}</title>'
        f'<style>{STYLE}</style><rect class="back" width="{WIDTH}" height="{height}"/>{body}</svg>\n'
    )


def inline(chart: str) -> str:
    """One chart as an element within HTML, whose style has STYLE."""
    return f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}">{chart}</svg>' if chart else ""


def escaped(text: str) -> str:
    """For XML and HTML; what neither allows at all is left out."""
    return escape("".join(letter for letter in text if letter.isprintable() or letter in "\n\t"))


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Some `count` round numbers from `low` to `high`."""
    if high <= low:
        return [low]
    raw = (high - low) / count
    unit = 10 ** math.floor(math.log10(raw))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= raw)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    found = [
        factor * 10.0**power
        for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for factor in ((1, 2, 5) if high / low < 1000 else (1,))
    ]
    return [tick for tick in found if low <= tick <= high] or [low]


def _scale(low: float, high: float, begin: float, end: float) -> Callable[[float], float]:
    span = (high - low) or 1.0
    return lambda value: begin + (value - low) / span * (end - begin)


def _frame(title: str, names: Sequence[str]) -> str:
    parts = [_text(_LEFT, 18, title, "start", "title")]
    x = float(_LEFT)
    for number, name in enumerate(names if len(names) > 1 else ()):
        parts.append(f'<rect class="f{number % _COLORS}" x="{x:.0f}" y="26" width="10" height="10"/>')
        parts.append(_text(x + 14, 35, name, "start"))
        x += 28 + 7 * sum(1 + (ord(letter) > 0x2E7F) for letter in name)
    parts.append(f'<path class="axis" d="M{_LEFT} {HEIGHT - _BOTTOM}H{WIDTH - _RIGHT}"/>')
    return "".join(parts)


def _y_axis(top: float, y_at: Callable[[float], float], name: str) -> str:
    parts = []
    for tick in ticks(0.0, top, 4):
        y = y_at(tick)
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}"/>' if tick else "")
        parts.append(_text(_LEFT - 6, y + 4, _number(tick), "end"))
    parts.append(_text(WIDTH - _RIGHT, 18, name, "end"))
    return "".join(parts)


def _curve(line: Line, number: int, x_at: Callable[[float], float], y_at: Callable[[float], float], log_x: bool) -> str:
    path, is_down = [], False
    for x, y in zip(line.xs, line.ys, strict=True):
        if not (math.isfinite(x) and math.isfinite(y)) or (log_x and x <= 0):
            is_down = False
            continue
        path.append(f"{'L' if is_down else 'M'}{x_at(x):.1f} {y_at(y):.1f}")
        is_down = True
    return f'<path class="line c{number % _COLORS}" d="{"".join(path)}"/>'


def _dots(line: Line, number: int, x_at: Callable[[float], float], y_at: Callable[[float], float], log_x: bool) -> str:
    return "".join(
        f'<circle class="f{number % _COLORS}" cx="{x_at(x):.1f}" cy="{y_at(y):.1f}" r="2"/>'
        for x, y in zip(line.xs, line.ys, strict=True)
        if math.isfinite(x) and math.isfinite(y) and not (log_x and x <= 0)
    )


def _text(x: float, y: float, text: str, anchor: str, kind: str = "") -> str:
    words = f' class="{kind}"' if kind else ""
    return f'<text{words} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escaped(text)}</text>'


def _thinned(line: Line) -> Line:
    step = math.ceil(len(line.xs) / _MOST_POINTS)
    return line if step <= 1 else Line(line.name, line.xs[::step], line.ys[::step], line.is_dots)


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= max(4, most) else "…" + text[-max(3, most - 1) :]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
