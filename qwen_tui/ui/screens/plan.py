"""The plan of a start, shown before it: what is well, what is not, and keys that mend it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from qwen_tui.engine.arguments import ArgumentSchema
from qwen_tui.engine.find import Engine
from qwen_tui.i18n import N_, _, ngettext
from qwen_tui.paths import Paths
from qwen_tui.server.plan import TOPICS, Level, Plan, PlanLine, make_plan
from qwen_tui.server.ray_status import with_ray
from qwen_tui.server.spec import ServerSpec
from qwen_tui.ui.rooms import DO, MOVE
from qwen_tui.ui.text import one_line, plain
from qwen_tui.ui.widgets.key_bar import KeyBar
from qwen_tui.ui.widgets.prose import Prose

if TYPE_CHECKING:
    from qwen_tui.ui.app import QwenApp

#: Level → symbol, theme colour, word.
LOOK: dict[Level, tuple[str, str, str]] = {
    "stop": ("✗", "$text-error", N_("fails")),
    "warn": ("!", "$text-warning", N_("warn")),
    "ok": ("✓", "$text-success", N_("ok")),
}
_MOST_CHANGES = 9


async def plan_of(
    spec: ServerSpec,
    engine: Engine,
    paths: Paths,
    schema: ArgumentSchema | None = None,
    *,
    before_stop: bool = False,
) -> Plan:
    """The plan of `spec`, made in a thread; with the Ray cluster where it needs one.

    before_stop: a server that runs still is stopped for it: what that one holds counts as free.
    """
    plan = await asyncio.to_thread(make_plan, spec, engine, paths, schema=schema)
    plan = await asyncio.to_thread(with_ray, plan, engine)
    return plan.before_stop() if before_stop else plan


def verdict(plan: Plan) -> Content:
    """One line: whether it can start, and the first thing that is not well."""
    symbol, colour, _word = LOOK[plan.level]
    worst = [line for line in plan.lines if line.level == plan.level]
    if plan.level == "ok":
        text = _("plan: nothing stands in the way")
    elif plan.level == "warn":
        text = ngettext("plan: it can start, with {count} warning", "plan: it can start, with {count} warnings",
                        len(worst)).format(count=len(worst))  # fmt: skip
    else:
        text = _("plan: it would fail")
    first = "" if plan.level == "ok" else f" · {_(TOPICS[worst[0].topic])}: {one_line(worst[0].text)}"
    return Content.styled(f"{symbol} {text}{first}", colour)


@dataclass(frozen=True)
class PlanAnswer:
    """What was decided; `spec` has the changes that were applied."""

    action: Literal["start", "edit", "cancel"]
    spec: ServerSpec


class PlanScreen(ModalScreen[PlanAnswer], inherit_bindings=False):
    """Shows `plan` and what mends it; a digit applies a change and plans again."""

    CSS_PATH = "plan.tcss"
    AUTO_FOCUS = "#lines"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "start", N_("start"), id="plan.start", group=DO),
        *(
            Binding(
                str(digit), f"apply({digit})", N_("do what stands beside it"), id=f"plan.apply.{digit}",
                group=DO, show=digit == 1,
            )
            for digit in range(1, _MOST_CHANGES + 1)
        ),
        Binding("e", "edit", N_("edit"), id="plan.edit", group=DO),
        Binding("r", "again", N_("check again"), id="plan.again", group=DO),
        Binding("y", "copy_command", N_("copy command"), id="plan.copy_command", group=DO, show=False),
        Binding("down,j", "scroll(1)", N_("down"), id="plan.down", group=MOVE, show=False),
        Binding("up,k", "scroll(-1)", N_("up"), id="plan.up", group=MOVE, show=False),
        Binding("pagedown", "scroll(8)", N_("page down"), id="plan.page_down", group=MOVE, show=False),
        Binding("pageup", "scroll(-8)", N_("page up"), id="plan.page_up", group=MOVE, show=False),
        Binding("escape", "cancel", N_("cancel"), id="plan.cancel", group=DO),
    ]  # fmt: skip

    def __init__(
        self, plan: Plan, engine: Engine, schema: ArgumentSchema | None = None, *, before_stop: bool = False
    ) -> None:
        super().__init__()
        self._before_stop = before_stop
        self._plan = plan
        self._engine = engine
        self._schema = schema
        self._changed: list[str] = []
        self._is_checking = False

    @property
    def plan(self) -> Plan:
        """The plan that is shown."""
        return self._plan

    def compose(self) -> ComposeResult:
        with Vertical(id="plan"):
            yield Prose(id="title")
            with VerticalScroll(id="lines", can_focus=True):
                yield from self._rows()
            yield Prose(id="verdict")
            yield KeyBar()

    def on_mount(self) -> None:
        self._draw()

    def _lines(self) -> list[PlanLine]:
        """The worst first."""
        order = list(LOOK)
        return sorted(self._plan.lines, key=lambda line: order.index(line.level))

    def _changes(self) -> list[PlanLine]:
        """The lines that a digit mends, in the order of the digits."""
        return [line for line in self._lines() if line.change is not None][:_MOST_CHANGES]

    def _rows(self) -> list[Horizontal]:
        rows = []
        changes = self._changes()
        for line in self._lines():
            symbol, colour, word = LOOK[line.level]
            head = Content.assemble((f"{symbol} {_(word)}", colour), "  ", (_(TOPICS[line.topic]), "bold"))
            parts = [Content(plain(line.text))]
            if line.remedy:
                parts.append(Content.styled(plain(line.remedy), "$foreground-muted"))
            if line in changes and line.change is not None:
                digit = str(changes.index(line) + 1)
                parts.append(Content.assemble((digit, "bold $text-accent"), "  ", plain(line.change.label)))
            rows.append(
                Horizontal(
                    Static(head, classes="head"), Prose(Content("\n").join(parts), classes="text"), classes="line"
                )
            )
        return rows

    def _draw(self) -> None:
        name = one_line(self._plan.spec.name)
        title = [(_("Plan of {name}").format(name=name), "bold")]
        if self._changed:
            title.append(("  " + _("changed: {changes}").format(changes=", ".join(self._changed)), "$text-accent"))
        self.query_one("#title", Static).update(Content.assemble(*title))
        if self._is_checking:
            text = Content.styled(_("checking…"), "$foreground-muted")
        else:
            seconds = _("checked in {seconds:.2f} s").format(seconds=self._plan.seconds)
            text = Content.assemble(verdict(self._plan), (f"  {seconds}", "$foreground-muted"))
        self.query_one("#verdict", Static).update(text)
        self.refresh_bindings()

    def binding_text(self, binding: Binding) -> str:
        if binding.action == "apply(1)" and not self._changes():
            return ""
        if binding.action == "start" and not self._plan.can_start:
            return N_("start all the same")
        return binding.description

    # Doing

    def action_apply(self, digit: int) -> None:
        changes = self._changes()
        if self._is_checking or digit > len(changes):
            return
        change = changes[digit - 1].change
        assert change is not None
        self._changed.append(plain(change.label))
        self._check(change.apply(self._plan.spec))

    def action_again(self) -> None:
        self._check(self._plan.spec)

    def _check(self, spec: ServerSpec) -> None:
        if not self._is_checking:
            self._is_checking = True
            self._draw()
            self.run_worker(self._plan_again(spec), group="plan")

    async def _plan_again(self, spec: ServerSpec) -> None:
        services = cast("QwenApp", self.app).services
        try:
            self._plan = await plan_of(spec, self._engine, services.paths, self._schema, before_stop=self._before_stop)
        finally:
            self._is_checking = False
        if not self.is_attached:
            return
        lines = self.query_one("#lines", VerticalScroll)
        with self.app.batch_update():
            await lines.remove_children()
            await lines.mount(*self._rows())
            self._draw()

    def action_start(self) -> None:
        if not self._is_checking:
            self.run_worker(self._start(), group="start", exclusive=True)

    async def _start(self) -> None:
        from qwen_tui.ui.screens.dialogs import Confirm

        if not self._plan.can_start:
            question = Confirm(_("Start all the same?"), _("The lines with ✗ say why it would fail."), _("start it"))
            if await self.app.push_screen_wait(question) != "yes":
                return
        self.dismiss(PlanAnswer("start", self._plan.spec))

    def action_edit(self) -> None:
        self.dismiss(PlanAnswer("edit", self._plan.spec))

    def action_cancel(self) -> None:
        self.dismiss(PlanAnswer("cancel", self._plan.spec))

    def action_copy_command(self) -> None:
        self.app.copy_to_clipboard(self._plan.spec.shell_command(self._engine.python))
        self.notify(_("The command is copied"), markup=False)

    def action_scroll(self, rows: int) -> None:
        self.query_one("#lines", VerticalScroll).scroll_relative(y=rows, animate=False)
