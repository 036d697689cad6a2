"""What one line of a server's log says: its level, the process that wrote it, its text.

The rules look at one line at a time and at the shapes that loggers share (Python's logging, loguru, uvicorn,
glog, tracebacks, shells), not at the wording of one version of vLLM.
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import NamedTuple

from qwen_tui.logs.plain_text import plain_text
from qwen_tui.logs.reader import RawLine


class Level(IntEnum):
    """How much a line matters, in the numbers of Python's logging; NONE for a line that does not say."""

    NONE = 0
    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40
    CRITICAL = 50


class LogLine(NamedTuple):
    """One line, ready to be shown.

    offset, next_offset: bytes in the file. text: all of it, harmless, tabs expanded.
    process: 'EngineCore pid=13294' where the line starts with that; else empty.
    prefix: how many characters of the text the process takes, with the space behind it.
    is_access: a web server's line for one request.
    hidden: bytes of a very long line that the text leaves out.
    complete: whether a newline ends it.
    """

    offset: int
    next_offset: int
    text: str
    level: Level
    process: str
    prefix: int
    is_access: bool
    hidden: int
    complete: bool

    @property
    def message(self) -> str:
        """The text without the process."""
        return self.text[self.prefix :]


_WORDS = {
    "TRACE": Level.DEBUG,
    "DEBUG": Level.DEBUG,
    "INFO": Level.INFO,
    "NOTICE": Level.INFO,
    "SUCCESS": Level.INFO,
    "WARN": Level.WARNING,
    "WARNING": Level.WARNING,
    "ERROR": Level.ERROR,
    "FATAL": Level.CRITICAL,
    "CRITICAL": Level.CRITICAL,
    "I": Level.INFO,
    "W": Level.WARNING,
    "E": Level.ERROR,
    "F": Level.CRITICAL,
}
#: A level is looked for in this many characters; behind them it is part of a message.
_HEAD = 100

_PROCESS = re.compile(r"\((?P<process>[^()]{1,80}? pid=\d+[^()]{0,60})\)(?: |$)")
_AT_START = re.compile(rf"(?P<word>{'|'.join(word for word in _WORDS if len(word) > 1)})(?=[\s:\]]|$)")
_WORD = re.compile(
    rf"""
    (?: ^ | (?<=[\s\[(|<:]) ) (?P<word>{"|".join(word for word in _WORDS if len(word) > 1)}) (?= [\s:\])|>] | $ )
  | (?: ^ | (?<=[\s\[:]) ) (?P<letter>[IWEF])\d{{4}}[ ]\d\d:\d\d          # glog, PyTorch's C++ side
  | (?: "level(?:name)?"\s*:\s*" | \blevel(?:name)?= ) (?P<named>[A-Za-z]+)
    """,
    re.VERBOSE,
)
_ACCESS = re.compile(r'"(?:GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) \S+ HTTP/[\d.]+" ?\d')
# An exception's own line: its name at the start, with dots, in CamelCase, one of the usual endings.
_EXCEPTION = r"(?:[A-Za-z_]\w*\.)*(?:[A-Z]\w*)?(?:Error|Exception|Interrupt|Exit|Timeout|Expired|Failed|Group)\b(?::|$)"
_CODE = (
    r"(?:return|raise|await|yield|with|for|if|assert|from|import|super|async|del|try|exec)\b|@|[\w.]+[(\[]|[\w., ]+ = "
)
_TRACEBACK = re.compile(
    rf"""
    [\s|+\-]* (?: Exception[ ]Group[ ] )? Traceback[ ]\(most[ ]recent[ ]call[ ]last\)
  | [\s|]* File[ ]"[^"]*",[ ]line[ ]\d+
  | [ |]{{4,}} [~^]+ \s* $
  | [ ]{{4}}(?:{_CODE})
  | [\s|+\-]* {_EXCEPTION}
  | \s+ (?:Value|Assertion)[ ]error,
  | During[ ]handling[ ]of[ ]the[ ]above | The[ ]above[ ]exception[ ]was[ ]the
    """,
    re.VERBOSE,
)
_COMPLAINT = re.compile(
    r"""
    (?P<fatal> terminate[ ]called | Segmentation[ ]fault | Aborted | Fatal[ ]Python[ ]error | Killed$ | Bus[ ]error
      | Out[ ]of[ ]memory )
  | (?P<error> (?: [\w./\-]+ : [ ] )* (?:fatal[ ]|[Ii]nternal[ ])? [Ee]rror:
      | (?: [\w./\-]+ : [ ] )+ Error\b )
  | (?P<warning> (?: \S+ : [ ] )* (?:[Ww]arning | [A-Z]\w*Warning) : )
    """,
    re.VERBOSE,
)


def parse(raw: RawLine) -> LogLine:
    """What a raw line says. Works on any bytes."""
    text = plain_text(raw.data)
    process, prefix = "", 0
    if text.startswith("("):
        match = _PROCESS.match(text)
        if match:
            process, prefix = match["process"], match.end()
    level = level_of(text, prefix)
    is_access = level in (Level.NONE, Level.INFO) and "HTTP/" in text and _ACCESS.search(text) is not None
    return LogLine(raw.offset, raw.next_offset, text, level, process, prefix, is_access, raw.hidden, raw.complete)


def level_of(text: str, start: int = 0) -> Level:
    """The level of a line of plain text whose message begins at `start`; NONE where it does not say."""
    match = _AT_START.match(text, start)
    if match:
        return _WORDS[match["word"]]
    if _TRACEBACK.match(text, start, start + 4 * _HEAD):
        return Level.ERROR
    match = _WORD.search(text[start : start + _HEAD])
    if match:
        return _WORDS.get((match["word"] or match["letter"] or match["named"]).upper(), Level.NONE)
    match = _COMPLAINT.match(text, start, start + 4 * _HEAD)
    if match:
        return {"fatal": Level.CRITICAL, "error": Level.ERROR, "warning": Level.WARNING}[match.lastgroup or "error"]
    return Level.NONE
