"""How many tokens the text of the Completions room has, beside what the server takes; asked for when typing rests."""

from __future__ import annotations

from textual.content import Content
from textual.timer import Timer

from qwen_tui.chat.completions_session import CompletionsSession
from qwen_tui.chat.context import Room, room_words
from qwen_tui.chat.events import Target
from qwen_tui.chat.tokenize import tokenize_text
from qwen_tui.errors import QwenTuiError
from qwen_tui.i18n import _
from qwen_tui.ui.screens.room import RoomScreen

#: Seconds without a change before the server is asked.
_PAUSE = 0.6
#: Characters; a longer text is not sent only to be counted.
_LONGEST = 2_000_000


class CountsTokens(RoomScreen):
    """The part of the Completions room that counts. Nothing is asked while a continuation streams."""

    def __init__(self) -> None:
        super().__init__()
        self._pause: Timer | None = None
        self._counted: tuple[str, str, Room] | None = None  # the server's address, the text, what it said
        self._without: set[str] = set()  # addresses of servers that can't count

    @property
    def session(self) -> CompletionsSession:
        raise NotImplementedError

    def target(self) -> Target:
        """Whom to ask. Raises UsageError."""
        raise NotImplementedError

    def show_state(self) -> None:
        """Say anew what stands around the text."""
        raise NotImplementedError

    def count_later(self) -> None:
        """The text may have changed: count it when it rests."""
        if self._pause is not None:
            self._pause.stop()
        self._pause = self.set_timer(_PAUSE, self._count)

    def _count(self) -> None:
        self._pause = None
        text = self.session.draft.text
        try:
            target = self.target()
        except QwenTuiError:
            return
        is_new = self._counted is None or self._counted[:2] != (target.base_url, text)
        if text and is_new and len(text) <= _LONGEST and target.base_url not in self._without:
            self.run_worker(self._ask(target, text), group="count", exclusive=True)

    async def _ask(self, target: Target, text: str) -> None:
        try:
            tokens = await tokenize_text(target, text, special=self.session.special)
        except QwenTuiError as error:
            if getattr(error, "status", None) == 404:
                self._without.add(target.base_url)
            return
        if not self.is_attached:
            return
        room = Room(len(tokens), tokens.max_model_len, self.session.sampling.max_tokens)
        self._counted = (target.base_url, text, room)
        if not self.session.is_streaming:
            self.show_state()

    def count_text(self) -> Content:
        """'312 of 1,024 tokens', with a warning where the next answer may not fit; characters where it is unknown."""
        text = self.session.draft.text
        if not text:
            return Content()
        if self._counted is None or self._counted[1] != text:
            return Content(_("{count} characters").format(count=f"{len(text):,}"))
        room = Room(self._counted[2].used, self._counted[2].limit, self.session.sampling.max_tokens)
        words, colour = room_words(room)
        return Content.styled(words, colour)
