"""Every text is in the catalogue, every translation fits its text, and the language can change while running."""

from __future__ import annotations

import ast
import re
import string
from pathlib import Path

import pytest
from babel.messages.catalog import Message

from qwen_tui import i18n
from tests.catalogue import MO, PACKAGE, all_translated, chinese, compiled, extracted


def fields(text: str) -> set[str]:
    """The names in braces that .format fills in."""
    return {name for _literal, name, _spec, _conversion in string.Formatter().parse(text) if name}


def forms(message: Message) -> list[str]:
    return list(message.string) if isinstance(message.string, (list, tuple)) else [message.string]


def test_every_text_is_translated() -> None:
    catalogue = chinese()
    missing = [m.id for m in extracted() if m.id and not ((t := catalogue.get(m.id)) and all_translated(t.string))]
    assert not missing, "run `python -m tests.catalogue` and translate these"


def test_no_translation_is_left_over() -> None:
    known = extracted()
    assert [message.id for message in chinese() if message.id and known.get(message.id) is None] == []


def test_the_compiled_catalogue_is_the_written_one() -> None:
    assert MO.read_bytes() == compiled(chinese()), "run `python -m tests.catalogue`"


def test_translations_fill_in_the_same_names_and_keep_commands() -> None:
    for message in chinese():
        if not message.id:
            continue
        source = message.id[-1] if isinstance(message.id, (list, tuple)) else message.id
        for translation in forms(message):
            assert fields(translation) == fields(source), source
            for code in re.findall(r"`[^`]+`", source):
                assert code in translation, source


def test_no_text_is_an_f_string_or_built_up() -> None:
    """`_(f"…")` and `_("…" + x)` can't be looked up in a catalogue."""
    offenders = []
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
                continue
            if (
                node.func.id in ("_", "N_", "ngettext")
                and node.args
                and isinstance(node.args[0], (ast.JoinedStr, ast.BinOp))
            ):
                offenders.append(f"{file.name}:{node.lineno}")
    assert not offenders


def test_no_text_hides_inside_an_f_string() -> None:
    """The extractor does not look into f"{_('…')}" before Python 3.12."""
    offenders = []
    for file in PACKAGE.rglob("*.py"):
        for outer in ast.walk(ast.parse(file.read_text())):
            if not isinstance(outer, ast.JoinedStr):
                continue
            for node in ast.walk(outer):
                if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
                    continue
                if node.func.id in ("_", "N_") and isinstance(node.args[0], ast.Constant):
                    offenders.append(f"{file.name}:{node.lineno}")
    assert not offenders


#: Calls whose text a person reads, and where in the arguments it stands.
SHOWN = {"notify": 0, "UsageError": 0, "ServerError": 0, "EngineError": 0, "ModelError": 0, "ChatError": 0, "Label": 0}


def test_no_shown_text_is_bare() -> None:
    """A literal sentence handed straight to something that shows it was forgotten."""
    offenders = []
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            position = SHOWN.get(name)
            if position is None or len(node.args) <= position:
                continue
            text = node.args[position]
            bare = isinstance(text, ast.JoinedStr) or (
                isinstance(text, ast.Constant) and isinstance(text.value, str) and re.search("[A-Za-z]{3}", text.value)
            )
            if bare:
                offenders.append(f"{file.relative_to(PACKAGE)}:{node.lineno}")
    assert not offenders


@pytest.mark.parametrize(
    ("setting", "environment", "language"),
    [
        ("", {"LANG": "zh_CN.UTF-8"}, "zh_CN"),
        ("", {"LANG": "en_US.UTF-8"}, "en"),
        ("", {"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, "en"),
        ("", {}, "en"),
        ("en", {"LANG": "zh_CN.UTF-8"}, "en"),
        ("zh_CN", {}, "zh_CN"),
        ("klingon", {"LANG": "zh_TW"}, "zh_CN"),
    ],
)
def test_choice(setting: str, environment: dict[str, str], language: str) -> None:
    assert i18n.choose(setting, environment) == language


def test_switching_while_running() -> None:
    i18n.use("zh_CN")
    assert i18n._("ready") == "就绪"
    i18n.use("en")
    assert i18n._("ready") == "ready"
    assert i18n.ngettext("{n} a", "{n} as", 1) == "{n} a"
    i18n.use("nonsense")
    assert i18n.language() == "en"


def test_locale_folder_ships() -> None:
    assert Path(i18n.LOCALE_FOLDER).is_dir()
