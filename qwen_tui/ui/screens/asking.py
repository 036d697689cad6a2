"""Which server or endpoint a room asks, what it says when there is none, and with which sampling."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from qwen_tui.chat.events import Target
from qwen_tui.errors import UsageError
from qwen_tui.i18n import _
from qwen_tui.server.status import STATE_WORDS, ServerState
from qwen_tui.ui.text import one_line

if TYPE_CHECKING:
    from qwen_tui.chat.completions_session import CompletionsSession
    from qwen_tui.chat.sampling import Sampling
    from qwen_tui.chat.session import ChatSession
    from qwen_tui.ui.app import QwenApp


def asked_target(app: QwenApp) -> tuple[Target, str]:
    """The server or endpoint to ask, and vLLM's version, empty where it is not known.

    Raises UsageError if there is none that answers.
    """
    endpoint = app.endpoint
    if endpoint is not None:
        if not endpoint.model_name:
            raise UsageError(
                _("It is not known which models {name} serves").format(name=one_line(endpoint.name)),
                "",
                _("Press esc, then s and r to ask it again; what you wrote stays"),
            )
        return Target(endpoint.endpoint.base_url, endpoint.model_name, endpoint.endpoint.api_key), ""
    status = app.target
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
    return Target(status.spec.base_url, status.model_name, status.api_key), status.engine_version or ""


def ask_sampling(
    app: QwenApp, session: ChatSession | CompletionsSession, changed: Callable[[], None] = lambda: None
) -> None:
    """Open the form of the session's sampling; the model's own defaults are shown in it. changed: called afterwards."""
    from qwen_tui.chat.sampling_presets import model_defaults
    from qwen_tui.ui.screens.sampling_form import SamplingForm

    status = None if app.endpoint is not None else app.target
    defaults = model_defaults(Path(status.spec.model)) if status is not None else {}

    def chosen(sampling: Sampling | None) -> None:
        if sampling is not None:
            session.sampling = sampling
            changed()

    app.push_screen(SamplingForm(session.sampling, defaults, app.services.paths, left_out=()), chosen)
