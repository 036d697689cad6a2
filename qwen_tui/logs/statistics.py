"""The figures that an engine writes into its log every ten seconds, in whatever wording.

vLLM has changed the labels, their order and number from version to version; each is recognised by the words in
it, and a figure that nobody knows is kept under its own label.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from qwen_tui.logs.parse import LogLine

_PAIR = re.compile(r"(?P<label>[A-Za-z][A-Za-z /()\-]{1,60}?): (?P<value>\d[\d,]*(?:\.\d+)?) ?(?P<unit>[A-Za-z%/]*)")
_ENGINE = re.compile(r"\b(?P<engine>Engine \d{1,6}):? ")
_TIME = re.compile(r"\b\d\d-\d\d (?P<time>\d\d:\d\d:\d\d)\b")
#: Short label, and the words that a label must hold for it, in the order of the columns.
_LABELS: tuple[tuple[str, tuple[str, ...], int], ...] = (
    ("prompt", ("prompt", "throughput"), 9),
    ("gen", ("generation", "throughput"), 9),
    ("running", ("running",), 5),
    ("waiting", ("waiting",), 5),
    ("waiting", ("pending",), 5),
    ("deferred", ("deferred",), 5),
    ("swapped", ("swapped",), 5),
    ("preempted", ("preempt",), 5),
    ("KV", ("kv cache usage",), 7),
    ("ext hit", ("external", "hit rate"), 7),
    ("mm hit", ("mm cache", "hit rate"), 7),
    ("prefix hit", ("prefix", "hit rate"), 7),
)


class Figure(NamedTuple):
    """One figure. label: short where it is known. unit: as the log says it, such as "tokens/s", "reqs" or "%"."""

    label: str
    value: float
    unit: str
    width: int

    @property
    def text(self) -> str:
        """Label, figure and unit, the figure aligned to the right."""
        unit = {"tokens/s": " tok/s", "reqs": "", "%": " %"}.get(self.unit, f" {self.unit}" if self.unit else "")
        digits = 0 if self.unit == "reqs" or (self.value == int(self.value) and not self.unit) else 1
        return f"{self.label} {self.value:>{self.width},.{digits}f}{unit}"


class Figures(NamedTuple):
    """What one line of figures says. engine: "Engine 000"; empty where it does not say. time: "16:24:49" or empty."""

    engine: str
    time: str
    figures: tuple[Figure, ...]

    @property
    def columns(self) -> str:
        """All in one line; those of two lines of the same version stand below each other."""
        head = " ".join(part for part in (self.time, self.engine) if part)
        return "  ".join([*([head] if head else []), *(figure.text for figure in self.figures)])


def figures_of(line: LogLine) -> Figures | None:
    """The figures in a line of the engine's statistics; None for any other line."""
    text = line.text
    lowered = text.lower()
    if "throughput" not in lowered or ("running" not in lowered and "cache usage" not in lowered):
        return None
    engine = _ENGINE.search(text)
    time = _TIME.search(text)
    found: list[Figure] = []
    # The file and the time stand in front; what counts begins behind the last bracket of the logger.
    start = engine.end() if engine else max(0, text.find("] ") + 2 if "] " in text else 0)
    for match in _PAIR.finditer(text, start):
        label, width = _label(match["label"].strip())
        if match["label"].lower().startswith("cpu kv cache") and any(figure.label == label for figure in found):
            label = "CPU KV"
        found.append(Figure(label, float(match["value"].replace(",", "")), match["unit"], width))
    if len(found) < 3:
        return None
    return Figures(engine["engine"] if engine else "", time["time"] if time else "", tuple(found))


def _label(label: str) -> tuple[str, int]:
    lowered = label.lower()
    for short, words, width in _LABELS:
        if all(word in lowered for word in words):
            return short, width
    return label, 7
