"""System prompts kept under a name: `system-prompts.json` in the config folder, mode 0600."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from qwen_tui.chat.harmless import encodable
from qwen_tui.errors import SettingsError, UsageError
from qwen_tui.i18n import _
from qwen_tui.paths import Paths, write_private

_NAME = re.compile(r"[\w][\w .-]{0,39}")


class SystemPrompts:
    """The library of one user."""

    def __init__(self, paths: Paths) -> None:
        self.file = paths.config / "system-prompts.json"

    def all(self) -> Mapping[str, str]:
        """Name → text, by name. Raises SettingsError naming the file that can't be read."""
        try:
            found = json.loads(self.file.read_bytes())
            if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
                raise ValueError(_("a JSON object of texts is wanted"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            raise SettingsError(_("Can't read {file}").format(file=self.file), str(error)) from None
        return dict(sorted(found.items()))

    def save(self, name: str, text: str) -> None:
        """Keep `text`, in the place of one of that name. Raises UsageError for a bad name or no text, SettingsError."""
        if not _NAME.fullmatch(name):
            raise UsageError(_("A prompt's name has letters, digits, spaces, “-”, “.” and “_”, 40 at most"))
        if not text.strip():
            raise UsageError(_("There is nothing to keep"))
        self._write({**self.all(), name: encodable(text)})

    def delete(self, name: str) -> None:
        """Forget one. Raises UsageError if there is none of that name, SettingsError."""
        prompts = dict(self.all())
        if prompts.pop(name, None) is None:
            raise UsageError(_("There is no system prompt “{name}”").format(name=name))
        self._write(prompts)

    def _write(self, prompts: Mapping[str, str]) -> None:
        try:
            write_private(self.file, json.dumps(prompts, ensure_ascii=False, indent=2) + "\n")
        except OSError as error:
            raise SettingsError(_("Can't write {file}").format(file=self.file), str(error)) from None
