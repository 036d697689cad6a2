"""Which lines of a log a person wants to see, and how to find them in many bytes without reading each line.

A line passes by what `parse` says of it. Most lines need no parsing to be turned down: their first bytes tell
(`INFO …` is no error, `(APIServer …` is not the engine), and one regular expression finds those that are left.
Whatever could make a line show something else than its bytes say (a carriage return, an escape) is parsed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from qwen_tui.logs.parse import Level, LogLine

#: What comes after these may have overwritten what came before: the first bytes tell nothing.
_MOVES = rb"[\r\x08\x1b]|\xc2\x9b"
_PROCESS = rb"(?:\([^()\n\x00-\x1f]{1,80}? pid=\d+[^()\n\x00-\x1f]{0,60}\) )?"
_ACCESS = _PROCESS + (
    rb'INFO: +[^\s"\x00-\x1f]+ - "(?:GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) [^\s\x00-\x1f]+ HTTP/[\d.]+" ?\d'
)
_BELOW = {
    Level.WARNING: rb"INFO|DEBUG|TRACE|NOTICE|SUCCESS",
    Level.ERROR: rb"INFO|DEBUG|TRACE|NOTICE|SUCCESS|WARNING|WARN",
    Level.CRITICAL: rb"INFO|DEBUG|TRACE|NOTICE|SUCCESS|WARNING|WARN|ERROR",
}
_FOR_ONE_LINE = ("(?", "\\A", "\\Z", "\\B", "*+", "++", "?+", "}+")
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

    def for_many_lines(self) -> re.Pattern[str] | None:
        """The same for several lines at once: it matches at the latest where one of them does, maybe before.

        None where that can't be had: what looks around, or at the very start and end, sees the other lines.
        """
        if self.is_literal or any(sign in self.source for sign in _FOR_ONE_LINE):
            return None
        return re.compile(self.source, self.regex.flags | re.MULTILINE)


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
        self._text = search or wanted.pattern
        rejected = _rejected(wanted)
        self._rejected = re.compile(rejected) if rejected else None
        self._rest = re.compile(rb"\n(?!" + rejected + rb")")
        self._careful_rest = re.compile(rb"\n(?!(?:" + rejected + rb")(?![^\n]*(?:" + _MOVES + rb")))")
        self._literal = self._text.plain if self._text else b""
        self._folds = bool(self._text and self._text.regex.flags & re.IGNORECASE)
        self._whole = self._text.for_many_lines() if self._text else None

    def accepts(self, line: LogLine) -> bool:
        """Whether this line passes the filter and holds the text."""
        return self.filter.accepts(line) and (self.search is None or self.search.regex.search(line.text) is not None)

    def candidates(self, data: bytes) -> list[tuple[int, int]]:
        """The spans, newlines included, of the lines in `data` that may pass; each is still to be asked for.

        data: whole lines; the last one may lack its newline.
        """
        if self._text is not None:
            return self._with_text(data, self._text)
        if self._rejected is None:
            return list(_spans(_lines(data)))
        moves = b"\r" in data or b"\x1b" in data or b"\x08" in data or b"\xc2\x9b" in data
        rest = self._careful_rest if moves else self._rest
        starts = (match.start() for match in rest.finditer(b"\n" + data))
        return [(start, _line_end(data, start)) for start in starts if start < len(data)]

    def _with_text(self, data: bytes, pattern: Pattern) -> list[tuple[int, int]]:
        if _is_changed(data):
            # What the bytes hold and what a person sees differ somewhere: each line by itself.
            return list(_matching(data, pattern.regex))
        if self._literal:
            spans = _holding(data.lower(), self._literal.lower()) if self._folds else _holding(data, self._literal)
        elif self._whole is not None and data.isascii():
            spans = _matching_in_all(data.decode("ascii"), self._whole)
        else:
            spans = _matching(data, pattern.regex)
        rejected = self._rejected
        return [span for span in spans if rejected is None or not rejected.match(data, span[0])]


#: Control characters, newlines apart.
_CONTROLS = bytes([*range(10), *range(11, 32), 127])
_CHANGED = re.compile(rb"\xc2[\x80-\x9f\xad]|\xe2\x80[\x8b-\x8f\xa8-\xae]|\xef\xbb\xbf")


def _is_changed(data: bytes) -> bool:
    """Whether `plain_text` may show something else than these bytes say."""
    if len(data.translate(None, _CONTROLS)) != len(data):
        return True
    return not data.isascii() and _CHANGED.search(data) is not None


def _holding(data: bytes, literal: bytes) -> Iterator[tuple[int, int]]:
    """The lines that hold these bytes."""
    found = data.find(literal)
    while found >= 0:
        end = _line_end(data, found)
        yield data.rfind(b"\n", 0, found) + 1, end
        found = data.find(literal, end)


def _matching_in_all(text: str, whole: re.Pattern[str]) -> Iterator[tuple[int, int]]:
    """The lines of `text`, which is ASCII, in which a match of `whole` begins."""
    at = 0
    while at < len(text) and (match := whole.search(text, at)):
        start = text.rfind("\n", 0, match.start()) + 1
        if start >= len(text):
            return
        newline = text.find("\n", match.start())
        at = len(text) if newline < 0 else newline + 1
        yield start, at


def _matching(data: bytes, regex: re.Pattern[str]) -> Iterator[tuple[int, int]]:
    """The lines whose text matches, and those whose text is not what their bytes say."""
    for start, end in _spans(_lines(data)):
        text = data[start:end].rstrip(b"\n").decode("utf-8", "replace")
        if regex.search(text) or not text.isprintable():
            yield start, end


def _spans(lines: Iterable[bytes]) -> Iterator[tuple[int, int]]:
    start = 0
    for line in lines:
        yield start, start + len(line)
        start += len(line)


def _lines(data: bytes) -> Iterable[bytes]:
    """The lines of `data` with their newlines."""
    if b"\r" not in data:
        return data.splitlines(keepends=True)
    return [line for line in re.split(rb"(?<=\n)", data) if line]


def _line_end(data: bytes, at: int) -> int:
    """Where the line ends that holds the byte at `at`, its newline included."""
    newline = data.find(b"\n", at)
    return len(data) if newline < 0 else newline + 1


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
