"""Ask a chat server and receive its answer piece by piece."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from qwen_tui.chat.events import (
    Event,
    Finished,
    Message,
    ReasoningDelta,
    ReplyFigures,
    Role,
    Sampling,
    Target,
    TextDelta,
)

__all__ = [
    "Event",
    "Finished",
    "Message",
    "ReasoningDelta",
    "ReplyFigures",
    "Role",
    "Sampling",
    "Target",
    "TextDelta",
    "stream_chat",
]


async def stream_chat(
    target: Target, messages: Sequence[Message], sampling: Sampling | None = None
) -> AsyncIterator[Event]:
    """Send `messages` and yield what comes back, ending with one `Finished`.

    Raises ChatError. Closing the iterator, or cancelling the task that runs it, closes the connection at once.
    """
    raise NotImplementedError
    yield
