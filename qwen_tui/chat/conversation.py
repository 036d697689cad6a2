"""A conversation: what was said, how each reply went; pure data and the operations on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

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


@dataclass(eq=False)
class Turn:
    """One message of a conversation. Two turns are the same only if they are the same object.

    model: for a reply, the model's name. error: for FAILED, what happened.
    """

    role: Role
    text: str = ""
    reasoning: str = ""
    model: str = ""
    state: ReplyState = ReplyState.DONE
    figures: ReplyFigures | None = None
    error: ChatError | None = None

    @property
    def is_reply(self) -> bool:
        return self.role == "assistant"


@dataclass
class Conversation:
    """Turns in order: a person's, the model's, and so on."""

    system: str = ""
    turns: list[Turn] = field(default_factory=list)

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
        if self.open_reply:
            raise UsageError(_("A reply is still streaming"), "", _("Press esc to stop it, or wait"))
        if not text.strip():
            raise UsageError(_("There is nothing to send"))
        turn = Turn("user", text)
        self.turns.append(turn)
        return turn

    def begin_reply(self, model: str) -> Turn:
        """An empty reply, waiting for its first token."""
        turn = Turn("assistant", model=model, state=ReplyState.WAITING)
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
        """Take the last reply away, whatever became of it, so that it can be asked for again.

        Raises UsageError while it streams, or if there is nothing to ask again.
        """
        if self.open_reply:
            raise UsageError(_("A reply is still streaming"), "", _("Press esc to stop it, or wait"))
        if self.turns and self.turns[-1].is_reply:
            self.turns.pop()
        if not self.turns:
            raise UsageError(_("There is nothing to ask again"))

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
