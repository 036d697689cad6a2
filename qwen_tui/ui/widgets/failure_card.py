"""The card of a server that failed: what happened, why, and what to do about it, each with its key."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from textual.content import Content

from qwen_tui import i18n
from qwen_tui.errors import ServerNotFound
from qwen_tui.i18n import _
from qwen_tui.server import registry
from qwen_tui.server.service import describe_exit
from qwen_tui.server.spec import ServerSpec
from qwen_tui.server.status import ServerStatus
from qwen_tui.ui.text import one_line, plain
from qwen_tui.ui.widgets.server_detail import headline, key_lines

if TYPE_CHECKING:
    from qwen_tui.server.diagnosis.model import Diagnosis, Relaunch

#: Characters of the log's line that the card shows.
_LONGEST_LINE = 200

Run = tuple[str, str, int, float, str]


@dataclass(frozen=True)
class Found:
    """What a diagnosis came to. mended: the specification with the corrections; change: those in words."""

    diagnosis: Diagnosis | None = None
    mended: ServerSpec | None = None
    change: str = ""


def run_of(status: ServerStatus) -> Run:
    """Names the run that failed, and the language that its diagnosis is in."""
    ended = status.exit.at if status.exit else 0.0  # 0 for a moment, until its keeper has written
    return status.name, str(status.log), status.restarts, ended, i18n.language()


def look(status: ServerStatus, servers: Path) -> Found:
    """Diagnose the run. Reads a few MB of its log: for a thread.

    servers: the folder of the servers' records.
    """
    # The rules take 60 ms to load, and most servers don't fail.
    from qwen_tui.server.diagnosis import RunContext, apply_relaunch, diagnose
    from qwen_tui.server.diagnosis.context import context_of

    try:
        context = context_of(registry.find(servers, status.name))
    except ServerNotFound:
        ended = status.exit
        context = RunContext(
            exit_code=ended.code if ended else None,
            exit_signal=ended.signal if ended else None,
            asked=bool(ended and ended.asked),
            spec=status.spec,
        )
    diagnosis = diagnose(status.log, context)
    if diagnosis is None or diagnosis.relaunch is None:
        return Found(diagnosis)
    try:
        mended = apply_relaunch(status.spec, diagnosis.relaunch)
    except ValueError:
        return Found(diagnosis)
    if mended == status.spec:
        return Found(diagnosis)
    return Found(diagnosis, mended, changes(status.spec, diagnosis.relaunch))


def changes(spec: ServerSpec, relaunch: Relaunch) -> str:
    """The corrections with what stood there before: '--max-model-len 32768 → 1040'."""
    from qwen_tui.server.diagnosis import Relaunch

    before = spec.argv("python")
    texts = []
    for flag, value in relaunch.set.items():
        old = _value_of(before, flag)
        texts.append(f"{flag} {old} → {value}" if old and value and old != value else f"{flag} {value}".rstrip())
    rest = Relaunch(rename=relaunch.rename, remove=relaunch.remove, env=relaunch.env)
    return "  ".join([*texts, *rest.words()])


def _value_of(words: list[str], flag: str) -> str:
    for position, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name.replace("_", "-") == flag:
            following = words[position + 1] if position + 1 < len(words) else ""
            return value if equals else "" if following.startswith("--") else following
    return ""


def failure_card(status: ServerStatus, found: Found | None) -> Content:
    """What, why, do. found: None while the log is being read."""
    lines = [headline(status), Content(""), Content.styled(one_line(describe_exit(status)), "$text-error")]
    if status.restarts:
        lines.append(Content(_("Restarted {count} times by its keeper.").format(count=status.restarts)))
    diagnosis = found.diagnosis if found else None
    cause = status.cause
    if diagnosis is not None and (diagnosis.line_number or not cause):
        told = " ".join(diagnosis.cause.split())
        # Where the keeper gave up, the status says so in front of the same cause.
        cause = cause if cause != told and cause.endswith(told) else diagnosis.cause
    if cause:
        lines += [Content(""), Content.styled(_("Why"), "bold"), Content(plain(cause).strip())]
    if found is None:
        lines.append(Content.styled(_("reading its log…"), "$foreground-muted"))
    keys = []
    if diagnosis is not None and diagnosis.line_number:
        text = one_line(diagnosis.line.strip())[:_LONGEST_LINE]
        number = _("line {number}").format(number=f"{diagnosis.line_number:,}")
        lines.append(Content.assemble((f"{number}  ", "$foreground-muted"), (text, "$foreground-muted")))
    lines += [Content(""), Content.styled(_("Do"), "bold")]
    if found is not None and found.mended is not None:
        # The first thing to do, and on a small screen the one that is seen.
        lines += key_lines([("1", _("start it with {change}").format(change=one_line(found.change)))])
    if diagnosis is not None and diagnosis.remedy:
        lines.append(Content(plain(diagnosis.remedy)))
    if diagnosis is not None and diagnosis.line_number:
        keys.append(("v", _("see that line in its log")))
    keys += [
        ("enter", _("start it again")),
        ("l", _("read its log")),
        ("e", _("change it")),
        ("d", _("delete its record and log")),
    ]
    return Content("\n").join([*lines, *key_lines(keys)])
