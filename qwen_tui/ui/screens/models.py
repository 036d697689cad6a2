"""The Models room: what is here, what is coming, what the hub has; and all that is known of the chosen one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content

from qwen_tui.i18n import N_
from qwen_tui.server.status import ServerStatus
from qwen_tui.ui.model_shelf import server_of
from qwen_tui.ui.rooms import DO, MOVE
from qwen_tui.ui.screens.room import RoomScreen
from qwen_tui.ui.widgets.model_coming import ComingPart
from qwen_tui.ui.widgets.model_here import HerePart
from qwen_tui.ui.widgets.model_hub import HubPart
from qwen_tui.ui.widgets.model_part import Part
from qwen_tui.ui.widgets.prose import Prose

#: Seconds between two looks: while something is done, and while not.
_BUSY, _IDLE = 0.3, 2.0
#: Seconds after which the models are looked for anew when the room is shown again.
_OLD = 30.0
#: Rows and columns from which the lists of all parts are shown.
_TALL, _WIDE = 34, 100


class Parts(Vertical):
    """Holds the three; what can be done in each of them comes after each one's own keys."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "screen.download", N_("new download"), id="models.download", group=DO),
        Binding("tab,right", "screen.part(1)", N_("next part"), id="models.next_part", group=MOVE),
        Binding(
            "shift+tab,left", "screen.part(-1)", N_("part before"), id="models.previous_part", show=False, group=MOVE
        ),
    ]


class ModelsScreen(RoomScreen):
    """Three parts; the keys are those of the part that has the focus."""

    ROOM = "models"
    CSS_PATH = "models.tcss"
    AUTO_FOCUS = "#here KeyedList"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "pagedown", "scroll_detail(1)", N_("scroll the details"), id="models.page_down", show=False, group=MOVE
        ),
        Binding("pageup", "scroll_detail(-1)", N_("scroll them back"), id="models.page_up", show=False, group=MOVE),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._active = 0
        self._living: frozenset[str] | None = None
        #: What the details are about: the part and the key of its entry.
        self._subject: tuple[int, str | None] = (0, None)
        self._was_alive: frozenset[str] = frozenset()

    def compose_room(self) -> ComposeResult:
        with Parts(id="parts"):
            yield HerePart(id="here")
            yield ComingPart(id="coming")
            yield HubPart(id="hub")
        with VerticalScroll(id="detail", can_focus=False):
            yield Prose(id="about")

    def on_mount(self) -> None:
        self._unfold()
        self._here.draw()
        self._here.look()
        self._tick()

    def on_screen_resume(self) -> None:
        # What was downloaded or deleted by other means is seen without asking.
        if self.is_mounted and time.monotonic() - self._here.looked_at > _OLD:
            self._here.look()

    # The parts

    @cached_property
    def _parts(self) -> list[Part]:
        return list(self.query(Part))

    @property
    def _here(self) -> HerePart:
        return self.query_one(HerePart)

    @property
    def _coming(self) -> ComingPart:
        return self.query_one(ComingPart)

    @property
    def active(self) -> Part:
        """The part that the keys are for."""
        return self._parts[self._active]

    def _unfold(self) -> None:
        """Show the lists: all of them where there is room, else that of the active part."""
        is_large = self.app.size.width >= _WIDE and self.app.size.height >= _TALL
        for number, part in enumerate(self._parts):
            is_active = number == self._active
            part.unfold(is_active=is_active, is_shown=is_active or is_large)

    def go_to(self, part: Part) -> None:
        """Make `part` the one that the keys are for."""
        self._active = self._parts.index(part)
        self._unfold()
        part.arrive()
        part.listing.focus()
        self._draw_detail()

    def go_to_download(self, id: str) -> None:
        """Show a download that was begun."""
        self._coming.listing.select(id)
        self.go_to(self._coming)
        self._tick_now()

    def go_to_model(self, path: str) -> None:
        """Show the model in this folder."""
        self._here.listing.select(path)
        self.go_to(self._here)

    def action_part(self, by: int) -> None:
        parts = self._parts
        self.go_to(parts[(self._active + by) % len(parts)])

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """The mouse, or a dialog that was closed, may have moved the focus."""
        for number, part in enumerate(self._parts):
            if part in event.widget.ancestors and number != self._active:
                self._active = number
                self._unfold()
                self._draw_detail()

    def leave_field(self) -> None:
        field = self.active.field
        self.active.listing.focus()
        if field is not None and self.active is self._here:
            field.value = ""
        self._unfold()

    def on_resize(self, event: events.Resize) -> None:
        if self.is_mounted:
            self._unfold()
            self.call_after_refresh(self._draw_detail)

    # Looking

    def _tick(self) -> None:
        """Look at the downloads while the room is shown: often while one runs."""
        is_shown = self.qwen.room is self
        if is_shown:
            self.run_worker(self._look(), group="tick")
        is_busy = bool(self._coming.is_alive or self._here.jobs)
        self.set_timer(_BUSY if is_shown and is_busy else _IDLE, self._tick)

    def _tick_now(self) -> None:
        self.run_worker(self._look(), group="tick")

    async def _look(self) -> None:
        if self._here.jobs:
            self._draw_detail()
        await self._coming.read()
        if self._coming.folders != self._here.coming:
            self._here.coming = self._coming.folders
            self._here.draw()
        alive = frozenset(state.id for state in self._coming.states if state.status.is_alive)
        if self._was_alive - alive:
            self._here.look()  # something has arrived
        self._was_alive = alive

    def servers_changed(self, statuses: Sequence[ServerStatus]) -> None:
        living = frozenset(status.name for status in statuses if status.state.is_alive)
        if self._living is not None and living != self._living:
            self._here.look_at_box()
        self._living = living
        self._here.draw()

    def retranslate(self) -> None:
        self._draw_detail()

    # Drawing

    def on_part_changed(self, event: Part.Changed) -> None:
        event.stop()
        self._draw_detail()

    def on_here_part_looked(self, event: HerePart.Looked) -> None:
        event.stop()
        self.query_one(HubPart).draw()  # what is here is marked there

    def _draw_detail(self) -> None:
        pane = self.query_one("#detail", VerticalScroll)
        width, height = max(30, pane.scrollable_content_region.width), max(8, pane.size.height)
        content = self.active.detail(width, height)
        about = self.query_one("#about", Prose)
        if not (isinstance(about.content, Content) and about.content.is_same(content)):
            about.update(content)
        subject = self._active, self.active.listing.key
        if subject != self._subject:
            self._subject = subject
            pane.scroll_home(animate=False)
        self._aim()
        self.refresh_bindings()

    def _aim(self) -> None:
        """Chat and Logs are about the server of the model under the cursor, if one serves it."""
        model = self._here.chosen
        if model is None or self.active is not self._here:
            return
        server = server_of(model, self.qwen.statuses)
        if server is not None and self.qwen.room is self:
            self.qwen.choose(server.name)

    # Keys

    def action_download(self) -> None:
        from qwen_tui.ui.screens.models_work import download, download_again

        model = self._here.chosen
        if self.active is self._here and model is not None and self._here.has_damage(model):
            download_again(self._here, model)
        else:
            download(self.active)

    def action_scroll_detail(self, pages: int) -> None:
        pane = self.query_one("#detail", VerticalScroll)
        pane.scroll_relative(y=pages * max(1, pane.size.height - 2), animate=False)
