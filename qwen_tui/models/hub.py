"""The model hubs: ModelScope and Hugging Face. Their names, addresses, caches and default revisions."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from qwen_tui.errors import UsageError
from qwen_tui.i18n import _


@dataclass(frozen=True)
class Hub:
    """One hub.

    key: how it is named in requests and on the command line. label: its own name. revision: its default branch.
    endpoint_variable, token_variable: the environment variables that its client reads, too.
    """

    key: str
    label: str
    default_endpoint: str
    revision: str
    endpoint_variable: str
    token_variable: str

    def endpoint(self, chosen: str = "") -> str:
        """The hub's address without a slash at its end: the chosen one, else the environment's, else the hub's own."""
        named = chosen or os.environ.get(self.endpoint_variable, "") or self.default_endpoint
        if "://" not in named:
            named = f"https://{named}"
        return named.rstrip("/")

    def host(self, chosen: str = "") -> str:
        """The host (with its port) of `endpoint(chosen)`, for messages."""
        return urlsplit(self.endpoint(chosen)).netloc

    @property
    def own_host(self) -> str:
        """The host of the hub itself, whatever the environment names."""
        return urlsplit(self.default_endpoint).netloc

    def cache(self) -> Path:
        """The folder where the hub's own client keeps models, so that everything else on the machine finds them."""
        if self.key == "huggingface":
            named = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
            if named:
                return Path(named).expanduser()
            home = os.environ.get("HF_HOME")
            if home:
                return Path(home).expanduser() / "hub"
            base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
            return Path(base).expanduser() / "huggingface" / "hub"
        named = os.environ.get("MODELSCOPE_CACHE", "")
        return Path(named).expanduser() if named else Path.home() / ".cache" / "modelscope"


MODELSCOPE = Hub(
    "modelscope", "ModelScope", "https://www.modelscope.cn", "master", "MODELSCOPE_ENDPOINT", "MODELSCOPE_API_TOKEN"
)
HUGGINGFACE = Hub("huggingface", "Hugging Face", "https://huggingface.co", "main", "HF_ENDPOINT", "HF_TOKEN")
HUBS: dict[str, Hub] = {hub.key: hub for hub in (MODELSCOPE, HUGGINGFACE)}


def hub_named(key: str) -> Hub:
    """The hub with this key. Raises UsageError."""
    try:
        return HUBS[key]
    except KeyError:
        raise UsageError(
            _("There is no hub “{hub}”").format(hub=key), "", _("Known are: {names}").format(names=", ".join(HUBS))
        ) from None


def is_hub_id(text: str) -> bool:
    """Whether `text` reads as owner/name."""
    return bool(re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", text))
