"""The settings file, `settings.toml` in the config folder: what a person chose, with defaults for the rest."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from qwen_tui.errors import SettingsError
from qwen_tui.i18n import N_, _
from qwen_tui.paths import Paths, write_private

_KINDS: dict[type, str] = {
    dict: N_("a table"),
    list: N_("a list of texts"),
    int: N_("a whole number"),
    str: N_("a text"),
}


@dataclass
class Settings:
    """Every setting there is."""

    language: str = ""
    """"en" or "zh_CN"; empty follows the environment (LANG)."""

    theme: str = "textual-dark"
    """The name of a Textual theme."""

    engine: str = ""
    """A Python interpreter, or the folder of an environment, that has vLLM; empty lets qwen-tui look."""

    index_url: str = ""
    """The pip index that `setup` and the demo use; empty means pip's own setting."""

    model_folders: list[str] = field(default_factory=list)
    """Folders with models besides the hubs' caches, such as "/root/autodl-tmp"; looked through a few levels deep."""

    log_keep_mb: int = 1000
    """MB of a running server's log that stay as they are; what is older is compressed beside it, and the oldest
    deleted once that takes as much again. 0 keeps everything as it is. Counts from the next start of a server."""

    hourly_price: str = ""
    """What an hour of the box costs, such as "2.49 USD" or "¥18": benchmarks then tell the price of their tokens."""

    keys: dict[str, str] = field(default_factory=dict)
    """Key bindings changed by the user: binding id → key, such as "chat.stop" = "ctrl+x"."""


def load(paths: Paths) -> Settings:
    """The settings of this user; defaults where there is no file.

    Raises SettingsError naming the file and the line or key.
    """
    file = paths.settings_file
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Settings()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(_("Can't read {file}").format(file=file), str(error)) from None
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(
            _("{file} is not valid TOML").format(file=file),
            str(error),
            _("Mend that line, or move the file away to start from the defaults"),
        ) from None
    return _from_table(data, file)


def _from_table(data: dict[str, Any], file: Path) -> Settings:
    settings = Settings()
    check_table(data, {entry.name: type(getattr(settings, entry.name)) for entry in fields(Settings)}, file)
    for key, value in data.items():
        setattr(settings, key, value)
    return settings


def check_table(data: Mapping[str, Any], kinds: Mapping[str, type], file: Path) -> None:
    """Check that `data`, read from `file`, has only keys of `kinds`, each with a value of its kind.

    kinds: key → dict, list (of texts), int or str. Raises SettingsError naming the file and the key.
    """
    for key, value in data.items():
        if key not in kinds:
            import difflib

            near = difflib.get_close_matches(key, kinds, 1)
            raise SettingsError(
                _("{file}: there is no key “{key}”").format(file=file, key=key),
                "",
                _("Did you mean “{near}”?").format(near=near[0])
                if near
                else _("Known are: {names}").format(names=", ".join(kinds)),
            )
        is_list = isinstance(value, list)
        # True is an int, too; and a table read by another parser may be a dict's subclass.
        is_of_kind = isinstance(value, kinds[key]) and not isinstance(value, bool)
        if not is_of_kind or (is_list and not all(isinstance(entry, str) for entry in value)):
            raise SettingsError(
                _("{file}: “{key}” must be {kind}, not {value}").format(
                    file=file, key=key, kind=_(_KINDS[kinds[key]]), value=repr(value)
                )
            )


def save(paths: Paths, **changes: Any) -> None:
    """Change some settings in the file and leave everything else in it, comments too, as it is."""
    import tomlkit

    try:
        document = tomlkit.parse(paths.settings_file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        document = tomlkit.document()
    for key, value in changes.items():
        document[key] = value
    write_private(paths.settings_file, tomlkit.dumps(document))
