"""`qwen-tui models`: the models on this machine and on the hubs: list, search, card, delete, move."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from qwen_tui.errors import ModelError, UsageError
from qwen_tui.headless.request_arguments import add_place_arguments
from qwen_tui.i18n import _
from qwen_tui.logs.plain_text import harmless
from qwen_tui.paths import Paths
from qwen_tui.settings import Settings

if TYPE_CHECKING:
    from qwen_tui.models.card import Card
    from qwen_tui.models.hub_search import HubModel, HubName
    from qwen_tui.models.local_model import LocalModel
    from qwen_tui.server.model_records import ModelRecords

HUBS = ("modelscope", "huggingface")
SORTS = ("downloads", "likes", "updated")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `qwen-tui models`."""
    parser.add_argument("--json", action="store_true", help=_("print JSON"))
    _add_folder(parser, [])
    parser.add_argument("--served", action="store_true", help=_("instead: the models that a server serves now"))
    add_place_arguments(parser)
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=_("print JSON"))
    _add_folder(common, argparse.SUPPRESS)
    actions.add_parser("list", help=_("the models on this machine (default)"), parents=[common])
    search = actions.add_parser("search", help=_("find models on a hub"), parents=[common])
    search.add_argument("text", nargs="*", metavar="TEXT", help=_("words of its name"))
    search.add_argument("--hub", choices=HUBS, default=HUBS[0], help=_("which hub (default: modelscope)"))
    search.add_argument("--family", default="", metavar="NAME", help=_("only this family: Qwen2, Qwen2.5, Qwen3"))
    search.add_argument("--sort", choices=SORTS, default=SORTS[0], help=_("what comes first (default: downloads)"))
    search.add_argument("--limit", type=int, default=20, metavar="N", help=_("at most so many (default: 20)"))
    card = actions.add_parser("card", help=_("a model's README"), parents=[common])
    card.add_argument("model", metavar="MODEL", help=_("on this machine, or owner/name on the hub"))
    card.add_argument("--hub", choices=HUBS, default="", help=_("ask this hub, also for a model that is here"))
    delete = actions.add_parser("delete", help=_("delete models from this machine"), parents=[common])
    delete.add_argument("models", nargs="+", metavar="MODEL", help=_("id, name or path"))
    delete.add_argument("--yes", action="store_true", help=_("delete without asking"))
    move = actions.add_parser("move", help=_("move a model to another folder, or disk"), parents=[common])
    move.add_argument("model", metavar="MODEL", help=_("id, name or path"))
    move.add_argument("target", type=Path, metavar="DIR", help=_("the folder to put it in"))


def _add_folder(parser: argparse.ArgumentParser, default: object) -> None:
    parser.add_argument("--folder", action="append", default=default, metavar="DIR",
                        help=_("look into this folder too; can be repeated"))  # fmt: skip


def run(arguments: argparse.Namespace, paths: Paths, settings: Settings) -> int:
    """Do it; 0 done, 1 if it was called off. Raises UsageError, ModelError, ChatError."""
    if arguments.served:
        from qwen_tui.headless.served import print_served

        return print_served(arguments, paths)
    arguments.folder = [*settings.model_folders, *arguments.folder]
    for folder in arguments.folder:
        if not Path(folder).expanduser().is_dir():
            print(_("There is no folder {folder}").format(folder=folder), file=sys.stderr)
    actions = {"search": _search, "card": _card, "delete": _delete, "move": _move}
    action = actions.get(arguments.action or "list", _list)
    return action(arguments, paths)


def _list(arguments: argparse.Namespace, paths: Paths) -> int:
    from qwen_tui.server.model_records import read_model_records

    records = read_model_records(paths)
    models = records.catalogue(paths, arguments.folder).list()
    _name_leftovers(models)
    if arguments.json:
        shown = [{**model.to_json(), "servers": list(records.servers_of(model))} for model in models]
        print(json.dumps(shown, ensure_ascii=False))
        return 0
    if not models:
        print(_("No model on this machine. `qwen-tui download MODEL` gets one, `qwen-tui models search` finds them"))
        return 0
    _print_models(models, records)
    return 0


def _name_leftovers(models: list[LocalModel]) -> None:
    """Say what a move or a deletion that was killed left beside the models: it takes room, and nobody sees it."""
    from qwen_tui.models.local_changes import leftovers

    for folder in sorted({model.root.parent for model in models}):
        for path in leftovers(folder):
            text = _(
                "Left by a move or a deletion that was broken off: {path}. It can be deleted; the next one does so"
            )
            print(text.format(path=harmless(str(path))), file=sys.stderr)


def _print_models(models: list[LocalModel], records: ModelRecords) -> None:
    from qwen_tui.headless.table import table
    from qwen_tui.models.fit_propose import short_count
    from qwen_tui.progress import format_bytes

    rows = [(_("MODEL"), _("PARAMETERS"), _("TYPE"), _("CONTEXT"), _("SIZE"), _("USED"), _("FOLDER"))]
    for model in models:
        bits = _("{count} bit").format(count=model.bits) if model.bits else ""
        rows.append(
            (
                model.id,
                short_count(model.parameters) if model.parameters else "–",
                " ".join(filter(None, (model.quantization or model.dtype, bits))) or "–",
                f"{model.context:,}" if model.context else "–",
                format_bytes(model.size),
                _last_use(model, records),
                harmless(str(model.path)),
            )
        )
    header, *lines = table(rows, right=(1, 3, 4))
    print(header)
    for line, model in zip(lines, models, strict=True):
        print(line)
        for problem in model.problems:
            print(f"  ! {harmless(problem)}")


def _last_use(model: LocalModel, records: ModelRecords) -> str:
    servers = records.servers_of(model)
    if servers:
        return _("now, by {servers}").format(servers=", ".join(servers))
    return time.strftime("%Y-%m-%d", time.localtime(model.last_used)) if model.last_used else "–"


def _search(arguments: argparse.Namespace, paths: Paths) -> int:
    from qwen_tui.headless.running import run_interruptible
    from qwen_tui.models.hub import hub_named
    from qwen_tui.models.hub_search import search_hub
    from qwen_tui.models.tokens import Tokens

    async def ask() -> int:
        found = await search_hub(
            " ".join(arguments.text),
            arguments.hub,
            family=arguments.family,
            sort=arguments.sort,
            limit=max(1, arguments.limit),
            token=Tokens(paths).load(hub_named(arguments.hub)),
        )
        _print_found(found, as_json=arguments.json)
        return 0

    return run_interruptible(ask, lambda: _("Interrupted"))


def _print_found(models: list[HubModel], *, as_json: bool) -> None:
    from qwen_tui.headless.table import table
    from qwen_tui.models.fit_propose import short_count
    from qwen_tui.progress import format_bytes

    if as_json:
        print(json.dumps([model.to_json() for model in models], ensure_ascii=False))
        return
    if not models:
        print(_("The hub has no such model"))
        return
    rows = [(_("MODEL"), _("DOWNLOADS"), _("SIZE"), _("PARAMETERS"), _("LICENCE"), _("TASK"), _("UPDATED"))]
    for model in models:
        rows.append(
            (
                model.id + (_(" (gated)") if model.is_gated else ""),
                f"{model.downloads:,}" if model.downloads is not None else "–",
                format_bytes(model.size) if model.size else "–",
                short_count(model.parameters) if model.parameters else "–",
                model.licence or "–",
                model.task or "–",
                time.strftime("%Y-%m-%d", time.localtime(model.updated)) if model.updated else "–",
            )
        )
    print("\n".join(table(rows, right=(1, 2, 3))))


def _card(arguments: argparse.Namespace, paths: Paths) -> int:
    from qwen_tui.headless.running import run_interruptible
    from qwen_tui.models.card import hub_card, local_card
    from qwen_tui.models.hub import hub_named, is_hub_id
    from qwen_tui.models.tokens import Tokens
    from qwen_tui.server.model_records import read_model_records

    if not arguments.hub:
        try:
            model = read_model_records(paths).catalogue(paths, arguments.folder).find(arguments.model)
        except ModelError:
            if not is_hub_id(arguments.model):
                raise
        else:
            card = local_card(model.path)
            if card is not None:
                return _print_card(card, as_json=arguments.json)
            if not is_hub_id(arguments.model):
                raise ModelError(_("{model} has no card").format(model=model.id), _("There is no README.md beside it"))
    hub: HubName = arguments.hub or "modelscope"

    async def ask() -> int:
        token = Tokens(paths).load(hub_named(hub))
        return _print_card(await hub_card(arguments.model, hub, token=token), as_json=arguments.json)

    return run_interruptible(ask, lambda: _("Interrupted"))


def _print_card(card: Card, *, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"text": card.text, "fields": dict(card.fields), "cut": card.is_cut}, ensure_ascii=False))
        return 0
    for name in ("license", "pipeline_tag", "base_model"):
        if name in card.fields:
            print(f"{name}: {card.fields[name]}")
    print(card.text)
    if card.is_cut:
        print(_("The rest is left out: the card is too long"), file=sys.stderr)
    return 0


def _delete(arguments: argparse.Namespace, paths: Paths) -> int:
    from qwen_tui.models.local_changes import delete_model, plan_deletion
    from qwen_tui.progress import format_bytes
    from qwen_tui.server.model_records import read_model_records

    records = read_model_records(paths)
    catalogue = records.catalogue(paths, arguments.folder)
    plans = [plan_deletion(catalogue.find(name), records.in_use) for name in arguments.models]
    if not arguments.yes and not sys.stdin.isatty():
        raise UsageError(
            _("Deleting is asked for first"), _("There is nobody to ask"), _("--yes deletes without asking")
        )
    results = []
    for plan in plans:
        if not arguments.yes:
            question = _("Delete {model}, {size}, in {folder}? [y/N]").format(
                model=plan.model.id, size=format_bytes(plan.freed), folder=harmless(str(plan.model.path))
            )
            print(question, end=" ", file=sys.stderr, flush=True)
            if sys.stdin.readline().strip().lower() not in ("y", "yes"):
                return 1
        freed = delete_model(plan, read_model_records(paths).in_use)
        results.append({"id": plan.model.id, "path": str(plan.model.path), "freed": freed})
        if not arguments.json:
            print(_("Deleted {model}: {size} freed").format(model=plan.model.id, size=format_bytes(freed)))
    if arguments.json:
        print(json.dumps(results, ensure_ascii=False))
    return 0


def _move(arguments: argparse.Namespace, paths: Paths) -> int:
    from qwen_tui.headless.plain import PlainProgress
    from qwen_tui.headless.running import run_interruptible
    from qwen_tui.models.local_moving import move_model
    from qwen_tui.server.model_records import read_model_records

    records = read_model_records(paths)
    model = records.catalogue(paths, arguments.folder).find(arguments.model)

    async def go() -> int:
        with PlainProgress(sys.stderr) as show:
            moved = await move_model(model, arguments.target, show, records.in_use)
        listed = await asyncio.to_thread(records.catalogue(paths, arguments.folder).list)
        if arguments.json:
            print(json.dumps({"id": model.id, "path": str(moved)}, ensure_ascii=False))
        else:
            print(_("Moved to {path}").format(path=harmless(str(moved))))
        if moved not in [other.path for other in listed]:
            words = _("To have it listed there, add the folder to model_folders in {file}")
            print(words.format(file=paths.settings_file), file=sys.stderr)
        return 0

    return run_interruptible(go, lambda: _("Interrupted: the model is where it was"))
