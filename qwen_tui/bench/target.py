"""What is measured: the address of an OpenAI API, a model's name there, and which of the two endpoints is asked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from qwen_tui.errors import QwenTuiError, UsageError
from qwen_tui.i18n import _

Api = Literal["chat", "completions"]
_PATHS: Mapping[str, str] = {"chat": "/chat/completions", "completions": "/completions"}


class BenchError(QwenTuiError):
    """A benchmark could not be run, or one that was kept can't be read."""


@dataclass(frozen=True)
class Target:
    """base_url: ends in /v1. api_key: sent as a bearer token, or None. extra: fields added to every request's body."""

    base_url: str
    model: str
    api_key: str | None = field(default=None, repr=False)
    api: Api = "chat"
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises UsageError for a URL that is none."""
        try:
            address = urlsplit(self.base_url)
            is_one = address.scheme in ("http", "https") and bool(address.hostname) and address.port != 0
        except ValueError:
            is_one = False
        if not is_one:
            raise UsageError(
                _("Not a URL: {url}").format(url=self.base_url), "", _("For example: https://example.org/v1")
            )

    @property
    def host(self) -> str:
        return urlsplit(self.base_url).hostname or ""

    @property
    def port(self) -> int:
        return urlsplit(self.base_url).port or (443 if self.is_tls else 80)

    @property
    def is_tls(self) -> bool:
        return urlsplit(self.base_url).scheme == "https"

    @property
    def path(self) -> str:
        return urlsplit(self.base_url).path.rstrip("/") + _PATHS[self.api]

    @property
    def root(self) -> str:
        """The URL without /v1: where /tokenize and /metrics are."""
        return self.base_url.rstrip("/").removesuffix("/v1")

    def body(self, prompt: str | list[int] | list[dict[str, Any]], output_tokens: int, ignore_eos: bool) -> bytes:
        """One streamed request. prompt: a text, token ids (completions only), or messages (chat only).

        Sampling is the server's own, as in `vllm bench serve`. ignore_eos: exactly as long as asked, which only vLLM's
        kin of servers can; those are also asked not to penalize repetition in completions, again as vLLM's client does:
        a model's generation_config may ask for it, and it costs a pass over the vocabulary in each step.
        """
        body: dict[str, Any] = {"model": self.model}
        if self.api == "chat":
            body["messages"] = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        else:
            body["prompt"] = prompt
        # Both names: the older servers know only max_tokens.
        body["max_tokens"] = output_tokens
        if self.api == "chat":
            body["max_completion_tokens"] = output_tokens
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        if ignore_eos:
            body |= {"ignore_eos": True} | ({"repetition_penalty": 1.0} if self.api == "completions" else {})
        return json.dumps({**body, **self.extra}, ensure_ascii=False).encode("utf-8", "replace")
