"""Read what a batch has written, without holding it in memory: rows by number, filters, a text for people."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ResultRow:
    """One row of the output, or of the errors file (then `code` says why there is no answer, `detail` more).

    line: where in the input it stands. seconds: from its sending to its end, None where that is not known.
    """

    line: int
    id: str
    prompt: str
    text: str
    finish_reason: str = ""
    prompt_tokens: int = 0
    output_tokens: int = 0
    seconds: float | None = None
    code: str = ""
    detail: str = ""


class ResultFile:
    """The rows of one file, by number; `update` looks for those that came since. 8 bytes of memory for each row."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offsets = array("Q")
        self._end = 0

    def __len__(self) -> int:
        return len(self._offsets)

    def update(self, most: int = 16 << 20) -> bool:
        """Index up to `most` more bytes; whether there were any. For a thread."""
        try:
            with self._path.open("rb") as file:
                size = file.seek(0, 2)
                if size < self._end:  # it was begun anew
                    self._offsets, self._end = array("Q"), 0
                file.seek(self._end)
                data = file.read(most)
        except OSError:
            return False
        start = 0
        while (newline := data.find(b"\n", start)) >= 0:
            self._offsets.append(self._end + start)
            start = newline + 1
        self._end += start
        return start > 0

    def read(self, number: int) -> ResultRow | None:
        """The row of this number, from 0; None where there is none that can be read."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offsets[number])
                return parse_row(json.loads(file.readline()))
        except (OSError, ValueError, IndexError, KeyError, TypeError, AttributeError):
            return None

    def find(self, words: str) -> Iterator[int]:
        """The numbers of the rows that have every word in id, prompt or text, capitals or not; reads the file once."""
        plain = words.lower().split()
        wanted = [_as_written(word) for word in plain]
        try:
            file = self._path.open("rb")
        except OSError:
            return
        with file:
            for number in range(len(self._offsets)):
                data = file.readline()
                line = data.decode("utf-8", "replace").lower()
                # The line is read as JSON only where its bytes leave it open.
                if all(word in line for word in wanted) and _has(data, plain):
                    yield number


def _has(data: bytes, words: list[str]) -> bool:
    try:
        row = parse_row(json.loads(data))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return False
    text = f"{row.id}\n{row.prompt}\n{row.text}".lower()
    return all(word in text for word in words)


def _as_written(word: str) -> str:
    return json.dumps(word, ensure_ascii=False)[1:-1]


def read_results(path: Path) -> Iterator[ResultRow]:
    """Every row of the file, one after the other."""
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"}\n"):
                yield parse_row(json.loads(line))


def parse_row(data: dict[str, Any]) -> ResultRow:
    """A row of either format, or of an errors file. Raises KeyError, TypeError for anything else."""
    if isinstance(data.get("response"), dict):
        return _from_openai(data)
    error = data.get("error")
    if isinstance(error, dict):
        return ResultRow(
            int(data["line"]), str(data["id"]), "", "", code=str(error["code"]), detail=str(error.get("detail", ""))
        )
    return ResultRow(
        line=int(data["line"]),
        id=str(data["id"]),
        prompt=data["prompt"] if "prompt" in data else _asked(data["messages"]),
        text=str(data["text"]),
        finish_reason=str(data.get("finish_reason") or ""),
        prompt_tokens=int(data.get("prompt_tokens") or 0),
        output_tokens=int(data.get("output_tokens") or 0),
        seconds=data.get("seconds"),
    )


def _asked(messages: list[dict[str, Any]]) -> str:
    """What the last message says."""
    return str(messages[-1].get("content") or "")


def _from_openai(data: dict[str, Any]) -> ResultRow:
    body = data["response"]["body"]
    choice, usage = body["choices"][0], body.get("usage") or {}
    message = choice.get("message")
    return ResultRow(
        line=int(str(data["id"]).rsplit("_", 1)[-1]),
        id=str(data["custom_id"]),
        prompt="",
        text=str((message.get("content") if isinstance(message, dict) else choice.get("text")) or ""),
        finish_reason=str(choice.get("finish_reason") or ""),
        prompt_tokens=int(usage.get("prompt_tokens") or 0),
        output_tokens=int(usage.get("completion_tokens") or 0),
    )
