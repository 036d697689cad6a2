"""`qwen-tui bench runs`, `show`, `compare` and their kin: what was measured before."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qwen_tui.errors import UsageError
from qwen_tui.i18n import _, ngettext
from qwen_tui.paths import Paths
from qwen_tui.settings import Settings

if TYPE_CHECKING:
    from qwen_tui.bench.ledger import Ledger, Run

FORMATS = ("json", "csv", "markdown", "html", "svg")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `qwen-tui bench ACTION`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    run = _("its id, the beginning or the end of it, or `last`")

    def action(name: str, text: str, *, json_too: bool = False) -> argparse.ArgumentParser:
        one = actions.add_parser(name, help=text, description=text, allow_abbrev=False)
        if json_too:
            one.add_argument("--json", action="store_true", help=_("print JSON"))
        return one

    runs = action("runs", _("list the runs that were kept, the newest first"), json_too=True)
    runs.add_argument("--search", default="", metavar="TEXT", help=_("those that these words are in"))
    runs.add_argument("--tag", default="", metavar="TAG", help=_("those with this tag"))
    show = action("show", _("print a run again"), json_too=True)
    show.add_argument("run", metavar="RUN", help=run)
    show.add_argument("--save-result", metavar="FILE", help=_("write the result and each request's figures as JSON"))
    tag = action("tag", _("give a run tags to find it by"))
    tag.add_argument("run", metavar="RUN", help=run)
    tag.add_argument("tags", nargs="+", metavar="TAG")
    tag.add_argument("--remove", action="store_true", help=_("take them away instead"))
    note = action("note", _("keep a text with a run, or without one forget it"))
    note.add_argument("run", metavar="RUN", help=run)
    note.add_argument("text", nargs="*", metavar="TEXT")
    delete = action("delete", _("forget runs, and their records"))
    delete.add_argument("runs", nargs="+", metavar="RUN", help=run)
    compare = action("compare", _("print runs side by side with the first"), json_too=True)
    compare.add_argument("runs", nargs="+", metavar="RUN", help=run)
    compare.add_argument("--alone", action="store_true", help=_("without the runs that repeat them"))
    trend = action("trend", _("how one piece of work did over time"), json_too=True)
    trend.add_argument("run", nargs="?", default="last", metavar="RUN", help=run)
    trend.add_argument("--figure", default="output_throughput", metavar="NAME", help=_("as --json names it"))
    export = action("export", _("write runs as JSON, CSV, Markdown, or as a report with charts"))
    export.add_argument("runs", nargs="+", metavar="RUN", help=run)
    export.add_argument("--format", choices=FORMATS, help=_("default: by the file's name, else markdown"))
    export.add_argument("--output", type=Path, metavar="FILE", help=_("write to this file (default: standard output)"))
    export.add_argument("--detailed", action="store_true", help=_("JSON, CSV: each request too"))
    read = action("import", _("take over files of `vllm bench serve --save-result`"), json_too=True)
    read.add_argument("files", nargs="+", type=Path, metavar="FILE")
    read.add_argument("--tag", action="append", default=[], metavar="TAG", help=_("to find them by; may be repeated"))


def run(arguments: argparse.Namespace, paths: Paths, settings: Settings) -> int:
    """Do it; the exit status. Raises UsageError, BenchError."""
    from qwen_tui.bench.ledger import Ledger

    ledger = Ledger(paths)
    if arguments.action == "runs":
        _list(arguments, ledger)
    elif arguments.action == "show":
        _show(arguments, ledger, settings)
    elif arguments.action in ("tag", "note"):
        _change(arguments, ledger)
    elif arguments.action == "delete":
        _delete(_chosen(arguments.runs, ledger), ledger)
    elif arguments.action == "compare":
        _compare(arguments, ledger)
    elif arguments.action == "trend":
        _trend(arguments, ledger)
    elif arguments.action == "export":
        _export(arguments, ledger, settings)
    else:
        _import(arguments, ledger)
    return 0


def _list(arguments: argparse.Namespace, ledger: Ledger) -> None:
    from qwen_tui.bench.compare import search
    from qwen_tui.bench.result import result_json
    from qwen_tui.headless.bench_lines import list_lines

    runs = search(ledger.list(), arguments.search, arguments.tag)
    if arguments.json:
        print(json.dumps([result_json(one) for one in runs], ensure_ascii=False))
    elif not runs and (arguments.search or arguments.tag):
        print(_("No run that was kept is like that"))
    else:
        print("\n".join(list_lines(runs)))


def _show(arguments: argparse.Namespace, ledger: Ledger, settings: Settings) -> None:
    from qwen_tui.bench.price import HourlyPrice
    from qwen_tui.bench.result import result_json
    from qwen_tui.headless.bench import save_result
    from qwen_tui.headless.bench_lines import run_lines

    one = ledger.get(arguments.run)
    if arguments.save_result:
        save_result(one, ledger, arguments.save_result)
    if arguments.json:
        print(json.dumps(result_json(one), ensure_ascii=False))
    else:
        print("\n".join(run_lines(one, HourlyPrice.parse(settings.hourly_price))))


def _change(arguments: argparse.Namespace, ledger: Ledger) -> None:
    from qwen_tui.headless.bench_lines import list_lines

    one = ledger.get(arguments.run)
    if arguments.action == "note":
        one = ledger.change(one, note=" ".join(arguments.text))
    elif arguments.remove:
        one = ledger.change(one, tags=[tag for tag in one.tags if tag not in arguments.tags])
    else:
        one = ledger.change(one, tags=list(dict.fromkeys((*one.tags, *arguments.tags))))
    print("\n".join([*list_lines([one]), *([one.note] if one.note else [])]))


def _delete(runs: Sequence[Run], ledger: Ledger) -> None:
    for one in runs:
        ledger.delete(one)
    print(ngettext("{n} run deleted", "{n} runs deleted", len(runs)).format(n=len(runs)))


def _chosen(names: Sequence[str], ledger: Ledger) -> list[Run]:
    """The runs of these names, each once, in their order."""
    return list({run.id: run for run in map(ledger.get, names)}.values())


def _compare(arguments: argparse.Namespace, ledger: Ledger) -> None:
    from qwen_tui.bench.compare import caveats, side_rows, sides
    from qwen_tui.bench.confidence import METHOD
    from qwen_tui.headless.bench_lines import compare_lines

    chosen = _chosen(arguments.runs, ledger)
    if len(chosen) < 2:
        raise UsageError(_("Name at least two runs to compare"), "", _("`qwen-tui bench runs` lists them"))
    found = sides(chosen, [] if arguments.alone else ledger.list())
    if not arguments.json:
        print("\n".join(compare_lines(found)))
        return
    base, *others = found
    compared = [
        {
            "id": side.run.id,
            "runs": [one.id for one in side.repeats],
            "figures": [
                {
                    "name": row.key,
                    "base": row.a,
                    "value": row.b,
                    "change": row.change,
                    "confidence_95": [row.interval.low, row.interval.high] if row.interval is not None else None,
                }
                for row in side_rows(base, side)
            ],
            "caveats": caveats(base.run, side.run),
        }
        for side in others
    ]
    result = {
        "base": base.run.id,
        "base_runs": [one.id for one in base.repeats],
        "method": METHOD,
        "compared": compared,
    }
    print(json.dumps(result, ensure_ascii=False))


def _trend(arguments: argparse.Namespace, ledger: Ledger) -> None:
    from qwen_tui.bench.compare import FIGURES, changed_since, trend, value
    from qwen_tui.headless.bench_lines import trend_lines

    names = [key for key, *_rest in FIGURES]
    if arguments.figure not in names:
        raise UsageError(_("There is no figure “{name}”").format(name=arguments.figure), "", ", ".join(names))
    runs = trend(ledger.get(arguments.run), ledger.list())
    if not arguments.json:
        print("\n".join(trend_lines(runs, arguments.figure)))
        return
    points = [
        {
            "run_id": one.id,
            "created": one.created,
            arguments.figure: value(one, arguments.figure),
            "changed": changed_since(runs[number - 1], one) if number else [],
        }
        for number, one in enumerate(runs)
    ]
    print(json.dumps(points, ensure_ascii=False))


def _export(arguments: argparse.Namespace, ledger: Ledger, settings: Settings) -> None:
    from qwen_tui.bench.export import FORMAT_OF_SUFFIX, exported
    from qwen_tui.bench.price import HourlyPrice
    from qwen_tui.bench.target import BenchError

    chosen = _chosen(arguments.runs, ledger)
    by_name = FORMAT_OF_SUFFIX.get(arguments.output.suffix.lower(), "markdown") if arguments.output else "markdown"
    text = exported(
        chosen,
        ledger,
        arguments.format or by_name,
        detailed=arguments.detailed,
        price=HourlyPrice.parse(settings.hourly_price),
    )
    if arguments.output is None:
        sys.stdout.write(text)
        return
    try:
        arguments.output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BenchError(_("Can't write {file}").format(file=arguments.output), error.strerror or str(error)) from None


def _import(arguments: argparse.Namespace, ledger: Ledger) -> None:
    from qwen_tui.bench.imported import import_file
    from qwen_tui.bench.result import result_json
    from qwen_tui.headless.bench_lines import list_lines

    taken: list[Run] = []
    for file in arguments.files:
        found = import_file(file, ledger, tuple(arguments.tag))
        taken += found.runs
        if found.known:
            text = ngettext("{file}: {n} run is there already", "{file}: {n} runs are there already", found.known)
            print(text.format(file=file, n=found.known), file=sys.stderr)
    if arguments.json:
        print(json.dumps([result_json(one) for one in taken], ensure_ascii=False))
    elif taken:
        print("\n".join(list_lines(taken)))
