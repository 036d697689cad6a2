"""What the Chat room says of tokens: how likely those of a reply are, and how much of the context is taken."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from textual import on
from textual.binding import Binding
from textual.content import Content
from textual.timer import Timer
from textual.widgets import TextArea

from qwen_tui.chat.context import Room, estimated_tokens, oldest_sent, room_words
from qwen_tui.chat.conversation import Turn
from qwen_tui.chat.events import Message, Target
from qwen_tui.chat.logprobs import TokenChance
from qwen_tui.chat.tokenize import reply_chances, tokenize_chat
from qwen_tui.errors import QwenTuiError
from qwen_tui.i18n import _
from qwen_tui.ui.screens.asking import asked_target
from qwen_tui.ui.screens.chat_turns import ChatTurns
from qwen_tui.ui.text import one_line
from qwen_tui.ui.widgets.prompt import Prompt

#: Seconds without a change before the server is asked how many tokens there are.
_PAUSE = 0.7
#: Characters; more are not sent only to be counted.
_LONGEST = 2_000_000


class TokensAndContext(ChatTurns):
    """The part of the Chat room that counts. Typing never waits for it: until the server has counted, it estimates."""

    def __init__(self) -> None:
        super().__init__()
        self._pause: Timer | None = None
        #: What was counted (conversation, how many turns, how many are left out, draft), and the result.
        self._counted: tuple[tuple[object, ...], Room] | None = None
        self._limits: dict[str, int] = {}  # address → max_model_len
        self._without: set[str] = set()  # addresses of servers that can't count

    # The token view

    def action_tokens(self) -> None:
        from qwen_tui.ui.screens.completions_tokens import TokenScreen

        turn = self.transcript.selected
        if turn is None or not turn.is_reply:
            turn = self.session.conversation.last_reply
        if turn is None or turn.state.is_open or not turn.text:
            return
        reply = turn

        async def ask() -> Sequence[TokenChance]:
            reply.logprobs = await self._reply_chances(reply)
            self.session.touched()
            return reply.logprobs

        self.app.push_screen(TokenScreen(reply.logprobs, ask))

    async def _reply_chances(self, reply: Turn) -> list[TokenChance]:
        session = self.session
        messages = await asyncio.to_thread(session.asked, "", reply)
        tools = session.conversation.tools
        return await reply_chances(self._target(), messages, reply.text, reasoning=reply.reasoning, tools=tools)

    # The context meter

    @on(TextArea.Changed, "#prompt")
    def _draft_changed(self) -> None:
        self.show_meter()

    def show_meter(self) -> None:
        """The request may be another one: say how long it is, and have it counted when typing rests."""
        if self.session.is_streaming:
            return
        prompt = self.query_one(Prompt)
        prompt.border_subtitle = self.meter_content()
        if self._counted is None or self._counted[0] != self._what():
            if self._pause is not None:
                self._pause.stop()
            self._pause = self.set_timer(_PAUSE, self._count)

    def _what(self) -> tuple[object, ...]:
        """What a count depends on; quick."""
        conversation = self.session.conversation
        left_out = sum(turn.left_out for turn in conversation.turns)
        last = conversation.turns[-1] if conversation.turns else None
        place = self.qwen.endpoint or self.qwen.target
        return (
            place.name if place else "", conversation.id, len(conversation.turns), left_out, conversation.system,
            (last.id, len(last.text)) if last else None, self.query_one(Prompt).text,
        )  # fmt: skip

    def _count(self) -> None:
        self._pause = None
        session, what = self.session, self._what()
        if session.is_streaming:
            return
        try:
            target, _version = asked_target(self.qwen)
        except QwenTuiError:
            return
        turns = session.conversation.turns
        long = sum(len(turn.text) for turn in turns) + len(self.query_one(Prompt).text) > _LONGEST
        if not long and target.base_url not in self._without and not any(turn.attachments for turn in turns):
            self.run_worker(self._ask_count(target, what), group="count tokens", exclusive=True)

    async def _ask_count(self, target: Target, what: tuple[object, ...]) -> None:
        messages = self._next_messages()
        if not messages:
            return
        try:
            tokens = await tokenize_chat(target, messages, tools=self.session.conversation.tools)
        except QwenTuiError as error:
            if getattr(error, "status", None) == 404:
                self._without.add(target.base_url)
            return
        if tokens.max_model_len is not None:
            self._limits[target.base_url] = tokens.max_model_len
        self._counted = (what, Room(len(tokens), tokens.max_model_len))
        if self.is_attached and not self.session.is_streaming:
            self.show_state()

    def _next_messages(self) -> Sequence[Message]:
        """What sending the draft would send; without one, all that was said."""
        messages = list(self.session.conversation.messages())
        draft = self.query_one(Prompt).text
        return [*messages, Message("user", draft)] if draft.strip() else messages

    def context_room(self) -> Room | None:
        """How much of the context the next request takes, counted or estimated; None if nothing is known of it."""
        conversation, draft = self.session.conversation, self.query_one(Prompt).text
        wanted = self.session.sampling.max_tokens
        if self._counted is not None and self._counted[0] == self._what():
            counted = self._counted[1]
            return Room(counted.used, counted.limit, wanted)
        limit = self._limit()
        if limit is None or not (conversation.turns or draft):
            return None
        used = estimated_tokens(draft) + (4 if draft else 0)
        for turn in reversed(conversation.turns):
            figures = turn.figures
            if turn.left_out:
                continue
            if figures is not None and figures.prompt_tokens is not None and not any(
                other.left_out for other in conversation.turns
            ):  # fmt: skip
                used += figures.prompt_tokens + figures.completion_tokens
                break
            used += estimated_tokens(turn.text) + 4
        else:
            used += estimated_tokens(conversation.system)
        return Room(used, limit, wanted, estimated=True)

    def _limit(self) -> int | None:
        try:
            target, _version = asked_target(self.qwen)
        except QwenTuiError:
            return None
        known = self._limits.get(target.base_url)
        status = self.qwen.target if self.qwen.endpoint is None else None
        return known or (status.spec.max_model_len if status is not None else None)

    def meter_content(self) -> Content:
        """For the prompt's border: which version is shown, and how much of the context is taken."""
        parts = [Content(self._version_text())]
        room = self.context_room()
        if room is not None:
            parts.append(Content.styled(*room_words(room)))
        return Content(" · ").join([part for part in parts if part.plain])

    def _oldest(self) -> Sequence[Turn]:
        return oldest_sent(self.session.conversation, bool(self.query_one(Prompt).text.strip()))

    def leave_out_text(self) -> str:
        """What to leave out, where the next reply may not fit; else empty."""
        if self.session.is_streaming:
            return ""  # and estimating a long reply twice a second would cost
        room = self.context_room()
        oldest = self._oldest()
        if room is None or room.state == "ok" or not oldest:
            return ""
        key = self.qwen.services.settings.keys.get("chat.leave_out", "L").split(",")[0]
        words = one_line(" ".join(oldest[0].text[:200].split()))[:24]
        return _("esc, then {key} leaves the oldest out: “{words}…”").format(key=key, words=words)

    def action_leave_out(self) -> None:
        """Leave the oldest question and its reply out of what is sent; they stay on the screen."""
        if self.session.is_streaming:
            return
        oldest = self._oldest()
        for turn in oldest:
            turn.left_out = True
        if oldest:
            self._sent_changed()

    def action_send_again(self) -> None:
        """Send everything again."""
        left_out = [turn for turn in self.session.conversation.turns if turn.left_out]
        if self.session.is_streaming or not left_out:
            return
        for turn in left_out:
            turn.left_out = False
        self._sent_changed()

    def _sent_changed(self) -> None:
        self.session.touched()
        self.transcript.redraw()
        self.show_meter()

    def tokens_binding_text(self, binding: Binding) -> str:
        """What the footer says for a binding of this part; empty while it means nothing."""
        turns = self.session.conversation.turns
        if binding.id == "chat.tokens":
            return binding.description if self.session.conversation.last_reply is not None else ""
        if binding.id == "chat.leave_out":
            return binding.description if self.leave_out_text() else ""
        return binding.description if any(turn.left_out for turn in turns) else ""
