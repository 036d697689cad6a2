"""Read a command line the way the engine's parser will, and name what it would refuse.

The rules are argparse's, with what vLLM's FlexibleArgumentParser adds: _ for - in names, JSON keys by dots
(`--compilation-config.mode 3`, lists with a + at the end), whole numbers such as 1k and 2M.
"""

from __future__ import annotations

import difflib
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qwen_tui.engine.arguments import Argument, ArgumentSchema
from qwen_tui.i18n import _

_MULTIPLIERS = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
#: Words of a search that are read closely; more are no search for a name.
_CLOSELY_MOST = 5
_NEGATIVE = re.compile(r"-\d+$|-\d*\.\d+$")


@dataclass(frozen=True)
class ArgumentProblem:
    """One thing that is wrong with a command line.

    text: a sentence, translated. index: of the word in the list; word: that word. suggestion: what it should have
    been, to be put in place of the word (or, for a value, of the value); empty if unknown.
    is_certain: whether the engine is sure to refuse it.
    """

    text: str
    index: int
    word: str
    suggestion: str = ""
    is_certain: bool = True

    def __str__(self) -> str:
        if not self.suggestion:
            return self.text
        return "{text} · {hint}".format(text=self.text, hint=_("Did you mean “{near}”?").format(near=self.suggestion))


@dataclass(frozen=True)
class Difference:
    """An argument that is given and differs from its default; both as texts."""

    argument: Argument
    value: str
    default: str


@dataclass
class _Use:
    """One appearance of an argument on a command line. path: JSON keys after dots."""

    argument: Argument
    name: str
    index: int
    values: list[tuple[int, str]]
    path: str = ""


class BadValue(ValueError):
    """A value that does not fit its argument; the text says why, `suggestion` what may be meant."""

    def __init__(self, text: str, suggestion: str = "") -> None:
        super().__init__(text)
        self.suggestion = suggestion


def check(schema: ArgumentSchema, words: Sequence[str]) -> list[ArgumentProblem]:
    """Everything in `words` that the engine would refuse, or that is likely a slip; empty if all is well."""
    problems: list[ArgumentProblem] = []
    for use in _uses(schema, words, problems):
        problems += _check_use(use)
    return sorted(problems, key=lambda problem: problem.index)


def corrected(words: Sequence[str], problem: ArgumentProblem) -> list[str] | None:
    """`words` with the problem's suggestion in its place; None if there is none."""
    if not problem.suggestion:
        return None
    fixed, word = list(words), words[problem.index]
    name, equals, value = word.partition("=")
    if problem.word != word and equals and problem.word == value:
        fixed[problem.index] = f"{name}={problem.suggestion}"
    elif equals and name != problem.suggestion:
        fixed[problem.index] = f"{problem.suggestion}={value}"
    else:
        fixed[problem.index] = problem.suggestion
    return fixed


def diff_from_defaults(schema: ArgumentSchema, words: Sequence[str]) -> list[Difference]:
    """What `words` change: the arguments given whose value is not the default, in the order of the words."""
    values: dict[str, tuple[Argument, Any]] = {}
    for use in _uses(schema, words, []):
        try:
            value = _value_of(use)
        except BadValue:
            value = " ".join(text for _index, text in use.values)
        earlier = values.get(use.argument.dest)
        if use.path and earlier is not None and isinstance(earlier[1], dict) and isinstance(value, dict):
            value = _merged(earlier[1], value)
        values[use.argument.dest] = (use.argument, value)
    return [
        Difference(argument, _text(value), _text(argument.default))
        for argument, value in values.values()
        if value != argument.default
    ]


def suggest(schema: ArgumentSchema, name: str) -> str:
    """The argument's name that `name` is most like, or an empty text."""
    plain = name.split("=", 1)[0].replace("_", "-")
    near = difflib.get_close_matches(plain, schema.by_name, 1, 0.6)
    return near[0] if near else ""


def search_closely(schema: ArgumentSchema, text: str) -> tuple[list[Argument], str]:
    """As `schema.search`; where that finds nothing, its words are read as words of one name that they are most like.

    The second: the words as they were read, empty where they were searched as they stand.
    """
    found = schema.search(text)
    if found or not text.strip():
        return found, ""
    known = sorted({part for name in schema.by_name for part in name.strip("-").split("-")})
    parts = re.split(r"[\s_-]+", text.lower().strip(" _-"))[:_CLOSELY_MOST]
    near = [[part] if _is_in(part, known) else difflib.get_close_matches(part, known, 3, 0.6) for part in parts]
    names = [" ".join(argument.names) for argument in schema.arguments]
    for words in itertools.product(*near):
        if any(all(word in name for word in words) for name in names):
            return schema.search(" ".join(words)), " ".join(words)
    return [], ""


def _is_in(part: str, known: Sequence[str]) -> bool:
    return any(part in word for word in known)


def read_whole_number(text: str) -> int:
    """A whole number as vLLM reads it: 5, 1k (1,000), 1K (1,024), 25.6k. Raises ValueError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmMgGtT])", text.strip())
    if match is None:
        return int(text)
    number, suffix = match.groups()
    if suffix.islower():
        return int(float(number) * _MULTIPLIERS[suffix])
    return int(number) * _MULTIPLIERS[suffix]


# -- words → uses -------------------------------------------------------------------------------------


def _uses(schema: ArgumentSchema, words: Sequence[str], problems: list[ArgumentProblem]) -> Iterator[_Use]:
    """The arguments in `words`, each with its values; what can't be placed goes to `problems`."""
    names = schema.by_name
    position = 0
    while position < len(words):
        index, word = position, words[position]
        position += 1
        if not _is_option(word, names):
            text = _("“{word}” belongs to no argument").format(word=word)
            problems.append(ArgumentProblem(text, index, word))
            continue
        if _is_level(word, names):
            if word == "-O" and position < len(words) and words[position].isdigit():
                position += 1
            continue
        name, equals, joined = word.partition("=")
        name, path = _split_name(name, schema.is_flexible)
        argument = _find(name, names)
        if isinstance(argument, str):
            near = suggest(schema, name)
            problems.append(ArgumentProblem(argument, index, word, f"{near}.{path}" if near and path else near))
            # Its value, if it has one, is not to be blamed as well.
            while not equals and position < len(words) and not _is_option(words[position], names):
                position += 1
            continue
        values = [(index, joined)] if equals else []
        if not equals:
            wanted = 1.0 if path else _most(argument)
            while len(values) < wanted and position < len(words) and not _is_option(words[position], names):
                values.append((position, words[position]))
                position += 1
        yield _Use(argument, name, index, values, path)


def _is_option(word: str, names: Mapping[str, Argument]) -> bool:
    """Whether argparse takes `word` for an argument's name rather than for a value."""
    if not word.startswith("-") or word == "-":
        return False
    if word.split("=", 1)[0] in names:
        return True
    return not _NEGATIVE.match(word) and " " not in word


def _is_level(word: str, names: Mapping[str, Argument]) -> bool:
    """Whether `word` is -O with a level, which vLLM takes in several forms: -O3, -O=3, -O 3."""
    return bool(re.fullmatch(r"-O(=?\w+)?", word)) and any(name in names for name in ("-O", "--optimization-level"))


def _split_name(name: str, is_flexible: bool) -> tuple[str, str]:
    """The argument's name, and the JSON keys after it: "--a_b.c.d" → ("--a-b", "c.d")."""
    if not is_flexible:
        return name, ""
    name, _dot, path = name.partition(".")
    if name.startswith("--"):
        name = "--" + name[2:].replace("_", "-")
    return name, path


def _find(name: str, names: Mapping[str, Argument]) -> Argument | str:
    """The argument of that name or of that unambiguous beginning; else what to say."""
    if name in names:
        return names[name]
    matches = [known for known in names if name.startswith("--") and len(name) > 2 and known.startswith(name)]
    found = {names[known].dest: names[known] for known in matches}
    if len(matches) == 1 or (matches and len(found) == 1):
        return next(iter(found.values()))
    if matches:
        return _("“{name}” could be any of {names}").format(name=name, names=", ".join(sorted(matches)[:6]))
    return _("vLLM has no argument {name}").format(name=name)


def _most(argument: Argument) -> float:
    """How many words of value it can take."""
    if isinstance(argument.nargs, int):
        return argument.nargs
    return 1 if argument.nargs in (None, "?") else float("inf")


# -- uses → problems, values --------------------------------------------------------------------------


def _check_use(use: _Use) -> Iterator[ArgumentProblem]:
    argument, index = use.argument, use.index
    if use.path:
        yield from _check_path(use)
        return
    if argument.is_flag:
        if use.values:
            text = _("{name} stands alone, without a value").format(name=use.name)
            yield ArgumentProblem(text, index, f"{use.name}={use.values[0][1]}", use.name)
        return
    least = {None: 1, "?": 0, "*": 0}.get(argument.nargs, 1) if not isinstance(argument.nargs, int) else argument.nargs
    if len(use.values) < least:
        text = _("{name} needs a value: {type}").format(name=use.name, type=argument.type_words)
        yield ArgumentProblem(text, index, use.name)
        return
    for position, text in use.values:
        try:
            value = _read(argument, text)
        except BadValue as error:
            sentence = _("{name}: {why}").format(name=use.name, why=error)
            yield ArgumentProblem(sentence, position, text, error.suggestion)
            continue
        if argument.suggestions and isinstance(value, str) and value not in argument.suggestions:
            near = difflib.get_close_matches(value, argument.suggestions, 1, 0.75)
            if near:
                sentence = _("{name}: vLLM comes without “{value}”").format(name=use.name, value=text)
                yield ArgumentProblem(sentence, position, text, near[0], is_certain=False)


def _check_path(use: _Use) -> Iterator[ArgumentProblem]:
    argument = use.argument
    if not use.values:
        text = _("{name} needs a value").format(name=f"{use.name}.{use.path}")
        yield ArgumentProblem(text, use.index, f"{use.name}.{use.path}")
        return
    if argument.kind not in ("json", "text or json", "other"):
        text = _("{name} takes no keys: it is {type}").format(name=use.name, type=argument.type_words or _("a flag"))
        yield ArgumentProblem(text, use.index, f"{use.name}.{use.path}")
        return
    known: Mapping[str, Any] | None = argument.fields
    so_far = use.name
    for key in use.path.removesuffix("+").split("."):
        if known is None:
            return
        if key not in known:
            near = difflib.get_close_matches(key, known, 1, 0.6)
            text = _("{name} has no key “{key}”").format(name=so_far, key=key)
            fixed = f"{so_far}.{near[0]}" if near else ""
            yield ArgumentProblem(text, use.index, f"{use.name}.{use.path}", fixed)
            return
        so_far, known = f"{so_far}.{key}", known[key]


def _value_of(use: _Use) -> Any:
    """What the engine will have for it. Raises BadValue."""
    argument = use.argument
    if use.path:
        text = use.values[0][1] if use.values else ""
        keys = use.path.removesuffix("+").split(".")
        nested: Any = text.split(",") if use.path.endswith("+") else _read_loosely(text)
        for key in reversed(keys):
            nested = {key: nested}
        return nested
    if argument.is_flag:
        return argument.action != "StoreFalseAction" and not use.name.startswith("--no-")
    values = [_read(argument, text) for _index, text in use.values]
    if argument.nargs in ("+", "*") or (isinstance(argument.nargs, int) and argument.nargs > 1):
        return values
    if argument.action == "AppendAction":
        return values
    return values[0] if values else True


def _read(argument: Argument, text: str) -> Any:
    """The value of one word. Raises BadValue."""
    if argument.optional and text in ("", "None"):
        return None
    kind = argument.kind
    readers: dict[str, Callable[[str], Any]] = {"int": int, "float": float, "human int": read_whole_number}
    if kind in readers:
        try:
            value: Any = readers[kind](text)
        except ValueError:
            raise BadValue(_("“{value}” is not a {type}").format(value=text, type=_number_words(kind))) from None
    elif kind == "human int or auto":
        if text.strip().lower() in ("-1", "auto"):
            return -1
        try:
            value = read_whole_number(text)
        except ValueError:
            raise BadValue(_("“{value}” is not a {type}").format(value=text, type=_number_words(kind))) from None
    elif kind == "json":
        return _read_json(text)
    elif kind == "bool":
        if text.lower() not in ("true", "false"):
            raise BadValue(_("“{value}” is neither true nor false").format(value=text))
        return text.lower() == "true"
    elif kind == "folded text":
        value = text.lower().replace("-", "_")
    else:
        value = text
    if argument.choices and kind != "other" and value not in argument.choices:
        near = difflib.get_close_matches(str(text).lower(), [str(choice) for choice in argument.choices], 1, 0.5)
        allowed = ", ".join(map(str, argument.choices))
        raise BadValue(_("“{value}” is none of {choices}").format(value=text, choices=allowed), near[0] if near else "")
    return value


def _number_words(kind: str) -> str:
    return _("number") if kind == "float" else _("whole number")


def _read_json(text: str) -> Any:
    # vLLM writes out 1k and 2M in JSON too, but not inside texts.
    parts = re.split(r'("(?:[^"\\]|\\.)*")', text)
    for position in range(0, len(parts), 2):
        parts[position] = re.sub(
            r"\b\d+(?:\.\d+)?[kKmMgGtT]\b", lambda match: str(_number_or_text(match.group())), parts[position]
        )
    try:
        return json.loads("".join(parts))
    except ValueError as error:
        raise BadValue(_("not valid JSON: {error}").format(error=error)) from None


def _number_or_text(text: str) -> int | str:
    try:
        return read_whole_number(text)
    except ValueError:
        return text


def _read_loosely(text: str) -> Any:
    """A value behind a JSON key: JSON if it is, else a number, else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return _number_or_text(text)


def _merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    both = dict(first)
    for key, value in second.items():
        old = both.get(key)
        both[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return both


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
