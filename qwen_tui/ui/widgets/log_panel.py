"""A log with all that can be done to it: search, filters, earlier runs, export. The bar above says what is active."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, Static

from qwen_tui.errors import QwenTuiError
from qwen_tui.i18n import N_, _
from qwen_tui.logs.export import Exported, export
from qwen_tui.logs.filters import Filter, Pattern
from qwen_tui.logs.parse import Level
from qwen_tui.logs.runs import Run, runs
from qwen_tui.logs.search import Cancelled
from qwen_tui.progress import format_bytes
from qwen_tui.ui.rooms import DO, MOVE
from qwen_tui.ui.text import one_line
from qwen_tui.ui.widgets.log_view import LogView

LEVELS = (Level.NONE, Level.WARNING, Level.ERROR)
PROCESSES = ("", "APIServer", "EngineCore", "Worker")
LEVEL_WORDS = {Level.WARNING: N_("warnings and errors"), Level.ERROR: N_("errors only")}
FIELD_WORDS = {
    "search": N_("search for"),
    "filter": N_("only lines with"),
    "line": N_("go to line"),
    "export": N_("write to the file"),
}
#: Seconds between two looks at how far an export has come.
EXPORT_INTERVAL = 0.2


class LogPanel(Vertical):
    """The log at a path, and the keys that look through it. `show` and `view` are for the room."""

    DEFAULT_CSS = """
    LogPanel { height: 1fr; }
    LogPanel > #log-bar { height: 1; padding: 0 1; background: $panel; color: $text-accent; display: none; }
    LogPanel > #log-field { height: 1; border: none; padding: 0 1; background: $panel; display: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("/", "ask('search')", N_("search"), id="logs.search", group=DO),
        Binding("n", "match(True)", N_("next match"), id="logs.next_match", group=DO, show=False),
        Binding("N", "match(False)", N_("previous match"), id="logs.previous_match", group=DO, show=False),
        Binding("L", "level", N_("level"), id="logs.level", group=DO),
        Binding("&", "ask('filter')", N_("filter"), id="logs.filter", group=DO),
        Binding("P", "process", N_("process"), id="logs.process", group=DO),
        Binding("A", "access", N_("hide requests"), id="logs.access", group=DO, show=False),
        Binding("]", "error('next')", N_("next error"), id="logs.next_error", group=MOVE),
        Binding("[", "error('previous')", N_("previous error"), id="logs.previous_error", group=MOVE, show=False),
        Binding("{", "error('first')", N_("first error"), id="logs.first_error", group=MOVE, show=False),
        Binding("colon", "ask('line')", N_("go to a line"), id="logs.line", group=MOVE, show=False),
        Binding("<", "run(1)", N_("the run before"), id="logs.older_run", group=DO, show=False),
        Binding(">", "run(-1)", N_("the run after"), id="logs.newer_run", group=DO, show=False),
        Binding("#", "figures", N_("statistics in columns"), id="logs.figures", group=DO, show=False),
        Binding("o", "ask('export')", N_("export"), id="logs.export", group=DO),
        Binding("escape", "back", N_("end the search, show all"), id="logs.back", group=DO, show=False),
    ]

    def __init__(self, path: Path | None = None, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._log = path
        self._runs: list[Run] = []
        self._asked = ""
        self._stop_export: threading.Event | None = None

    def compose(self) -> ComposeResult:
        yield Static(id="log-bar")
        yield LogView(self._log, id="log")
        yield Input(id="log-field", select_on_focus=False)

    @property
    def view(self) -> LogView:
        return self.query_one(LogView)

    def show(self, path: Path | None) -> None:
        """Show this server's log from now on; an earlier run of the same server stays as it is."""
        if path != self._log:
            self._log = path
            self._runs = []
            self.view.show(path)
            self._draw_bar()

    def retranslate(self) -> None:
        """Draw the texts held here again, in the language of now."""
        self._draw_bar()
        if self._asked:
            self._field.placeholder = _(FIELD_WORDS[self._asked])

    @property
    def _field(self) -> Input:
        return self.query_one(Input)

    def _draw_bar(self) -> None:
        text = "  ·  ".join(self._active())
        bar = self.query_one("#log-bar", Static)
        bar.display = bool(text)
        bar.update(Content(one_line(text)))

    def _active(self) -> list[str]:
        """What is active, in words."""
        wanted, parts = self.view.filter, []
        if wanted.level:
            parts.append(_(LEVEL_WORDS[wanted.level]))
        if wanted.process:
            parts.append(wanted.process)
        if wanted.hide_access:
            parts.append(_("no requests"))
        if wanted.pattern:
            parts.append(_("only “{text}”").format(text=wanted.pattern.source))
        if parts or self.view.search:
            parts.append(_("esc shows all") if parts and not self.view.search else _("esc ends the search"))
        if self.view.path != self._log:
            number = next((at for at, run in enumerate(self._runs, 1) if run.log == self.view.path), 0)
            started = self._runs[number - 1].started if number else None
            when = f"{started:%Y-%m-%d %H:%M:%S}" if started else ""
            words = _("an earlier run, {number} of {count}: {when} (> goes back)")
            parts.insert(0, words.format(number=number, count=len(self._runs), when=when))
        return parts

    # The field

    def action_ask(self, what: str) -> None:
        if self.view.path is None:
            return
        values = {"search": self.view.search.source if self.view.search else "", "export": self._proposed_path()}
        wanted = self.view.filter.pattern
        values["filter"] = wanted.source if wanted else ""
        self._asked = what
        field = self._field
        field.placeholder = _(FIELD_WORDS[what])
        field.value = values.get(what, "")
        field.cursor_position = len(field.value)
        field.display = True
        field.focus()

    def _proposed_path(self) -> str:
        path = self.view.path
        kind = "" if self.view.filter.is_all else "-filtered"
        folder = path.parent.parent.name if path and path.parent.name == "logs" else "log"
        return f"~/{folder}-{path.stem if path else ''}{kind}.log"

    @on(Input.Submitted)
    def _answered(self, event: Input.Submitted) -> None:
        event.stop()
        asked, text = self._asked, event.value
        self._close_field()
        if asked == "search":
            self._search(text)
        elif asked == "filter":
            self._use(self.view.filter.with_pattern(text))
            self._warn_if_literal(self.view.filter.pattern)
        elif asked == "line":
            if text.strip().isdecimal() and 0 < int(text) < 10**15:
                self.view.jump_to_line(int(text))
            elif text.strip():
                self.notify(_("{text} is no line number").format(text=one_line(text)), severity="warning", markup=False)
        elif text.strip():
            self.run_worker(self._export(Path(text.strip())), group="log export", exclusive=True, exit_on_error=True)

    def _close_field(self) -> None:
        self._asked = ""
        self._field.display = False
        self.view.focus()

    def _search(self, text: str) -> None:
        if text:
            pattern = Pattern.of(text)
            self._warn_if_literal(pattern)
            self.view.start_search(pattern)
        else:
            self.view.end_search()
        self._draw_bar()

    def _warn_if_literal(self, pattern: Pattern | None) -> None:
        if pattern is not None and pattern.is_literal:
            words = _("{text} is no regular expression: it is looked for letter by letter")
            self.notify(words.format(text=one_line(pattern.source)), markup=False)

    def _use(self, wanted: Filter) -> None:
        self.view.use_filter(wanted)
        self._draw_bar()

    # Keys

    def action_match(self, forward: bool) -> None:
        if self.view.search is None:
            self.notify(_("Press / and type what to look for"), markup=False)
        self.view.go_match(forward)

    def action_error(self, where: str) -> None:
        self.view.go_error("first" if where == "first" else "next" if where == "next" else "previous")

    def action_level(self) -> None:
        wanted = self.view.filter
        self._use(replace(wanted, level=LEVELS[(LEVELS.index(wanted.level) + 1) % len(LEVELS)]))

    def action_process(self) -> None:
        wanted = self.view.filter
        self._use(replace(wanted, process=PROCESSES[(PROCESSES.index(wanted.process) + 1) % len(PROCESSES)]))

    def action_access(self) -> None:
        self._use(replace(self.view.filter, hide_access=not self.view.filter.hide_access))

    def action_figures(self) -> None:
        self.view.show_figures(not self.view.shows_figures)

    def action_back(self) -> None:
        if self._field.display:
            self._close_field()
        elif self._stop_export is not None:
            self._stop_export.set()
        elif self.view.search is not None:
            self.view.end_search()
        elif not self.view.filter.is_all:
            self.view.use_filter(Filter())
        self._draw_bar()

    async def action_run(self, step: int) -> None:
        log, shown = self._log, self.view.path
        if log is None or shown is None:
            return
        found = await asyncio.to_thread(runs, log)
        if log != self._log:
            return
        self._runs = found
        at = next((number for number, run in enumerate(found) if run.log == shown), 0) + step
        if not 0 <= at < len(found):
            self.notify(_("There is no earlier run") if step > 0 else _("This is the newest run"), markup=False)
            return
        self.view.show(found[at].log)
        self._draw_bar()

    # Export

    async def _export(self, target: Path) -> None:
        path, wanted = self.view.path, self.view.filter
        if path is None:
            return
        stop = self._stop_export = threading.Event()
        done = (0, 0)

        def report(so_far: int, total: int) -> None:
            nonlocal done
            done = so_far, total

        work = asyncio.ensure_future(asyncio.to_thread(export, path, target, wanted, stop.is_set, report))
        try:
            while not (await asyncio.wait((work,), timeout=EXPORT_INTERVAL))[0]:
                self._show_job(_("export {percent} %, esc stops").format(percent=100 * done[0] // max(1, done[1])))
            self._exported(await work)
        except Cancelled:
            self.notify(_("The export was stopped; nothing was kept"), markup=False)
        except QwenTuiError as error:
            text = "\n".join(one_line(part) for part in (error.why, error.hint) if part)
            self.notify(text, title=one_line(error.title), severity="error", markup=False)
        finally:
            stop.set()
            self._stop_export = None
            self._show_job(None)

    def _exported(self, written: Exported) -> None:
        words = _("{size} written to {file}").format(size=format_bytes(written.size), file=one_line(str(written.path)))
        self.notify(words, markup=False)

    def _show_job(self, text: str | None) -> None:
        show = getattr(self.app, "show_job", None)
        if show is not None:
            show(text)
