"""Which server or endpoint the Chat room asks, and what it says when there is none."""

from __future__ import annotations

from collections.abc import Sequence

from qwen_tui.chat.attachments import Attachment
from qwen_tui.chat.conversation import Turn
from qwen_tui.chat.events import Target
from qwen_tui.errors import QwenTuiError
from qwen_tui.ui.screens.asking import asked_target
from qwen_tui.ui.screens.chat_kept import KeptConversations
from qwen_tui.ui.widgets.transcript import Transcript


class AsksServer(KeptConversations):
    """The part of the Chat room that every action which asks a model needs."""

    def __init__(self) -> None:
        super().__init__()
        self._edited: Turn | None = None  # the turn in whose place the next message goes
        self._attached: Sequence[Attachment] = ()  # goes with the next message

    def show_state(self) -> None:
        """Say anew what stands around the prompt, and which keys mean something."""
        raise NotImplementedError

    @property
    def transcript(self) -> Transcript:
        return self.query_one(Transcript)

    def _target(self) -> Target:
        """The server or endpoint to ask. Raises UsageError if there is none that answers."""
        target, version = asked_target(self.qwen)
        self.session.sampling = self.session.sampling.with_version(version)
        return target

    def _refuse(self, error: QwenTuiError) -> None:
        """Say why not; briefly, as the notice lies over the prompt."""
        self.notify(error.hint or error.why, title=error.title, severity="warning", timeout=4, markup=False)
