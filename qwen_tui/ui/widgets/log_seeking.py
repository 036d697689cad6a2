"""The part of a log view that looks for lines: filters, searches, errors, and what is counted in the background."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Literal

from textual.widget import Widget

from qwen_tui.i18n import _
from qwen_tui.logs.filters import Filter, Pattern, Sieve
from qwen_tui.logs.page import Page
from qwen_tui.logs.pager import Pager
from qwen_tui.logs.parse import Level, LogLine
from qwen_tui.logs.reader import LogError
from qwen_tui.logs.seek import Seeker
from qwen_tui.logs.survey import Survey

#: Seconds of work for the minimap and the count of matches, and of rest between; and between looks once all is read.
SURVEY_STEP = 0.02
SURVEY_REST = 0.1
#: The same for the count of matches: somebody waits for that.
MATCHES_STEP = 0.1
SURVEY_INTERVAL = 1.0

Operation = Callable[[Pager], object]


class LogSeeking(Widget):
    """What a LogView can look for. The view gives `_do`, `_draw`, `_is_watching`, `_page` and `_pager`."""

    _pager: Pager | None
    _page: Page
    _is_read: bool

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._filter = Filter()
        self._shows_figures = False
        self._news: list[str] = []
        self._search: Pattern | None = None
        self._seeker: Seeker | None = None
        self._errors: Seeker | None = None
        self._survey: Survey | None = None
        self._matches: Survey | None = None
        self._marks: list[Level] = []
        self._numbered: tuple[Survey, int, int] | None = None
        self._moved = asyncio.Event()

    def _do(self, operation: Operation) -> None:
        raise NotImplementedError

    def _draw(self, page: Page) -> None:
        raise NotImplementedError

    @property
    def _is_watching(self) -> bool:
        raise NotImplementedError

    @property
    def filter(self) -> Filter:
        """What lines must be to be shown."""
        return self._filter

    @property
    def search(self) -> Pattern | None:
        """What is searched for and marked."""
        return self._search

    @property
    def match_number(self) -> int:
        """Which of the lines that match the current one is, from 1; 0 where it is none or that is not known yet."""
        current = self._page.current
        if self._numbered is None or self._page.following or current is None:
            return 0
        survey, offset, number = self._numbered
        return number if survey is self._matches and offset == current.offset else 0

    @property
    def shows_figures(self) -> bool:
        """Whether the engine's statistics stand in columns."""
        return self._shows_figures

    def use_filter(self, wanted: Filter) -> None:
        """Show only lines that pass; the search goes on among them."""
        self._filter, self._errors = wanted, None
        self._do(lambda pager: pager.use_filter(wanted))
        if self._search is not None:
            self._use_search(self._search, wanted)

    def show_figures(self, wanted: bool) -> None:
        """Draw the engine's statistics as columns, or as they are."""
        self._shows_figures = wanted
        self._do(lambda pager: pager.show_figures(wanted))

    def start_search(self, pattern: Pattern) -> None:
        """Mark what matches, and go to the nearest line that does."""
        self._use_search(pattern, self.filter)
        if self._seeker is not None:
            self._go(self._seeker.nearest, _("No line matches {text}").format(text=pattern.source))
        self._draw(self._page)

    def end_search(self) -> None:
        """Mark nothing."""
        self._search = self._seeker = self._matches = None
        self._draw(self._page)

    def go_match(self, forward: bool) -> None:
        """To the next line that matches, or the one before."""
        if self._seeker is not None:
            nothing = _("No match further down") if forward else _("No match further up")
            self._go(self._seeker.next if forward else self._seeker.previous, nothing)

    def go_error(self, where: Literal["first", "next", "previous"]) -> None:
        """To another error; the lines of one traceback count as one."""
        if self._pager is None:
            return
        if self._errors is None:
            level = max(Level.ERROR, self.filter.level)
            self._errors = Seeker(self._pager, Sieve(replace(self.filter, level=level)), by_block=True)
        moves = {"first": self._errors.first, "next": self._errors.next, "previous": self._errors.previous}
        nothing = {
            "first": _("There is no error in this log"),
            "next": _("No error further down"),
            "previous": _("No error further up"),
        }
        self._go(moves[where], nothing[where])

    def _go(self, move: Callable[[], bool], nothing: str) -> None:
        def operation(_pager: Pager) -> None:
            if not move():
                self._news.append(nothing)

        self._do(operation)

    def _seek_again(self) -> None:
        """The pager is another one: it gets the same filter and search."""
        self.use_filter(self._filter)
        self.show_figures(self._shows_figures)

    def _use_search(self, pattern: Pattern, wanted: Filter) -> None:
        self._search = pattern
        if self._pager is not None:
            sieve = Sieve(wanted, pattern)
            self._seeker, self._matches = Seeker(self._pager, sieve), Survey(self._pager.reader, sieve)
            self._moved.set()

    def _start_surveys(self) -> None:
        self._marks, self._seeker, self._errors, self._matches = [], None, None, None
        wanted = Sieve(Filter(level=Level.WARNING))
        self._survey = None if self._pager is None else Survey(self._pager.reader, wanted)

    async def _look_through(self) -> None:
        """Count errors, warnings and matches in the whole log, a bit at a time, while it is on the screen."""
        due = 0.0
        while True:
            if self._is_watching and self._is_read:
                is_new = self._matches is not None and self._matches.position == 0
                if is_new or time.monotonic() >= due:
                    more = await self._advance_surveys()
                    due = time.monotonic() + (SURVEY_REST if more else SURVEY_INTERVAL)
                await self._number_match()
            else:
                due = time.monotonic() + SURVEY_INTERVAL
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._moved.wait(), max(0.0, due - time.monotonic()))
            self._moved.clear()

    async def _advance_surveys(self) -> bool:
        more = False
        for survey, seconds in ((self._survey, SURVEY_STEP), (self._matches, MATCHES_STEP)):
            if survey is not None:
                position = survey.position
                more = await asyncio.to_thread(_advance, survey, seconds) or more
                if survey.position != position and survey in (self._survey, self._matches):
                    self._draw(self._page)
        return more

    async def _number_match(self) -> None:
        """See which of the matches the current line is."""
        survey, current = self._matches, self._page.current
        if survey is None or current is None or self._page.following:
            return
        if self._numbered is not None and self._numbered[:2] == (survey, current.offset):
            return
        number = await asyncio.to_thread(_number, survey, current)
        if number is not None and survey is self._matches:
            self._numbered = (survey, current.offset, number)
            self._draw(self._page)


def _advance(survey: Survey, seconds: float) -> bool:
    try:
        return survey.advance(seconds)
    except LogError:
        return False  # the view says so


def _number(survey: Survey, line: LogLine) -> int | None:
    """Which of the lines that `survey` counts this one is, from 1; 0 if it is none, None if that is not known yet."""
    if not survey.sieve.accepts(line):
        return 0
    try:
        return survey.number_of(line.offset)
    except LogError:
        return None  # the view says so
