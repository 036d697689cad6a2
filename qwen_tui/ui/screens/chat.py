"""The Chat room: talk to the server that was chosen, and see how fast it answers."""

from __future__ import annotations

import asyncio
import gc
import importlib
import time
from collections.abc import Callable, Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Static

from qwen_tui.chat.conversation import ReplyState, Turn
from qwen_tui.chat.history import PromptHistory
from qwen_tui.errors import QwenTuiError, UsageError
from qwen_tui.i18n import N_, _
from qwen_tui.server.endpoint_status import EndpointStatus
from qwen_tui.server.status import STATE_WORDS, ServerState, ServerStatus
from qwen_tui.ui.rooms import DO, KEPT
from qwen_tui.ui.screens.chat_beside import ChatBeside
from qwen_tui.ui.screens.chat_compare import ComparesAndImports
from qwen_tui.ui.screens.chat_tokens import TokensAndContext
from qwen_tui.ui.screens.dialogs import Confirm
from qwen_tui.ui.text import one_line, plain
from qwen_tui.ui.widgets.conversation_list import ConversationList
from qwen_tui.ui.widgets.markdown_blocks import Piece
from qwen_tui.ui.widgets.markdown_rows import Look, RowRenderer
from qwen_tui.ui.widgets.prompt import Prompt
from qwen_tui.ui.widgets.transcript import Transcript

#: Seconds between two updates of the rate in the prompt's border while a reply streams.
_RATE_INTERVAL = 0.5


def _prepare() -> None:
    """Do now, in a thread, what would hold up the keys at the first enter and the first code block."""
    importlib.import_module("httpx")
    RowRenderer(Look()).markdown(Piece("```python\nx = 1\n```\n\n| a |\n|---|"), 40)
    # What is loaded now stays: a full collection would look through all of it, for 70 ms, while a reply streams.
    gc.collect()
    gc.freeze()


def _endpoint_text(status: EndpointStatus) -> str:
    """What the empty room says of an endpoint."""
    text = _("{name} at {url}").format(name=one_line(status.name), url=one_line(status.endpoint.base_url))
    if status.problem is not None:
        text += "\n" + "\n".join(plain(part) for part in (status.problem.title, status.problem.why) if part)
    return text + "\n\n" + _("Write a message below; enter sends it, ctrl+j begins a new line.")


#: Ids of bindings that mean nothing while nothing was said.
_NEEDS_TURNS = (
    "chat.retry", "chat.copy", "chat.new", "chat.edit", "chat.code", "chat.details", "chat.copy_choose", "chat.export",
)  # fmt: skip


def _was_cut(turn: Turn) -> bool:
    """Whether a reply was ended by something else than the model."""
    reason = turn.figures.finish_reason if turn.figures is not None else ""
    return turn.state is not ReplyState.DONE or reason == "length"


class ChatScreen(ComparesAndImports, TokensAndContext, ChatBeside):
    """A transcript and a prompt under it; the conversation itself belongs to the services."""

    ROOM = "chat"
    CSS_PATH = "chat.tcss"
    AUTO_FOCUS = "Prompt"
    #: In the order of the footer. What the actions do is in the classes that this one is made of.
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("A", "answer_calls", N_("answer the calls"), id="chat.answer_calls", group=DO),
        Binding("enter,i", "write", N_("write"), id="chat.write", group=DO),
        Binding("r", "retry", N_("ask again"), id="chat.retry", group=DO),
        Binding("x", "stop", N_("stop"), id="chat.stop", group=DO),
        Binding("greater_than_sign", "go_on", N_("go on"), id="chat.go_on", group=DO),
        Binding("y", "copy_reply", N_("copy"), id="chat.copy", group=DO),
        Binding("o", "request_code", N_("as code"), id="chat.code", group=DO),
        Binding("n", "new", N_("new"), id="chat.new", group=DO),
        Binding("e", "edit", N_("edit"), id="chat.edit", group=DO),
        Binding("f", "attach", N_("files"), id="chat.attach", group=DO),
        Binding("slash", "find", N_("conversations"), id="chat.find", group=DO),
        Binding("v", "tokens", N_("tokens"), id="chat.tokens", group=DO),
        Binding("comma", "sampling", N_("sampling"), id="chat.sampling", group=DO),
        Binding("S", "system_prompt", N_("system prompt"), id="chat.system", group=DO),
        Binding("T", "tools", N_("tools"), id="chat.tools", group=DO),
        Binding("equals_sign", "compare", N_("compare two"), id="chat.compare", group=DO),
        Binding("D", "details", N_("details of the reply"), id="chat.details", group=DO),
        Binding("Y", "copy_choose", N_("copy code, all, or to a file"), id="chat.copy_choose", group=DO),
        Binding("L", "leave_out", N_("leave the oldest out"), id="chat.leave_out", group=DO),
        Binding("u", "send_again", N_("send again what was left out"), id="chat.send_again", group=DO),
        Binding("I", "import_file", N_("import a file"), id="chat.import", group=KEPT),
        Binding("O", "export_shown", N_("export what is shown"), id="chat.export", group=KEPT),
        Binding("left", "step(-1)", N_("the version before"), id="chat.before", group=DO, show=False),
        Binding("right", "step(1)", N_("the version after"), id="chat.after", group=DO, show=False),
        Binding(
            "escape", "leave_or_stop", N_("to the transcript; again: stop"), id="chat.escape", show=False, group=DO
        ),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._unsubscribe: Callable[[], None] | None = None
        self._last_rate = 0.0
        self._was_streaming = False

    def compose_room(self) -> ComposeResult:
        with Horizontal(id="parts"):
            yield ConversationList(id="kept")
            yield Static(id="empty")
            yield Transcript(id="conversation")
        yield Prompt(PromptHistory(self.qwen.services.paths), id="prompt")

    def on_mount(self) -> None:
        transcript = self.query_one(Transcript)
        transcript.retry_key = self.qwen.services.settings.keys.get("chat.retry", "r").split(",")[0]
        self._unsubscribe = self.session.subscribe(self._changed)
        self._changed()
        self.run_worker(asyncio.to_thread(_prepare), group="chat prepare")
        self.watch_kept()

    def on_unmount(self) -> None:
        if self._unsubscribe is not None:
            self._unsubscribe()

    # Drawing

    def _changed(self) -> None:
        """Called for every piece of a reply: must be quick."""
        if not self.is_mounted or not self.is_current_room:
            return
        streaming = self.session.is_streaming
        now = time.monotonic()
        if streaming == self._was_streaming and streaming and now - self._last_rate < _RATE_INTERVAL:
            self.query_one(Transcript).wake()
            return
        self._last_rate = now
        self._was_streaming = streaming
        self.show_state()
        self.query_one(Transcript).follow(self.session.conversation)

    @property
    def is_current_room(self) -> bool:
        """Whether this room is in front, dialogs over it or not."""
        return self.qwen.room is self

    def sync(self) -> None:
        super().sync()
        self._changed()

    def servers_changed(self, statuses: Sequence[ServerStatus]) -> None:
        self.show_state()

    def retranslate(self) -> None:
        self.show_state()
        self.query_one(Transcript).redraw()

    def show_state(self) -> None:
        conversation = self.session.conversation
        self.set_class(not conversation.turns, "-empty")
        self.query_one("#empty", Static).update(Content(self._empty_text()))
        prompt = self.query_one(Prompt)
        target = self.qwen.endpoint or self.qwen.target
        model = one_line(target.model_name) if target else ""
        title = _("Message to {model}").format(model=model) if model else _("Message")
        if conversation.system:
            title += " · " + _("with a system prompt")
        if self._edited in conversation.turns:
            title = _("Instead of what was said: enter sends it, esc esc leaves it as it was")
            if self._edited.is_reply:
                title = _("The reply as it should begin: enter lets the model go on, esc esc leaves it as it was")
        title += self.beside_text()
        prompt.border_title = Content(self.leave_out_text() or title)
        if self.session.is_streaming:
            prompt.border_subtitle = Content(self._rate_text())
        else:
            self.show_meter()
        self.refresh_bindings()

    def _rate_text(self) -> str:
        meter = self.session.meter
        figures = meter.figures() if meter else None
        if figures is None or figures.tokens_per_s is None:
            return _("waiting for the first token…")
        return _("{count} tokens · {rate} tokens/s").format(
            count=f"{figures.completion_tokens:,}", rate=f"{figures.tokens_per_s:,.1f}"
        )

    def _empty_text(self) -> str:
        endpoint, target = self.qwen.endpoint, self.qwen.target
        if endpoint is not None:
            return _endpoint_text(endpoint)
        if target is None:
            return _("There is no server to talk to.\n\nPress esc, then s, to go to Servers and start one.")
        name, word = one_line(target.name), _(STATE_WORDS[target.state])
        if target.state is ServerState.READY:
            return _("{name} is ready.\n\nWrite a message below; enter sends it, ctrl+j begins a new line.").format(
                name=name
            )
        if target.state.is_alive:
            return _("{name} is {state}.\n\nYou can write already, and send when it is ready.").format(
                name=name, state=word
            )
        return _("{name} is {state}.\n\nPress esc, then s, to go to Servers and start it.").format(
            name=name, state=word
        )

    # What can be done

    def binding_text(self, binding: Binding) -> str:
        turns = self.session.conversation.turns
        if binding.id == "chat.stop" and not self.session.is_streaming:
            return ""
        if binding.id in _NEEDS_TURNS and not turns:
            return ""
        conversation = self.session.conversation
        if binding.id == "chat.answer_calls" and conversation.calls_to_answer is None:
            return ""
        if binding.id == "chat.go_on" and not (turns and conversation.can_go_on(turns[-1]) and _was_cut(turns[-1])):
            return ""
        if binding.id and binding.id.startswith("chat.") and self.is_listing:
            return ""
        if binding.id in ("chat.tokens", "chat.leave_out", "chat.send_again"):
            return self.tokens_binding_text(binding)
        if binding.id == "chat.find" and isinstance(self.focused, Prompt):
            return ""  # there it is a letter
        return binding.description

    def leave_field(self) -> None:
        if self.session.conversation.turns:
            self.query_one(Transcript).focus()
        else:
            self.set_focus(None)  # the transcript is not shown

    def action_write(self) -> None:
        self.query_one(Prompt).focus()

    def action_leave_or_stop(self) -> None:
        if self.is_listing:
            self.close_list()
            self.leave_field()
        elif self.focused is self.query_one(Prompt):
            self.leave_field()
        elif self._edited is not None:
            self.give_up_editing()
        elif not self.session.is_streaming and self.transcript.chosen is not None:
            self.transcript.choose(None)
        else:
            self.session.stop()

    def action_stop(self) -> None:
        self.session.stop()

    @on(Transcript.Chosen)
    def _turn_chosen(self) -> None:
        self.show_state()

    @on(Prompt.Sent)
    def _send(self, event: Prompt.Sent) -> None:
        if not event.text.strip() and not self._attached:
            return
        try:
            if self.session.is_streaming:
                raise UsageError(_("A reply is still streaming"), "", _("Press esc twice to stop it, or wait"))
            target, text = self._target(), event.text.strip("\n")
            if self._edited not in self.session.conversation.turns:
                self.session.send(target, text, self._attached)
            elif self._edited.is_reply:
                self.session.go_on(target, self._edited, text)
            else:
                self.session.edit(target, self._edited, text, self._attached)
        except QwenTuiError as error:
            self._refuse(error)
        else:
            self._edited = None
            self.take_attached()
            self.query_one(Prompt).take()
            self.transcript.choose(None)
            self.transcript.scroll_to_end()

    def action_sampling(self) -> None:
        from qwen_tui.ui.screens.asking import ask_sampling

        ask_sampling(self.qwen, self.session)

    def action_system_prompt(self) -> None:
        from qwen_tui.ui.screens.system_prompt import SystemPromptForm

        def entered(text: str | None) -> None:
            if text is not None:
                self.session.instruct(text)

        form = SystemPromptForm(self.session.conversation.system, self.qwen.services.paths)
        self.app.push_screen(form, entered)

    def action_new(self) -> None:
        if not self.session.is_streaming:
            self._begin_new("yes")
            return
        question = Confirm(
            _("Begin a new conversation?"), _("The reply that is streaming is stopped."), _("stop it and begin anew")
        )
        self.app.push_screen(question, self._begin_new)

    def _begin_new(self, answer: str | None) -> None:
        if answer == "yes":
            self.session.new()
            self.query_one(Prompt).focus()
