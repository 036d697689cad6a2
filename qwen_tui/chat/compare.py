"""One prompt to two targets at once, side by side; both answers are kept as branches of the same conversation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from qwen_tui.chat.conversation import Conversation, Turn
from qwen_tui.chat.events import ReplyFigures, Sampling, Target
from qwen_tui.chat.session import ChatSession
from qwen_tui.chat.store import ConversationStore
from qwen_tui.chat.store_keeper import ConversationKeeper
from qwen_tui.errors import QwenTuiError, UsageError
from qwen_tui.i18n import _
from qwen_tui.listened import Listened


@dataclass(frozen=True)
class Place:
    """A model at a server or an endpoint. name: the server's or endpoint's; engine_version: vLLM's, where known."""

    kind: Literal["server", "endpoint"]
    name: str
    target: Target
    engine_version: str = ""


@dataclass
class Side:
    """One of the two: whom it asks, how its replies are drawn, and the session that streams them."""

    place: Place | None = None
    sampling: Sampling = field(default_factory=Sampling)
    session: ChatSession = field(default_factory=ChatSession)

    @property
    def conversation(self) -> Conversation:
        return self.session.conversation

    @property
    def reply(self) -> Turn | None:
        """The reply at the end of what this side shows, or None."""
        turns = self.conversation.turns
        return turns[-1] if turns and turns[-1].is_reply else None

    @property
    def figures(self) -> ReplyFigures | None:
        """Of the reply that streams, or of the last one; None before its first token."""
        reply = self.reply
        if reply is None:
            return None
        if reply.state.is_open:
            meter = self.session.meter
            return meter.figures() if meter and meter.answered else None
        return reply.figures


class Comparison(Listened):
    """Two sides that go on from one conversation. It lasts while the program runs; `begin` and `end` frame its use.

    Whatever was asked is kept as it comes, in that same conversation: its questions once, each answer as a branch.
    on_problem: told when keeping fails; the comparison goes on.
    """

    def __init__(self, store: ConversationStore) -> None:
        super().__init__()
        self.sides = [Side(), Side()]
        self.on_problem: Callable[[QwenTuiError], None] | None = None
        self._store = store
        self._origin = Conversation()
        self._keepers: list[ConversationKeeper] = []

    @property
    def is_streaming(self) -> bool:
        return any(side.session.is_streaming for side in self.sides)

    @property
    def asked_anything(self) -> bool:
        """Whether there is more on a side than where it began."""
        return any(len(side.conversation.turns) > len(self._origin.turns) for side in self.sides)

    def begin(self, conversation: Conversation) -> None:
        """Both sides go on from what `conversation` shows; it is not changed itself."""
        self._origin = replace(conversation, turns=list(conversation.turns), others=list(conversation.others))
        self._keepers = []
        for side in self.sides:
            side.session = ChatSession()
            side.session.conversation = replace(conversation, turns=list(conversation.turns), others=[])
            side.session.subscribe(self._changed)
            keeper = ConversationKeeper(side.session, self._store, self._tell)
            keeper.known(side.session.conversation)
            self._keepers.append(keeper)
        self._changed()

    def ask(self, text: str) -> None:
        """Say `text` to both. Raises UsageError while one still answers, or if a side has nobody to ask."""
        if not text.strip():
            raise UsageError(_("There is nothing to send"))
        if self.is_streaming:
            raise UsageError(_("A reply is still streaming"), "", _("Press esc twice to stop it, or wait"))
        places = [self._place(side) for side in self.sides]
        ends = [side.conversation.turns[-1].id if side.conversation.turns else "" for side in self.sides]
        question = Turn("user", text, parent=ends[0])
        for side, place, end in zip(self.sides, places, ends, strict=True):
            # As long as both have heard the same, it is one question with two answers.
            side.conversation.turns.append(question if end == ends[0] else Turn("user", text, parent=end))
            self._ask(side, place)

    def retry(self, side: Side) -> None:
        """Ask one side again; what it said stays as a branch. Raises UsageError."""
        self._ask(side, self._place(side))

    def stop(self, side: Side | None = None) -> None:
        """Stop what streams on one side, or on both."""
        for one in [side] if side else self.sides:
            one.session.stop()

    def swap(self) -> None:
        """Left becomes right."""
        self.sides.reverse()
        self._keepers.reverse()
        self._changed()

    async def end(self, side: Side | None = None) -> Conversation:
        """Stop, save, and give the conversation back with every answer in it; it shows the branch of `side`, or the
        left one's."""
        await self._settle()
        shown = side or self.sides[0]
        whole = replace(shown.conversation, turns=list(shown.conversation.turns), others=[])
        known = {turn.id for turn in whole.turns}
        for conversation in (self._origin, *(one.conversation for one in self.sides)):
            for turn in (*conversation.turns, *conversation.others):
                if turn.id not in known:
                    known.add(turn.id)
                    whole.others.append(turn)
        return whole

    async def close(self) -> None:
        """Stop what streams, wait until its connections are closed, and save it."""
        await self._settle()

    async def _settle(self) -> None:
        for side in self.sides:
            await side.session.close()
        keepers, self._keepers = self._keepers, []
        await asyncio.gather(*(keeper.close() for keeper in keepers))

    def _ask(self, side: Side, place: Place) -> None:
        side.session.sampling = side.sampling.with_version(place.engine_version)
        side.session.retry(place.target)

    @staticmethod
    def _place(side: Side) -> Place:
        if side.place is None:
            raise UsageError(_("One side has nobody to ask"), "", _("Press esc, then e, and choose"))
        return side.place

    def _tell(self, error: QwenTuiError) -> None:
        if self.on_problem is not None:
            self.on_problem(error)
