"""Files that go with a message, paths that complete themselves, and how long a request waited in the queue."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from qwen_tui.chat.attachments import IMAGE_LIMIT, TEXT_LIMIT, attachment_from, read_attachment
from qwen_tui.chat.client import chat_body
from qwen_tui.chat.conversation import Conversation
from qwen_tui.chat.events import ReplyFigures, Sampling, Target
from qwen_tui.chat.figures import details
from qwen_tui.chat.path_completion import common, completions
from qwen_tui.chat.queue_time import read_queue
from qwen_tui.errors import UsageError

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def test_a_text_and_an_image_are_sent_as_the_api_wants_them(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("你好\n```\nx\n```\n")
    (tmp_path / "b").write_bytes(PNG)
    talk = Conversation()
    talk.add_user("What is it?", [read_attachment(str(tmp_path / name)) for name in ("a.md", "b")])
    (message,) = chat_body(Target("http://x", "m"), talk.messages(), Sampling(), stream=False)["messages"]
    text, image = message["content"]
    assert text == {"type": "text", "text": "a.md:\n````\n你好\n```\nx\n```\n````\n\nWhat is it?"}
    assert image == {
        "type": "image_url",
        "image_url": {"url": f"data:image/png;base64,{base64.b64encode(PNG).decode()}"},
    }
    alone = Conversation()
    alone.add_user("", [read_attachment(str(tmp_path / "b"))])
    assert chat_body(Target("http://x", "m"), alone.messages(), Sampling(), stream=False)["messages"] == [
        {"role": "user", "content": [image]}
    ]
    with pytest.raises(UsageError):
        alone.add_user(" ")


def test_what_can_not_be_sent_says_why(tmp_path: Path) -> None:
    def refused(path: Path, words: str, kind: str | None = None) -> None:
        with pytest.raises(UsageError, match=words):
            read_attachment(str(path), "image" if kind else None)

    (tmp_path / "text").write_text("x")
    (tmp_path / "binary").write_bytes(b"\x00\xff\x00")
    os.mkfifo(tmp_path / "pipe")
    for name, size in (("long", TEXT_LIMIT + 1), ("huge", IMAGE_LIMIT + 1)):
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)
        refused(tmp_path / name, "too large")
    refused(tmp_path, "is a folder")
    refused(tmp_path / "none", "There is no file")
    refused(tmp_path / "pipe", "no regular file")
    refused(tmp_path / "binary", "neither UTF-8 text nor an image")
    refused(tmp_path / "text", "is no image", "image")


def test_an_attachment_is_kept_and_read_again(tmp_path: Path) -> None:
    file = tmp_path / "b"
    file.write_bytes(PNG)
    attachment = read_attachment(str(file))
    assert attachment_from(attachment.to_json()) == attachment
    forgotten = attachment_from({**attachment.to_json(), "content": None})
    assert forgotten.whole() == attachment
    file.unlink()
    with pytest.raises(UsageError, match="There is no file"):
        forgotten.whole()


def test_paths_complete_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("notes.txt", "notes.md", ".hidden"):
        (tmp_path / name).touch()
    (tmp_path / "nothing").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert completions("~/n") == ["~/nothing/", "~/notes.md", "~/notes.txt"]
    assert common(completions("~/n")) == "~/not"
    assert completions("~/.h") == ["~/.hidden"]
    assert completions("~/notes.t") == ["~/notes.txt"]
    for name in ("evil\x1b]52;c;aGk=\x07", "evil\nline", "evil\u202etxt", "evil\udcff"):
        (tmp_path / name).touch()
    assert not completions("~/evil")
    assert completions(f"{tmp_path}/none/") == ()
    assert not completions("\0")
    assert common(()) == ""


def test_the_queue_time_is_read_from_the_metrics_and_told() -> None:
    metrics = (
        'vllm:request_queue_time_seconds_bucket{engine="0",le="0.3"} 3.0\n'
        'vllm:request_queue_time_seconds_count{engine="0"} 3.0\n'
        'vllm:request_queue_time_seconds_sum{engine="0"} 0.5\n'
        'vllm:request_queue_time_seconds_count{engine="1"} 1.0\n'
        'vllm:request_queue_time_seconds_sum{engine="1"} 0.25\n'
    )
    assert read_queue(metrics) == (4, 0.75)
    assert read_queue("{}") is None
    talk = Conversation()
    talk.add_user("?")
    reply = talk.begin_reply("m")
    assert details(reply) == [("model", "m")]
    reply.reasoning_tokens, reply.reasoning_s = 7, 0.5
    talk.finish(reply, ReplyFigures(0.1, 2.0, 30.0, 20, 9, "stop", 9, False, 16, None, 0.04))
    told = dict(details(reply))
    assert told["of them in the prefix cache"] == "16"
    assert told["of that, waiting in the server's queue"] == "40 ms"
    assert told["of them thinking"] == "~7"
