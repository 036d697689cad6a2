"""The Completions room: a text goes to the model as it is, and is continued where it stands."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.timer import Timer
from textual.widgets import TextArea

from qwen_tui.chat.completions_session import CompletionsSession, Draft
from qwen_tui.chat.conversation import ReplyState
from qwen_tui.chat.events import Target
from qwen_tui.chat.figures import figures_line
from qwen_tui.errors import QwenTuiError, UsageError
from qwen_tui.i18n import N_, _
from qwen_tui.server.status import STATE_WORDS, ServerState, ServerStatus
from qwen_tui.ui.rooms import DO
from qwen_tui.ui.screens.asking import asked_target
from qwen_tui.ui.screens.completions_count import CountsTokens
from qwen_tui.ui.screens.completions_editor import CompletionEditor
from qwen_tui.ui.text import one_line, plain
from qwen_tui.ui.widgets.prose import Prose

#: Seconds between two drawings of what streams; longer when drawing is dear.
INTERVAL = 0.11
_REST = 4.0
#: Bindings that mean something only where there is a text.
_WITH_TEXT = tuple(f"completions.{name}" for name in ("proceed", "copy", "new", "code", "tokens"))
_WHEN_IDLE = ("completions.undo", "completions.template")


class CompletionsScreen(CountsTokens):
    """One editor; the text and the task that continues it belong to the services."""

    ROOM = "completions"
    CSS_PATH = "completions.tcss"
    AUTO_FOCUS = ""  # a dialog that closes gives the keys back to whom they belonged to
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "proceed", N_("continue"), id="completions.proceed", group=DO),
        Binding("i,e", "write", N_("write"), id="completions.write", group=DO),
        Binding("x", "stop", N_("stop"), id="completions.stop", group=DO),
        Binding("r", "retry", N_("another continuation"), id="completions.retry", group=DO),
        Binding("u", "undo", N_("undo"), id="completions.undo", group=DO),
        Binding("left", "step(-1)", N_("the continuation before"), id="completions.before", group=DO, show=False),
        Binding("right", "step(1)", N_("the continuation after"), id="completions.after", group=DO, show=False),
        Binding("v", "tokens", N_("tokens"), id="completions.tokens", group=DO),
        Binding("T", "template", N_("chat template"), id="completions.template", group=DO),
        Binding("comma", "sampling", N_("sampling"), id="completions.sampling", group=DO),
        Binding("O", "options", N_("echo, suffix"), id="completions.options", group=DO),
        Binding("o", "request_code", N_("as code"), id="completions.code", group=DO),
        Binding("y", "copy_written", N_("copy"), id="completions.copy", group=DO),
        Binding("n", "new", N_("new"), id="completions.new", group=DO),
        Binding("escape", "leave_or_stop", N_("leave the text; again: stop"), id="completions.escape", group=DO),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._unsubscribe: Callable[[], None] | None = None
        self._drawing: Timer | None = None
        self._cost = 0.0
        self._last_drawn = 0.0

    @property
    def session(self) -> CompletionsSession:
        return self.qwen.services.completions

    @property
    def editor(self) -> CompletionEditor:
        return self.query_one(CompletionEditor)

    def compose_room(self) -> ComposeResult:
        yield CompletionEditor(id="editor")
        yield Prose(id="with")
        yield Prose(id="outcome")

    def on_mount(self) -> None:
        keeper = self.qwen.services.completions_keeper
        keeper.on_problem = self._refuse
        self._unsubscribe = self.session.subscribe(self._changed)
        self._draw()
        self.set_focus(self.editor)  # at once: the next letter may be waiting
        self.run_worker(keeper.restore(), group="restore")

    def on_unmount(self) -> None:
        if self._unsubscribe is not None:
            self._unsubscribe()

    # Drawing

    def _changed(self) -> None:
        """Called for every piece of a continuation: must be quick."""
        if not self.is_mounted or self.qwen.room is not self:
            return
        if not self.session.is_streaming:
            self._draw()  # at once: what is typed next belongs to the text as it stands now
        elif self._drawing is None:
            due = self._last_drawn + max(INTERVAL, _REST * self._cost)
            self._drawing = self.set_timer(max(0.001, due - time.monotonic()), self._draw)

    def _draw(self) -> None:
        if self._drawing is not None:
            self._drawing.stop()
            self._drawing = None
        began = time.perf_counter()
        session, editor = self.session, self.editor
        streaming, draft = session.is_streaming, session.draft
        if draft != editor.draft:
            stands = editor.draft.text
            if stands and draft.text.startswith(stands):
                editor.append(draft)
            else:
                editor.show(draft)
        editor.read_only = streaming
        self.show_state()
        self._cost = time.perf_counter() - began
        self._last_drawn = time.monotonic()

    def sync(self) -> None:
        super().sync()
        if self.is_mounted:
            self._draw()
            self.count_later()

    def servers_changed(self, statuses: Sequence[ServerStatus]) -> None:
        self.show_state()

    def retranslate(self) -> None:
        self.show_state()

    def show_state(self) -> None:
        """Say anew what stands around the text, and which keys mean something."""
        target = self.qwen.endpoint or self.qwen.target
        model = one_line(target.model_name) if target else ""
        editor = self.editor
        editor.border_title = Content(_("Text for {model}").format(model=model) if model else _("Text"))
        parts = [self.count_text(), self._answer_text()]
        editor.border_subtitle = Content(" · ").join([part for part in parts if part.plain])
        if not editor.text:
            editor.placeholder = Content(self._hint())
        self._say("#with", Content(plain(self._with_text())))
        self._say("#outcome", self._outcome())
        self.refresh_bindings()

    def _say(self, selector: str, content: Content) -> None:
        """Only what is new: every update lays the screen out again."""
        line = self.query_one(selector, Prose)
        before = line.content
        if not (isinstance(before, Content) and before.is_same(content)):
            line.update(content)

    def _hint(self) -> str:
        endpoint, target = self.qwen.endpoint, self.qwen.target
        if endpoint is None and (target is None or not target.state.is_alive):
            return _("There is no server to continue a text.\n\nPress esc, then s, to go to Servers and start one.")
        hint = _(
            "Write the beginning of a text: it goes to the model as it is, without a chat template.\n\n"
            "ctrl+r continues it. esc, then T: what a chat template makes of a message."
        )
        if endpoint is None and target is not None and target.state is not ServerState.READY:
            state = _("{name} is {state}").format(name=one_line(target.name), state=_(STATE_WORDS[target.state]))
            return f"{hint}\n\n{state}."
        return hint

    def _answer_text(self) -> Content:
        attempt = self.session.attempt
        if attempt is None or self.session.continued is None or len(attempt.answers) < 2:
            return Content()
        text = _("continuation {place} of {count}  ← →")
        return Content(text.format(place=attempt.shown + 1, count=len(attempt.answers)))

    def _with_text(self) -> str:
        """What goes with the next request."""
        session = self.session
        parts = [f"{name} {value}" for name, value in session.sampling.chosen().items()]
        parts += ["echo"] if session.echo else []
        parts += [_("suffix “{text}”").format(text=one_line(session.suffix)[:40])] if session.suffix else []
        parts += [_("no special tokens added")] if not session.special else []
        return " · ".join(parts)

    def _outcome(self) -> Content:
        """How the last continuation goes, or went."""
        session, attempt = self.session, self.session.attempt
        if attempt is None:
            return Content()
        if attempt.state.is_open:
            figures = session.meter.figures() if session.meter else None
            if figures is None or figures.tokens_per_s is None:
                return Content.styled(_("waiting for the first token…"), "$text-muted")
            rate = _("{count} tokens · {rate} tokens/s").format(
                count=f"{figures.completion_tokens:,}", rate=f"{figures.tokens_per_s:,.1f}"
            )
            return Content.styled(rate, "$text-muted")
        parts: list[Content] = []
        if attempt.figures is not None:
            line = figures_line(attempt.figures, stopped=attempt.state is ReplyState.STOPPED)
            parts.append(Content.styled(line, "$text-muted"))
        if attempt.error is not None:
            error = attempt.error
            parts.append(Content.styled(f"✗ {plain(error.title)}", "bold $text-error"))
            parts += [Content(plain(text)) for text in (error.why, error.hint) if text]
        return Content("\n").join(parts)

    # What can be done

    def binding_text(self, binding: Binding) -> str:
        session = self.session
        has_text, typing = bool(self.editor.text), self.focused is self.editor
        if binding.id == "completions.escape":
            return N_("leave the text") if typing else ""
        if binding.id == "completions.proceed" and typing:
            return ""
        if binding.id == "completions.stop" and not session.is_streaming:
            return ""
        if binding.id in _WITH_TEXT:
            return binding.description if has_text and not session.is_streaming else ""
        if binding.id == "completions.retry":
            return binding.description if session.continued is not None and not session.is_streaming else ""
        if binding.id in _WHEN_IDLE and session.is_streaming:
            return ""
        return binding.description

    def leave_field(self) -> None:
        self.set_focus(None)

    def action_write(self) -> None:
        self.editor.focus()

    def action_leave_or_stop(self) -> None:
        if self.focused is not None:
            self.leave_field()
        else:
            self.session.stop()

    def action_stop(self) -> None:
        self.session.stop()

    @on(TextArea.Changed, "#editor")
    def _edited(self, event: TextArea.Changed) -> None:
        event.stop()
        if not self.editor.read_only and not self.session.is_streaming:
            self.session.edit(self.editor.draft)
        if not self.session.is_streaming:
            self.count_later()

    def target(self) -> Target:
        target, version = asked_target(self.qwen)
        self.session.sampling = self.session.sampling.with_version(version)
        return target

    def _refuse(self, error: QwenTuiError) -> None:
        self.notify(error.hint or error.why, title=error.title, severity="warning", timeout=4, markup=False)

    def _try(self, action: Callable[[], object]) -> bool:
        try:
            action()
        except QwenTuiError as error:
            self._refuse(error)
            return False
        return True

    def action_proceed(self) -> None:
        self._try(lambda: self.session.proceed(self.target()))

    def action_retry(self) -> None:
        self._try(lambda: self.session.retry(self.target()))

    def action_undo(self) -> None:
        def undo() -> None:
            if not self.session.undo():
                raise UsageError(_("There is nothing to undo"), "", _("In the text, ctrl+z takes back what you typed"))

        self._try(undo)

    def action_step(self, direction: int) -> None:
        self.session.step(direction)

    def action_new(self) -> None:
        def clear() -> None:
            self.session.replace(Draft())
            self.session.special = True
            self.editor.focus()

        self._try(clear)

    def action_sampling(self) -> None:
        from qwen_tui.ui.screens.asking import ask_sampling

        ask_sampling(self.qwen, self.session, self._options_changed)

    def _options_changed(self) -> None:
        self.qwen.services.completions_keeper.touch()
        self.show_state()

    def action_options(self) -> None:
        from qwen_tui.ui.screens.completions_dialogs import CompletionOptions, Options

        session = self.session

        def chosen(options: Options | None) -> None:
            if options is not None:
                session.suffix, session.echo, session.special = options.suffix, options.echo, options.special
                self._options_changed()

        self.app.push_screen(CompletionOptions(Options(session.suffix, session.echo, session.special)), chosen)

    def action_template(self) -> None:
        from qwen_tui.ui.screens.completions_dialogs import Applied, TemplateForm

        def applied(found: Applied | None) -> None:
            if found is None or not self._try(lambda: self.session.replace(Draft(found.text))):
                return
            self.session.special = not found.doubled
            self._options_changed()
            told = _("{count} tokens, special ones shown; u brings back what stood here")
            self.notify(told.format(count=f"{found.tokens:,}"), markup=False)

        try:
            form = TemplateForm(self.target(), self.qwen.services.chat.conversation.system)
        except QwenTuiError as error:
            self._refuse(error)
            return
        self.app.push_screen(form, applied)

    def action_tokens(self) -> None:
        from qwen_tui.chat.logprobs import TokenChance
        from qwen_tui.chat.tokenize import text_chances, tokenize_text
        from qwen_tui.ui.screens.completions_tokens import TokenScreen

        session = self.session
        attempt, answer, text = session.attempt, session.continued, session.draft.text
        if session.is_streaming or not text:
            return

        async def ask() -> Sequence[TokenChance]:
            """How likely the continuation is after the prompt; without one, how likely the whole text is."""
            target = self.target()
            before = attempt.prompt if attempt and answer else ""
            tokens = await tokenize_text(target, before, special=session.special)
            chances = await text_chances(target, tokens.ids, answer.text if answer else text)
            if answer:
                answer.chances = chances
            return chances

        self.app.push_screen(TokenScreen(answer.chances if answer else (), ask))

    def action_request_code(self) -> None:
        from qwen_tui.chat.request_code import completion_request
        from qwen_tui.ui.screens.request_code import RequestCodeScreen

        def show() -> None:
            target = self.target()
            if self.session.draft.text and not self.session.is_streaming:
                request = completion_request(target, self.session.completion())
                self.app.push_screen(RequestCodeScreen(request, target.api_key))

        self._try(show)

    async def action_copy_written(self) -> None:
        from qwen_tui.ui.copying import copy_and_tell

        if self.session.draft.text:
            await copy_and_tell(self.app, self.session.draft.text)
