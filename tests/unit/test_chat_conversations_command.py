"""`qwen-tui conversations`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from qwen_tui.chat.conversation import Conversation
from qwen_tui.chat.events import ReplyFigures
from qwen_tui.chat.store import ConversationStore, snapshot
from qwen_tui.cli import main
from qwen_tui.paths import Paths

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(paths: Paths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setattr(Paths, "from_environment", classmethod(lambda cls: paths))
    monkeypatch.setenv("LANGUAGE", "en")

    def go(*words: str) -> tuple[int, str, str]:
        code = main(["conversations", *words])
        return code, *capsys.readouterr()

    return go


def kept(paths: Paths, question: str) -> str:
    conversation = Conversation()
    conversation.add_user(question)
    reply = conversation.begin_reply("m")
    reply.text = "Paris \x1b[31m"
    conversation.finish(reply, ReplyFigures(0.1, 0.5, 30.0, 5, 12, "stop", 12))
    store = ConversationStore(paths)
    store.save(snapshot(conversation))
    store.close()
    return conversation.id


def test_list_search_delete_restore(run: Run, paths: Paths) -> None:
    assert run() == (0, "No conversation\n", "")
    city, duck = kept(paths, "Which city?"), kept(paths, "北京烤鸭\x1b[2J")
    code, out, _err = run("list")
    assert code == 0
    assert city[:8] in out
    assert duck[:8] in out
    assert "\x1b" not in out
    assert [entry["id"] for entry in json.loads(run("search", "烤鸭", "--json")[1])] == [duck]
    assert run("delete", city[:10])[0] == 0
    assert city[:8] not in run()[1]
    assert run("export", city)[0] == 2
    assert run("restore", city)[0] == 0
    assert city[:8] in run()[1]
    assert run("restore", "nobody")[0] == 2
    assert run("delete", "")[0] == 2  # both begin so


@pytest.mark.parametrize("form", ["markdown", "openai"])
def test_out_and_in_again(run: Run, paths: Paths, tmp_path: Path, form: str) -> None:
    id = kept(paths, "Which city?")
    file = tmp_path / "out" / "file"
    assert run("export", id, "--format", form, "--output", str(file))[:2] == (0, "")
    assert run("export", id, "--format", form)[1] == file.read_text()
    code, out, _err = run("import", str(file), "--json")
    assert code == 0
    (taken,) = json.loads(out)
    again = ConversationStore(paths).load(taken["id"])
    assert taken["id"] != id
    assert [turn.text for turn in again.turns] == ["Which city?", "Paris \x1b[31m"]


def test_what_cannot_be_read_says_so(run: Run, tmp_path: Path) -> None:
    (tmp_path / "words").write_text("just words")
    for name in ("words", "nothing"):
        code, _out, err = run("import", str(tmp_path / name))
        assert code == 2
        assert err
