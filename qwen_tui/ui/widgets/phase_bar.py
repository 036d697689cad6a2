"""How far the start of a server has come: a bar, the phase's name, elapsed and ETA, and what each phase took."""

from __future__ import annotations

from rich.cells import cell_len
from textual.content import Content
from textual.widget import Widget

from qwen_tui.i18n import _
from qwen_tui.progress import format_seconds
from qwen_tui.server.status import PHASE_WORDS, StartProgress

_EIGHTHS = " ▏▎▍▌▋▊▉"


def bar(fraction: float, width: int) -> tuple[str, str]:
    """The filled part and the rest of a bar `width` cells wide, in eighths of a cell."""
    eighths = round(min(1.0, max(0.0, fraction)) * width * 8)
    full, part = divmod(eighths, 8)
    filled = "█" * full + (_EIGHTHS[part] if part else "")
    return filled, " " * (width - len(filled))


class PhaseBar(Widget):
    """Draws one StartProgress; nothing in it moves by itself."""

    DEFAULT_CSS = """
    PhaseBar { height: auto; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._progress: StartProgress | None = None

    def show(self, progress: StartProgress | None) -> None:
        if progress != self._progress:
            self._progress = progress
            self.refresh(layout=True)

    def retranslate(self) -> None:
        self.refresh(layout=True)

    def render(self) -> Content:
        progress = self._progress
        if progress is None:
            return Content("")
        lines = [self._bar_line(progress), self._words(progress), Content("")]
        width = max((cell_len(_(PHASE_WORDS[phase])) for phase, _seconds in progress.phases), default=0)
        for phase, seconds in progress.phases:
            word = _(PHASE_WORDS[phase])
            current = phase is progress.phase
            mark = ("› ", "$text-warning") if current else ("✓ ", "$text-success")
            pad = " " * (width - cell_len(word))
            lines.append(Content.assemble(mark, word, pad, f"  {format_seconds(seconds):>11}"))
        return Content("\n").join(lines)

    def _bar_line(self, progress: StartProgress) -> Content:
        percent = f" {progress.fraction * 100:3.0f} %"
        filled, rest = bar(progress.fraction, max(10, min(60, self.content_size.width - len(percent))))
        return Content.assemble((filled, "$primary on $surface-lighten-1"), (rest, "on $surface-lighten-1"), percent)

    def _words(self, progress: StartProgress) -> Content:
        parts = [_(PHASE_WORDS[progress.phase])]
        if progress.total:
            parts[0] += f" {progress.done:,}/{progress.total:,}"
        parts.append(_("{time} so far").format(time=format_seconds(progress.elapsed)))
        if progress.is_overdue:
            parts.append(_("longer than the last time"))
        elif progress.eta is not None:
            parts.append(_("about {time} to go").format(time=format_seconds(progress.eta)))
        return Content(" · ".join(parts))
