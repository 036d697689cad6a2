"""Conversations out of files, whatever is in them; and `qwen-tui conversations` around it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qwen_tui.chat.attachments import read_attachment
from qwen_tui.chat.conversation import Conversation, Turn
from qwen_tui.chat.events import ToolCall
from qwen_tui.chat.export import read_conversation, to_markdown, to_openai
from qwen_tui.chat.import_files import import_file, path_note, read_conversations
from qwen_tui.chat.store import ConversationStore
from qwen_tui.errors import UsageError
from qwen_tui.paths import Paths
from tests.unit.test_chat_conversations_command import Run, kept, run

__all__ = ["run"]


def with_tools() -> Conversation:
    """A conversation in which a tool was called, answered, and thought about."""
    call = ToolCall("call_1", "weather", '{"city": "Paris"}')
    turns = [
        Turn("user", "Is it warm?"), Turn("assistant", "", "hm", "m", tool_calls=(call, ToolCall("call_2", "clock"))),
        Turn("tool", "21 °C\n<!-- qwen-tui: user -->", tool_call_id="call_1"), Turn("tool", "", tool_call_id="call_2"),
        Turn("assistant", "Yes.", "", "m"), Turn("assistant", "", "only thought", "m"),
    ]  # fmt: skip
    return Conversation("s", turns)


def content(conversation: Conversation) -> list[tuple[object, ...]]:
    return [
        (turn.role, turn.text, turn.reasoning, turn.model, turn.tool_calls, turn.tool_call_id)
        for turn in conversation.turns
    ]


def test_tool_calls_survive_both_ways() -> None:
    before = with_tools()
    assert content(read_conversation(to_markdown(before).encode())) == content(before)
    again = read_conversation(json.dumps(to_openai(before)).encode())
    assert content(again) == content(before)
    assert [turn.parent for turn in again.turns[1:]] == [turn.id for turn in again.turns[:-1]]


def test_attachments_go_out_as_they_are_sent(tmp_path: Path) -> None:
    image, text = tmp_path / "a.png", tmp_path / "b.txt"
    image.write_bytes(b"\x89PNG\r\n\x1a\nxx")
    text.write_text("words")
    attached = (read_attachment(str(image)), read_attachment(str(text)))
    conversation = Conversation(turns=[Turn("user", "look", attachments=attached)])
    (message,) = to_openai(conversation)["messages"]
    assert message["content"][0]["text"].endswith("look")
    assert "words" in message["content"][0]["text"]
    assert message["content"][1]["image_url"]["url"].startswith("data:image/png;base64,")
    assert str(image) in to_markdown(conversation)
    assert [turn.text for turn in read_conversation(to_markdown(conversation).encode()).turns] == ["look"]


def test_one_object_per_line() -> None:
    lines = [json.dumps({"messages": [{"role": "user", "content": f"q{n}"}]}) for n in range(3)]
    found = read_conversations("\n\n".join(lines).encode())
    assert [conversation.name for conversation in found] == ["q0", "q1", "q2"]
    with pytest.raises(UsageError) as caught:
        read_conversations(f'{lines[0]}\n{{"messages": 3}}\n'.encode())
    assert "Line 2" in caught.value.title


BROKEN = {
    "cut JSON": (b'{"messages": [{"role": "us', "no JSON"),
    "binary": (b"\x89PNG\xff\xfe", "UTF-8"),
    "empty": (b"", "no conversation"),
    "nothing said": (b'[{"role": "system", "content": ""}]', "nothing said"),
    "wrong role": (b'[{"role": "\\u001b[31m", "content": ""}]', "Message 1"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_named_and_nothing_is_kept(paths: Paths, tmp_path: Path, kind: str) -> None:
    raw, says = BROKEN[kind]
    file = tmp_path / "broken.json"
    file.write_bytes(raw)
    store = ConversationStore(paths)
    with pytest.raises(UsageError) as caught:
        import_file(file, store)
    assert str(file) in caught.value.title
    assert says in caught.value.why
    assert "\x1b" not in str(caught.value)
    assert store.list() == []


def test_paths_that_cannot_be_read(paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "talk.md").write_text("x")
    monkeypatch.setattr("qwen_tui.chat.import_files.LIMIT", 0)
    for file in (tmp_path, tmp_path / "none", tmp_path / "talk.md", Path("a\0b")):
        with pytest.raises(UsageError):
            import_file(file, ConversationStore(paths))
    assert path_note(str(tmp_path / "talk.md")) == ""
    for typed, says in ((f"{tmp_path}/t", "talk.md"), (f"{tmp_path}/x", "no such file"), ("a\0b", "no such file")):
        with pytest.raises(UsageError) as caught:
            path_note(typed)
        assert says in str(caught.value)


def test_restore_takes_the_eight_characters_of_the_list(run: Run, paths: Paths, tmp_path: Path) -> None:
    city = kept(paths, "Which city?")
    assert run("delete", city[:8])[1].strip().endswith("brings it back")
    assert city[:8] in run("list", "--deleted")[1]
    assert run("restore", city[:8])[0] == 0
    assert city[:8] in run()[1]
    code, _out, err = run("restore", city[:8])  # it is not deleted any more
    assert code == 2
    assert "--deleted" in err
