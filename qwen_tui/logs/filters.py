"""Which lines of a log a person wants to see, and how to find them in many bytes without reading each line.

A line passes by what `parse` says of it. Most lines need no parsing to be turned down: their first bytes tell
(`INFO …` is no error, `(APIServer …` is not the engine), and one regular expression finds those that are left.
Whatever could make a line show something else than its bytes say (a carriage return, an escape) is parsed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from qwen_tui.logs.parse import Level, LogLine

#: What comes after these may have overwritten what came before: the first bytes tell nothing.
_MOVES = rb"[\r\x08\x1b]|\xc2\x9b"
#: What `plain_text` takes out or turns into something else: text may be together that is apart in the bytes.
_CHANGED = rb"[\x00-\x09\x0b-\x1f\x7f]|\xc2[\x80-\x9f\xad]|\xe2\x80[\x8b-\x8f\xa8-\xae]|\xef\xbb\xbf"
_PROCESS = rb"(?:\([^()\n\x00-\x1f]{1,80}? pid=\d+[^()\n\x00-\x1f]{0,60}\) )?"
_ACCESS = _PROCESS + (
    rb'INFO: +[^\s"\x00-\x1f]+ - "(?:GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) [^\s\x00-\x1f]+ HTTP/[\d.]+" ?\d'
)
_BELOW = {
    Level.WARNING: rb"INFO|DEBUG|TRACE|NOTICE|SUCCESS",
    Level.ERROR: rb"INFO|DEBUG|TRACE|NOTICE|SUCCESS|WARNING|WARN",
    Level.CRITICAL: rb"INFO|DEBUG|TRACE|NOTICE|SUCCESS|WARNING|WARN|ERROR",
}
_REGEX_SIGNS = frozenset(".^$*+?{}[]\\|()")


class Pattern(NamedTuple):
    """What a person typed to look for. is_literal: it is no regular expression, so it is taken letter by letter."""

    source: str
    regex: re.Pattern[str]
    is_literal: bool

    @classmethod
    def of(cls, source: str) -> Pattern:
        """A regular expression, or the text itself where it is none; capitals count where there are some."""
        flags = 0 if any(character.isupper() for character in source) else re.IGNORECASE
        try:
            return cls(source, re.compile(source, flags), False)
        except (re.error, OverflowError, RecursionError):
            return cls(source, re.compile(re.escape(source), flags), True)

    @property
    def plain(self) -> bytes:
        """The text it looks for, where it is one in ASCII; else empty."""
        is_text = self.is_literal or not _REGEX_SIGNS & set(self.source)
        return self.source.encode() if is_text and self.source.isascii() and self.source.isprintable() else b""


@dataclass(frozen=True)
class Filter:
    """What a line must be to be shown; the default shows all.

    level: the least level; a line that does not say its level counts as INFO.
    process: what its process's name starts with, such as "EngineCore"; empty for any.
    hide_access: leaves out a web server's lines for one request each.
    pattern: what its text must hold; None for anything.
    """

    level: Level = Level.NONE
    process: str = ""
    hide_access: bool = False
    pattern: Pattern | None = None

    @property
    def is_all(self) -> bool:
        """Whether every line passes."""
        return self == Filter()

    def with_pattern(self, source: str) -> Filter:
        """The same with another text to look for; none if empty."""
        return replace(self, pattern=Pattern.of(source) if source else None)

    def accepts(self, line: LogLine) -> bool:
        """Whether this line passes."""
        if self.level and (line.level or Level.INFO) < self.level:
            return False
        if self.process and not line.process.lower().startswith(self.process.lower()):
            return False
        if self.hide_access and line.is_access:
            return False
        return self.pattern is None or self.pattern.regex.search(line.text) is not None


class Sieve:
    """A filter, and a text to be found beside it, made ready for many bytes."""

    def __init__(self, wanted: Filter, search: Pattern | None = None) -> None:
        self.filter = wanted
        self.search = search
        rejected = _rejected(wanted)
        self._rest = self._careful_rest = None
        if rejected:
            self._rest = re.compile(rb"\n(?!" + rejected + rb")")
            self._careful_rest = re.compile(rb"\n(?!(?:" + rejected + rb")(?![^\n]*(?:" + _MOVES + rb")))")
        pattern = search or wanted.pattern
        self._text = pattern.regex if pattern else None
        literal = pattern.plain if pattern else b""
        fold = rb"(?i:%s)" if pattern and pattern.regex.flags & re.IGNORECASE else rb"%s"
        self._folded = literal.lower() if fold != rb"%s" else b""
        self._literal = literal
        self._literal_or_changed = re.compile(fold % re.escape(literal) + b"|" + _CHANGED) if literal else None

    def accepts(self, line: LogLine) -> bool:
        """Whether this line passes the filter and holds the text."""
        return self.filter.accepts(line) and (self.search is None or self.search.regex.search(line.text) is not None)

    def candidates(self, data: bytes) -> list[tuple[int, int]]:
        """The spans, newlines included, of the lines in `data` that may pass; each is still to be asked for.

        data: whole lines; the last one may lack its newline.
        """
        if self._rest is not None and self._careful_rest is not None:
            moves = b"\r" in data or b"\x1b" in data or b"\x08" in data or b"\xc2\x9b" in data
            return list(_spans(self._careful_rest if moves else self._rest, data))
        if self._literal:
            return list(self._with_literal(data))
        return list(self._line_by_line(data))

    def _with_literal(self, data: bytes) -> Iterator[tuple[int, int]]:
        changed = self._literal_or_changed
        assert changed is not None
        is_simple = _CHANGES.search(data) is None
        text, literal = (data.lower(), self._folded) if self._folded else (data, self._literal)
        at = 0
        while True:
            if is_simple:
                found = text.find(literal, at)
            else:
                match = changed.search(data, at)
                found = match.start() if match else -1
            if found < 0:
                return
            start = data.rfind(b"\n", 0, found) + 1
            at = _line_end(data, found)
            yield start, at

    def _line_by_line(self, data: bytes) -> Iterator[tuple[int, int]]:
        search = self._text.search if self._text else None
        at = 0
        for line in _lines(data) if b"\r" in data else data.splitlines(keepends=True):
            end = at + len(line)
            if search is None:
                yield at, end
            else:
                text = line.rstrip(b"\n").decode("utf-8", "replace")
                if search(text) or not text.isprintable():
                    yield at, end
            at = end


_CHANGES = re.compile(_CHANGED)


def _lines(data: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(data):
        end = _line_end(data, start)
        yield data[start:end]
        start = end


def _line_end(data: bytes, at: int) -> int:
    """Where the line ends that holds the byte at `at`, its newline included."""
    newline = data.find(b"\n", at)
    return len(data) if newline < 0 else newline + 1


def _spans(rest: re.Pattern[bytes], data: bytes) -> Iterator[tuple[int, int]]:
    """The lines whose start `rest` finds; it begins with the newline before."""
    for match in rest.finditer(b"\n" + data):
        start = match.start()
        if start < len(data):
            yield start, _line_end(data, start)


def _rejected(wanted: Filter) -> bytes:
    """A regular expression for starts of lines that can't pass, whatever follows; empty where there is none."""
    parts = []
    if wanted.level in _BELOW:
        parts.append(_PROCESS + rb"(?:" + _BELOW[wanted.level] + rb")(?=[\s:\]])")
    if wanted.process:
        parts.append(rb"(?!\((?i:" + re.escape(wanted.process.encode()) + rb"))[ -~]")
    if wanted.hide_access:
        parts.append(_ACCESS)
    return b"|".join(parts)
