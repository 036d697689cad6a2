"""The runs that were kept: a list with a search, marks, and two or more of them side by side."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.cells import cell_len
from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.timer import Timer
from textual.widgets import Input, Static

from qwen_tui.bench.compare import Row, caveats, search, side_rows, sides
from qwen_tui.bench.confidence import METHOD
from qwen_tui.bench.ledger import Run
from qwen_tui.i18n import _
from qwen_tui.ui.text import cut_middle, fit, one_line
from qwen_tui.ui.widgets.bench_words import MUTED, table
from qwen_tui.ui.widgets.keyed_list import KeyedList
from qwen_tui.ui.widgets.model_part import QuietInput

#: Seconds without a key until the search begins.
_PAUSE = 0.15


def load_words(run: Run) -> str:
    """'×8' streams, '4/s', '∞/s'; 'offline' for a run without a server."""
    if run.kind == "offline":
        return _("offline")
    return f"{run.load.rate:g}/s" if run.load.is_open_loop else f"×{run.load.streams}"


def _row(run: Run) -> tuple[str, ...]:
    figures = run.figures
    times = [f"{value * 1e3:,.0f}" if value else "" for value in (figures.ttft.median, figures.ttft.p99)]
    tpot = f"{figures.tpot.median * 1e3:,.1f}" if figures.tpot.count else ""
    return (
        time.strftime("%m-%d %H:%M", time.localtime(run.created)), one_line(run.model.rpartition("/")[2]),
        load_words(run), f"{figures.request_throughput:,.2f}", f"{figures.output_throughput:,.1f}", *times, tpot,
    )  # fmt: skip


def _remarks(run: Run) -> str:
    """What else is worth seeing in the list."""
    figures = run.figures
    parts = [_("stopped")] if run.partial else []
    parts += [_("failed {n}").format(n=figures.failed)] if figures.failed else []
    parts += [_("imported")] if run.about.get("imported_from") else []
    parts += [_("client?")] if run.health.is_bottleneck else []
    parts += [f"#{tag}" for tag in run.tags if not tag.startswith(("sweep-", "capacity-"))]
    parts += [_("ladder")] if any(tag.startswith("sweep-") for tag in run.tags) else []
    parts += [_("search")] if any(tag.startswith("capacity-") for tag in run.tags) else []
    return one_line(" ".join([*parts, run.note]).strip())


class BenchLedger(Vertical):
    """The list, with the newest run first. The room has the keys."""

    DEFAULT_CSS = """
    BenchLedger #head { height: 1; color: $foreground-muted; text-wrap: nowrap; }
    BenchLedger Input { display: none; height: 1; border: none; padding: 0 1; background: $surface; }
    BenchLedger Input.-shown { display: block; }
    BenchLedger KeyedList { height: 1fr; border: none; padding: 0; background: $background; }
    """

    class Searched(Message):
        """The list shows other runs now."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._all: Sequence[Run] = ()
        self._pause: Timer | None = None
        self.runs: Sequence[Run] = ()
        self.marked: list[str] = []

    def compose(self) -> ComposeResult:
        yield QuietInput(placeholder=_("a model, a tag, a word of the note…"), id="find", compact=True)
        yield Static(id="head")
        yield KeyedList(id="runs")

    def retranslate(self) -> None:
        self.query_one(Input).placeholder = _("a model, a tag, a word of the note…")
        self.draw()

    @property
    def listing(self) -> KeyedList:
        return self.query_one(KeyedList)

    @property
    def all(self) -> Sequence[Run]:
        """Every run that was kept, the newest first."""
        return self._all

    @property
    def chosen(self) -> Run | None:
        """The run under the cursor."""
        return next((run for run in self.runs if run.id == self.listing.key), None)

    @property
    def compared(self) -> list[Run]:
        """The marked ones, in the order they were marked."""
        known = {run.id: run for run in self._all}
        return [known[id] for id in self.marked if id in known]

    def show(self, runs: Sequence[Run]) -> None:
        """These were kept."""
        had = {run.id for run in self._all}
        at_top = self.listing.key is None or (bool(self.runs) and self.listing.key == self.runs[0].id)
        self._all = runs
        self.draw()
        if at_top and self.runs and self.runs[0].id not in had:
            self.listing.select(self.runs[0].id)  # whoever looks at the newest looks at the new one

    def mark(self) -> None:
        """Mark the run under the cursor, or take its mark away; the cursor goes on."""
        key = self.listing.key
        if key is not None:
            self.marked = [id for id in self.marked if id != key] if key in self.marked else [*self.marked, key]
            self.draw()
            self.listing.action_cursor_down()

    def draw(self) -> None:
        self.runs = search(self._all, self.query_one(Input).value)
        self.listing.show([run.id for run in self.runs], self._draw_rows)
        width = max(24, self.listing.scrollable_content_region.width)
        self.query_one("#head", Static).update(Content(cut_middle("  " + self._lines(width)[0], width)))

    def _lines(self, width: int) -> list[str]:
        head = (_("date"), _("model"), _("load"), "req/s", "tok/s", "TTFT p50", "p99 ms", "TPOT p50")
        rows = [head, *map(_row, self.runs)]
        kept = list(range(len(head)))
        for place in (6, 3, 7, 5):  # what is left out first where there is little room
            if sum(max(cell_len(row[one]) for row in rows) + 2 for one in kept if one != 1) + 14 <= width:
                break
            kept.remove(place)
        rows = [tuple(row[one] for one in kept) for row in rows]
        others = [max(cell_len(row[place]) for row in rows) + 2 for place in range(len(rows[0])) if place != 1]
        # The remarks at the end get what the names of the models leave.
        longest = max(8, min(width - 2 - sum(others), max(cell_len(row[1]) for row in rows)))
        return table([(row[0], fit(row[1], longest), *row[2:]) for row in rows], 10_000, numbers_from=2)

    def _draw_rows(self, width: int) -> Sequence[Content]:
        found = []
        for line, run in zip(self._lines(width)[1:], self.runs, strict=True):
            mark = "● " if run.id in self.marked else "  "
            room = width - 2 - cell_len(line) - 2
            remarks = _remarks(run)
            tail = f"  {cut_middle(remarks, room)}" if room >= 6 and remarks else ""
            found.append(Content.assemble((mark, "$text-accent"), cut_middle(line, width - 2), (tail, MUTED)))
        return found

    # Searching

    def search(self) -> None:
        """Put the cursor into the search field."""
        field = self.query_one(Input)
        field.add_class("-shown")
        field.focus()

    def end_search(self) -> None:
        """Show every run again."""
        field = self.query_one(Input)
        field.remove_class("-shown")
        if field.value:
            field.value = ""
            self.draw()
        self.listing.focus()

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        if self._pause is not None:
            self._pause.stop()
        self._pause = self.set_timer(_PAUSE, self._find)

    def _find(self) -> None:
        self.draw()
        self.post_message(self.Searched())

    @on(Input.Submitted)
    def _to_the_rows(self, event: Input.Submitted) -> None:
        event.stop()
        self._find()
        self.listing.focus()


def comparison(chosen: Sequence[Run], known: Sequence[Run], width: int) -> Content:
    """Two or more runs side by side, each against the first: percent, the interval where runs repeat, and caveats."""
    found = sides(chosen, known)
    compared = [side_rows(found[0], side) for side in found[1:]]
    rows, looks = _compared_rows(chosen, compared, values=True)
    if max(map(cell_len, table(rows, 10_000))) > width:
        rows, looks = _compared_rows(chosen, compared, values=False)
    texts = table(rows, width)
    content = [Content.styled(texts[0], MUTED)]
    content += [
        Content.styled(text, look[0] if len(look) == 1 else "") for text, look in zip(texts[1:], looks[1:], strict=True)
    ]
    notes = dict.fromkeys(text for run in chosen[1:] for text in caveats(chosen[0], run))
    content += [Content.styled(f"! {one_line(text)}", "$text-warning") for text in notes]
    if any(line.interval is not None for lines in compared for line in lines):
        content.append(Content.styled(_(METHOD), MUTED))
    return Content("\n").join(content)


def _compared_rows(
    chosen: Sequence[Run], compared: Sequence[Sequence[Row]], *, values: bool
) -> tuple[list[Sequence[str]], list[list[str]]]:
    """The lines, a head first, and their looks. values: tell those of every run, and not the first one's only."""
    names = [f"{run.id[-4:]} {load_words(run)}" for run in chosen]
    heads = [cell for name in names[1:] for cell in ((name, _("difference")) if values else (name,))]
    rows: list[Sequence[str]] = [("", names[0], *heads)]
    looks = [[""] * len(compared)]
    for lines in zip(*compared, strict=True):
        first = lines[0]
        cells = [
            cell
            for line in lines
            for cell in ((f"{line.b:,.2f}", _difference(line)) if values else (_difference(line),))
        ]
        rows.append((f"{_(first.name)} {first.unit}".strip(), f"{first.a:,.2f}", *cells))
        looks.append([_look(line) for line in lines])
    return rows, looks


def _difference(row: Row) -> str:
    if row.change is None:
        return ""
    interval = row.interval
    sure = f" [{interval.low:+.1%} … {interval.high:+.1%}]" if interval is not None else ""
    word = ""
    if row.is_better is not None and abs(row.change) >= 0.005:
        word = " " + (_("better") if row.is_better else _("worse"))
    return f"{row.change:+.1%}{sure}{word}"


def _look(row: Row) -> str:
    if row.is_better is None or row.change is None or abs(row.change) < 0.005:
        return ""
    return "$text-success" if row.is_better else "$text-error"
