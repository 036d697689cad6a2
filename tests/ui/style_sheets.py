"""Every app reads the same style sheets: what one has read serves the next."""

from __future__ import annotations

from typing import Any

import pytest
from textual.css.model import RuleSet
from textual.css.stylesheet import Stylesheet


class SharedRules:
    """The rules of the style sheets read so far, by sheet and by the theme's variables."""

    def __init__(self) -> None:
        self._rules: dict[Any, list[RuleSet]] = {}
        self._parse = Stylesheet._parse_rules

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let every style sheet be read once in this process, for as long as `monkeypatch` lasts."""

        def parse(
            sheet: Stylesheet, css: str, read_from: Any, is_default_rules: bool = False, tie_breaker: int = 0,
            scope: str = "",
        ) -> list[RuleSet]:  # fmt: skip
            given = (css, read_from, is_default_rules, tie_breaker, scope)
            key = (frozenset(sheet._variables.items()), *given)
            if key not in self._rules:
                self._rules[key] = self._parse(sheet, *given)
            return self._rules[key]

        monkeypatch.setattr(Stylesheet, "_parse_rules", parse)
