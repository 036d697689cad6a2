"""Keeping our own questions out of a server's log: /health and /metrics are asked often, and say nothing new there."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from qwen_tui.engine.arguments import ArgumentSchema
from qwen_tui.engine.find import Engine, site_packages
from qwen_tui.paths import Paths
from qwen_tui.server.spec import ServerSpec

#: vLLM has it since 0.16.
_FLAG = "--disable-access-log-for-endpoints"
_ENDPOINTS = "/health,/metrics"
#: Whoever gives one of these has decided about the access log, or may have, in a file that is not read here.
_DECIDED = ("--disable-access-log", "--disable-uvicorn-access-log", "--log-config-file", "--config")


def is_decided(words: Sequence[str]) -> bool:
    """Whether `words` say already what goes into the access log, so that nothing is to be added."""
    options = (word.split("=", 1)[0].replace("_", "-") for word in words)
    return any(option.startswith(_DECIDED[0]) or option in _DECIDED for option in options)


def quiet_words(engine: Engine, words: Sequence[str], paths: Paths | None = None) -> tuple[str, ...]:
    """The words to add to a command line of this engine that has `words` already; none where it has no such flag.

    paths: where the engine's arguments may be known already; else its sources are read, some milliseconds.
    """
    if is_decided(words):
        return ()
    schema = ArgumentSchema.cached(engine, paths) if paths is not None else None
    knows = _FLAG in schema.by_name if schema is not None else _sources_know(engine)
    return (_FLAG, _ENDPOINTS) if knows else ()


def quieted(spec: ServerSpec, engine: Engine, paths: Paths | None = None) -> ServerSpec:
    """`spec` with the words that this engine takes among its extra arguments, and without them for one that does not.

    Reads files: some milliseconds. Once more on its own result it changes nothing.
    """
    words = without_quiet_words(spec.extra_args)
    return dataclasses.replace(spec, extra_args=(*words, *quiet_words(engine, words, paths)))


def without_quiet_words(words: Sequence[str]) -> tuple[str, ...]:
    """`words` without what `quieted` added: for a form, in which a person only sees what a person chose."""
    ours = (_FLAG, _ENDPOINTS)
    for place in range(len(words) - 1):
        if tuple(words[place : place + 2]) == ours:
            return (*words[:place], *words[place + 2 :])
    return tuple(words)


def _sources_know(engine: Engine) -> bool:
    """Whether the engine's sources declare the flag; nothing is imported."""
    name = _FLAG.removeprefix("--").replace("-", "_").encode("ascii")
    for folder in site_packages(engine.python):
        for file in (folder / "vllm" / "entrypoints").rglob("cli_args.py"):
            try:
                if name in file.read_bytes():
                    return True
            except OSError:
                continue
    return False
