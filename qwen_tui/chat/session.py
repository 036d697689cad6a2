"""The chat of this run of the program: one conversation, and the task that streams its reply.

It belongs to the app, not to a screen: a reply goes on streaming while another room is shown.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from qwen_tui.chat.attachments import Attachment
from qwen_tui.chat.client import stream_chat
from qwen_tui.chat.conversation import Conversation, ReplyState, Turn
from qwen_tui.chat.events import Message, ReplyFigures, Sampling, Target
from qwen_tui.chat.meter import ReplyMeter
from qwen_tui.chat.queue_time import QueueTime
from qwen_tui.chat.reply import ReplyBuilder
from qwen_tui.chat.tools import request_fields
from qwen_tui.errors import ChatError, QwenTuiError, UsageError
from qwen_tui.i18n import _
from qwen_tui.listened import Listened


class ChatSession(Listened):
    """Send, stop, retry; listeners are told that something changed, for every piece that arrives."""

    def __init__(self) -> None:
        super().__init__()
        self.conversation = Conversation()
        self.sampling = Sampling()
        self._task: asyncio.Task[None] | None = None
        self._meter: ReplyMeter | None = None
        self._builder: ReplyBuilder | None = None

    @property
    def is_streaming(self) -> bool:
        return self.conversation.open_reply is not None

    @property
    def meter(self) -> ReplyMeter | None:
        """The measurements of the reply that streams, or of the last one."""
        return self._meter

    def send(self, target: Target, text: str, attachments: Sequence[Attachment] = ()) -> None:
        """Say `text` and stream the reply. Raises UsageError while another one streams."""
        self.conversation.add_user(text, attachments)
        self._ask(target)

    def go_on(self, target: Target, turn: Turn, text: str | None = None) -> None:
        """Have the model write on where the last reply ended; with `text`, where this text does, as another version.

        Raises UsageError where that can't be done.
        """
        self._ask(target, self.conversation.reply_to_go_on(turn, text))

    def answer_calls(self, target: Target, turn: Turn, results: Sequence[str]) -> None:
        """Give the results of the calls of a reply, in their order, and stream what the model says to them.

        Raises UsageError.
        """
        self.conversation.answer_calls(turn, results)
        self._ask(target)

    def retry(self, target: Target, turn: Turn | None = None) -> None:
        """Ask again for the last reply; for `turn`, or what was replied to it: what came after is another branch.

        Raises UsageError.
        """
        self.conversation.drop_reply(turn)
        self._ask(target)

    def edit(self, target: Target, turn: Turn, text: str, attachments: Sequence[Attachment] = ()) -> None:
        """Say `text` in the place of `turn`, in a new branch, and stream the reply. Raises UsageError."""
        self.conversation.edit(turn, text, attachments)
        self._ask(target)

    def step(self, turn: Turn, direction: int) -> Turn | None:
        """Show the branch before or after that of `turn`; what stands there, None if there is none.

        Raises UsageError.
        """
        shown = self.conversation.step(turn, direction)
        if shown is not None:
            self._changed()
        return shown

    def open(self, conversation: Conversation) -> None:
        """Go on with another conversation; a reply that streams is stopped."""
        self.stop()
        self.conversation = conversation
        self._changed()

    def equip(self, tools: Sequence[dict[str, Any]], choice: str) -> None:
        """Set the functions that the model may call, from the next message on; see Conversation."""
        self.conversation.tools, self.conversation.tool_choice = tuple(tools), choice
        self._changed()

    def instruct(self, system: str) -> None:
        """Set the system prompt of the conversation, from the next message on."""
        self.conversation.system = system
        self._changed()

    def asked(
        self, draft: str = "", turn: Turn | None = None, attachments: Sequence[Attachment] = ()
    ) -> Sequence[Message]:
        """What was sent for the last reply, or for `turn`; with a draft, what sending it would send.

        Raises UsageError if a file is gone.
        """
        turns = self.conversation.turns
        if turn in turns:
            turns = turns[: turns.index(turn) + (not turn.is_reply)]
        elif draft.strip() or attachments:
            turns = [*turns, Turn("user", draft, attachments=tuple(attachments))]
        elif turns and turns[-1].is_reply:
            turns = turns[:-1]
        return Conversation(self.conversation.system, turns).messages()

    def touched(self) -> None:
        """Something beside the text changed, such as what is left out: tell who listens."""
        self._changed()

    def stop(self) -> None:
        """Stop the reply that streams, if one does; its connection is closed at once."""
        reply = self.conversation.open_reply
        if reply is not None and self._task is not None:
            figures = self._meter.figures() if self._meter else None
            for turn in self._builder.turns if self._builder is not None else [reply]:
                if turn.state.is_open:
                    self.conversation.stop(turn, figures)
            self._task.cancel()
            self._changed()

    def new(self) -> None:
        """Begin a new conversation; a reply that streams is stopped."""
        self.stop()
        last = self.conversation
        self.conversation = Conversation(system=last.system, tools=last.tools, tool_choice=last.tool_choice)
        self._changed()

    async def close(self) -> None:
        """Stop what streams and wait until its connection is closed."""
        self.stop()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    def _ask(self, target: Target, going_on: Turn | None = None) -> None:
        """Stream a reply; with `going_on`, more of that one."""
        if not self.conversation.turns:
            raise UsageError(_("There is nothing to ask again"))
        conversation = self.conversation
        more = request_fields(conversation, going_on=going_on is not None)
        if going_on is None:
            reply = conversation.begin_reply(target.model)
            asked = Conversation(conversation.system, conversation.turns[:-1])
        else:
            reply = going_on
            asked = Conversation(conversation.system, [*conversation.turns])
            reply.state, reply.error = ReplyState.WAITING, None
        self._meter = meter = ReplyMeter()
        self._builder = builder = ReplyBuilder(conversation, reply, meter)

        async def run() -> None:
            queue = QueueTime(target)
            try:
                await self._stream(target, await _messages(asked), more, builder, meter)
                await _add_queue_time(builder, queue)
            except QwenTuiError as error:
                known = error if isinstance(error, ChatError) else ChatError(error.title, error.why, error.hint)
                self._end(builder, lambda turn: conversation.fail(turn, known, self._known(meter)))
            except Exception as error:  # noqa: BLE001 - a fault of this program must be seen, not look like a stop
                fault = ChatError(_("Something went wrong in qwen-tui"), f"{type(error).__name__}: {error}")
                self._end(builder, lambda turn: conversation.fail(turn, fault, None))
            finally:
                queue.cancel()
                # Cancelled from outside: the program ends.
                self._end(builder, lambda turn: conversation.stop(turn, meter.figures()))
                self._changed()

        self._task = asyncio.get_running_loop().create_task(run(), name="chat reply")
        self._changed()

    @staticmethod
    def _known(meter: ReplyMeter) -> ReplyFigures | None:
        return meter.figures() if meter.answered else None

    def _end(self, builder: ReplyBuilder, end: Callable[[Turn], None]) -> None:
        for turn in builder.turns if builder is self._builder else ():  # else it is being gone on with
            if turn.state.is_open:
                end(turn)

    async def _stream(
        self,
        target: Target,
        messages: Sequence[Message],
        more: Mapping[str, Any],
        builder: ReplyBuilder,
        meter: ReplyMeter,
    ) -> None:
        sampling = self.sampling
        if more.get("continue_final_message"):
            sampling = replace(sampling, n=None)  # one reply has one continuation
        async with contextlib.aclosing(stream_chat(target, messages, sampling, more=more, meter=meter)) as events:
            async for event in events:
                if not builder.turns[0].state.is_open:
                    return
                builder.take(event)
                self._changed()


async def _add_queue_time(builder: ReplyBuilder, queue: QueueTime) -> None:
    queued = await queue.found()
    for turn in builder.turns if queued is not None else ():
        if turn.figures is not None:
            turn.figures = replace(turn.figures, queue_s=queued)


async def _messages(asked: Conversation) -> Sequence[Message]:
    """What to send; files that are not at hand are read in a thread."""
    if any(item.content is None for turn in asked.turns for item in turn.attachments):
        return await asyncio.to_thread(asked.messages)
    return asked.messages()
