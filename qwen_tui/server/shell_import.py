"""A shell command, or a few lines of a script, that starts vLLM, read into a profile."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from qwen_tui.errors import UsageError
from qwen_tui.i18n import _
from qwen_tui.server.profiles import Profile, flags_of
from qwen_tui.server.spec import API_SERVER_MODULE

_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_REFERENCE = re.compile(r"\$(?:\{(\w+)\}|([A-Za-z_]\w*))")
_REDIRECTION = re.compile(r"(?<=\s)(?:\d|&)?>{1,2}(?:&\d|\s*[^\s;&|'\"]+)")
#: Flags that never take a value, so that a word after one may be the model.
_ALONE = {
    "--trust-remote-code", "--enforce-eager", "--enable-lora", "--enable-prefix-caching", "--enable-chunked-prefill",
    "--enable-auto-tool-choice", "--disable-log-requests", "--disable-log-stats", "--enable-expert-parallel",
}  # fmt: skip


def import_command(text: str, name: str, environment: Mapping[str, str] | None = None) -> Profile:
    """The profile `name` of the server that `text` starts.

    text: `vllm serve MODEL …` or `python -m vllm.entrypoints.openai.api_server …`, variables in front or in `export`
    lines, over several lines where each but the last ends in a backslash. What else stands there is passed over.
    environment: what `$NAME` is filled in from where the text does not set it; this process's by default.
    Raises UsageError where there is no such command, or what it says can't be used.
    """
    known = dict(os.environ if environment is None else environment)
    exported: dict[str, str] = {}
    for words in _commands(text):
        words = [_filled(word, known) for word in words]
        assigned, rest = _assignments(words)
        found = _server_of(rest)
        if found is not None:
            engine, arguments = found
            return _profile(name, arguments, engine, {**exported, **assigned})
        if rest[:1] in (["export"], ["set"], ["setenv"]):
            inner, _others = _assignments(rest[1:])
            known.update(inner)
            exported.update(inner)
        elif not rest:
            known.update(assigned)
            exported.update({key: value for key, value in assigned.items() if key in exported})
    raise UsageError(
        _("There is no vLLM server in this command"),
        "",
        _("Known are `vllm serve MODEL …` and `python -m vllm.entrypoints.openai.api_server --model MODEL …`"),
    )


def _commands(text: str) -> Iterator[list[str]]:
    """The commands in the text, word by word as a shell splits them."""
    joined = re.sub(r"\\[ \t]*\r?\n", " ", text.replace("\r\n", "\n"))
    lines = [re.sub(r"^\s*\$ ", "", line) for line in joined.split("\n")]
    joined = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    lexer = shlex.shlex(_REDIRECTION.sub(" ", joined), posix=True, punctuation_chars=";&|\n")
    lexer.whitespace = " \t\r"
    lexer.whitespace_split = True
    lexer.commenters = ""
    words: list[str] = []
    is_comment = False
    try:
        for token in lexer:
            if token and not token.strip(";&|\n"):
                if words:
                    yield words
                words, is_comment = [], False
            elif token.startswith("#") or is_comment:
                is_comment = True
            else:
                words.append(token)
    except ValueError as error:
        raise UsageError(_("The command can't be read: {error}").format(error=error)) from None
    if words:
        yield words


def _filled(word: str, known: Mapping[str, str]) -> str:
    return _REFERENCE.sub(lambda match: known.get(match[1] or match[2], match[0]), word)


def _assignments(words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The variables in front of a command, and the command."""
    assigned: dict[str, str] = {}
    position = 0
    while position < len(words):
        match = _ASSIGNMENT.fullmatch(words[position])
        if match:
            assigned[match[1]] = match[2]
        elif words[position] not in ("env", "nohup", "exec", "time", "sudo", "setsid"):
            break
        position += 1
    return assigned, list(words[position:])


def _server_of(words: Sequence[str]) -> tuple[str, list[str]] | None:
    """The engine (its interpreter, where it is named by a path) and the server's arguments; None for other commands."""
    for position, word in enumerate(words):
        if word == API_SERVER_MODULE and position >= 1 and words[position - 1] == "-m":
            python = words[position - 2] if position >= 2 else ""
            return (python if Path(python).is_absolute() else ""), list(words[position + 1 :])
        if word.endswith("vllm/entrypoints/openai/api_server.py"):
            return "", list(words[position + 1 :])
        if Path(word).name == "vllm" and list(words[position + 1 : position + 2]) == ["serve"]:
            return "", list(words[position + 2 :])
    return None


def _profile(name: str, arguments: list[str], engine: str, environment: dict[str, str]) -> Profile:
    model, words = _without_model(arguments)
    flags = flags_of(words)
    key = flags.pop("api-key", None)
    if isinstance(key, (str, int, float)) and not isinstance(key, bool):
        environment["VLLM_API_KEY"] = str(key)  # not to be seen on a command line
    model = str(flags.pop("model", "")) or model
    if not model or "$" in model:
        raise UsageError(
            _("The command names no model") if not model else _("{model} is not set").format(model=model),
            "",
            _("Give --model MODEL, or `vllm serve MODEL`"),
        )
    return Profile(name, model, engine=engine, flags=flags, environment=environment)


def _without_model(arguments: list[str]) -> tuple[str, list[str]]:
    """The model that stands by itself, in front or behind a flag that takes no value, and the other words."""
    for position, word in enumerate(arguments):
        if not word.startswith("-") and (position == 0 or arguments[position - 1] in _ALONE):
            return word, [*arguments[:position], *arguments[position + 1 :]]
    return "", arguments
