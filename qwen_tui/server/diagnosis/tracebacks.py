"""Exceptions and error lines out of a log that several processes wrote at once.

Lines are sorted by who wrote them: the process in front of the line, and, for a record of Python's logging, its
place and time, which all lines of one record share. Within such a stream a traceback is read as Python prints it:
frames, the exception, the rest of its message, and how it is chained to the one before.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from qwen_tui.server.diagnosis.prefixes import Split, split
from qwen_tui.server.diagnosis.reading import NumberedLine

#: Lines of a message that are kept, and frames.
_MESSAGE_LINES = 40
_FRAMES = 400
#: Lines of others within a message, at most.
_GAP = 20
#: Characters of an error that rules are tried on.
LONGEST_TEXT = 6000

_GROUP = re.compile(r"\s+\| ?")
_GROUP_RULE = re.compile(r"\s+\+[-+ \d.]+$")
_HEADER = re.compile(r"Traceback \(most recent call last\):?\s*$")
_FRAME = re.compile(r'\s*File "(?P<file>[^"]*)", line \d+(?:, in (?P<function>\S+))?')
_EXCEPTION = re.compile(
    r"(?P<type>(?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*(?:\([A-Za-z_.]\w*\))?)(?:: ?(?P<message>.*)|(?P<bare>\s*))$"
)
_EXCEPTION_NAME = re.compile(
    r"(?:[A-Z]\w*(?:Error|Exception|Interrupt|Exit|Warning|Iteration|Group|Timeout|Expired|Failed|Empty|Full|Fault"
    r"|NotFound|Found"
    r"|Retry|Again|Dead|Died|Lost|Error\(\w+\))|[a-z]*(?:error|timeout|exc)|.*Error\([\w.]+\))$"
)
#: Exceptions that code expects while it looks something up.
_LOOKUP = re.compile(r"(?:\w+\.)*(?:KeyError|AttributeError|StopIteration|IndexError|Empty)\b")
_INPUT = re.compile(r", input_value=.*")
_ORPHAN = re.compile(r"(?P<type>(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception)): \S")
_CAUSED = "The above exception was the direct cause of the following exception"
_DURING = "During handling of the above exception, another exception occurred"
# What can't belong to an exception's message, in a stream without records.
_NEW_THING = re.compile(
    r"Process \S+:$|Traceback|Exception (?:ignored in|in thread|in callback)|\[(?:rank\d+\]:)?\[?[WEIF]\d{4} "
    r"|/\S+\.py:\d+: \w*Warning"
    r"|Loading |Capturing |INFO|WARNING|ERROR|usage: |\([A-Za-z_]{2}|--- Logging error|Call stack:"
    r"|\d+:\d+:\d+ \[\d+\] NCCL"
)

# The lines that are looked at at all while no traceback is open.
_TRIGGER = re.compile(
    r"[Ee]rror|ERROR|Traceback|xception|[Ff]ail|FATAL|[Ff]atal|died|[Kk]illed|[Ss]egfault|Segmentation"
    r"|terminate called|Abort|Bus error|SIG[A-Z]"
    r"|[Ss]hutting|[Ss]hutdown|startup complete|Uvicorn running|API server version|version \d|args|with config"
    r"|usage: |No space"
    r"|core dumped|[Nn]ot found|NCCL WARN|Xid|watchdog|[Rr]eceived signal|Finished server|No such file"
    r"|Permission denied"
    r"|CPU backend|Process \w|Illegal instruction|version `|Too many open|what\(\):|annot |panicked|out of memory"
    r"|timed out|CRITICAL"
)


@dataclass
class Raised:
    """One exception as a traceback shows it.

    number: of the line that names it. lines: that line and the rest of the message, each with its number and full text.
    header: what stood before the traceback.
    is_orphan: there is no traceback, as where a log was cut. frames: 'path:function', outermost first.
    earlier: the exception it is chained to; is_cause tells whether that was its direct cause.
    """

    type: str
    number: int
    process: str
    level: str
    place: str
    header: str
    frames: list[str]
    lines: list[tuple[int, str, str]] = field(default_factory=list)
    earlier: Raised | None = None
    is_cause: bool = False
    is_orphan: bool = False

    @property
    def text(self) -> str:
        """'Type: message' with all its lines, joined by spaces; without the input that pydantic repeats."""
        text = " ".join(body.strip() for _number, _text, body in self.lines if body.strip())
        return _INPUT.sub("", text[:LONGEST_TEXT])

    def line_at(self, position: int) -> tuple[int, str]:
        """Number and full text of the line that the character `position` of `text` comes from."""
        end = 0
        for number, full, body in self.lines:
            if not body.strip():
                continue
            end += len(body.strip()) + 1
            if position < end:
                return number, full
        return self.number, self.lines[0][1]

    def chain(self) -> list[Raised]:
        """Itself and those it came from, the deepest first."""
        chain: list[Raised] = []
        error: Raised | None = self
        while error is not None and len(chain) < 50:
            chain.append(error)
            error = error.earlier
        return chain[::-1]

    def causes(self) -> list[Raised]:
        """The same, but lookups that failed and were replaced by an error that tells more come last."""
        chain = self.chain()
        replaced = [
            error
            for error, follower in itertools.pairwise(chain)
            if not follower.is_cause and _LOOKUP.match(error.type)
        ]
        return [error for error in chain if error not in replaced] + replaced


@dataclass(frozen=True)
class Complaint:
    """An error line that is not part of a traceback. body: without the prefixes."""

    number: int
    full: str
    process: str
    level: str
    body: str

    @property
    def text(self) -> str:
        return self.body

    def line_at(self, _position: int) -> tuple[int, str]:
        return self.number, self.full


@dataclass
class _Stream:
    """What is open in one stream of lines."""

    header: str = ""
    in_frames: bool = False
    frames: list[str] = field(default_factory=list)
    skipped: int = 0
    open: Raised | None = None
    last: Raised | None = None
    relation: str = ""


@dataclass
class Parsed:
    """Everything of a part of a log that may tell a cause.

    notes: further lines that say something: (number, text without prefix).
    """

    raised: list[Raised] = field(default_factory=list)
    complaints: list[Complaint] = field(default_factory=list)
    notes: list[tuple[int, str]] = field(default_factory=list)


def parse(lines: Iterable[NumberedLine]) -> Parsed:
    """Read the lines once. Any text can be read."""
    parser = _Parser()
    for number, text in lines:
        parser.feed(number, text)
    return parser.parsed


class _Parser:
    def __init__(self) -> None:
        self.parsed = Parsed()
        self._streams: dict[tuple[str, str, str], _Stream] = {}
        self._busy = 0
        self._in_usage = False
        self._opened: _Stream | None = None
        self._last_life = self._life_before = 0

    def feed(self, number: int, text: str) -> None:
        if ("HTTP/1" in text or "throughput:" in text) and "Traceback" not in text and "rror:" not in text:
            self._note_life(number, text)
            return
        if not self._busy and not self._in_usage and not _TRIGGER.search(text) and not _DURING_OR_CAUSE.search(text):
            return
        parts = split(text)
        body = parts.body
        if _GROUP_RULE.match(body):
            return
        group = _GROUP.match(body)
        if group:
            body = body[group.end() :]
        key = (parts.process, parts.place, parts.time)
        stream = self._streams.get(key)
        if stream is None:
            if len(self._streams) > 4000:
                self._streams.clear()
                self._busy = 0
            stream = self._streams[key] = _Stream()
        if self._opened is not None and self._opened is not stream and not parts.level and _FRAME.match(body):
            self._move(self._opened, stream)
        self._opened = None
        if not self._continue(stream, number, text, parts, body):
            self._outside(stream, number, text, parts, body)

    def _note_life(self, number: int, text: str) -> None:
        """A request or the figures of the last seconds: of many in a row the first and the last one are kept."""
        if "throughput:" not in text and not _ANSWERED.search(text):
            return
        notes = self.parsed.notes
        if len(notes) > 1 and notes[-1][0] == self._last_life and notes[-2][0] == self._life_before:
            notes[-1] = (number, text)
        else:
            self._life_before = self._last_life
            notes.append((number, text))
        self._last_life = number

    # -- inside a traceback ---------------------------------------------------------------------------

    def _continue(self, stream: _Stream, number: int, text: str, parts: Split, body: str) -> bool:
        """Whether the line belongs to what is open in its stream, and was put there."""
        if _HEADER.search(body):
            self._close(stream)
            before = body[: _HEADER.search(body).start()].strip(" +|:,")  # type: ignore[union-attr]
            if before and not before.startswith("Exception Group"):
                stream.header = before
                if parts.level:
                    self._complain(number, text, parts, before)
            stream.in_frames, stream.frames, stream.skipped = True, [], 0
            self._busy += 1
            self._opened = stream if parts.level else None
            return True
        if _CAUSED in body or _DURING in body:
            self._close(stream)
            stream.relation = "cause" if _CAUSED in body else "during"
            return True
        if stream.in_frames:
            return self._in_frames(stream, number, text, parts, body)
        if stream.open is not None:
            return self._in_message(stream, number, text, parts, body)
        return False

    def _in_frames(self, stream: _Stream, number: int, text: str, parts: Split, body: str) -> bool:
        frame = _FRAME.match(body)
        if frame:
            if len(stream.frames) < _FRAMES:
                stream.frames.append(f"{frame['file']}:{frame['function'] or ''}")
            stream.skipped = 0
            return True
        if not body.strip() or body[:1] in " \t":
            return True
        match = _EXCEPTION.match(body)
        name = match["type"].rsplit(".", 1)[-1] if match else ""
        # In a traceback the next line without indent names the exception, but other processes may write in between.
        named = match is not None and ("." in match["type"] or name[:1].isupper() or _EXCEPTION_NAME.match(name))
        if (
            match is None
            or not named
            or (parts.level and not parts.place)
            or (
                not parts.place
                and not _EXCEPTION_NAME.match(match["type"])
                and "." not in match["type"]
                and stream.skipped > 3
            )
        ):
            stream.skipped += 1
            if stream.skipped > 60:
                stream.in_frames = False
                self._busy -= 1
            return False
        raised = Raised(match["type"], number, parts.process, parts.level, parts.place, stream.header, stream.frames)
        raised.lines.append((number, text, body))
        if stream.relation and stream.last is not None:
            raised.earlier, raised.is_cause = stream.last, stream.relation == "cause"
        self.parsed.raised.append(raised)
        stream.in_frames, stream.open, stream.relation = False, raised, ""
        return True

    def _in_message(self, stream: _Stream, number: int, text: str, parts: Split, body: str) -> bool:
        raised = stream.open
        assert raised is not None
        if _FRAME.match(body) and "SyntaxError" not in raised.type:
            # Ray puts the worker's own traceback into the message; the real exception follows it.
            raised.lines.append((number, text, body))
            stream.relation, stream.last = "during", None
            stream.open, stream.in_frames, stream.frames, stream.skipped = None, True, [], 0
            return True
        # A record's stream ends with it. Elsewhere other text may follow: it is told by its look, or by a gap.
        ends = not parts.place and (
            bool(parts.level) or bool(_NEW_THING.match(body)) or number - raised.lines[-1][0] > _GAP
        )
        if ends or len(raised.lines) >= _MESSAGE_LINES:
            self._close(stream)
            return False
        raised.lines.append((number, text, body))
        return True

    def _move(self, opened: _Stream, stream: _Stream) -> None:
        """A record may have its prefix in its first line only: the traceback it begins goes on in the plain lines."""
        if not opened.in_frames or opened.frames or stream.in_frames:
            return
        self._close(stream)
        stream.header, stream.in_frames, stream.frames, stream.skipped = opened.header, True, [], 0
        opened.in_frames = False

    def _close(self, stream: _Stream) -> None:
        if stream.in_frames or stream.open is not None:
            self._busy -= 1
        if stream.open is not None:
            while len(stream.open.lines) > 1 and not stream.open.lines[-1][2].strip():
                stream.open.lines.pop()
            stream.last = stream.open
        stream.open, stream.in_frames = None, False

    # -- outside ----------------------------------------------------------------------------------------

    def _outside(self, stream: _Stream, number: int, text: str, parts: Split, body: str) -> None:
        if body.strip():
            stream.header = body.strip()[:300]
            if not stream.in_frames:
                stream.relation = ""
        if body.startswith("usage: "):
            self._in_usage = True
        elif self._in_usage and not body.startswith(" "):
            self._in_usage = False
        if self._in_usage or _NOTE.search(body):
            self.parsed.notes.append((number, body))
        if self._in_usage:
            return
        self._complain(number, text, parts, body)
        orphan = _ORPHAN.match(body) if parts.level in ("", "ERROR") else None
        if orphan:
            raised = Raised(orphan["type"], number, parts.process, parts.level, parts.place, "", [], is_orphan=True)
            raised.lines.append((number, text, body))
            self.parsed.raised.append(raised)
            stream.open = raised
            self._busy += 1

    def _complain(self, number: int, text: str, parts: Split, body: str) -> None:
        if (
            parts.level in ("ERROR", "CRITICAL", "FATAL")
            or (not parts.level and _TRIGGER.search(body))
            or (_ALWAYS.search(body))
        ):
            self.parsed.complaints.append(Complaint(number, text, parts.process, parts.level, body.strip()))


_ANSWERED = re.compile(r'HTTP/1\.\d" [24]\d\d')
_DURING_OR_CAUSE = re.compile(r"above exception")
_NOTE = re.compile(
    r"startup complete|Uvicorn running|version \d|args|with config|[Ss]hutting down|[Ss]hutdown|[Rr]eceived signal"
    r"|Finished server"
    r"|CPU backend|cpu_worker"
)
#: Worth keeping whatever level the line has.
_ALWAYS = re.compile(
    r"died|dead|NCCL WARN|Xid|out of memory|No space left|Engine(?:Core)? .*fail|Failed to import from vllm"
)
