"""A server's figures as text: units, thousands separators, no false precision."""

from __future__ import annotations

from collections.abc import Mapping

from qwen_tui.i18n import N_, _
from qwen_tui.server.metrics import Quantile

#: What is shown of a number that is not known.
UNKNOWN = "–"
#: Latency → the term in the field, the same in every language.
LATENCY_WORDS: Mapping[str, str] = {"ttft": "TTFT", "itl": "ITL", "tpot": "TPOT", "e2e": "E2E"}
#: vLLM's reasons for the end of a request.
_REASONS: Mapping[str, str] = {
    "stop": N_("stop"),
    "length": N_("length"),
    "abort": N_("aborted"),
    "error": N_("error"),
    "repetition": N_("repetition"),
}


def format_latency(seconds: float | None) -> str:
    """Three significant digits in ms below a second, else in s: '0.41 ms', '41.7 ms', '2.33 s', '125 s'."""
    if seconds is None:
        return UNKNOWN
    value, unit = (seconds * 1000, "ms") if seconds < 0.9995 else (seconds, "s")
    decimals = 0 if value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{value:,.{decimals}f} {unit}"


def format_quantile(quantile: Quantile | None) -> str:
    """Like format_latency; '> 2,560 s' for what lies beyond what the server counts."""
    if quantile is None:
        return UNKNOWN
    return f"> {format_latency(quantile.value)}" if quantile.is_above else format_latency(quantile.value)


def format_per_second(rate: float | None) -> str:
    """A rate without its unit: '4,952', '57.2', '0.8', '0'."""
    if rate is None:
        return UNKNOWN
    return f"{rate:,.0f}" if rate >= 99.95 or rate == 0 else f"{rate:,.1f}"


def format_whole(count: float | None) -> str:
    return UNKNOWN if count is None else f"{count:,.0f}"


def format_share(share: float | None) -> str:
    """'37 %', '0.4 %' for 0..1."""
    if share is None:
        return UNKNOWN
    percent = share * 100
    return f"{percent:.1f} %" if 0.05 <= percent < 9.95 else f"{percent:.0f} %"


def finished_words(finished: Mapping[str, int]) -> str:
    """'length 25 · stop 3'; reasons that did not occur are left out; empty if none did."""
    pairs = sorted(((count, reason) for reason, count in finished.items() if count), reverse=True)
    return " · ".join(f"{_(_REASONS[reason]) if reason in _REASONS else reason} {count:,}" for count, reason in pairs)
