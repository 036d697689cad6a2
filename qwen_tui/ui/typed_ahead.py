"""Keys that arrive faster than they are handled go where the keys before them lead.

Textual hands every key at once to the widget that has the focus when it *arrives*. A slow line delivers `text, tab,
text` in one piece, and then the second text lands in the first field, for the tab that moves the focus has not been
handled yet. Here a key is handed on only after the one before it has gone its whole way up to the app.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from textual import events
from textual.app import App, ScreenStackError
from textual.message import Message
from textual.screen import Screen
from textual.widget import Widget

from qwen_tui.chat.harmless import pasted

#: Seconds after which a key counts as handled whatever became of it, and between two looks whether its widget is gone.
LONGEST_WAY = 2.0
LOOK_INTERVAL = 0.1


class KeyPassed(Message):
    """Follows a key from widget to widget up to the app, and arrives when nothing is left to be done for the key."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class KeysInOrder(App[None]):
    """An app that hands on typed keys and pasted text one after the other."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._typed: deque[events.Key | events.Paste] = deque()
        self._key_number = 0
        #: What the key on its way was typed at, and the next look after it; None without one.
        self._key_target: Widget | None = None
        self._key_screen: Screen[Any] | None = None
        self._key_look: asyncio.TimerHandle | None = None

    async def on_event(self, event: events.Event) -> None:
        if not isinstance(event, (events.Key, events.Paste)) or event.is_forwarded:
            await super().on_event(event)
        elif self._key_look is not None:
            self._typed.append(event)
        else:
            await self._hand_on(event)

    def on_key(self) -> None:
        # No widget took it, so it is the app's, whose answer may remove the widgets that the follower has to pass.
        self.post_message(KeyPassed(self._key_number))

    async def on_key_passed(self, message: KeyPassed) -> None:
        message.stop()
        if message.number != self._key_number or self._key_look is None:
            return
        try:
            screen = self.screen
        except ScreenStackError:
            return  # the key ended the app
        if screen is not self._key_screen:
            # The key opened another screen, which is what the next ones are meant for: once it has its focus.
            self._key_target = self._key_screen = screen
            screen.post_message(KeyPassed(message.number))
        else:
            await self._next_key(message.number)

    async def _hand_on(self, event: events.Key | events.Paste) -> None:
        """Start `event` on its way."""
        if isinstance(event, events.Paste):
            event.text = pasted(event.text)  # a field draws what stands in it, escape sequences too
        self._key_number += 1
        self._key_screen = self.screen
        self._key_target = target = self.focused or self.screen
        self._look_after_key(self._key_number, LONGEST_WAY)
        await super().on_event(event)
        if not target.post_message(KeyPassed(self._key_number)):  # it has gone already
            self.post_message(KeyPassed(self._key_number))

    def _look_after_key(self, number: int, seconds: float) -> None:
        """See that the key counts as handled when its widget was removed on the way, and after `seconds` anyway."""
        if number != self._key_number or self._key_target is None:
            return
        if seconds <= 0 or not self._key_target.is_attached:
            self.call_later(self._next_key, number)
            return
        self._key_look = asyncio.get_running_loop().call_later(
            LOOK_INTERVAL, self._look_after_key, number, seconds - LOOK_INTERVAL
        )

    async def _next_key(self, number: int) -> None:
        if number != self._key_number or self._key_look is None:
            return
        self._key_look.cancel()
        self._key_look = self._key_target = self._key_screen = None
        if self._typed:
            await self._hand_on(self._typed.popleft())
