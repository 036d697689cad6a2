"""What a diagnosis is, and what a rule that leads to one is made of."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from qwen_tui.i18n import _
from qwen_tui.server.diagnosis.facts import Facts
from qwen_tui.server.diagnosis.tracebacks import Complaint, Raised
from qwen_tui.server.spec import ServerSpec


@dataclass(frozen=True)
class RunContext:
    """What is known of a run besides its log; everything may be unknown.

    exit_code, exit_signal: how the API server's process ended. asked: whether somebody had asked for the stop.
    was_ready: whether it had answered; None where nobody looked.
    spec: what was started, for corrected arguments; without it they are read from the log.
    """

    exit_code: int | None = None
    exit_signal: int | None = None
    asked: bool = False
    was_ready: bool | None = None
    spec: ServerSpec | None = None


@dataclass(frozen=True)
class Relaunch:
    """Changed arguments that a new start is worth trying with.

    set: flag → value ("" for a flag without one). rename: misspelt flag → the right one, its value kept.
    remove: flags to leave out, with their values. env: environment variables to set.
    """

    set: Mapping[str, str] = field(default_factory=dict)
    rename: Mapping[str, str] = field(default_factory=dict)
    remove: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)

    def changes(self, without: str = "without {flag}") -> list[str]:
        """Each change as one text: '--port 8001', 'VLLM_X=1', '--max-modle-len → --max-model-len', 'without --x'.

        without: how a flag to leave out is told; the default is for programs, `words` is for people.
        """
        return [
            *(f"{flag} {value}".rstrip() for flag, value in self.set.items()),
            *(f"{wrong} → {right}" for wrong, right in self.rename.items()),
            *(f"{name}={value}" for name, value in self.env.items()),
            *(without.format(flag=flag) for flag in self.remove),
        ]

    def words(self) -> list[str]:
        """`changes` in the person's language."""
        return self.changes(_("without {flag}"))


@dataclass(frozen=True)
class Diagnosis:
    """Why a start or a running server failed.

    kind: names the rule, for programs ('kv-cache', 'port-taken', …; 'unknown' where no rule knows it).
    cause: one sentence. remedy: what to do; may be several sentences, may be empty.
    line: the line of the log it rests on, harmless text; empty where only the exit tells it. line_number: from 1, or 0.
    """

    kind: str
    cause: str
    line: str
    line_number: int
    remedy: str
    relaunch: Relaunch | None = None


@dataclass(frozen=True)
class Finding:
    """A rule's pattern found in an error, with what is known around it.

    complaints: the other error lines of the run. chained: the texts of the errors of the same traceback.
    """

    match: re.Match[str]
    error: Raised | Complaint
    facts: Facts
    complaints: tuple[Complaint, ...] = ()
    chained: tuple[str, ...] = ()

    def group(self, name: str) -> str:
        """The text of a group; empty where it took no part."""
        return self.match.groupdict().get(name) or ""

    def number(self, name: str) -> float | None:
        """A group as a number; None where it is none."""
        try:
            return float(self.group(name).replace(",", ""))
        except ValueError:
            return None

    def fill(self, template: str) -> str:
        """The template, translated, with the groups put in; whole numbers of five digits and more get separators."""
        values = {name: _readable(text or "") for name, text in self.match.groupdict().items()}
        return _(template).format(**values)

    def mentions(self, pattern: str) -> bool:
        """Whether the error, those it is chained with, or another error line holds the pattern."""
        return self.elsewhere(pattern) is not None

    def elsewhere(self, pattern: str) -> re.Match[str] | None:
        """The pattern in the error, in those it is chained with, or in another error line."""
        for text in (self.error.text, *self.chained, *(complaint.text for complaint in self.complaints)):
            match = re.search(pattern, text)
            if match:
                return match
        return None


def _readable(text: str) -> str:
    text = text.strip().strip("'\"")
    if re.fullmatch(r"\d{5,15}(\.0)?", text):
        return f"{int(float(text)):,}"
    return text if len(text) <= 300 else text[:300] + "…"


Sentence = str | Callable[[Finding], str]


@dataclass(frozen=True)
class Rule:
    """One kind of failure: how it is recognised, and what to say and do.

    pattern: searched in 'Type: message', lines joined by spaces; its groups are the figures for the sentences.
    cause, remedy: a text for the catalogue (marked with N_) with groups in braces, or a function of the finding.
    relaunch: changed arguments, where they can be computed.
    where: searched in the frames of the traceback too ('file:function'), where the message alone says too little.
    unless: the rule does not count where an error of the same traceback says this: that one tells more.
    evidence: searched in the other error lines of the run; one that has it is the line to show.
    needs_evidence: without such a line the rule does not count.
    """

    kind: str
    pattern: re.Pattern[str]
    cause: Sentence
    remedy: Sentence
    relaunch: Callable[[Finding], Relaunch | None] | None = None
    where: re.Pattern[str] | None = None
    unless: re.Pattern[str] | None = None
    evidence: re.Pattern[str] | None = None
    needs_evidence: bool = False

    def shown_by(self, complaints: tuple[Complaint, ...]) -> Complaint | None:
        """The error line that is the evidence; None where there is none."""
        if self.evidence is None:
            return None
        return next((line for line in complaints if self.evidence.search(line.text)), None)


def rule(
    kind: str,
    pattern: str,
    cause: Sentence,
    remedy: Sentence = "",
    relaunch: Callable[[Finding], Relaunch | None] | None = None,
    where: str = "",
    unless: str = "",
    evidence: str = "",
    needs_evidence: bool = False,
) -> Rule:
    """A Rule with its patterns compiled."""
    return Rule(
        kind,
        re.compile(pattern),
        cause,
        remedy,
        relaunch,
        where=_compiled(where),
        unless=_compiled(unless),
        evidence=_compiled(evidence),
        needs_evidence=needs_evidence,
    )


def _compiled(pattern: str) -> re.Pattern[str] | None:
    return re.compile(pattern) if pattern else None


def say(sentence: Sentence, finding: Finding) -> str:
    """The sentence for this finding, in the language in use."""
    return sentence(finding) if callable(sentence) else finding.fill(sentence) if sentence else ""
