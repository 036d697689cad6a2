"""What tells others that it has changed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable


class Listened:
    """The base of what is listened to: a subclass calls `_changed` whenever something of it is new."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[], None]] = []

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` on every change, in the event loop; it must be quick. Returns how to end that."""
        self._listeners.append(listener)

        def unsubscribe() -> None:
            with contextlib.suppress(ValueError):
                self._listeners.remove(listener)

        return unsubscribe

    def _changed(self) -> None:
        for listener in tuple(self._listeners):
            listener()
