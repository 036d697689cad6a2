"""`qwen-tui diagnose LOGFILE|NAME`: why a start or a running server failed, from its log."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from qwen_tui.errors import UsageError
from qwen_tui.headless.paragraph import filled
from qwen_tui.i18n import _
from qwen_tui.logs.plain_text import harmless
from qwen_tui.paths import Paths
from qwen_tui.settings import Settings

if TYPE_CHECKING:
    from qwen_tui.server.diagnosis import Diagnosis, RunContext

NO_FAILURE = 3
#: Of the JSON object; all null where there is no failure.
KEYS = ("cause", "line", "line_number", "remedy", "relaunch")
#: Cells of a line of the card, and of what stands before it.
_WIDTH, _INDENT = 100, 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `qwen-tui diagnose`."""
    parser.add_argument(
        "log", metavar=_("LOGFILE"), help=_("a log of vLLM; or a server's name, as `qwen-tui ps` lists it")
    )
    parser.add_argument("--json", action="store_true", help=_("one JSON object"))


def run(arguments: argparse.Namespace, paths: Paths, settings: Settings) -> int:
    """Print the diagnosis; 0 if there is a cause, 3 if the log shows no failure.

    Raises UsageError where there is neither such a file nor such a server.
    """
    from qwen_tui.server.diagnosis import diagnose

    log, context = _find(arguments.log, paths)
    diagnosis = diagnose(log, context)
    if diagnosis is None:
        no_failure = _("The log shows no failure: {log}").format(log=harmless(str(log)))
        print(json.dumps(dict.fromkeys(KEYS)) if arguments.json else no_failure)
        return NO_FAILURE
    print(_as_json(diagnosis) if arguments.json else _card(diagnosis, log))
    return 0


def _find(text: str, paths: Paths) -> tuple[Path, RunContext | None]:
    """The log that is meant, and what is known of its run if it is a server's."""
    file = Path(text).expanduser()
    try:
        is_file = file.is_file()
        is_folder = file.is_dir()
    except (OSError, ValueError):
        is_file = is_folder = False
    if is_file:
        try:
            with file.open("rb"):
                return file, None
        except OSError as error:
            raise UsageError(_("Can't read {file}").format(file=harmless(text)), error.strerror or str(error)) from None
    if is_folder and "/" in text:
        raise UsageError(_("{file} is a folder, not a log").format(file=harmless(text)))
    from qwen_tui.errors import ServerNotFound
    from qwen_tui.server import registry
    from qwen_tui.server.diagnosis.context import context_of

    try:
        record = registry.find(paths.servers, text)
    except (ServerNotFound, ValueError):
        raise UsageError(
            _("There is no file and no server “{name}”").format(name=harmless(text)),
            hint=_("Give a log of vLLM, or a name that `qwen-tui ps` lists"),
        ) from None
    return record.log, context_of(record)


def _as_json(diagnosis: Diagnosis) -> str:
    return json.dumps(
        {
            "cause": diagnosis.cause,
            "line": diagnosis.line,
            "line_number": diagnosis.line_number,
            "remedy": diagnosis.remedy,
            "relaunch": diagnosis.relaunch.changes() if diagnosis.relaunch else None,
        },
        ensure_ascii=False,
    )


def _card(diagnosis: Diagnosis, log: Path) -> str:
    """What, why, do: a line or a paragraph each."""
    rows = [(_("What"), diagnosis.cause)]
    if diagnosis.line_number:
        place = _("{log}, line {number}").format(log=harmless(str(log)), number=f"{diagnosis.line_number:,}")
        rows += [(_("Why"), diagnosis.line.strip()[:400]), ("", place)]
    if diagnosis.remedy:
        rows.append((_("Do"), diagnosis.remedy))
    if diagnosis.relaunch:
        rows.append((_("Try"), _(", ").join(diagnosis.relaunch.words())))
    return "\n".join(filled(text, _WIDTH, label, _INDENT) for label, text in rows)
