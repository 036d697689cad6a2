"""Count tokens as the served model does: by the server's /tokenize, or by the model's tokenizer file; no torch."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from qwen_tui.bench.target import Target

_LIMIT = 2**22


class TokenCounter(Protocol):
    """name: what counts, for the result."""

    name: str

    def count(self, text: str) -> int:
        """Tokens of `text`, without those that a template or a beginning adds. Blocks; raises OSError, ValueError."""


class ServerCounter:
    """The server's own /tokenize, which vLLM has."""

    def __init__(self, target: Target) -> None:
        import httpx

        self.name = "server"
        headers = {"authorization": f"Bearer {target.api_key}"} if target.api_key else {}
        loopback = target.host in ("127.0.0.1", "localhost", "::1")
        self._client = httpx.Client(timeout=10.0, headers=headers, trust_env=not loopback)
        self._url = f"{target.root}/tokenize"
        self._model = target.model

    def count(self, text: str) -> int:
        import httpx

        body = {"model": self._model, "prompt": text, "add_special_tokens": False}
        try:
            answer = self._client.post(self._url, json=body)
            if answer.status_code != 200:
                raise ValueError(f"HTTP status {answer.status_code}")
            return int(json.loads(answer.content[:_LIMIT])["count"])
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise OSError(str(error)) from None
        except (KeyError, TypeError) as error:
            raise ValueError(str(error)) from None

    def close(self) -> None:
        self._client.close()


class FileCounter:
    """A tokenizer.json, read by the package `tokenizers`."""

    def __init__(self, file: Path) -> None:
        """Raises ImportError without the package, and ValueError for a file that it can't read."""
        self.name = "file"
        library = importlib.import_module("tokenizers")
        try:
            self._tokenizer: Any = library.Tokenizer.from_file(str(file))
        except Exception as error:  # noqa: BLE001 - the package raises bare Exception
            raise ValueError(str(error)) from None

    def count(self, text: str) -> int:
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)


def counter_for(target: Target, tokenizer_file: Path | None = None) -> TokenCounter | None:
    """What can count tokens for this target: its server, else the file; None if neither can. Blocks."""
    if target.base_url:
        server = ServerCounter(target)
        try:
            if server.count("one two three") > 0:
                return server
        except (OSError, ValueError):
            server.close()
    if tokenizer_file is not None and tokenizer_file.is_file():
        try:
            return FileCounter(tokenizer_file)
        except (ImportError, ValueError):
            return None
    return None


def single_token_words(counter: TokenCounter, words: Sequence[str]) -> list[str]:
    """Those of `words` that are one token each after a blank. Asks in halves: some hundred counts for 400 words."""
    if not words:
        return []
    if counter.count(" " + " ".join(words)) == len(words):
        return list(words)
    if len(words) == 1:
        return []
    middle = len(words) // 2
    return single_token_words(counter, words[:middle]) + single_token_words(counter, words[middle:])
