"""Keeps what is said: watches a session and saves it, off the event loop, while it streams too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from qwen_tui.chat.conversation import Conversation, Turn
from qwen_tui.chat.session import ChatSession
from qwen_tui.chat.store import ConversationStore, snapshot
from qwen_tui.errors import QwenTuiError

#: Seconds between two savings of a reply that streams: with the time that saving takes, below 250 ms.
INTERVAL = 0.2


class ConversationKeeper:
    """Saves every change of the session's conversation. A kill -9 loses at most the last 250 ms of text.

    on_problem: told once when saving begins to fail, and again only after it worked in between; the chat goes on.
    on_saved: told when more was saved than a piece of a reply.
    """

    def __init__(
        self, session: ChatSession, store: ConversationStore, on_problem: Callable[[QwenTuiError], None] | None = None
    ) -> None:
        self._session = session
        self._store = store
        self.on_problem = on_problem
        self.on_saved: Callable[[], None] | None = None
        self._failing = False
        self._task: asyncio.Task[None] | None = None
        self._dirty = False
        self._watched = session.conversation
        self._left: list[Conversation] = []  # no longer shown, and perhaps not saved to their end
        self._saved: dict[str, tuple[object, ...]] = {}  # a turn's id → what of it is on disk
        #: An open reply's id → how much text and reasoning is on disk, and of which revision of it.
        self._pieces: dict[str, tuple[int, int, int]] = {}
        self._unsubscribe = session.subscribe(self._changed)

    def known(self, conversation: Conversation) -> None:
        """This conversation was just loaded: nothing of it is to be saved before it changes."""
        for turn in (*conversation.turns, *conversation.others):
            self._saved[turn.id] = _mark(turn)
        if conversation.turns:
            self._saved[conversation.id] = _head(conversation)

    async def close(self) -> None:
        """Save what is left, and watch no longer."""
        self._unsubscribe()
        if self._task is not None:
            self._dirty = True
            await self._task
        await self._save_all()
        await asyncio.to_thread(self._store.close)

    def _changed(self) -> None:
        """Called for every piece of a reply: must be quick."""
        self._dirty = True
        if self._session.conversation is not self._watched:
            self._left.append(self._watched)
            self._watched = self._session.conversation
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work(), name="conversation keeper")

    async def _work(self) -> None:
        try:
            while self._dirty:
                self._dirty = False
                await self._save_all()
                if self._session.is_streaming:
                    await asyncio.sleep(INTERVAL)
        finally:
            self._task = None

    async def _save_all(self) -> None:
        while self._left:
            await self._save(self._left.pop(0))
        await self._save(self._watched)

    async def _save(self, conversation: Conversation) -> None:
        if not conversation.turns:
            return
        try:
            await self._save_changes(conversation)
        except QwenTuiError as error:
            if not self._failing and self.on_problem is not None:
                self.on_problem(error)
            self._failing = True
        else:
            self._failing = False

    async def _save_changes(self, conversation: Conversation) -> None:
        turns = (*conversation.turns, *conversation.others)
        open_turns = [turn for turn in turns if turn.state.is_open]  # several, where several answers were asked for
        if open_turns and all(self._only_grew(turn) for turn in open_turns):
            for turn in open_turns:
                await self._append(turn)
            return
        head = _head(conversation)
        marks = {turn.id: _mark(turn) for turn in turns}
        changed = [turn for turn in turns if self._saved.get(turn.id) != marks[turn.id]]
        if not changed and self._saved.get(conversation.id) == head:
            return
        sizes = {turn.id: (len(turn.text), len(turn.reasoning), turn.revision) for turn in open_turns}
        what = snapshot(conversation, changed)
        await asyncio.to_thread(self._store.save, what)
        self._saved.update({turn.id: marks[turn.id] for turn in changed})
        self._saved[conversation.id] = head
        for turn in changed:
            self._pieces.pop(turn.id, None)
        self._pieces |= sizes
        if self.on_saved is not None:
            self.on_saved()

    def _only_grew(self, turn: Turn) -> bool:
        """Whether what came since the last saving is more at the end. Tool calls have no pieces."""
        return turn.id in self._pieces and self._pieces[turn.id][2] == turn.revision and not turn.tool_calls

    async def _append(self, reply: Turn) -> None:
        text, reasoning, revision = self._pieces[reply.id]
        new_text, new_reasoning = reply.text[text:], reply.reasoning[reasoning:]
        if new_text or new_reasoning:
            await asyncio.to_thread(self._store.append, reply.id, new_text, new_reasoning)
            self._pieces[reply.id] = (text + len(new_text), reasoning + len(new_reasoning), revision)


def _mark(turn: Turn) -> tuple[object, ...]:
    beside = (turn.tool_calls, turn.attachments, len(turn.logprobs), turn.reasoning_tokens, turn.left_out)
    return (turn.state, len(turn.text), len(turn.reasoning), turn.figures, beside)


def _head(conversation: Conversation) -> tuple[object, ...]:
    chosen = (conversation.title, conversation.system, conversation.tools, conversation.tool_choice)
    return (*chosen, conversation.turns[-1].id)
