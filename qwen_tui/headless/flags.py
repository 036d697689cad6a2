"""`qwen-tui flags`: every argument that the engine's server takes; and the check of those given to `serve`."""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import textwrap
from collections.abc import Sequence

from qwen_tui.engine.arguments import Argument, ArgumentSchema
from qwen_tui.engine.find import Engine
from qwen_tui.errors import EngineError, UsageError
from qwen_tui.i18n import _
from qwen_tui.paths import Paths
from qwen_tui.settings import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("search", nargs="*", metavar="SEARCH", help=_("words that name, group or help must have"))
    parser.add_argument("--engine", default="", help=_("the Python, or the environment, that has vLLM"))
    parser.add_argument("--json", action="store_true", help=_("print a JSON array"))


def run(arguments: argparse.Namespace, paths: Paths, settings: Settings) -> int:
    from qwen_tui.engine.find import find_engine

    engine = find_engine(paths, settings.engine, arguments.engine)
    schema = asyncio.run(load_schema(engine, paths))
    text = " ".join(arguments.search)
    found = schema.search(text)
    if arguments.json:
        print(json.dumps([argument.to_json() for argument in found], ensure_ascii=False))
        return 0
    if not found:
        print(_("vLLM {version} has no argument with “{text}”").format(version=schema.version, text=text))
        return 1
    # Whoever searches wants to read; the whole list is to be looked over.
    is_long = bool(text)
    for group, members in schema.groups().items():
        chosen = [argument for argument in members if argument in found]
        if chosen:
            print(group)
            for argument in chosen:
                print(_entry(argument, is_long=is_long))
            print()
    return 0


def _entry(argument: Argument, *, is_long: bool) -> str:
    width = max(40, shutil.get_terminal_size((100, 24)).columns - 1)
    names = ", ".join(sorted(argument.names, key=lambda name: (name.startswith("--no-"), -len(name))))
    head = f"  {names}" + (f"  {argument.type_words}" if argument.type_words else "")
    if argument.default not in (None, "", [], False):
        default = argument.default if isinstance(argument.default, str) else json.dumps(argument.default)
        head += "  " + _("(default: {default})").format(default=default)
    lines = textwrap.wrap(head, width, subsequent_indent="      ")
    paragraphs = argument.help.strip().split("\n\n")
    for paragraph in paragraphs if is_long else paragraphs[:1]:
        text = " ".join(paragraph.split())
        lines += textwrap.wrap(text, width, initial_indent="      ", subsequent_indent="      ")[
            : None if is_long else 2
        ]
    return "\n".join(lines)


async def load_schema(engine: Engine, paths: Paths) -> ArgumentSchema:
    """The engine's arguments; where the engine has to be asked, the wait is shown on stderr. Raises EngineError."""
    from qwen_tui.headless.plain import PlainProgress

    cached = ArgumentSchema.cached(engine, paths)
    if cached is not None:
        return cached
    with PlainProgress(sys.stderr) as show:
        return await ArgumentSchema.load(engine, paths, show)


async def refuse_wrong_arguments(words: Sequence[str], engine: Engine, paths: Paths) -> None:
    """Before a start: raise UsageError if the engine is sure to refuse `words`; print on stderr what looks odd.

    An engine that does not say what it takes is not in the way of the start: it will tell by itself.
    """
    from qwen_tui.engine.arguments_check import check

    if not words:
        return
    try:
        schema = await load_schema(engine, paths)
    except EngineError as error:
        print(_("The arguments are not checked: {why}").format(why=error.why or error.title), file=sys.stderr)
        return
    problems = check(schema, words)
    certain = [problem for problem in problems if problem.is_certain]
    if not certain:
        for problem in problems:
            print(problem, file=sys.stderr)
        return
    first, *others = certain
    raise UsageError(
        first.text,
        "\n".join(str(problem) for problem in others),
        (
            _("Did you mean “{near}”?").format(near=first.suggestion)
            if first.suggestion
            else _("`qwen-tui flags {name}` tells what there is").format(name=first.word.lstrip("-").split("=")[0])
        )
        + "\n"
        + _("`--no-check` starts it all the same"),
    )
