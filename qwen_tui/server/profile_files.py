"""Profiles as TOML files that a person can read, edit and pass on. A file's name is the profile's."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qwen_tui.errors import SettingsError, UsageError
from qwen_tui.i18n import _
from qwen_tui.paths import Paths, write_private
from qwen_tui.server.profiles import RESTART_POLICIES, VARIABLE, FlagValue, Profile
from qwen_tui.settings import check_table

#: Of a file: key → what it holds.
_KINDS: dict[str, type] = {
    "description": str, "model": str, "engine": str, "restart": str, "idle_minutes": int, "flags": dict,
    "environment": dict,
}  # fmt: skip
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


def folder_of(paths: Paths) -> Path:
    return paths.config / "profiles"


def file_of(paths: Paths, name: str) -> Path:
    """Where the profile `name` is kept. Raises UsageError for what can't be a name."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            _("A profile's name has letters, digits, '.', '_' and '-' only, not “{name}”").format(name=name)
        )
    return folder_of(paths) / f"{name}.toml"


def list_profiles(paths: Paths) -> tuple[list[Profile], list[SettingsError]]:
    """Every profile, this user's first, each by name, and what is wrong with the files that can't be read.

    A starter of the same name as one of the user's is left out.
    """
    from qwen_tui.server.starters import STARTERS

    found: list[Profile] = []
    errors: list[SettingsError] = []
    names = set()
    for file in sorted(folder_of(paths).glob("*.toml")):
        if not _NAME.fullmatch(file.stem):
            continue
        names.add(file.stem)
        try:
            found.append(_read(file))
        except SettingsError as error:
            errors.append(error)
    return [*found, *(starter for starter in STARTERS if starter.name not in names)], errors


def load_profile(paths: Paths, name: str) -> Profile:
    """The profile `name`, of the user or a starter.

    Raises UsageError if there is none, SettingsError naming the file and the key if its file is wrong.
    """
    from qwen_tui.server.starters import STARTERS

    file = file_of(paths, name)
    if file.exists():
        return _read(file)
    for starter in STARTERS:
        if starter.name == name:
            return starter
    import difflib

    names = [path.stem for path in sorted(folder_of(paths).glob("*.toml"))] + [starter.name for starter in STARTERS]
    near = difflib.get_close_matches(name, names, 1)
    raise UsageError(
        _("There is no profile “{name}”").format(name=name),
        _("Did you mean “{near}”?").format(near=near[0]) if near else "",
        _("`qwen-tui profiles` lists them"),
    )


def save_profile(paths: Paths, profile: Profile) -> Path:
    """Write the profile to its file, mode 0600; comments in a file that is there stay where they can.

    Raises UsageError for a bad name, SettingsError if the file can't be written or what is there is not TOML.
    """
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    file = file_of(paths, profile.name)
    try:
        document = tomlkit.parse(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        document = tomlkit.document()
    except (OSError, UnicodeDecodeError, TOMLKitError) as error:
        raise SettingsError(_("Can't read {file}").format(file=file), str(error)) from None
    description = _(profile.description) if profile.is_starter else profile.description
    values = {
        "description": description,
        "model": profile.model,
        "engine": profile.engine,
        "restart": profile.restart,
        "idle_minutes": profile.idle_minutes,
    }
    for key, value in values.items():
        if value and not (key == "restart" and value == "no" and key not in document):
            document[key] = value
        elif key in document:
            del document[key]
    for key, table in (("flags", profile.flags), ("environment", profile.environment)):
        _update(document, key, table)
    try:
        write_private(file, tomlkit.dumps(document))
    except OSError as error:
        raise SettingsError(_("Can't write {file}").format(file=file), error.strerror or str(error)) from None
    return file


def _update(document: Any, key: str, values: Mapping[str, Any]) -> None:
    import tomlkit

    if key not in document:
        if not values:
            return
        document[key] = tomlkit.table()
    table = document[key]
    for name in [name for name in table if name not in values]:
        del table[name]
    for name, value in values.items():
        if name not in table or table[name] != value:
            table[name] = value


def delete_profile(paths: Paths, name: str) -> Path:
    """Delete the profile's file; the path it had. Raises UsageError if there is none."""
    file = file_of(paths, name)
    try:
        file.unlink()
    except FileNotFoundError:
        profile = load_profile(paths, name)
        raise UsageError(_("“{name}” comes with qwen-tui: it can't be deleted").format(name=profile.name)) from None
    except OSError as error:
        raise SettingsError(_("Can't delete {file}").format(file=file), error.strerror or str(error)) from None
    return file


def _read(file: Path) -> Profile:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(_("Can't read {file}").format(file=file), str(error)) from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(_("{file} is not valid TOML").format(file=file), str(error), _("Mend that line")) from None
    return _from_table(data, file)


def _from_table(data: dict[str, Any], file: Path) -> Profile:
    check_table(data, _KINDS, file)
    if data.get("restart", "no") not in RESTART_POLICIES:
        raise SettingsError(
            _("{file}: “{key}” must be one of {choices}").format(
                file=file, key="restart", choices=", ".join(RESTART_POLICIES)
            )
        )
    flags = {name: _checked_flag(file, name, value) for name, value in data.get("flags", {}).items()}
    environment = {name: _checked_variable(file, name, value) for name, value in data.get("environment", {}).items()}
    rest = {key: value for key, value in data.items() if key not in ("flags", "environment")}
    return Profile(file.stem, flags=flags, environment=environment, **rest)


def _checked_flag(file: Path, name: str, value: object) -> FlagValue:
    if name == "model":
        raise SettingsError(_("{file}: the model is given by “model” above, not under [flags]").format(file=file))
    if name == "api-key":
        raise SettingsError(
            _("{file}: “{key}” would show the key on the command line").format(file=file, key="flags.api-key"),
            "",
            _("Give it as VLLM_API_KEY under [environment]"),
        )
    if not isinstance(value, (bool, int, float, str, list)):
        raise SettingsError(
            _("{file}: “{key}” must be a text, a number, true, false or a list, not {value}").format(
                file=file, key=f"flags.{name}", value=repr(value)
            )
        )
    return value


def _checked_variable(file: Path, name: str, value: object) -> str:
    if isinstance(value, bool):
        return "True" if value else "False"
    if isinstance(value, (int, float)):
        return str(value)
    if not isinstance(value, str) or not VARIABLE.fullmatch(name):
        raise SettingsError(
            _("{file}: “{key}” must be a variable's name with a text").format(file=file, key=f"environment.{name}")
        )
    return value
