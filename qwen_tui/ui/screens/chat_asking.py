"""Which server or endpoint the Chat room asks, and what it says when there is none."""

from __future__ import annotations

from qwen_tui.chat.conversation import Turn
from qwen_tui.chat.events import Target
from qwen_tui.errors import QwenTuiError, UsageError
from qwen_tui.i18n import _
from qwen_tui.server.status import STATE_WORDS, ServerState
from qwen_tui.ui.screens.chat_kept import KeptConversations
from qwen_tui.ui.text import one_line
from qwen_tui.ui.widgets.transcript import Transcript


class AsksServer(KeptConversations):
    """The part of the Chat room that every action which asks a model needs."""

    def __init__(self) -> None:
        super().__init__()
        self._edited: Turn | None = None  # the turn in whose place the next message goes

    def show_state(self) -> None:
        """Say anew what stands around the prompt, and which keys mean something."""
        raise NotImplementedError

    @property
    def transcript(self) -> Transcript:
        return self.query_one(Transcript)

    def _target(self) -> Target:
        """The server or endpoint to ask. Raises UsageError if there is none that answers."""
        endpoint = self.qwen.endpoint
        if endpoint is not None:
            if not endpoint.model_name:
                raise UsageError(
                    _("It is not known which models {name} serves").format(name=one_line(endpoint.name)),
                    "",
                    _("Press esc, then s and r to ask it again; what you wrote stays"),
                )
            self.session.sampling = self.session.sampling.with_version("")
            return Target(endpoint.endpoint.base_url, endpoint.model_name, endpoint.endpoint.api_key)
        status = self.qwen.target
        if status is None:
            raise UsageError(
                _("There is no server to talk to"), "", _("Press esc, then s, and start one; what you wrote stays")
            )
        if status.state is not ServerState.READY:
            raise UsageError(
                _("{name} is {state}").format(name=one_line(status.name), state=_(STATE_WORDS[status.state])),
                "",
                _("What you wrote stays; send it when the server is ready")
                if status.state.is_alive
                else _("Press esc, then s, and start it; what you wrote stays"),
            )
        self.session.sampling = self.session.sampling.with_version(status.engine_version or "")
        return Target(status.spec.base_url, status.model_name, status.api_key)

    def _refuse(self, error: QwenTuiError) -> None:
        """Say why not; briefly, as the notice lies over the prompt."""
        self.notify(error.hint or error.why, title=error.title, severity="warning", timeout=4, markup=False)
