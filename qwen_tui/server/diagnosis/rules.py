"""All rules, in the order they are tried, and trying them."""

from __future__ import annotations

from collections.abc import Sequence

from qwen_tui.server.diagnosis import (
    rules_arguments,
    rules_gpu,
    rules_hub,
    rules_install,
    rules_memory,
    rules_model,
    rules_parallel,
    rules_system,
)
from qwen_tui.server.diagnosis.facts import Facts
from qwen_tui.server.diagnosis.model import Finding, Rule
from qwen_tui.server.diagnosis.tracebacks import Complaint, Raised

RULES: tuple[Rule, ...] = (
    *rules_system.FIRST,
    *rules_arguments.RULES,
    *rules_hub.RULES,
    *rules_model.RULES,
    *rules_memory.RULES,
    *rules_gpu.RULES,
    *rules_parallel.RULES,
    *rules_install.RULES,
    *rules_system.RULES,
)
GENERIC: tuple[Rule, ...] = (*rules_system.GENERIC, *rules_install.GENERIC, *rules_arguments.GENERIC)


def kinds() -> list[str]:
    """Every kind of failure that a rule knows, each once, in the order of the rules."""
    return list(dict.fromkeys(rule.kind for rule in (*RULES, *GENERIC)))


def find(
    errors: Sequence[Raised | Complaint], facts: Facts, complaints: tuple[Complaint, ...] = ()
) -> tuple[Rule, Finding] | None:
    """The first rule that knows one of the errors; the particular rules before the general ones."""
    for rules in (RULES, GENERIC):
        for error in errors:
            text = error.text
            for rule in rules:
                match = rule.pattern.search(text)
                if match is None:
                    continue
                if rule.where is not None and not rule.where.search(_place(error)):
                    continue
                chained = tuple(other.text for other in errors)
                if rule.unless is not None and any(rule.unless.search(text) for text in chained):
                    continue
                if rule.needs_evidence and rule.shown_by(complaints) is None:
                    continue
                return rule, Finding(match, error, facts, complaints, chained)
    return None


def _place(error: Raised | Complaint) -> str:
    """Where the error came from: the frames of its traceback and of those it is chained to, and its text."""
    if isinstance(error, Complaint):
        return error.text
    return "\n".join([*error.frames, *(frame for e in error.chain() for frame in e.frames), error.text])
