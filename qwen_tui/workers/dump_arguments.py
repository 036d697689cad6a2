"""Write out every argument of the engine's API server, and every architecture it knows.

Runs under the engine's interpreter, with any vLLM since 0.4. Request: {}. Result: {"vllm", "parser" (its class),
"arguments": [{"names", "dest", "group", "kind", "optional", "choices", "suggestions", "default", "nargs", "action",
"help", "fields"}], "architectures": [names]}. `kind` is one of the words in `_kind`; `fields` (where the
argument is a JSON object that refuses unknown keys) maps each key to its own keys.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import re
import runpy
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qwen_tui.workers import protocol
else:
    import protocol

#: Where the function make_arg_parser has lived: vLLM 0.4 to 0.31, and since.
MODULES = ("vllm.entrypoints.openai.cli_args", "vllm.entrypoints.launchers.cli_args")
SERVER = "vllm.entrypoints.openai.api_server"
STEPS = ("vllm", "arguments", "architectures")


def main(request: dict[str, Any]) -> dict[str, Any]:
    # vLLM reads the texts of --help out of its sources only when it is asked for them.
    sys.argv = ["api_server", "--help"]
    # This folder's modules must not be found before the engine's.
    sys.path[:] = [entry for entry in sys.path if entry != str(Path(__file__).resolve().parent)]
    _tell(0)
    vllm = importlib.import_module("vllm")
    _tell(1)
    parser = _parser()
    _tell(2)
    return {
        "vllm": str(getattr(vllm, "__version__", "")),
        "parser": type(parser).__name__,
        "arguments": [_describe(action, group) for action, group in _actions(parser)],
        "architectures": _architectures(),
    }


def _tell(done: int) -> None:
    protocol.emit("progress", step="dump", done=done, total=len(STEPS), unit="items", detail=STEPS[done])


class _ParserFound(BaseException):
    """Carries the parser out of a server that was about to use it."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser


def _parser() -> argparse.ArgumentParser:
    for name in MODULES:
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not name.startswith(error.name):
                raise
            continue
        make = getattr(module, "make_arg_parser", None)
        if make is None:
            continue
        if not inspect.signature(make).parameters:
            return _checked(make())
        parser_class = getattr(module, "FlexibleArgumentParser", argparse.ArgumentParser)
        return _checked(make(parser_class()))
    return _parser_in_use()


def _checked(parser: Any) -> argparse.ArgumentParser:
    if not isinstance(parser, argparse.ArgumentParser):
        raise TypeError(f"make_arg_parser made a {type(parser).__name__}")
    return parser


def _parser_in_use() -> argparse.ArgumentParser:
    """The parser that the server itself parses with: run it until then. For a vLLM that keeps it somewhere else."""

    def found(parser: argparse.ArgumentParser, *_arguments: object, **_options: object) -> None:
        raise _ParserFound(parser)

    original = argparse.ArgumentParser.parse_known_args
    argparse.ArgumentParser.parse_known_args = found  # type: ignore[assignment, method-assign]
    sys.argv = [SERVER, "--model", "none"]
    try:
        runpy.run_module(SERVER, run_name="__main__")
    except _ParserFound as result:
        return result.parser
    finally:
        argparse.ArgumentParser.parse_known_args = original  # type: ignore[method-assign]
    raise RuntimeError(f"{SERVER} ended without parsing its arguments")


def _actions(parser: argparse.ArgumentParser) -> Iterable[tuple[argparse.Action, str]]:
    for group in parser._action_groups:
        for action in group._group_actions:
            yield action, group.title or ""


def _describe(action: argparse.Action, group: str) -> dict[str, Any]:
    kind, is_optional, fields = _kind(action)
    choices = list(action.choices) if action.choices is not None else []
    suggestions = _quantizations() if action.dest == "quantization" else _suggestions(action.metavar)
    return {
        "names": list(action.option_strings),
        "dest": action.dest,
        "group": group,
        "kind": kind,
        "optional": is_optional or None in choices,
        "choices": [_plain(choice) for choice in choices if choice is not None],
        "suggestions": [_plain(suggestion) for suggestion in suggestions if suggestion is not None],
        "default": _plain(action.default) if action.default is not argparse.SUPPRESS else None,
        "nargs": action.nargs,
        "action": type(action).__name__.strip("_"),
        "help": _help(action),
        "fields": fields,
    }


def _suggestions(metavar: Any) -> list[Any]:
    """The usual values, where others are allowed too: vLLM puts them into the metavar."""
    if isinstance(metavar, (list, tuple)):
        return list(metavar)
    braced = re.match(r"\{([^{}]*)\}", metavar or "")
    return [word.strip() for word in braced.group(1).split(",") if word.strip()] if braced else []


def _quantizations() -> list[Any]:
    """The quantization methods that come with this vLLM, which newer parsers do not list."""
    try:
        return list(importlib.import_module("vllm.model_executor.layers.quantization").QUANTIZATION_METHODS)
    except Exception as error:  # noqa: BLE001 - only suggestions
        print(f"quantizations: {error!r}")
        return []


def _kind(action: argparse.Action) -> tuple[str, bool, dict[str, Any] | None]:
    """What the argument's text is read as, whether "None" is allowed, and the keys of a JSON object."""
    if type(action).__name__ == "StoreBoolean":
        return "bool", False, None
    reader: Any = action.type
    is_optional = False
    for _depth in range(4):
        name = getattr(reader, "__qualname__", "")
        if name.startswith("optional_type."):
            is_optional = True
        elif not name.startswith("parse_type."):
            break
        inner = _enclosed(reader)
        if inner is None:
            break
        reader = inner
    if name.startswith(("nullable_str", "nullable_kvs")):
        return "text", True, None
    known: dict[Any, str] = {None: "text", str: "text", int: "int", float: "float", bool: "truth", json.loads: "json"}
    try:
        if reader in known:
            return known[reader], is_optional, None
    except TypeError:  # not hashable
        return "other", is_optional, None
    for part, kind in (
        ("human_readable_int_or_auto", "human int or auto"),
        ("human_readable_int", "human int"),
        ("union_dict_and_str", "text or json"),
        ("parse_dataclass", "json"),
        ("check_port", "int"),
    ):
        if part in name:
            return kind, is_optional, _keys(inspect.signature(reader).parameters) if kind == "json" else None
    if name.endswith("<lambda>") and _folds(reader):
        return "folded text", is_optional, None
    return "other", is_optional, None


def _enclosed(function: Any) -> Any:
    """The callable that a wrapper made by optional_type or parse_type calls."""
    for cell in getattr(function, "__closure__", None) or ():
        if callable(cell.cell_contents):
            return cell.cell_contents
    return None


def _folds(reader: Callable[[str], Any]) -> bool:
    try:
        return bool(reader("A-b") == "a_b")
    except Exception:  # noqa: BLE001 - whatever it does, it does not do that
        return False


def _keys(parameters: Any) -> dict[str, Any] | None:
    """The keys of the dataclass that a parse_dataclass reads, if it refuses all others."""
    return _class_keys(parameters["cls"].default) if "cls" in parameters else None


def _class_keys(cls: Any, depth: int = 0) -> dict[str, Any] | None:
    names = getattr(cls, "__dataclass_fields__", None)
    config = getattr(cls, "__pydantic_config__", None) or {}
    if not names or dict(config).get("extra") != "forbid":
        return None
    keys: dict[str, Any] = {}
    for name, field in names.items():
        candidates = [field.type, *getattr(field.type, "__args__", ())]
        inner = (_class_keys(candidate, depth + 1) for candidate in candidates) if depth < 3 else iter(())
        keys[name] = next((found for found in inner if found), None)
    return keys


def _plain(value: Any) -> Any:
    """`value` as JSON can hold it."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else str(value)
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return repr(value)[:2000]


def _help(action: argparse.Action) -> str:
    text = action.help
    if not text or text == argparse.SUPPRESS:
        return ""
    try:
        return str(text % {**vars(action), "prog": "vllm"})
    except (KeyError, TypeError, ValueError):
        return str(text).replace("%%", "%")


def _architectures() -> list[str]:
    try:
        plugins = importlib.import_module("vllm.plugins")
        plugins.load_general_plugins()
    except Exception as error:  # noqa: BLE001 - a plugin that fails here fails in the server too, and is told there
        print(f"plugins: {error!r}")
    try:
        registry = importlib.import_module("vllm").ModelRegistry
        return sorted(str(name) for name in registry.get_supported_archs())
    except Exception as error:  # noqa: BLE001 - the flags are worth having without it
        print(f"architectures: {error!r}")
        return []


if __name__ == "__main__":
    protocol.run(main)
