"""What was typed at the prompt before, kept over runs: one JSON text per line, mode 0600."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from qwen_tui.chat.harmless import encodable
from qwen_tui.paths import Paths, private_folder, write_private

#: How many prompts are remembered; the file is rewritten when it has twice as many.
LIMIT = 500
_LONGEST = 20_000


class PromptHistory:
    """Step through earlier prompts like a shell: `back` and `forward`, with the unsent draft at the end."""

    def __init__(self, paths: Paths, limit: int = LIMIT) -> None:
        self._file: Path = paths.state / "prompts.jsonl"
        self._limit = limit
        self._entries: list[str] | None = None
        self._lines_in_file = 0
        self._position = 0
        self._draft = ""

    @property
    def entries(self) -> list[str]:
        """Oldest first; read from the file when first asked for."""
        if self._entries is None:
            self._entries = self._read()[-self._limit :]
            self._position = len(self._entries)
        return self._entries

    def add(self, prompt: str) -> None:
        """Remember a prompt that was sent; one that repeats the last is not written twice.

        A file that can't be written is no reason to stop a chat: the prompt is then remembered for this run only.
        """
        prompt = encodable(prompt)
        entries = self.entries
        if prompt.strip() and len(prompt) <= _LONGEST and entries[-1:] != [prompt]:
            entries.append(prompt)
            del entries[: -self._limit]
            with contextlib.suppress(OSError):
                self._append(prompt)
        self._position = len(entries)
        self._draft = ""

    def back(self, current: str) -> str | None:
        """The prompt before the one shown, or None at the first. `current`: what stands in the field now."""
        entries = self.entries
        if self._position == len(entries):
            self._draft = current
        if self._position == 0:
            return None
        self._position -= 1
        return entries[self._position]

    def forward(self) -> str | None:
        """The prompt after the one shown, at the end the draft; None if there is none."""
        if self._position >= len(self.entries):
            return None
        self._position += 1
        return self._draft if self._position == len(self.entries) else self.entries[self._position]

    def _read(self) -> list[str]:
        """The texts in the file; half a line, or one that is no JSON text, is passed over."""
        try:
            lines = self._file.read_bytes().split(b"\n")
        except OSError:
            return []
        found: list[str] = []
        for line in lines:
            with contextlib.suppress(ValueError, RecursionError):
                if isinstance(text := json.loads(line), str):
                    found.append(encodable(text))
        self._lines_in_file = len(lines)
        return found

    def _append(self, prompt: str) -> None:
        if self._lines_in_file >= 2 * self._limit and self._entries:
            write_private(self._file, "".join(json.dumps(entry) + "\n" for entry in self._entries))
            self._lines_in_file = len(self._entries)
            return
        private_folder(self._file.parent)
        descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
            # After half a line (a full disk, a cut connection) the next one must begin on its own line.
            size = file.seek(0, os.SEEK_END)
            half = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            file.write((b"\n" if half else b"") + json.dumps(prompt).encode() + b"\n")
        self._lines_in_file += 1
