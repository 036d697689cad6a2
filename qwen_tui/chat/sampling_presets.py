"""Sampling kept under a name, and what a model itself comes with."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qwen_tui.chat.sampling import BY_NAME, Sampling, make_sampling
from qwen_tui.errors import SettingsError, UsageError
from qwen_tui.i18n import N_, _
from qwen_tui.paths import Paths, write_private

_NAME = re.compile(r"[\w][\w .-]{0,39}")
#: What is there from the beginning; a preset of the user's with the same name takes its place.
BUILT_IN: Mapping[str, Sampling] = {
    "exact": Sampling(temperature=0.0),
    "qwen": Sampling(temperature=0.7, top_p=0.8, top_k=20, repetition_penalty=1.05),
    "qwen-thinking": Sampling(temperature=0.6, top_p=0.95, top_k=20, min_p=0.0),
    "creative": Sampling(temperature=1.0, min_p=0.05),
}
#: What each is for; msgids.
ABOUT: Mapping[str, str] = {
    "exact": N_("the same answer every time"),
    "qwen": N_("what Qwen2 and Qwen2.5 recommend"),
    "qwen-thinking": N_("what Qwen3 recommends while it thinks"),
    "creative": N_("freer, without the unlikeliest words"),
}


class SamplingPresets:
    """The presets of one user: `sampling-presets.json` in the config folder, mode 0600."""

    def __init__(self, paths: Paths) -> None:
        self.file = paths.config / "sampling-presets.json"

    def all(self) -> dict[str, Sampling]:
        """Name → sampling: the user's by name, then those that are built in. Raises SettingsError naming the file."""
        own = self._own()
        return {**dict(sorted(own.items())), **{name: preset for name, preset in BUILT_IN.items() if name not in own}}

    def get(self, name: str) -> Sampling:
        """Raises UsageError if there is no preset of that name, SettingsError."""
        found = self.all()
        if name not in found:
            names = ", ".join(found)
            raise UsageError(
                _("There is no preset “{name}”").format(name=name), "", _("Known are: {names}").format(names=names)
            )
        return found[name]

    def save(self, name: str, sampling: Sampling) -> None:
        """Keep `sampling` as `name`, in the place of one that was. Raises UsageError for a bad name, SettingsError."""
        if not _NAME.fullmatch(name):
            raise UsageError(_("A preset's name has letters, digits, spaces, “-”, “.” and “_”, 40 at most"))
        self._write({**self._own(), name: sampling})

    def delete(self, name: str) -> None:
        """Forget a preset of the user's. Raises UsageError if there is none of that name, SettingsError."""
        own = self._own()
        if name not in own:
            raise UsageError(
                _("The preset “{name}” is built in").format(name=name)
                if name in BUILT_IN
                else _("There is no preset “{name}”").format(name=name)
            )
        del own[name]
        self._write(own)

    def _own(self) -> dict[str, Sampling]:
        try:
            found = json.loads(self.file.read_bytes())
            if not isinstance(found, dict):
                raise ValueError(_("a JSON object is wanted"))
            return {str(name): make_sampling(values) for name, values in found.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError, RecursionError, UsageError) as error:
            raise SettingsError(_("Can't read {file}").format(file=self.file), str(error)) from None

    def _write(self, presets: Mapping[str, Sampling]) -> None:
        text = json.dumps({name: preset.chosen() for name, preset in presets.items()}, indent=2, ensure_ascii=False)
        try:
            write_private(self.file, text + "\n")
        except OSError as error:
            raise SettingsError(_("Can't write {file}").format(file=self.file), str(error)) from None


def model_defaults(folder: Path) -> dict[str, Any]:
    """What the model's own generation_config.json says of the parameters there are; vLLM takes these as defaults.

    Empty where there is none. A value out of range is left out.
    """
    try:
        found = json.loads((folder / "generation_config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    names = {**{name: name for name in BY_NAME if name != "extra_body"}, "max_new_tokens": "max_tokens"}
    defaults: dict[str, Any] = {}
    for key, name in names.items():
        if isinstance(found, dict) and found.get(key) is not None:
            try:
                defaults[name] = BY_NAME[name].check(found[key])
            except (UsageError, TypeError):
                continue
    return defaults
