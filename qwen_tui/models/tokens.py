"""Access tokens for private and gated models: one file per hub and host, mode 0600, in the data folder."""

from __future__ import annotations

import os
import re
from pathlib import Path

from qwen_tui.errors import ModelError
from qwen_tui.i18n import _
from qwen_tui.models.hub import Hub
from qwen_tui.paths import Paths, write_private


class TokenNeeded(ModelError):
    """The hub wants a token, or does not accept the one it was given."""


class Tokens:
    """The tokens that a person gave to qwen-tui. A token is kept for the host it was given for and sent to no other."""

    def __init__(self, paths: Paths) -> None:
        self._folder = paths.data / "tokens"

    def file(self, hub: Hub, endpoint: str = "") -> Path:
        """Where the token for this hub at this address is, or would be."""
        host = re.sub(r"[^\w.-]", "_", hub.host(endpoint))
        return self._folder / f"{hub.key}@{host}"

    def load(self, hub: Hub, endpoint: str = "") -> str:
        """The token kept for this hub, else the one in the environment; empty if there is none.

        The environment's is the hub's, and not for another address that somebody typed.
        """
        kept = self.kept(hub, endpoint)
        is_hubs = not endpoint or hub.host(endpoint) in (hub.host(), hub.own_host)
        return kept or (os.environ.get(hub.token_variable, "").strip() if is_hubs else "")

    def kept(self, hub: Hub, endpoint: str = "") -> str:
        """The token that was given for this hub at this address, or empty."""
        try:
            return self.file(hub, endpoint).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return ""

    def is_refused(self, hub: Hub, endpoint: str = "") -> bool:
        """Whether the hub did not accept the token that is kept, when it was asked last."""
        return self._mark(hub, endpoint).exists()

    def set_refused(self, hub: Hub, endpoint: str = "", *, is_refused: bool) -> None:
        """Note that."""
        if is_refused and self.kept(hub, endpoint):
            write_private(self._mark(hub, endpoint), "")
        else:
            self._mark(hub, endpoint).unlink(missing_ok=True)

    def _mark(self, hub: Hub, endpoint: str) -> Path:
        file = self.file(hub, endpoint)
        return file.with_name(f"{file.name}.refused")

    def save(self, hub: Hub, token: str, endpoint: str = "") -> None:
        """Keep `token` for this hub at this address; an empty one forgets it. Raises ModelError if it is none."""
        file, token = self.file(hub, endpoint), token.strip()
        if token and not re.fullmatch(r"[!-~]+", token):
            raise ModelError(
                _("That can't be a token"),
                _("It holds spaces, or characters that no token has"),
                _("Copy it again from your settings at {hub}").format(hub=hub.host(endpoint)),
            )
        self.set_refused(hub, endpoint, is_refused=False)
        if token:
            write_private(file, token + "\n")
        else:
            file.unlink(missing_ok=True)
