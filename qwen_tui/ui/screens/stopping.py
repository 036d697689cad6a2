"""Stop servers and show every step of it; the question that `q` asks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from qwen_tui.errors import QwenTuiError
from qwen_tui.i18n import _, ngettext
from qwen_tui.server.service import StopStep
from qwen_tui.server.status import ServerStatus
from qwen_tui.ui.screens.dialogs import Answer, Choice, Confirm
from qwen_tui.ui.text import one_line, plain
from qwen_tui.ui.widgets.prose import Prose

if TYPE_CHECKING:
    from qwen_tui.ui.app import QwenApp


class StepsScreen(ModalScreen[bool]):
    """Does something that takes a few steps and shows each; dismissed with whether it went well.

    `esc` puts the picture away; the work goes on, and its end is told in a notice.
    """

    CSS_PATH = "dialogs.tcss"
    AUTO_FOCUS = None

    def __init__(self, qwen: QwenApp, title: str) -> None:
        super().__init__()
        self._qwen = qwen
        self._heading = title
        self._lines: list[Content] = []
        self._failed = False
        self._away = False

    async def work(self) -> str:
        """Do it, telling `add` of each step; what to say when it went well. `fail` notes what did not."""
        raise NotImplementedError

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Prose(Content(self._heading), id="title")
            with VerticalScroll(id="body", can_focus=False):
                yield Prose(id="steps")
            yield Static(id="keys")

    def on_mount(self) -> None:
        self._draw()
        # The app's worker: the work goes on when this screen is put away.
        self._qwen.run_worker(self._run(), group="stopping")

    async def _run(self) -> None:
        done = await self.work()
        await self._qwen.refresh_servers()
        if self._failed:
            self._draw()
            return
        self._qwen.notify(done, markup=False)
        if not self._away:
            self.dismiss(True)

    def add(self, line: Content) -> None:
        """Show another line."""
        self._lines.append(line)
        self._draw()

    def fail(self, error: QwenTuiError) -> None:
        """Note that something did not work; the picture stays until it is put away."""
        self._failed = True
        self.add(Content.styled(plain(str(error)), "$text-error"))
        if self._away:
            self._qwen.report(error)

    def _draw(self) -> None:
        if self._away or not self.is_attached:
            return
        self.query_one("#steps", Prose).update(Content("\n").join(self._lines))
        text = _("close") if self._failed else _("put this away; the stop goes on")
        self.query_one("#keys", Static).update(Content.assemble(("esc", "bold $text-accent"), "  ", text))
        self.query_one("#body", VerticalScroll).scroll_end(animate=False)

    def on_key(self, event: events.Key) -> None:
        if event.key == "escape":
            event.stop()
            self._away = True
            self.dismiss(False)


def step_line(at: float, text: str) -> Content:
    """A step with the seconds since the beginning before it."""
    return Content.assemble((f"{at:5.1f} s  ", "$foreground-muted"), one_line(text))


class StopScreen(StepsScreen):
    """Stops the servers `names`, one after the other."""

    def __init__(self, qwen: QwenApp, names: Sequence[str]) -> None:
        self._names = names
        self._shown_names = ", ".join(one_line(name) for name in names)
        super().__init__(qwen, _("Stopping {names}").format(names=self._shown_names))

    async def work(self) -> str:
        for name in self._names:
            try:
                await self._qwen.services.servers.stop(name, lambda step, name=name: self._step(name, step))  # type: ignore[misc]
            except QwenTuiError as error:
                self.fail(error)
        return ngettext("{names} is stopped", "{names} are stopped", len(self._names)).format(names=self._shown_names)

    def _step(self, name: str, step: StopStep) -> None:
        self.add(step_line(step.at, f"{name}: {step.text}" if len(self._names) > 1 else step.text))


async def ask_and_stop(qwen: QwenApp, status: ServerStatus) -> bool:
    """Ask, then stop the server `status`, showing each step; whether it is stopped. Runs in a worker."""
    question = Confirm(
        _("Stop {name}?").format(name=one_line(status.name)),
        _("Requests that run are cut off. Its settings and its log stay."),
        _("stop it"),
    )
    if await qwen.push_screen_wait(question) != "yes":
        return False
    return await qwen.push_screen_wait(StopScreen(qwen, [status.name]))


async def ask_to_quit(qwen: QwenApp) -> None:
    """End the app; a benchmark under way is asked about first, then the servers that live. Runs in a worker."""
    desk = vars(qwen.services).get("bench")
    if desk is not None and desk.is_busy:
        measuring = Confirm(
            _("Quit while a benchmark runs?"),
            _("It is stopped. What was measured so far is kept, marked as partial."),
            _("stop it and quit"),
        )
        if await qwen.push_screen_wait(measuring) != "yes":
            return
    if not await _may_end_speed_test(qwen):
        return
    living = [status.name for status in qwen.statuses if status.state.is_alive]
    if not living:
        qwen.exit()
        return
    one = len(living) == 1
    names = "\n".join(f"● {one_line(name)}" for name in living)
    question = Choice(
        _("Quit qwen-tui?"),
        ngettext("This server runs:", "These servers run:", len(living)) + f"\n{names}",
        (
            Answer(("l",), "leave", _("leave it running") if one else _("leave them running")),
            Answer(("s",), "stop", _("stop it") if one else _("stop all of them")),
        ),
        default="leave",
    )
    answer = await qwen.push_screen_wait(question)
    if answer == "leave" or (answer == "stop" and await qwen.push_screen_wait(StopScreen(qwen, living))):
        qwen.exit()


async def _may_end_speed_test(qwen: QwenApp) -> bool:
    """Whether no speed test runs, or the one that does may be ended: it holds a model's memory, and dies with this."""
    if "throughput" not in vars(qwen.services) or not qwen.services.throughput.is_busy:
        return True
    lost = _("A speed test runs and is ended. What it has measured already stays.")
    return await qwen.push_screen_wait(Confirm(_("Quit qwen-tui?"), lost, _("quit"))) == "yes"
