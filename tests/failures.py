"""Short reports of failed tests: whoever reads only the end of a long output still sees the name and cause of each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

#: Lines of one assertion's explanation, of one captured stream, and of one test in the summary at the end.
_EXPLANATION, _CAPTURED, _SUMMARY = 45, 40, 10
_WIDTH = 240
#: What pytest-xdist adds to the names of the tests in tests/e2e.
_GROUP = "@engine"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Cut what is long beyond use: pytest itself cuts nothing where it finds CI in the environment."""
    report: pytest.TestReport = yield  # type: ignore[misc, assignment]
    chain = getattr(report.longrepr, "chain", None) or []
    for traceback, _crash, _description in chain:
        for entry in traceback.reprentries:
            entry.lines[:] = _cut_explanation(entry.lines)
    report.sections = [(name, _tail(text)) for name, text in report.sections]
    return report  # type: ignore[return-value]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The failed tests by name, each with the first lines of what was wrong."""
    reports = [*terminalreporter.getreports("failed"), *terminalreporter.getreports("error")]
    if not reports:
        return
    terminalreporter.section("failed tests", red=True, bold=True)
    for report in reports:
        when = "" if getattr(report, "when", "call") == "call" else f" ({report.when})"
        terminalreporter.write_line(f"FAILED {report.nodeid.removesuffix(_GROUP)}{when}", red=True)
        for line in summary(report):
            terminalreporter.write_line(f"    {line}")


def summary(report: Any) -> list[str]:
    """Where and why, in ten lines at the most."""
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is None:
        return [_short(line) for line in str(report.longrepr).splitlines()[-_SUMMARY:]]
    lines = [line for line in crash.message.splitlines() if line.strip()]
    return [f"{crash.path}:{crash.lineno}", *(_short(line) for line in lines[: _SUMMARY - 1])]


def _cut_explanation(lines: list[str]) -> list[str]:
    explained = [line for line in lines if line.startswith("E")]
    if len(explained) <= _EXPLANATION:
        return [_short(line) for line in lines]
    kept = [line for line in lines if not line.startswith("E")]
    return [_short(line) for line in [*kept, *explained[:_EXPLANATION], f"E   … {len(explained) - _EXPLANATION} more"]]


def _tail(text: str) -> str:
    lines = text.splitlines()
    cut = [f"… {len(lines) - _CAPTURED} lines before"] if len(lines) > _CAPTURED else []
    return "\n".join(_short(line) for line in [*cut, *lines[-_CAPTURED:]]) + "\n"


def _short(line: str) -> str:
    return line if len(line) <= _WIDTH else f"{line[:_WIDTH]}…"
