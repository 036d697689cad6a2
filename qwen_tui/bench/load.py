"""How requests are put on a server: in a closed loop of streams, or in an open loop at a rate."""

from __future__ import annotations

import math
import random
from array import array
from dataclasses import asdict, dataclass
from typing import Any

from qwen_tui.errors import UsageError
from qwen_tui.i18n import _


@dataclass(frozen=True)
class Load:
    """Either `streams` (closed loop: the next as one ends) or `rate` (open loop) is set, and `count` or `seconds`.

    rate: requests per second; infinite sends all at once. burstiness: shape of the gamma distribution of the gaps; 1 is
    Poisson, infinite an even pace. most_at_once: the cap on requests under way in an open loop; 0 for none.
    ramp: "linear" or "exponential" from ramp_from to `rate` over the run; empty for none.
    count: requests. seconds: nothing is sent after; what is under way is waited for.
    warmup: requests that count nowhere.
    """

    streams: int = 0
    rate: float = 0.0
    burstiness: float = 1.0
    most_at_once: int = 0
    ramp: str = ""
    ramp_from: float = 0.0
    count: int = 0
    seconds: float = 0.0
    warmup: int = 0

    def __post_init__(self) -> None:
        """Raises UsageError where the fields contradict each other."""
        if bool(self.streams) == bool(self.rate):
            raise UsageError(_("A load has either a number of streams or a rate of requests"))
        if bool(self.count) == bool(self.seconds):
            raise UsageError(_("A run ends after a number of requests or after a time: give one of the two"))
        if self.ramp not in ("", "linear", "exponential") or (self.ramp and not 0 < self.ramp_from < math.inf):
            raise UsageError(_("A ramp is linear or exponential, and begins with a rate above 0"))
        if self.ramp and not 0 < self.rate < math.inf:
            raise UsageError(_("A ramp needs a finite rate to end with"))
        if self.seconds and math.isinf(self.rate):
            raise UsageError(_("All requests at once need a number of requests"))
        numbers = (self.streams, self.rate, self.most_at_once, self.count, self.seconds, self.warmup)
        if any(number < 0 or math.isnan(number) for number in numbers) or not self.burstiness > 0:
            raise UsageError(_("A load's numbers are above 0"))

    @property
    def is_open_loop(self) -> bool:
        return self.rate > 0

    @property
    def slots(self) -> int:
        """The most requests under way at once; 0 without a limit."""
        return self.streams or self.most_at_once

    def to_json(self) -> dict[str, Any]:
        """Numbers and texts only; infinity as "inf"."""
        return {key: "inf" if value == math.inf else value for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Load:
        """The load that `to_json` wrote. Raises UsageError, TypeError."""
        fields: dict[str, Any] = {key: math.inf if value == "inf" else value for key, value in data.items()}
        return cls(**fields)

    def arrivals(self, chance: random.Random) -> array[float]:
        """When each request of an open loop is due, in seconds after the beginning, the first at once."""
        if math.isinf(self.rate):
            return array("d", bytes(8 * max(self.count, self.warmup)))
        due = array("d")
        at = 0.0
        least = max(self.count, self.warmup)
        while len(due) < least or (self.seconds and at < self.seconds):
            due.append(at)
            at += self._gap(self._rate_at(len(due), at), chance)
        return due

    def _rate_at(self, number: int, at: float) -> float:
        """Requests per second where the run is now: after `number` requests, or `at` seconds."""
        if not self.ramp:
            return self.rate
        share = min(1.0, number / self.count if self.count else at / self.seconds)
        if self.ramp == "linear":
            return self.ramp_from + (self.rate - self.ramp_from) * share
        return float(self.ramp_from * (self.rate / self.ramp_from) ** share)

    def _gap(self, rate: float, chance: random.Random) -> float:
        if math.isinf(self.burstiness):
            return 1.0 / rate
        return chance.gammavariate(self.burstiness, 1.0 / (rate * self.burstiness))
