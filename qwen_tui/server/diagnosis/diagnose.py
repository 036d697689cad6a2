"""From a log to one sentence: read, choose, match."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from qwen_tui import i18n
from qwen_tui.i18n import _
from qwen_tui.server.diagnosis import rules
from qwen_tui.server.diagnosis.areas import area_of
from qwen_tui.server.diagnosis.choosing import DEATH, ENDED, READY, RUN_BEGINS, SECONDARY, Choice, choose, role
from qwen_tui.server.diagnosis.facts import Facts, read_facts
from qwen_tui.server.diagnosis.model import Diagnosis, Finding, Rule, RunContext, say
from qwen_tui.server.diagnosis.reading import LogParts, Part
from qwen_tui.server.diagnosis.rules_system import SIGNALS
from qwen_tui.server.diagnosis.tracebacks import Complaint, Parsed, Raised, parse

#: Characters of a cause, and of the line it rests on, that are worth showing.
_LONGEST_CAUSE = 600
_LONGEST_LINE = 2000
#: Error lines without a traceback that end a run by themselves.
_FATAL_LINE = re.compile(
    r"^[\w./-]+: error: |^(?:vllm|python\S*)(?: [\w./-]+)+: error: "
    r"|Error while finding module|(?:command )?not found$|^Killed|Segmentation fault|core dumped"
    r"|Fatal Python error"
    r"|terminate called|Segfault enc|Bus error|[Ii]llegal instruction|^Aborted|error while attempting to bind"
    r"|can't open file"
    r"|version `\w+_[\d.]+' not found|error while loading shared libraries|panicked at|Out of memory: Killed|oom-kill"
    r"|Failed: Cuda error"
)
_INNER = re.compile(r"Worker failed with error '(?P<inner>.*?)', please check")


def diagnose(log: Path, context: RunContext | None = None) -> Diagnosis | None:
    """Why the last run in the log failed; None where neither the log nor the context shows a failure.

    Reads a few MB of a log and counts its lines: up to a second for 1 GB, so call it from a thread.
    The texts are in the language in use.
    """
    context = context or RunContext()
    try:
        parts = LogParts(log)
        found, part = _in_log(parts, context)
        if found is not None and found.line_number:
            return _numbered(found, parts.lines_before(part.start))
    except OSError:
        found = None
    return found or _by_exit(context)


def _in_log(parts: LogParts, context: RunContext) -> tuple[Diagnosis | None, Part]:
    """The diagnosis, and the part of the log that its line number counts within."""
    tail = parts.tail()
    head = parts.head()
    if head is None:
        return _in_part(parse(tail.lines()), Parsed(), context), tail
    first, last = parse(head.lines()), parse(tail.lines())
    found = _in_part(last, first, context)
    is_sure = found is not None and found.kind not in ("unknown", "engine-died")
    is_alive = found is None and any(READY.search(text) for _number, text in last.notes)
    if is_sure or is_alive or any(RUN_BEGINS.search(text) for _number, text in last.notes):
        return found, tail
    death = parts.death()
    if death is not None and death.start < tail.start:
        earlier = _in_part(parse(death.lines()), first, context)
        if earlier is not None and earlier.kind != "engine-died":
            return earlier, death
    if found is None:
        # A start that failed, in a log that then went on growing.
        return _in_part(first, Parsed(), context), head
    return found, tail


def find_cause(log: Path, context: RunContext | None = None) -> str:
    """The cause in one line, empty where there is none; remembered for as long as the log does not change."""
    try:
        status = log.stat()
    except OSError:
        found = _by_exit(context or RunContext())
        return found.cause if found else ""
    known = (context.exit_code, context.exit_signal, context.asked, context.was_ready) if context else ()
    return _remembered(log, status.st_size, status.st_mtime_ns, known, i18n.language())


@lru_cache(maxsize=64)
def _remembered(
    log: Path,
    _size: int,
    _changed: int,
    known: tuple[int | None, int | None, bool, bool | None] | tuple[()],
    _language: str,
) -> str:
    found = diagnose(log, RunContext(*known))
    return " ".join(found.cause.split()) if found else ""


def _numbered(found: Diagnosis, before: int) -> Diagnosis:
    return Diagnosis(found.kind, found.cause, found.line, found.line_number + before, found.remedy, found.relaunch)


def _in_part(parsed: Parsed, first: Parsed, context: RunContext) -> Diagnosis | None:
    """The diagnosis from what one part of the log says; its line number counts within the part.

    first: what the head of the log says, where that is another part.
    """
    head_ready = any(READY.search(text) for _number, text in first.notes)
    choice = choose(parsed, head_ready or bool(context.was_ready))
    facts = read_facts([text for _n, text in (*first.notes, *parsed.notes)], context.spec)
    if choice.was_ready and choice.was_stopped and not choice.suspects:
        return None
    found = _by_suspects(choice, facts, context) or _by_lines(choice, facts, context)
    if found is None and not choice.was_stopped:  # what the order to stop brought about explains nothing
        found = _by_hollow(choice, facts)
    return found or _interrupted(choice, context)


def _by_suspects(choice: Choice, facts: Facts, context: RunContext) -> Diagnosis | None:
    suspects = [error for error in choice.suspects if _counts(error, choice, context)]
    if not suspects:
        return None
    likeliest = suspects[0]
    known = rules.find(likeliest.causes(), facts, choice.complaints)
    if known is None:
        for other in suspects[1:]:
            if role(other) <= role(likeliest) and not SECONDARY.search(other.text):
                known = rules.find(other.causes(), facts, choice.complaints)
                if known is not None:
                    break
    if known is not None:
        return _known(*known)
    if context.exit_signal in SIGNALS and not choice.is_dead:
        return None  # the signal tells more than an error that may have been survived
    return _unknown(_deepest(likeliest))


def _counts(error: Raised, choice: Choice, context: RunContext) -> bool:
    """Whether the error can be what ended the run.

    Of a server that answered, only one that came with the engine's death, or that its own process did not survive.
    """
    if not choice.was_ready or choice.is_dead:
        return True
    if choice.was_stopped:
        return False
    ended_badly = context.exit_code not in (None, 0) or context.exit_signal is not None
    return ended_badly or (not error.level and error.number > choice.last_ready)


def _deepest(error: Raised) -> Raised:
    """The exception at the bottom of the chain; where the next one only replaced a failed lookup, that one."""
    for candidate in error.causes():
        if not ENDED.search(candidate.text):
            return candidate
    return error


def _by_lines(choice: Choice, facts: Facts, context: RunContext) -> Diagnosis | None:
    """By an error line outside of any traceback."""
    ended_badly = context.exit_code not in (None, 0) or context.exit_signal is not None
    for complaint in choice.complaints:
        if not (choice.is_dead or ended_badly or _FATAL_LINE.search(complaint.text)):
            continue
        known = rules.find([complaint], facts, choice.complaints)
        if known is not None:
            return _known(*known)
    for complaint in choice.complaints:
        if _FATAL_LINE.search(complaint.text):
            return _of_line(complaint)
    return None


def _by_hollow(choice: Choice, facts: Facts) -> Diagnosis | None:
    """By an error that only reports another one which the log does not have."""
    for error in choice.hollow:
        known = rules.find(error.causes(), facts, choice.complaints)
        if known is not None:
            return _known(*known)
    for error in choice.hollow:
        inner = _INNER.search(error.text)
        if inner:
            number, line = error.line_at(inner.start())
            return Diagnosis("unknown", inner["inner"][:_LONGEST_CAUSE], line[:_LONGEST_LINE], number, _ask_the_log())
    said = [line for line in choice.complaints if DEATH.search(line.text)] if choice.is_dead else []
    reports: list[Raised | Complaint] = [*said, *choice.hollow]
    where = min(reports, key=lambda error: error.number, default=None)
    if where is None:
        return None
    number, line = where.line_at(0)
    return Diagnosis(
        "engine-died",
        _("The engine's process ended without saying why."),
        line[:_LONGEST_LINE],
        number,
        _(
            "Most often the kernel ended it for want of RAM: look at the last lines of `dmesg`. Else start it again"
            " with VLLM_LOGGING_LEVEL=DEBUG."
        ),
    )


def _interrupted(choice: Choice, context: RunContext) -> Diagnosis | None:
    if choice.was_ready or context.asked or not (choice.ended or choice.stop):
        return None
    number, line = choice.ended[0].line_at(0) if choice.ended else choice.stop or (0, "")
    return Diagnosis(
        "ended",
        _("It was ended (Ctrl-C or SIGTERM) before it was ready."),
        line[:_LONGEST_LINE],
        number,
        _("Start it again."),
    )


def _known(rule: Rule, finding: Finding) -> Diagnosis:
    number, line = finding.error.line_at(finding.match.start())
    shown = rule.shown_by(finding.complaints)
    if shown is not None:
        number, line = shown.number, shown.full
    return Diagnosis(
        rule.kind,
        say(rule.cause, finding)[:_LONGEST_CAUSE],
        line[:_LONGEST_LINE],
        number,
        say(rule.remedy, finding),
        rule.relaunch(finding) if rule.relaunch else None,
    )


def _unknown(error: Raised) -> Diagnosis:
    """The exception itself: its type and its message with all its lines; one without a message gets its place."""
    position = max(0, error.text.find("Value error, "))
    number, line = error.line_at(position)
    cause = error.text[position:].removeprefix("Value error, ").split(" [type=", 1)[0]
    if re.fullmatch(r"[\w.]+:?", cause) and error.frames:
        file, _colon, function = error.frames[-1].rpartition(":")
        place = re.sub(r".*/(?:site|dist)-packages/", "", file)
        cause = _("{error} in {function} ({file})").format(
            error=cause.rstrip(":"), function=function or "?", file=place
        )
    area = area_of(error.frames)
    if area is None:
        return Diagnosis("unknown", cause[:_LONGEST_CAUSE], line[:_LONGEST_LINE], number, _ask_the_log())
    said = _(area.doing).format(error=cause)
    return Diagnosis("unknown", said[:_LONGEST_CAUSE], line[:_LONGEST_LINE], number, _(area.remedy), area.relaunch)


def _of_line(complaint: Complaint) -> Diagnosis:
    return Diagnosis(
        "unknown", complaint.text[:_LONGEST_CAUSE], complaint.full[:_LONGEST_LINE], complaint.number, _ask_the_log()
    )


def _ask_the_log() -> str:
    return _("qwen-tui does not know this error; the lines before it in the log say where it came from.")


def _by_exit(context: RunContext) -> Diagnosis | None:
    """By how the process ended, where the log says nothing."""
    signal = context.exit_signal
    if signal is None and context.exit_code is not None and context.exit_code > 128:
        signal = context.exit_code - 128  # as shells and containers report it
    if context.asked or signal not in SIGNALS:
        return None
    kind, cause, remedy = SIGNALS[signal]
    return Diagnosis(kind, _(cause), "", 0, _(remedy))
