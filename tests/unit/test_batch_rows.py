"""A batch's input: every shape of row, and everything that is none."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from qwen_tui.batch.order import read_input
from qwen_tui.batch.preview import preview
from qwen_tui.errors import UsageError
from qwen_tui.workers import batch_rows
from qwen_tui.workers.batch_rows import BadRow, Row, read_rows, survey


def rows_of(tmp_path: Path, data: bytes, kind: str, column: str = "") -> list[Row | BadRow]:
    file = tmp_path / "input"
    file.write_bytes(data)
    return list(read_rows(str(file), kind, column))


def codes(rows: list[Row | BadRow]) -> list[tuple[int, str]]:
    return [(row.line, row.code if isinstance(row, BadRow) else "") for row in rows]


def test_a_text_file_has_a_prompt_on_each_line_that_is_not_empty(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, b"\xef\xbb\xbfone\r\n\r\n \ntwo\xff\n\xe4\xb8\x89\nlast", "text")
    assert codes(rows) == [(1, ""), (4, "not_utf8"), (5, ""), (6, "")]
    assert [row.prompt for row in rows if isinstance(row, Row)] == ["one", "三", "last"]
    assert [row.id for row in rows] == ["1", "4", "5", "6"]


def test_jsonl_in_every_shape(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]
    lines: list[object] = [
        {"prompt": "p", "temperature": 0.5, "label": "mine"},
        {"messages": messages, "id": 7},
        "bare",
        {"custom_id": "x", "method": "POST", "url": "/v1/chat/completions",
         "body": {"model": "m", "messages": messages, "max_tokens": 5, "user": "u", "odd": 1}},
        {"custom_id": "y", "url": "/v1/completions", "body": {"prompt": ["only"]}},
        {"custom_id": "x", "body": {"prompt": "again"}},
        {"custom_id": "e", "url": "/v1/embeddings", "body": {"input": "t"}},
        {"prompt": ""},
        {"messages": []},
        {"messages": [{"content": "no role"}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        [1, 2],
    ]  # fmt: skip
    data = "\n".join(json.dumps(line) for line in lines) + '\n{"prompt": "torn\n"\\ud800"\n'
    rows = rows_of(tmp_path, data.encode(), "jsonl")
    bad = [(row.line, row.code) for row in rows if isinstance(row, BadRow)]
    assert bad == [(6, "duplicate_id"), (7, "not_supported"), (8, "no_prompt"), (9, "no_prompt"), (10, "bad_message"),
                   (11, "not_supported"), (12, "no_prompt"), (13, "not_json"), (14, "not_utf8")]  # fmt: skip
    good = {row.id: row for row in rows if isinstance(row, Row)}
    assert list(good) == ["1", "7", "3", "x", "y"]
    assert good["1"].parameters == {"temperature": 0.5}
    assert good["7"].messages == [{"role": "user", "content": "ab"}]
    assert good["3"].prompt == "bare"
    assert good["x"].parameters == {"max_tokens": 5, "odd": 1}
    assert good["y"].prompt == "only"


def test_csv_with_quotes_and_a_column(tmp_path: Path) -> None:
    data = b'id,question,x\na,"two\nlines, and a comma",1\nb,,2\na,again,3\n,no id,4\n'
    rows = rows_of(tmp_path, data, "csv", "question")
    assert codes(rows) == [(3, ""), (4, "no_prompt"), (5, "duplicate_id"), (6, "")]
    assert isinstance(rows[0], Row)
    assert (rows[0].id, rows[0].prompt) == ("a", "two\nlines, and a comma")
    assert rows[3].id == "6"
    (tmp_path / "input.csv").write_bytes(data)
    with pytest.raises(UsageError, match="no such column") as caught:
        read_input(tmp_path / "input.csv")
    assert "question" in caught.value.why


def test_a_line_that_is_too_long_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_rows, "LONGEST_LINE", 100)
    rows = rows_of(tmp_path, b"x" * 100 + b"\n" + b"y" * 101 + b"\n" + b"z" * 3_000_000 + b"\nend", "text")
    assert codes(rows) == [(1, ""), (2, "too_long_line"), (3, "too_long_line"), (4, "")]


def test_an_input_is_known_by_its_bytes_and_lines(tmp_path: Path) -> None:
    file = tmp_path / "p.txt"
    # Blocks of 1 MiB end in the middle of lines, and exactly at their ends.
    file.write_bytes((b"x" * 1023 + b"\n") * 2048 + b"\n  \nlast")
    assert survey(str(file), "text")["lines"] == 2049
    found = read_input(file)
    assert (found.kind, found.lines, found.size) == ("text", 2049, file.stat().st_size)
    file.write_bytes(b"\n \n")
    with pytest.raises(UsageError, match="no prompts"):
        read_input(file)
    file.write_bytes("x".encode("utf-16"))
    with pytest.raises(UsageError, match="UTF-16"):
        read_input(file)


def test_a_csv_file_is_counted_in_rows_and_not_in_lines(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes(b'\xef\xbb\xbfprompt\r\n"two\r\nlines"\r\n\r\n"and ""quotes"""\r\n')
    assert read_input(tmp_path / "in.csv").lines == 2


@pytest.mark.parametrize("name", ["in.txt", "in.csv"])
def test_what_can_not_be_read_twice_is_no_input(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    (tmp_path / "folder").mkdir()
    for look in (
        lambda: read_input(tmp_path / name),
        lambda: preview(str(tmp_path / name)),
        lambda: read_input(tmp_path / "folder"),
    ):
        with pytest.raises(UsageError, match="no ordinary file"):
            look()


def test_ids_are_remembered_without_their_texts() -> None:
    seen = batch_rows.SeenIds()
    assert all(seen.add(f"id{number}") for number in range(20_000))
    assert not any(seen.add(f"id{number}") for number in range(20_000))
