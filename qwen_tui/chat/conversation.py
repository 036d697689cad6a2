"""A conversation: what was said, how each reply went; pure data and the operations on it.

It is a tree: asking again and saying something else both begin another branch, and none is lost. `turns` is the branch
that is shown, `others` are the turns of all the others.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from uuid import uuid4

from qwen_tui.chat.events import Message, ReplyFigures, Role
from qwen_tui.errors import ChatError, UsageError
from qwen_tui.i18n import _


class ReplyState(str, Enum):
    """How far a turn has come; what a person wrote is always DONE."""

    WAITING = "waiting"  # sent, nothing has come yet
    STREAMING = "streaming"
    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def is_open(self) -> bool:
        return self in (ReplyState.WAITING, ReplyState.STREAMING)


def _new_id() -> str:
    return uuid4().hex


@dataclass(eq=False)
class Turn:
    """One message of a conversation. Two turns are the same only if they are the same object.

    model: for a reply, the model's name. error: for FAILED, what happened. parent: the id of the turn before it, empty
    for the first. created: Unix time, seconds.
    """

    role: Role
    text: str = ""
    reasoning: str = ""
    model: str = ""
    state: ReplyState = ReplyState.DONE
    figures: ReplyFigures | None = None
    error: ChatError | None = None
    id: str = field(default_factory=_new_id)
    parent: str = ""
    created: float = field(default_factory=time.time)

    @property
    def is_reply(self) -> bool:
        return self.role == "assistant"


@dataclass
class Conversation:
    """Turns in order: a person's, the model's, and so on. title: a person's own; empty takes the first question."""

    system: str = ""
    turns: list[Turn] = field(default_factory=list)
    others: list[Turn] = field(default_factory=list)
    id: str = field(default_factory=_new_id)
    title: str = ""
    created: float = field(default_factory=time.time)

    @property
    def name(self) -> str:
        """The title, or the first words of the first question, on one line."""
        first = self.turns[0].text if self.turns else ""
        return self.title or " ".join(first[:400].split())[:80]

    @property
    def open_reply(self) -> Turn | None:
        """The reply that streams now, or None."""
        return self.turns[-1] if self.turns and self.turns[-1].state.is_open else None

    @property
    def last_reply(self) -> Turn | None:
        """The latest reply that has any text, or None."""
        return next((turn for turn in reversed(self.turns) if turn.is_reply and turn.text), None)

    def add_user(self, text: str) -> Turn:
        """What a person says. Raises UsageError while a reply streams, or if there is nothing in it."""
        self._check_idle()
        if not text.strip():
            raise UsageError(_("There is nothing to send"))
        turn = Turn("user", text, parent=self._end)
        self.turns.append(turn)
        return turn

    def begin_reply(self, model: str) -> Turn:
        """An empty reply, waiting for its first token."""
        turn = Turn("assistant", model=model, state=ReplyState.WAITING, parent=self._end)
        self.turns.append(turn)
        return turn

    def finish(self, reply: Turn, figures: ReplyFigures) -> None:
        """The reply is whole."""
        reply.state, reply.figures = ReplyState.DONE, figures

    def stop(self, reply: Turn, figures: ReplyFigures | None) -> None:
        """Somebody stopped the reply; what came stays."""
        reply.state, reply.figures = ReplyState.STOPPED, figures

    def fail(self, reply: Turn, error: ChatError, figures: ReplyFigures | None) -> None:
        """The reply broke; what came stays."""
        reply.state, reply.error, reply.figures = ReplyState.FAILED, error, figures

    def drop_last_reply(self) -> None:
        """Take the last reply out of what is shown, so that it can be asked for again; one with text becomes a branch.

        Raises UsageError while it streams, or if there is nothing to ask again.
        """
        self._check_idle()
        if self.turns and self.turns[-1].is_reply:
            reply = self.turns.pop()
            if reply.text or reply.reasoning:
                self.others.append(reply)
        if not self.turns:
            raise UsageError(_("There is nothing to ask again"))

    # Branches

    @property
    def _end(self) -> str:
        return self.turns[-1].id if self.turns else ""

    def _check_idle(self) -> None:
        if self.open_reply:
            raise UsageError(_("A reply is still streaming"), "", _("Press esc to stop it, or wait"))

    def siblings(self, turn: Turn) -> Sequence[Turn]:
        """`turn` and what else was said in its place, the oldest first."""
        found = [other for other in (*self.turns, *self.others) if other.parent == turn.parent]
        return sorted(found, key=lambda other: other.created)

    def show(self, turn: Turn) -> None:
        """Show the branch of `turn`, with the newest of what follows it. Raises UsageError while a reply streams."""
        self._check_idle()
        everything = sorted((*self.turns, *self.others), key=lambda other: other.created)
        by_id = {other.id: other for other in everything}
        newest_child = {other.parent: other for other in everything}
        path = [turn]
        while (before := by_id.get(path[0].parent)) is not None and before not in path:
            path.insert(0, before)
        while (after := newest_child.get(path[-1].id)) is not None and after not in path:
            path.append(after)
        self.turns = path
        self.others = [other for other in everything if other not in path]

    def step(self, turn: Turn, direction: int) -> Turn | None:
        """Show the branch before (-1) or after (1) that of `turn`; the turn now in its place, or None at the end."""
        siblings = self.siblings(turn)
        place = siblings.index(turn) + direction
        if not 0 <= place < len(siblings):
            return None
        self.show(siblings[place])
        return siblings[place]

    def edit(self, turn: Turn, text: str) -> Turn:
        """Say `text` in the place of `turn`, in a new branch. Raises UsageError as `add_user` does."""
        self._check_idle()
        if not text.strip():
            raise UsageError(_("There is nothing to send"))
        place = self.turns.index(turn)
        self.others += self.turns[place:]
        del self.turns[place:]
        return self.add_user(text)

    def messages(self) -> Sequence[Message]:
        """What to send to the model: the turns with text, reasoning left out.

        Neighbours of the same role (a question whose reply never came, and the next one) become one message,
        as many chat templates insist on strict alternation.
        """
        merged: list[Message] = [Message("system", self.system)] if self.system else []
        for turn in self.turns:
            if not turn.text:
                continue
            if merged and merged[-1].role == turn.role:
                merged[-1] = Message(turn.role, f"{merged[-1].content}\n\n{turn.text}")
            else:
                merged.append(Message(turn.role, turn.text))
        return merged
