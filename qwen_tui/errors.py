"""One family of exceptions: each says what happened, why, and what to do next.

A front end prints or draws `title`, `why` and `hint`; it never needs to know the subclass.
The texts are already translated by whoever raises.
"""

from __future__ import annotations


class QwenTuiError(Exception):
    """Something that a person should be told.

    title: one sentence, what happened.
    why: the cause, as far as it is known; may be empty.
    hint: what to do or press; may be empty.
    """

    #: Exit status of the command line for this kind of error.
    exit_code = 1

    def __init__(self, title: str, why: str = "", hint: str = "") -> None:
        super().__init__(title)
        self.title = title
        self.why = why
        self.hint = hint

    def __str__(self) -> str:
        return "\n".join(part for part in (self.title, self.why, self.hint) if part)


class UsageError(QwenTuiError):
    """The command line or a form was filled in wrongly."""

    exit_code = 2


class SettingsError(QwenTuiError):
    """A settings file can't be read; the text names the file and the key."""

    exit_code = 2


class EngineError(QwenTuiError):
    """The Python environment that holds vLLM is missing, broken or can't be installed."""


class EngineNotFound(EngineError):
    """No environment with vLLM was found anywhere it was looked for."""


class ServerError(QwenTuiError):
    """A vLLM server could not be started, reached or stopped."""


class ServerNotFound(ServerError):
    """No server of that name is known."""


class StartFailed(ServerError):
    """The server ended, or was ended, before it was ready."""


class ModelError(QwenTuiError):
    """A model is missing, incomplete, or can't be fetched or converted."""


class ChatError(QwenTuiError):
    """A request to a model failed or broke off.

    status: the HTTP status, or None when there was no answer at all.
    Exit status 3 tells that the server refused (HTTP 4xx) from 1, that something failed.
    """

    def __init__(self, title: str, why: str = "", hint: str = "", status: int | None = None) -> None:
        super().__init__(title, why, hint)
        self.status = status
        if status is not None and 400 <= status < 500:
            self.exit_code = 3


class WorkerError(QwenTuiError):
    """A child process ended without doing its work."""
