"""What the Chat room does with the conversations that are kept: the list, opening, searching, renaming, deleting."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from textual import on

from qwen_tui.chat.session import ChatSession
from qwen_tui.errors import QwenTuiError
from qwen_tui.i18n import _
from qwen_tui.paths import write_private
from qwen_tui.ui.screens.profile_dialogs import AskName
from qwen_tui.ui.screens.room import RoomScreen
from qwen_tui.ui.text import one_line
from qwen_tui.ui.widgets.conversation_list import ConversationList, ConversationRows


class KeptConversations(RoomScreen):
    """The part of the Chat room beside the transcript. The list is there from 100 columns on, and when asked for."""

    def __init__(self) -> None:
        super().__init__()
        self._deleted: list[str] = []  # ids, the last deleted at the end

    @property
    def session(self) -> ChatSession:
        return self.qwen.services.chat

    def watch_kept(self) -> None:
        """Keep what is said from now on, and show what was said last, as soon as it is read."""
        keeper = self.qwen.services.keeper
        keeper.on_problem = self._tell
        keeper.on_saved = self._look_again
        self.run_worker(self._resume(), group="conversations")

    async def _resume(self) -> None:
        store = self.qwen.services.conversations
        id = await self._try(store.last)
        if store.notice:
            self.notify(store.notice, severity="warning", timeout=20, markup=False)
        if id and not self.session.conversation.turns:
            await self._open(id, resumed=True)
        await self._read()

    async def _try(self, call: Callable[[], Any]) -> Any:
        """What a call to the store gives, in a thread; None if it fails, which is told."""
        try:
            return await asyncio.to_thread(call)
        except QwenTuiError as error:
            self._tell(error)
            return None

    def _tell(self, error: QwenTuiError) -> None:
        self.notify(
            "\n".join(filter(None, (error.why, error.hint))), title=error.title, severity="warning", markup=False
        )

    def _look_again(self) -> None:
        if self.is_attached:
            self.run_worker(self._read(), group="conversations list", exclusive=True)

    async def _read(self) -> None:
        panel = next(iter(self.query(ConversationList)), None)
        if panel is None:
            return  # the program ends
        text = panel.searched
        entries = await self._try(lambda: self.qwen.services.conversations.search(text))
        if entries is None or not panel.is_attached:
            return
        current = self.session.conversation.id
        # A list of nothing but what is on the screen tells nothing.
        self.set_class(bool(text) or any(entry.id != current for entry in entries), "-kept")
        panel.show(entries, current)

    async def _open(self, id: str, resumed: bool = False) -> None:
        store = self.qwen.services.conversations
        conversation = await self._try(lambda: store.load(id))
        if conversation is None or (resumed and self.session.conversation.turns):
            return
        self.qwen.services.keeper.known(conversation)
        self.session.open(conversation)

    # What can be done

    def action_find(self) -> None:
        """Show the list, if it is hidden, with the cursor in its search."""
        self.add_class("-listing")
        self.query_one(ConversationList).search()

    @property
    def is_listing(self) -> bool:
        """Whether the focus is in the list or its search."""
        return self.focused is not None and isinstance(self.focused.parent, ConversationList)

    def close_list(self) -> None:
        """Hide it where it hides the transcript, and search for nothing any more."""
        self.remove_class("-listing")
        panel = self.query_one(ConversationList)
        if panel.searched:
            panel.clear()

    @on(ConversationList.Searched)
    def _search(self, event: ConversationList.Searched) -> None:
        event.stop()
        self._look_again()

    @on(ConversationRows.Wanted)
    def _do(self, event: ConversationRows.Wanted) -> None:
        event.stop()
        if event.action == "rename":
            self._rename(event.key)
        else:
            self.run_worker(getattr(self, f"_{event.action}_kept")(event.key), group="conversations")

    async def _open_kept(self, id: str) -> None:
        if id != self.session.conversation.id:
            await self._open(id)
        self.close_list()
        self.leave_field()
        await self._read()

    def _rename(self, id: str) -> None:
        entry = next(entry for entry in self.query_one(ConversationList).entries if entry.id == id)

        def renamed(name: str | None) -> None:
            if name is not None:
                self.run_worker(self._rename_kept(id, name), group="conversations")

        self.app.push_screen(AskName(_("Rename the conversation"), one_line(entry.name), lambda _name: ""), renamed)

    async def _rename_kept(self, id: str, name: str) -> None:
        current = self.session.conversation
        if id == current.id:
            current.title = " ".join(name.split())
            if current.open_reply is None:  # else the title is saved once more, with the end of the reply
                self.qwen.services.keeper.known(current)
        await self._try(lambda: self.qwen.services.conversations.rename(id, name))
        await self._read()

    async def _delete_kept(self, id: str) -> None:
        store = self.qwen.services.conversations
        entry = next(entry for entry in self.query_one(ConversationList).entries if entry.id == id)
        if id == self.session.conversation.id:
            self.session.new()
        await self._try(lambda: store.delete(id))
        self._deleted.append(id)
        name = one_line(entry.name)
        self.notify(_("Deleted “{name}”; u brings it back").format(name=name), markup=False)
        await self._read()

    async def _undo_kept(self, _id: str) -> None:
        if not self._deleted:
            self.notify(_("There is nothing to undo"), markup=False)
            return
        id = self._deleted.pop()
        await self._try(lambda: self.qwen.services.conversations.restore(id))
        await self._read()
        self.query_one(ConversationRows).select(id)

    async def _duplicate_kept(self, id: str) -> None:
        copy = await self._try(lambda: self.qwen.services.conversations.duplicate(id))
        await self._read()
        if copy is not None:
            self.query_one(ConversationRows).select(copy.id)

    async def _export_kept(self, id: str) -> None:
        store, folder = self.qwen.services.conversations, self.qwen.services.paths.data / "exports"
        file = await self._try(lambda: _export(store.load(id), folder))
        if file is not None:
            self.notify(
                _("Written to {file}, and as JSON beside it").format(file=one_line(str(file))), timeout=12, markup=False
            )


def _export(conversation: Any, folder: Path) -> Path:
    """Write a conversation as Markdown and as OpenAI's JSON; the Markdown's path. Raises StoreError."""
    from qwen_tui.chat.export import to_markdown, to_openai
    from qwen_tui.chat.harmless import harmless_json
    from qwen_tui.chat.store import StoreError

    name = re.sub(r"[^\w.-]+", "-", conversation.name)[:40].strip("-.") or "conversation"
    file = folder / f"{name}-{conversation.id[:8]}.md"
    try:
        write_private(file, to_markdown(conversation))
        write_private(file.with_suffix(".json"), harmless_json(to_openai(conversation), indent=2) + "\n")
    except OSError as error:
        raise StoreError(_("Can't write {file}").format(file=file), str(error)) from None
    return file
