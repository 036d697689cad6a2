"""`qwen-tui profiles`: the servers kept for later: list, show, import, export, delete."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from qwen_tui.errors import UsageError
from qwen_tui.i18n import _
from qwen_tui.logs.plain_text import harmless
from qwen_tui.paths import Paths
from qwen_tui.settings import Settings

if TYPE_CHECKING:
    from qwen_tui.server.profiles import Profile

ACTIONS = ("list", "show", "import", "export", "delete")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `qwen-tui profiles`."""
    parser.add_argument("action", nargs="?", choices=ACTIONS, default="list", help=_("what to do (default: list)"))
    parser.add_argument("name", nargs="?", default="", metavar="NAME", help=_("the profile"))
    parser.add_argument("--command", default="", metavar="TEXT", help=_("import: the shell command that starts vLLM"))
    parser.add_argument(
        "--file", default="-", metavar="FILE", help=_("import: a script to read; without it standard input is read")
    )
    parser.add_argument("--force", action="store_true", help=_("import over a profile that is there"))
    parser.add_argument("--yes", action="store_true", help=_("delete without asking"))
    parser.add_argument("--json", action="store_true", help=_("print JSON"))


def run(arguments: argparse.Namespace, paths: Paths, settings: Settings) -> int:
    """Do what is asked; 1 if a profile's file can't be read or a deletion was called off."""
    if arguments.action == "list":
        return _list(paths, as_json=arguments.json)
    if not arguments.name:
        raise UsageError(
            _("Which profile?"), "", _("`qwen-tui profiles {action} NAME`").format(action=arguments.action)
        )
    actions = {"show": _show, "import": _import, "export": _export, "delete": _delete}
    return actions[arguments.action](arguments, paths)


def _list(paths: Paths, *, as_json: bool) -> int:
    from rich.cells import cell_len

    from qwen_tui.server.profile_files import list_profiles

    profiles, errors = list_profiles(paths)
    if as_json:
        print(json.dumps([profile.to_json() for profile in profiles], ensure_ascii=False))
    else:
        width = max(cell_len(profile.name) for profile in profiles)
        for profile in profiles:
            text = f"{profile.name:<{width}}  {_description(profile)}".rstrip()
            print(harmless(text))
    for error in errors:
        print(harmless(str(error)), file=sys.stderr)
    return 1 if errors else 0


def _description(profile: Profile) -> str:
    if profile.is_starter:
        return _("{description} (comes with qwen-tui)").format(description=_(profile.description))
    return profile.description or profile.model


def _show(arguments: argparse.Namespace, paths: Paths) -> int:
    from qwen_tui.server.profile_files import load_profile

    profile = load_profile(paths, arguments.name)
    if arguments.json:
        print(json.dumps(profile.to_json(), ensure_ascii=False))
        return 0
    rows = [
        (_("profile"), profile.name),
        ("", _description(profile)),
        (_("model"), profile.model),
        (_("engine"), profile.engine),
        (_("restart"), profile.restart),
    ]
    data = profile.to_json()
    rows += [("", f"--{name} {value}" if value is not True else f"--{name}") for name, value in data["flags"].items()]
    rows += [("", f"{name}={value}") for name, value in data["environment"].items()]
    for label, text in rows:
        if text:
            print(harmless(f"{label}  {text}" if label else f"  {text}"))
    return 0


def _import(arguments: argparse.Namespace, paths: Paths) -> int:
    from qwen_tui.server.profile_files import file_of, save_profile
    from qwen_tui.server.shell_import import import_command

    file = file_of(paths, arguments.name)
    if file.exists() and not arguments.force:
        raise UsageError(
            _("There is a profile “{name}” already").format(name=arguments.name), "", _("--force writes over it")
        )
    profile = import_command(arguments.command or _text_of(arguments.file), arguments.name)
    written = save_profile(paths, profile)
    if arguments.json:
        print(json.dumps({**profile.to_json(), "file": str(written)}, ensure_ascii=False))
    else:
        print(_("Written to {file}").format(file=written))
        print(_("`qwen-tui serve --profile {name}` starts it").format(name=profile.name))
    return 0


def _text_of(file: str) -> str:
    if file == "-":
        return sys.stdin.read()
    try:
        return Path(file).expanduser().read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UsageError(_("Can't read {file}").format(file=file), error.strerror or str(error)) from None


def _export(arguments: argparse.Namespace, paths: Paths) -> int:
    from qwen_tui.server.profile_files import load_profile
    from qwen_tui.server.spec import is_secret

    profile = load_profile(paths, arguments.name)
    command = profile.shell_command()
    if arguments.json:
        print(json.dumps({"name": profile.name, "command": command}, ensure_ascii=False))
        return 0
    print(command)
    for name in filter(is_secret, profile.environment):
        print(_("{name} is not written out: set it in the shell first").format(name=name), file=sys.stderr)
    return 0


def _delete(arguments: argparse.Namespace, paths: Paths) -> int:
    from qwen_tui.server.profile_files import delete_profile, file_of

    file = file_of(paths, arguments.name)
    if file.exists() and not arguments.yes and sys.stdin.isatty():
        print(_("Delete {file}? [y/N]").format(file=file), end=" ", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            return 1
    deleted = delete_profile(paths, arguments.name)
    print(json.dumps({"deleted": str(deleted)}) if arguments.json else _("Deleted {file}").format(file=deleted))
    return 0
