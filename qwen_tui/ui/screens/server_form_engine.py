"""The engine that a form is filled in for: found, and asked what arguments it takes, while the form is in use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from textual.content import Content

from qwen_tui.engine.arguments import ArgumentSchema
from qwen_tui.engine.arguments_check import ArgumentProblem, check, diff_from_defaults
from qwen_tui.engine.find import Engine
from qwen_tui.errors import QwenTuiError
from qwen_tui.i18n import _
from qwen_tui.paths import Paths
from qwen_tui.progress import Progress
from qwen_tui.server.quiet import quiet_words
from qwen_tui.ui.services import Services
from qwen_tui.ui.text import one_line, plain


class EngineOfForm:
    """engine: None until it is found. schema: its arguments, None until they are known."""

    def __init__(self) -> None:
        self.engine: Engine | None = None
        self.schema: ArgumentSchema | None = None
        self._setting: str | None = None
        self._error: QwenTuiError | None = None
        self._progress: Progress | None = None
        self._schema_error = ""
        #: The words that keep our questions out of this engine's log.
        self.quiet: tuple[str, ...] = ()

    async def find(self, services: Services, setting: str) -> None:
        """Look for the engine that `setting` (or, if that is empty, the settings) names, unless it is found already."""
        if self.engine is not None and setting == self._setting:
            return
        self._setting = setting
        self._error, self.schema, self._schema_error = None, None, ""
        try:
            self.engine = await asyncio.to_thread(
                services.find_engine, services.paths, setting or services.settings.engine
            )
        except QwenTuiError as error:
            self.engine, self._error = None, error
            return
        self.schema = await asyncio.to_thread(ArgumentSchema.cached, self.engine, services.paths)
        self.quiet = await asyncio.to_thread(quiet_words, self.engine, (), services.paths)

    async def learn(self, paths: Paths, on_progress: Callable[[], None]) -> None:
        """Ask the engine for its arguments: 10 s or more the first time; `line` shows how far it is."""
        if self.engine is None or self.schema is not None or self._schema_error:
            return

        def hear(progress: Progress) -> None:
            self._progress = progress
            on_progress()

        engine = self.engine
        try:
            schema = await ArgumentSchema.load(engine, paths, hear)
            if engine is self.engine:  # another one may have been named meanwhile
                self.schema = schema
        except (QwenTuiError, OSError) as error:
            self._schema_error = error.title if isinstance(error, QwenTuiError) else str(error)
        finally:
            self._progress = None

    @property
    def trouble(self) -> str:
        """Why its arguments can't be had; empty if they can."""
        return self._schema_error

    def line(self) -> Content:
        """The engine, or what is being done about it."""
        if self._error is not None:
            return Content.styled(plain(str(self._error)), "$text-error")
        if self.engine is None:
            return Content.styled(_("looking for an engine…"), "$foreground-muted")
        text = Content.assemble(
            (_("engine"), "$foreground-muted"), f"  vLLM {self.engine.version} ({self.engine.platform})"
        )
        note = self.progress_line()
        return Content.assemble(text, (f"  {note}", "$foreground-muted")) if note else text

    def progress_line(self) -> str:
        """How far the learning of the arguments is; empty while there is none."""
        if self._progress is None:
            return ""
        share = self._progress.fraction
        return f"{one_line(self._progress.step)} {f'{share:.0%}' if share is not None else ''}".rstrip() + "…"

    def problems(self, words: Sequence[str]) -> list[ArgumentProblem]:
        """What is wrong with the extra arguments, as far as is known."""
        return check(self.schema, words) if self.schema is not None else []

    def differences(self, words: Sequence[str]) -> Content:
        """What the extra arguments change of the defaults."""
        if self.schema is None or not words:
            return Content("")
        found = diff_from_defaults(self.schema, words)
        if not found:
            return Content("")
        texts = [
            _("{name} {value} (default {default})").format(
                name=entry.argument.name, value=one_line(entry.value), default=one_line(entry.default) or "–"
            )
            for entry in found
        ]
        return Content.assemble((_("differs"), "$foreground-muted"), "  ", plain(" · ".join(texts)))
