"""Take conversations over from files: exported Markdown, OpenAI's JSON, or one JSON object per line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from qwen_tui.chat.conversation import Conversation
from qwen_tui.chat.export import from_openai, read_conversation
from qwen_tui.chat.path_completion import completions
from qwen_tui.chat.store import ConversationStore, snapshot
from qwen_tui.errors import UsageError
from qwen_tui.i18n import _, ngettext

#: The largest file that is read, in bytes: no conversation is longer, and it is held in memory whole.
LIMIT = 64 * 2**20
#: So many names are proposed while a path is typed.
_PROPOSED = 4


def import_file(file: Path, store: ConversationStore) -> Sequence[Conversation]:
    """Keep every conversation of a file, all or none. Raises UsageError naming the file and what is wrong; StoreError.

    Blocks: call it in a thread.
    """
    found = read_file(file)
    for conversation in found:
        store.save(snapshot(conversation))
    return found


def read_file(file: Path) -> Sequence[Conversation]:
    """The conversations in a file, at least one. Raises UsageError naming the file and what is wrong."""
    try:
        if file.is_dir():
            raise UsageError(_("{file} is a folder").format(file=file), "", _("Name a file in it"))
        if (size := file.stat().st_size) > LIMIT:
            raise UsageError(
                _("{file} is too long for a conversation").format(file=file),
                _("It has {size} MB; {limit} MB is the most").format(size=size // 2**20, limit=LIMIT // 2**20),
            )
        content = file.read_bytes()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UsageError(_("Can't read {file}").format(file=file), why) from None
    try:
        return read_conversations(content)
    except UsageError as error:
        why = ": ".join(part for part in (error.title, error.why) if part)
        raise UsageError(_("Can't take over {file}").format(file=file), why, error.hint) from None


def read_conversations(content: bytes) -> Sequence[Conversation]:
    """One conversation of Markdown or JSON, or one for each line of JSON Lines. Raises UsageError."""
    lines = [line for line in content.splitlines() if line.strip()]
    if len(lines) > 1 and all(line.lstrip()[:1] in (b"{", b"[") for line in lines):
        found = [_one_line(line, number) for number, line in enumerate(lines, 1)]
        if None not in found:
            return [conversation for conversation in found if conversation is not None]
    conversation = read_conversation(content)
    if not conversation.turns and not conversation.system:
        raise UsageError(_("There is nothing said in it"))
    return [conversation]


def _one_line(line: bytes, number: int) -> Conversation | None:
    """The conversation of one line; None if the file is no JSON Lines. Raises UsageError naming the line."""
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return None
    try:
        return from_openai(data)
    except UsageError as error:
        title = _("Line {number}: {problem}").format(number=number, problem=error.title)
        raise UsageError(title, error.why, error.hint) from None


def path_note(text: str) -> str:
    """What to say about a path while it is typed: empty when it is a file. Raises UsageError when it is none."""
    try:
        if text and Path(text).expanduser().is_file():
            return ""
    except (OSError, ValueError, RuntimeError):
        pass
    names = [Path(found).name + ("/" if found.endswith("/") else "") for found in completions(text)]
    if not names:
        raise UsageError(_("There is no such file"))
    more = len(names) - _PROPOSED
    rest = ngettext("and {count} more", "and {count} more", more).format(count=more) if more > 0 else ""
    raise UsageError(_("There: {names}").format(names=", ".join([*names[:_PROPOSED], *([rest] if rest else [])])))
