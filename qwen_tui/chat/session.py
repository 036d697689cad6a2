"""The chat of this run of the program: one conversation, and the task that streams its reply.

It belongs to the app, not to a screen: a reply goes on streaming while another room is shown.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from qwen_tui.chat.client import stream_chat
from qwen_tui.chat.conversation import Conversation, ReplyState, Turn
from qwen_tui.chat.events import Finished, Message, ReasoningDelta, Sampling, Target, TextDelta, TokensDelta
from qwen_tui.chat.meter import ReplyMeter
from qwen_tui.errors import ChatError, UsageError
from qwen_tui.i18n import _


class ChatSession:
    """Send, stop, retry; listeners are told that something changed, for every piece that arrives."""

    def __init__(self) -> None:
        self.conversation = Conversation()
        self.sampling = Sampling()
        self._listeners: list[Callable[[], None]] = []
        self._task: asyncio.Task[None] | None = None
        self._meter: ReplyMeter | None = None

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` on every change, in the event loop; it must be quick. Returns how to end that."""
        self._listeners.append(listener)

        def unsubscribe() -> None:
            with contextlib.suppress(ValueError):
                self._listeners.remove(listener)

        return unsubscribe

    @property
    def is_streaming(self) -> bool:
        return self.conversation.open_reply is not None

    @property
    def meter(self) -> ReplyMeter | None:
        """The measurements of the reply that streams, or of the last one."""
        return self._meter

    def send(self, target: Target, text: str) -> None:
        """Say `text` and stream the reply. Raises UsageError while another one streams."""
        self.conversation.add_user(text)
        self._ask(target)

    def retry(self, target: Target, turn: Turn | None = None) -> None:
        """Ask again for the last reply; for `turn`, or what was replied to it: what came after is another branch.

        Raises UsageError.
        """
        self.conversation.drop_reply(turn)
        self._ask(target)

    def edit(self, target: Target, turn: Turn, text: str) -> None:
        """Say `text` in the place of `turn`, in a new branch, and stream the reply. Raises UsageError."""
        self.conversation.edit(turn, text)
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

    def instruct(self, system: str) -> None:
        """Set the system prompt of the conversation, from the next message on."""
        self.conversation.system = system
        self._changed()

    def asked(self, draft: str = "", turn: Turn | None = None) -> Sequence[Message]:
        """What was sent for the last reply, or for `turn`; with a draft, what sending it would send."""
        turns = self.conversation.turns
        if turn in turns:
            turns = turns[: turns.index(turn) + (not turn.is_reply)]
        elif draft.strip():
            turns = [*turns, Turn("user", draft)]
        elif turns and turns[-1].is_reply:
            turns = turns[:-1]
        return Conversation(self.conversation.system, turns).messages()

    def stop(self) -> None:
        """Stop the reply that streams, if one does; its connection is closed at once."""
        reply = self.conversation.open_reply
        if reply is not None and self._task is not None:
            self.conversation.stop(reply, self._meter.figures() if self._meter else None)
            self._task.cancel()
            self._changed()

    def new(self) -> None:
        """Begin a new conversation; a reply that streams is stopped."""
        self.stop()
        self.conversation = Conversation(system=self.conversation.system)
        self._changed()

    async def close(self) -> None:
        """Stop what streams and wait until its connection is closed."""
        self.stop()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    def _ask(self, target: Target) -> None:
        messages = self.conversation.messages()
        if not messages:
            raise UsageError(_("There is nothing to ask again"))
        conversation = self.conversation
        reply = conversation.begin_reply(target.model)
        self._meter = meter = ReplyMeter()

        async def run() -> None:
            try:
                await self._stream(target, messages, reply, meter, conversation)
            except ChatError as error:
                if reply.state.is_open:
                    conversation.fail(reply, error, meter.figures() if meter.answered else None)
            except Exception as error:  # noqa: BLE001 - a fault of this program must be seen, not look like a stop
                if reply.state.is_open:
                    title = _("Something went wrong in qwen-tui")
                    conversation.fail(reply, ChatError(title, f"{type(error).__name__}: {error}"), None)
            finally:
                if reply.state.is_open:  # cancelled from outside: the program ends
                    conversation.stop(reply, meter.figures())
                self._changed()

        self._task = asyncio.get_running_loop().create_task(run(), name="chat reply")
        self._changed()

    async def _stream(
        self, target: Target, messages: Sequence[Message], reply: Turn, meter: ReplyMeter, conversation: Conversation
    ) -> None:
        async with contextlib.aclosing(stream_chat(target, messages, self.sampling, meter=meter)) as events:
            async for event in events:
                if not reply.state.is_open:
                    return
                if not isinstance(event, Finished) and event.index > 0:
                    continue  # of several answers, a conversation goes on with the first
                if isinstance(event, TextDelta):
                    reply.text += event.text
                    reply.state = ReplyState.STREAMING
                elif isinstance(event, ReasoningDelta):
                    reply.reasoning += event.text
                    reply.state = ReplyState.STREAMING
                elif isinstance(event, TokensDelta):
                    reply.logprobs.extend(event.chances)
                elif isinstance(event, Finished):
                    conversation.finish(reply, event.figures)
                self._changed()

    def _changed(self) -> None:
        for listener in tuple(self._listeners):
            listener()
