"""Compare: one prompt to two targets, side by side (one above the other where there is no room), with their figures."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.content import Content

from qwen_tui.chat.compare import Comparison, Place, Side
from qwen_tui.chat.compare_figures import side_figures
from qwen_tui.chat.conversation import Conversation
from qwen_tui.chat.history import PromptHistory
from qwen_tui.errors import QwenTuiError
from qwen_tui.i18n import N_, _
from qwen_tui.ui.copying import copy_and_tell
from qwen_tui.ui.rooms import DO
from qwen_tui.ui.screens.compare_target import CompareTarget
from qwen_tui.ui.screens.room import RoomScreen
from qwen_tui.ui.text import one_line, plain
from qwen_tui.ui.widgets.prompt import Prompt
from qwen_tui.ui.widgets.transcript import Transcript

#: Seconds between two looks at the figures while something streams.
_FIGURES_INTERVAL = 0.5
#: Called with the conversation to go on with, and the side whose branch it shows; None: nothing was asked.
Leave = Callable[[Conversation, Side], None]


class CompareScreen(RoomScreen):
    """Over the Chat room. The comparison belongs to the services: it goes on streaming while another room is shown."""

    ROOM = "chat"
    CSS_PATH = "compare.tcss"
    AUTO_FOCUS = "Prompt"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,i", "write", N_("write"), id="compare.write", group=DO),
        Binding("e", "target", N_("whom to ask"), id="compare.target", group=DO),
        Binding("comma", "sampling", N_("sampling"), id="compare.sampling", group=DO),
        Binding("r", "retry", N_("ask again"), id="compare.retry", group=DO),
        Binding("x", "stop", N_("stop this side"), id="compare.stop", group=DO),
        Binding("o", "take", N_("go on with this side"), id="compare.take", group=DO),
        Binding("y", "copy_reply", N_("copy reply"), id="compare.copy", group=DO),
        Binding("backslash", "swap", N_("swap the sides"), id="compare.swap", group=DO),
        Binding("left", "side(0)", N_("the left side"), id="compare.left", group=DO, show=False),
        Binding("right", "side(1)", N_("the right side"), id="compare.right", group=DO, show=False),
        Binding("escape", "leave", N_("to the side; stop both; back"), id="compare.leave", group=DO, show=False),
    ]

    def __init__(self, leave: Leave) -> None:
        """leave: what to do with the conversation when the screen has closed itself."""
        super().__init__()
        self._leave = leave
        self._acting = 0  # the side that keys act on
        self._is_leaving = False
        self._unsubscribe: Callable[[], None] | None = None

    @property
    def comparison(self) -> Comparison:
        return self.qwen.services.comparison

    @property
    def acting(self) -> Side:
        """The side that keys act on: the one in focus, or the last that was."""
        return self.comparison.sides[self._acting]

    def compose_room(self) -> ComposeResult:
        with Container(id="sides"):
            yield Transcript(id="left")
            yield Transcript(id="right")
        yield Prompt(PromptHistory(self.qwen.services.paths), id="prompt")

    def on_mount(self) -> None:
        self.qwen.rooms["compare"] = self  # so that it hears of another language
        retry_key = self.qwen.services.settings.keys.get("compare.retry", "r").split(",")[0]
        for transcript in self._transcripts:
            transcript.retry_key = retry_key
        self.comparison.on_problem = self._refuse
        self._unsubscribe = self.comparison.subscribe(self._changed)
        self.set_interval(_FIGURES_INTERVAL, self._look_at_figures)
        self._show()

    def on_unmount(self) -> None:
        if self.qwen.rooms.get("compare") is self:
            del self.qwen.rooms["compare"]
        if self._unsubscribe is not None:
            self._unsubscribe()
            self.comparison.on_problem = None

    @property
    def _transcripts(self) -> list[Transcript]:
        return [self.query_one("#left", Transcript), self.query_one("#right", Transcript)]

    # Drawing

    def _changed(self) -> None:
        """Called for every piece of a reply: must be quick."""
        if self.is_mounted and self.qwen.room is self:
            if self.comparison.is_streaming:
                for transcript in self._transcripts:
                    transcript.wake()
            else:
                self._show()

    def sync(self) -> None:
        super().sync()
        if self.is_mounted:
            self._show()

    def retranslate(self) -> None:
        for transcript in self._transcripts:
            transcript.redraw()
        self._show()

    def _look_at_figures(self) -> None:
        if self.comparison.is_streaming and self.qwen.room is self:
            self._show_figures()

    def _show(self) -> None:
        """Everything but the rows of the replies, which the transcripts draw."""
        for number, (transcript, side) in enumerate(zip(self._transcripts, self.comparison.sides, strict=True)):
            transcript.follow(side.conversation)
            transcript.set_class(number == self._acting, "-acting")
            transcript.border_title = Content(self._title(number, side))
        self._show_figures()
        prompt = self.query_one(Prompt)
        prompt.border_title = Content(_("Message to both"))
        one, other = self.comparison.sides
        are_alike = one.place == other.place and one.sampling == other.sampling
        is_new = not (one.conversation.turns or other.conversation.turns)
        hint = _("esc, then ← → and e: whom a side asks; , its sampling")
        prompt.border_subtitle = Content(hint if is_new or are_alike else "")
        self.refresh_bindings()

    def _show_figures(self) -> None:
        one, other = (side.figures for side in self.comparison.sides)
        for transcript, side, others in zip(self._transcripts, self.comparison.sides, (other, one), strict=True):
            transcript.border_subtitle = Content(plain(side_figures(side, others)))

    def _title(self, number: int, side: Side) -> str:
        mark = "▶ " if number == self._acting else ""
        if side.place is None:
            return mark + _("nobody to ask yet: e chooses")
        name = one_line(side.place.target.model)
        if side.place != self.comparison.sides[1 - number].place:  # else the room is needed for how the two differ
            name += f" · {one_line(side.place.name)}"
        chosen = ", ".join(f"{key} {value}" for key, value in side.sampling.chosen().items())
        return mark + (f"{name} · {one_line(chosen)[:60]}" if chosen else name)

    # What can be done

    def binding_text(self, binding: Binding) -> str:
        streaming, reply = self.acting.session.is_streaming, self.acting.reply
        if binding.id == "compare.stop" and not streaming:
            return ""
        if binding.id == "compare.retry" and (streaming or not self.acting.conversation.turns):
            return ""
        if binding.id in ("compare.take", "compare.copy") and reply is None:
            return ""
        if binding.id and binding.id.startswith("compare.") and isinstance(self.focused, Prompt):
            return ""  # there it is a letter
        return binding.description

    def leave_field(self) -> None:
        self._transcripts[self._acting].focus()

    def on_descendant_focus(self) -> None:
        for number, transcript in enumerate(self._transcripts):
            if self.focused is transcript and number != self._acting:
                self._acting = number
                self._show()

    def action_side(self, number: int) -> None:
        self._transcripts[number].focus()

    def action_write(self) -> None:
        self.query_one(Prompt).focus()

    def _refuse(self, error: QwenTuiError) -> None:
        """Say why not; briefly, as the notice lies over the prompt."""
        self.notify(
            plain(error.hint or error.why), title=plain(error.title), severity="warning", timeout=4, markup=False
        )

    @on(Prompt.Sent)
    def _send(self, event: Prompt.Sent) -> None:
        if not event.text.strip():
            return
        try:
            self.comparison.ask(event.text.strip("\n"))
        except QwenTuiError as error:
            self._refuse(error)
            return
        self.query_one(Prompt).take()
        for transcript in self._transcripts:
            transcript.scroll_to_end()
        self._show()

    def action_retry(self) -> None:
        try:
            self.comparison.retry(self.acting)
        except QwenTuiError as error:
            self._refuse(error)
        self._show()

    def action_stop(self) -> None:
        self.comparison.stop(self.acting)
        self._show()

    def action_swap(self) -> None:
        self.comparison.swap()
        self._show()

    def action_copy_reply(self) -> None:
        reply = self._transcripts[self._acting].selected
        if reply is None or not reply.text:
            self.notify(_("There is no reply to copy"), severity="warning", markup=False)
            return
        self.run_worker(copy_and_tell(self.app, reply.text), group="copy")

    def action_target(self) -> None:
        def chosen(place: Place | None) -> None:
            if place is not None:
                self.acting.place = place
                self._show()

        self.app.push_screen(CompareTarget(self.acting.place), chosen)

    def action_sampling(self) -> None:
        from qwen_tui.chat.sampling import Sampling
        from qwen_tui.ui.screens.sampling_form import SamplingForm

        def chosen(sampling: Sampling | None) -> None:
            if sampling is not None:
                self.acting.sampling = sampling
                self._show()

        self.app.push_screen(SamplingForm(self.acting.sampling, {}, self.qwen.services.paths), chosen)

    def action_leave(self) -> None:
        """Out of the field; then what streams is stopped; then back to the Chat room, which has both answers."""
        if isinstance(self.focused, Prompt):
            self.leave_field()
        elif self.comparison.is_streaming:
            self.comparison.stop()
            self._show()
        else:
            self.run_worker(self._close(self.comparison.sides[0]), group="compare")

    def action_take(self) -> None:
        if self.acting.reply is not None:
            self.run_worker(self._close(self.acting), group="compare")

    async def _close(self, side: Side) -> None:
        if self._is_leaving:
            return
        self._is_leaving = True
        asked = self.comparison.asked_anything
        conversation = await self.comparison.end(side)
        chat, draft = self.qwen.rooms.get(self.ROOM), self.query_one(Prompt).text
        self.dismiss()
        if draft.strip() and chat is not None:
            chat.query_one(Prompt).write(draft)  # what was typed and not sent
        if asked:
            self._leave(conversation, side)
