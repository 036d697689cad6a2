"""A batch's output: what is done is in the file itself, whatever became of its end."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from qwen_tui.batch.results import ResultFile, read_results
from qwen_tui.workers.batch_results import OutputError, Results


def opened(tmp_path: Path, format: str = "rows") -> Results:
    return Results(str(tmp_path / "out.jsonl"), str(tmp_path / "errors.jsonl"), format)


def row(line: int) -> dict[str, object]:
    return {"line": line, "id": str(line), "prompt": f"p{line}", "text": f"t{line}"}


def test_a_torn_line_is_cut_off_and_nothing_else(tmp_path: Path) -> None:
    results = opened(tmp_path)
    for line in (3, 1):
        results.add(line, row(line))
    results.add_bad(2, "2", "not_json", "x" * 5000)
    results.add_bad(9, "9", "failed", "HTTP 503", is_passing=True)
    results.close()
    with (tmp_path / "out.jsonl").open("ab") as file:
        file.write(b'{"line": 4, "id": "4", "pro')
    with (tmp_path / "errors.jsonl").open("ab") as file:
        file.write(b'{"line"')
    again = opened(tmp_path)
    assert [line for line in range(12) if line in again.done] == [1, 2, 3]  # 9 is tried again
    assert (again.finished, again.failed) == (2, 1)
    again.add(3, row(3))  # there already
    again.add(4, row(4))
    again.close()
    assert [found.line for found in read_results(tmp_path / "out.jsonl")] == [3, 1, 4]
    assert [(found.line, found.code) for found in read_results(tmp_path / "errors.jsonl")] == [(2, "not_json")]


def test_zeros_after_a_power_cut_are_a_torn_line(tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_bytes(json.dumps(row(1)).encode() + b"\n" + bytes(5000))
    results = opened(tmp_path)
    assert results.finished == 1
    assert (tmp_path / "out.jsonl").read_bytes().endswith(b"}\n")
    results.close()


def test_the_file_of_something_else_is_not_touched(tmp_path: Path) -> None:
    file = tmp_path / "out.jsonl"
    file.write_bytes(b'{"name": "mine"}\n{"name": "too"}\n')
    with pytest.raises(OutputError) as caught:
        opened(tmp_path)
    assert caught.value.code == "not_ours"
    assert file.read_bytes() == b'{"name": "mine"}\n{"name": "too"}\n'


def test_two_never_write_the_same_output(tmp_path: Path) -> None:
    first = opened(tmp_path)
    with pytest.raises(OutputError) as caught:
        opened(tmp_path)
    assert caught.value.code == "in_use"
    first.close()


def test_a_full_disk_leaves_whole_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = opened(tmp_path)
    for line in range(1, 100):
        results.add(line, row(line))
    write, room = os.write, [1000]

    def full(descriptor: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(28, "No space left on device")
        count = write(descriptor, bytes(data)[: room[0]])
        room[0] -= count
        return count

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OutputError) as caught:
        results.flush()
    assert caught.value.code == "unwritable"
    data = (tmp_path / "out.jsonl").read_bytes()
    assert 900 < len(data) <= 1000
    assert data.endswith(b"}\n")
    assert results.finished == data.count(b"\n")  # what is told to be done is in the file
    # A little room: the end tries once more, and writes none of the rows a second time.
    room[0] = 200
    with pytest.raises(OutputError):
        results.close()
    monkeypatch.undo()
    lines = [row.line for row in read_results(tmp_path / "out.jsonl")]
    assert lines == list(range(1, len(lines) + 1))
    assert 0 < len(data) < (tmp_path / "out.jsonl").stat().st_size


def test_openais_shape_says_what_is_done_too(tmp_path: Path) -> None:
    results = opened(tmp_path, "openai")
    body = {"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}], "usage": {"completion_tokens": 3}}
    record = {"id": "batch_req_12", "custom_id": "mine", "response": {"status_code": 200, "body": body}, "error": None}
    results.add(12, record)
    results.close()
    assert 12 in opened(tmp_path, "openai").done
    (found,) = read_results(tmp_path / "out.jsonl")
    assert (found.line, found.id, found.text, found.output_tokens) == (12, "mine", "hi", 3)


def test_rows_are_read_by_number_and_found_by_words(tmp_path: Path) -> None:
    results = opened(tmp_path)
    for line in range(1, 51):
        results.add(line, {**row(line), "text": f"Antwort “{line}”"})
    results.flush()
    file = ResultFile(tmp_path / "out.jsonl")
    assert file.update()
    assert len(file) == 50
    found = file.read(6)
    assert found is not None
    assert found.text == "Antwort “7”"
    assert list(file.find("antwort “7”")) == [6]
    assert file.read(50) is None
    results.add(51, row(51))
    results.close()
    assert file.update()
    assert not file.update()
    assert len(file) == 51
