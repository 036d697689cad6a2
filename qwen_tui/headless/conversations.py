"""`qwen-tui conversations`: what was said in the Chat room: list, search, export, import, delete, restore."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from qwen_tui.errors import UsageError
from qwen_tui.i18n import _
from qwen_tui.paths import Paths, write_private
from qwen_tui.settings import Settings

TYPE_CHECKING = False  # what type checkers take for true; importing typing's would make --help slower
if TYPE_CHECKING:
    from collections.abc import Sequence

    from qwen_tui.chat.store import ConversationStore, Entry

FORMATS = ("markdown", "openai")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `qwen-tui conversations`."""
    parser.add_argument("--json", action="store_true", help=_("print JSON"))
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=_("print JSON"))
    every = actions.add_parser("list", help=_("all of them, the last changed first (default)"), parents=[common])
    every.add_argument("--deleted", action="store_true", help=_("those that `restore` can bring back"))
    search = actions.add_parser("search", help=_("those in which every word was said"), parents=[common])
    search.add_argument("text", nargs="+", metavar="TEXT", help=_("words, or parts of them"))
    export = actions.add_parser("export", help=_("print one, or write it to a file"))
    export.add_argument("id", metavar="ID", help=_("as the list has it, or its beginning"))
    export.add_argument("--format", choices=FORMATS, default=FORMATS[0], help=_("markdown (default), or OpenAI's JSON"))
    export.add_argument("--output", type=Path, metavar="FILE", help=_("write to this file (default: standard output)"))
    read = actions.add_parser(
        "import",
        help=_("take over files: exported Markdown, OpenAI's JSON, or one such object per line"),
        parents=[common],
    )
    read.add_argument("files", nargs="+", type=Path, metavar="FILE")
    for name, text in (
        ("delete", _("delete one; for 30 days `restore` brings it back")),
        ("restore", _("undo a delete")),
    ):
        change = actions.add_parser(name, help=text)
        change.add_argument("id", metavar="ID", help=_("as the list has it, or its beginning"))


def run(arguments: argparse.Namespace, paths: Paths, settings: Settings) -> int:
    """Do it; the exit status. Raises StoreError, UsageError."""
    from qwen_tui.chat.store import ConversationStore
    from qwen_tui.headless.request_arguments import any_character

    any_character()
    store = ConversationStore(paths)
    actions = {"search": _search, "export": _export, "import": _import, "delete": _delete, "restore": _restore}
    try:
        actions.get(arguments.action or "list", _list)(arguments, store)
    finally:
        if store.notice:
            print(store.notice, file=sys.stderr)
        store.close()
    return 0


def _list(arguments: argparse.Namespace, store: ConversationStore) -> None:
    _print(arguments, store.list(deleted=getattr(arguments, "deleted", False)))


def _search(arguments: argparse.Namespace, store: ConversationStore) -> None:
    _print(arguments, store.search(" ".join(arguments.text)))


def _print(arguments: argparse.Namespace, entries: Sequence[Entry]) -> None:
    from qwen_tui.chat.harmless import harmless, harmless_json
    from qwen_tui.headless.table import table

    if arguments.json:
        print(harmless_json([dict(vars(entry)) for entry in entries]))
        return
    if not entries:
        print(_("No conversation"))
        return
    rows = [(_("ID"), _("CHANGED"), _("TURNS"), _("NAME"))]
    for entry in entries:
        changed = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.updated))
        name = " ".join(harmless(entry.name).split())
        found = " ".join(harmless(entry.found).split())
        rows.append((entry.id[:8], changed, str(entry.turns), f"{name}  …{found}…" if found else name))
    for line in table(rows, right=(2,)):
        print(line)


def _find(store: ConversationStore, beginning: str, *, deleted: bool = False) -> str:
    """The whole id. Raises UsageError unless exactly one begins so."""
    found = [entry.id for entry in store.list(100_000, deleted=deleted) if entry.id.startswith(beginning)]
    if len(found) == 1:
        return found[0]
    if deleted:
        raise UsageError(
            _("{count} deleted conversations have an id that begins with “{id}”").format(
                count=len(found), id=beginning
            ),
            "",
            _("`qwen-tui conversations list --deleted` lists them"),
        )
    raise UsageError(
        _("{count} conversations have an id that begins with “{id}”").format(count=len(found), id=beginning),
        "",
        _("`qwen-tui conversations` lists them"),
    )


def _export(arguments: argparse.Namespace, store: ConversationStore) -> None:
    from qwen_tui.chat.export import to_markdown, to_openai
    from qwen_tui.chat.harmless import harmless, harmless_json

    conversation = store.load(_find(store, arguments.id))
    is_markdown = arguments.format == FORMATS[0]
    text = to_markdown(conversation) if is_markdown else harmless_json(to_openai(conversation), indent=2) + "\n"
    if arguments.output is None:
        # Into a pipe or a file it goes as it is; a terminal would obey what is in it.
        print(harmless(text) if sys.stdout.isatty() else text, end="")
        return
    try:
        write_private(arguments.output, text)
    except OSError as error:
        raise UsageError(_("Can't write {file}").format(file=arguments.output), str(error)) from None


def _import(arguments: argparse.Namespace, store: ConversationStore) -> None:
    from qwen_tui.chat.harmless import harmless, harmless_json
    from qwen_tui.chat.import_files import import_file

    taken = []
    for file in arguments.files:
        for conversation in import_file(file, store):
            taken.append({"id": conversation.id, "name": conversation.name})
            if not arguments.json:
                name = " ".join(harmless(conversation.name).split())
                print(_("{id}  {name}").format(id=conversation.id[:8], name=name))
    if arguments.json:
        print(harmless_json(taken))


def _delete(arguments: argparse.Namespace, store: ConversationStore) -> None:
    id = _find(store, arguments.id)
    store.delete(id)
    print(_("Deleted. `qwen-tui conversations restore {id}` brings it back").format(id=id[:8]))


def _restore(arguments: argparse.Namespace, store: ConversationStore) -> None:
    store.restore(_find(store, arguments.id, deleted=True))
