"""How sure a figure is that was measured a few times: Student's t, and Welch's for the difference of two.

Differences are of logarithms, so that an interval is in percent and holds for rates and for times alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from qwen_tui.i18n import N_

#: How an interval was worked out; translated when drawn.
METHOD = N_("95 % interval: Welch's t on the logarithms of repeated runs")

_PIECES = 200


@dataclass(frozen=True)
class Interval:
    """A share (0.05 is 5 %) with its 95 % confidence interval."""

    mean: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether 0 lies outside: the difference is more than noise."""
        return self.low > 0 or self.high < 0


def t_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The mean of two or more values and its 95 % interval. Raises ValueError for fewer."""
    if len(values) < 2:
        raise ValueError("an interval needs two values")
    mean, variance = _moments(values)
    half = t_quantile(len(values) - 1) * math.sqrt(variance / len(values))
    return mean, mean - half, mean + half


def change(before: Sequence[float], after: Sequence[float]) -> Interval | None:
    """By which share `after` lies above `before`; None where either has fewer than two values, or one not above 0."""
    if min(len(before), len(after)) < 2 or min(*before, *after) <= 0:
        return None
    (mean_a, variance_a), (mean_b, variance_b) = (_moments([math.log(v) for v in side]) for side in (before, after))
    parts = variance_a / len(before), variance_b / len(after)
    error = sum(parts)
    difference = mean_b - mean_a
    if error == 0:
        return Interval(*[math.expm1(difference)] * 3)
    freedom = error**2 / (parts[0] ** 2 / (len(before) - 1) + parts[1] ** 2 / (len(after) - 1))
    half = t_quantile(freedom) * math.sqrt(error)
    return Interval(math.expm1(difference), math.expm1(difference - half), math.expm1(difference + half))


def paired_change(before: Sequence[float], after: Sequence[float]) -> Interval | None:
    """The same for runs in pairs, taken one beside the other; None as in `change`. Raises ValueError for odd ones."""
    if min(len(before), len(after)) < 2 or min(*before, *after) <= 0:
        return None
    ratios = [math.log(b / a) for a, b in zip(before, after, strict=True)]
    return Interval(*(math.expm1(value) for value in t_interval(ratios)))


def t_quantile(freedom: float, share: float = 0.975) -> float:
    """The value that `share` (above 0.5) of Student's t with so many degrees of freedom lies below."""
    low, high = 0.0, 1.0
    while _t_below(high, freedom) < share:
        high *= 2
    for _step in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_below(middle, freedom) < share else (low, middle)
    return high


def _t_below(value: float, freedom: float) -> float:
    """The share of Student's t below `value`, which is not negative; at least one degree of freedom.

    With t = sqrt(freedom) tan(angle) the density is a power of the cosine, which Simpson's rule sums exactly enough.
    """
    end = math.atan(value / math.sqrt(freedom))
    step = end / _PIECES
    total = math.fsum(
        (1 if number in (0, _PIECES) else 2 + 2 * (number % 2)) * math.cos(number * step) ** (freedom - 1)
        for number in range(_PIECES + 1)
    )
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(math.pi)
    return 0.5 + scale * total * step / 3


def _moments(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and variance with ddof 1."""
    mean = math.fsum(values) / len(values)
    return mean, math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
