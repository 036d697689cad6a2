"""A conversation: what was said, how each reply went; pure data and the operations on it.

It is a tree: asking again and saying something else both begin another branch, and none is lost. `turns` is the branch
that is shown, `others` are the turns of all the others.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from qwen_tui.chat.attachments import Attachment
from qwen_tui.chat.events import Message, ReplyFigures, Role, ToolCall
from qwen_tui.errors import ChatError, UsageError
from qwen_tui.i18n import _

if TYPE_CHECKING:
    from qwen_tui.chat.completions import TokenChance


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
    for the first. created: Unix time, seconds. tool_calls: what a reply wants called; tool_call_id: for the role
    "tool", which of them this answers. attachments: files that go with a question. logprobs: how likely each token
    of the text was. reasoning_tokens, reasoning_s: how much thinking, and for how many seconds; None if unknown.
    left_out: it is shown, and not sent. revision: counts how often something but more at the end changed in it.
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
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    attachments: tuple[Attachment, ...] = ()
    logprobs: list[TokenChance] = field(default_factory=list)
    reasoning_tokens: int | None = None
    reasoning_s: float | None = None
    left_out: bool = False
    revision: int = 0

    @property
    def is_reply(self) -> bool:
        return self.role == "assistant"

    @property
    def is_question(self) -> bool:
        return self.role == "user"


@dataclass
class Conversation:
    """Turns in order: a person's, the model's, and so on.

    title: a person's own; empty takes the first question. tools: the functions that the model may call, as the API
    has them. tool_choice: "auto", "none", "required", or the name of the one function to call; empty: as the server
    does it.
    """

    system: str = ""
    turns: list[Turn] = field(default_factory=list)
    others: list[Turn] = field(default_factory=list)
    id: str = field(default_factory=_new_id)
    title: str = ""
    created: float = field(default_factory=time.time)
    tools: tuple[dict[str, Any], ...] = ()
    tool_choice: str = ""

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

    def add_user(self, text: str, attachments: Sequence[Attachment] = ()) -> Turn:
        """What a person says. Raises UsageError while a reply streams, or if there is nothing in it."""
        self._check_idle()
        if not text.strip() and not attachments:
            raise UsageError(_("There is nothing to send"))
        turn = Turn("user", text, parent=self._end, attachments=tuple(attachments))
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

    def drop_reply(self, turn: Turn | None = None) -> None:
        """Take the last reply out of what is shown, so that it can be asked for again; one with text becomes a branch.

        turn: this reply, or the one to this question, and all that follows it. Raises UsageError while one streams,
        or if there is nothing to ask again.
        """
        self._check_idle()
        if turn is not None:
            place = self.turns.index(turn) + (not turn.is_reply)
        else:
            place = len(self.turns) - bool(self.turns and self.turns[-1].is_reply)
        self.others += [reply for reply in self.turns[place:] if reply.text or reply.reasoning or reply.tool_calls]
        del self.turns[place:]
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

    def edit(self, turn: Turn, text: str, attachments: Sequence[Attachment] = ()) -> Turn:
        """Say `text` in the place of `turn`, in a new branch. Raises UsageError as `add_user` does."""
        self._check_idle()
        if not text.strip() and not attachments:
            raise UsageError(_("There is nothing to send"))
        self._cut(self.turns.index(turn))
        return self.add_user(text, attachments)

    def _cut(self, place: int) -> None:
        """What stands from here on is another branch now."""
        self.others += self.turns[place:]
        del self.turns[place:]

    # Going on, and tools

    def can_go_on(self, turn: Turn) -> bool:
        """Whether a model can write on where this reply ended."""
        return turn.is_reply and bool(turn.text.strip()) and not turn.tool_calls and not turn.state.is_open

    def reply_to_go_on(self, turn: Turn, text: str | None = None) -> Turn:
        """The reply to be written on: `turn`, or a version of it that has `text`. What followed is another branch.

        Raises UsageError while a reply streams, or if the reply can't be written on.
        """
        self._check_idle()
        if text is None and not self.can_go_on(turn):
            raise UsageError(
                _("This can't be continued"),
                _("Only a reply with some text can, and none that calls tools"),
                _("r asks again"),
            )
        place = self.turns.index(turn)
        if text is None or text == turn.text:
            self._cut(place + 1)
            turn.logprobs.clear()  # they would be those of the last part only
            turn.revision += 1
            return turn
        if not text.strip():
            raise UsageError(_("There is nothing to continue"))
        self._cut(place)
        version = Turn("assistant", text, turn.reasoning, turn.model, parent=turn.parent)
        version.reasoning_tokens, version.reasoning_s = turn.reasoning_tokens, turn.reasoning_s
        self.turns.append(version)
        return version

    @property
    def calls_to_answer(self) -> Turn | None:
        """The reply whose calls wait for their results: the last turn, if it has some."""
        last = self.turns[-1] if self.turns else None
        return last if last is not None and last.tool_calls and not last.state.is_open else None

    def answer_calls(self, turn: Turn, results: Sequence[str]) -> None:
        """Add the results of a reply's calls, in their order. What followed is another branch. Raises UsageError."""
        self._check_idle()
        if not turn.tool_calls or len(results) != len(turn.tool_calls):
            raise UsageError(_("Each call needs a result"))
        self._cut(self.turns.index(turn) + 1)
        for call, result in zip(turn.tool_calls, results, strict=True):
            self.turns.append(Turn("tool", result, parent=self._end, tool_call_id=call.id))

    def messages(self) -> Sequence[Message]:
        """What to send to the model: the turns with something in them, reasoning left out.

        Neighbours of the same role (a question whose reply never came, and the next one) become one message,
        as many chat templates insist on strict alternation. Tool calls go only with an answer to each of them.
        Reads attachments that are not at hand: then it blocks, and raises UsageError if one is gone.
        """
        merged: list[Message] = [Message("system", self.system)] if self.system else []
        answered = {turn.tool_call_id for turn in self.turns if turn.tool_call_id and not turn.left_out}
        asked: set[str] = set()  # calls in what is sent
        for turn in self.turns:
            if turn.left_out:
                continue
            message = _message(turn, answered, asked)
            if message is None:
                continue
            if merged and _are_one(merged[-1], message):
                text = "\n\n".join(filter(None, (merged[-1].content, message.content)))
                merged[-1] = Message(message.role, text, (*merged[-1].parts, *message.parts))
            else:
                merged.append(message)
        return merged


def _are_one(last: Message, message: Message) -> bool:
    return last.role == message.role != "tool" and not (last.tool_calls or message.tool_calls)


def _message(turn: Turn, answered: set[str], asked: set[str]) -> Message | None:
    """A turn as it is sent; None if there is nothing to send."""
    if turn.role == "tool":
        return Message("tool", turn.text, tool_call_id=turn.tool_call_id) if turn.tool_call_id in asked else None
    calls = turn.tool_calls if turn.tool_calls and all(call.id in answered for call in turn.tool_calls) else ()
    asked.update(call.id for call in calls)
    texts = [item.as_text() for item in turn.attachments if item.kind == "file"]
    parts = tuple(item.as_part() for item in turn.attachments if item.kind == "image")
    text = "\n\n".join(filter(None, (*texts, turn.text)))
    return Message(turn.role, text, parts, calls) if text or parts or calls else None
