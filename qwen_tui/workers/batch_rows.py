"""The rows of a batch's input, one after the other: a text, JSONL or CSV file of any size. Standard library only.

A row is named by the number of the line that it begins at (from 1; in a CSV file, that it ends at), which is how a
batch that goes on knows what is done. What can't be a prompt is told as a `BadRow`, and never stops the others.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import stat
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import TextIOWrapper
from pathlib import Path
from typing import Any, BinaryIO

#: A line that is longer than this is not read into memory. Bytes.
LONGEST_LINE = 64 << 20
KINDS = ("text", "jsonl", "csv")
_BOM = b"\xef\xbb\xbf"
#: Fields of a row that are sampling parameters; what else stands beside "prompt" is the person's own.
SAMPLING_FIELDS = frozenset(
    [
        "n",
        "best_of",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "max_tokens",
        "max_completion_tokens",
        "min_tokens",
        "stop",
        "stop_token_ids",
        "seed",
        "logprobs",
        "top_logprobs",
        "presence_penalty",
        "frequency_penalty",
        "repetition_penalty",
        "ignore_eos",
        "logit_bias",
        "include_stop_str_in_output",
        "skip_special_tokens",
        "spaces_between_special_tokens",
        "bad_words",
        "allowed_token_ids",
        "response_format",
        "structured_outputs",
        "json_schema",
        "regex",
        "chat_template_kwargs",
        "tools",
    ]
)
#: Fields of OpenAI's request body that say nothing about how the answer is drawn.
_NO_PARAMETERS = frozenset(
    [
        "model",
        "messages",
        "prompt",
        "stream",
        "stream_options",
        "user",
        "metadata",
        "store",
        "service_tier",
        "safety_identifier",
        "prompt_cache_key",
    ]
)
_URLS = ("/v1/chat/completions", "/v1/completions")


class InputError(Exception):
    """The file as a whole is no input: a code, and what it is about."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code, self.detail = code, detail


@dataclass
class Row:
    """One prompt, or the messages of one conversation. parameters: the row's own sampling fields, as they stand."""

    line: int
    id: str
    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass
class BadRow:
    """A row that is no prompt: why as a code (see batch.words), and what was found."""

    line: int
    id: str
    code: str
    detail: str = ""


def kind_of(path: str) -> str:
    """What a file of this name holds."""
    suffix = Path(path).suffix.lower()
    return "jsonl" if suffix in (".jsonl", ".ndjson", ".json") else "csv" if suffix == ".csv" else "text"


def survey(path: str, kind: str) -> dict[str, Any]:
    """Read the file once: its size, change time, SHA-256, and how many lines are not empty. Raises InputError."""
    digest, lines = hashlib.sha256(), 0
    try:
        with _opened(path) as file:
            status = os.fstat(file.fileno())
            half = False  # whether the last block ended within a line that is not empty
            while block := file.read(1 << 20):
                digest.update(block)
                pieces = block.split(b"\n")
                lines += sum(1 for piece in pieces[1:-1] if piece.strip())
                if len(pieces) == 1:
                    half = half or bool(block.strip())
                else:
                    lines += half or bool(pieces[0].strip())
                    half = bool(pieces[-1].strip())
            lines += half
    except OSError as error:
        raise InputError("unreadable", str(error)) from None
    if kind == "csv":
        lines = max(0, sum(1 for _number, cells in _csv_records(path) if cells) - 1)
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": digest.hexdigest(), "lines": lines}


def read_rows(path: str, kind: str, column: str = "") -> Iterator[Row | BadRow]:
    """Every row of the file in its order. Memory: one row, and 16 to 32 bytes for each id that the file itself gives.

    column: of a CSV file; empty for "prompt", or the only one. Raises InputError.
    """
    seen = SeenIds()
    rows = _read_csv(path, column) if kind == "csv" else _read_lines(path, kind)
    for row, own_id in rows:
        if own_id and isinstance(row, Row) and not seen.add(row.id):
            yield BadRow(row.line, row.id, "duplicate_id", row.id)
        else:
            yield row


class SeenIds:
    """Which texts were seen, as 64-bit hashes in one flat table."""

    def __init__(self) -> None:
        self._table = array("Q", bytes(8 * 1024))
        self._count = 0

    def add(self, text: str) -> bool:
        """Note `text`; whether it is new."""
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        if not self._insert(int.from_bytes(digest, "little") or 1):
            return False
        self._count += 1
        if self._count * 2 > len(self._table):
            old, self._table = self._table, array("Q", bytes(len(self._table) * 16))
            for key in old:
                if key:
                    self._insert(key)
        return True

    def _insert(self, key: int) -> bool:
        table, mask = self._table, len(self._table) - 1
        place = key & mask
        while table[place]:
            if table[place] == key:
                return False
            place = (place + 1) & mask
        table[place] = key
        return True


def _opened(path: str) -> BinaryIO:
    """The file, at its beginning. Raises InputError for what can't be read twice (a pipe) or without an end."""
    try:
        # Without O_NONBLOCK a named pipe that nobody writes to would hold this up for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise InputError("unreadable", str(error)) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError("no_file", path)
    file = os.fdopen(descriptor, "rb")
    if file.read(2) in (b"\xff\xfe", b"\xfe\xff"):
        file.close()
        raise InputError("utf16")
    file.seek(0)
    return file


def _lines(file: BinaryIO) -> Iterator[bytes | None]:
    """The lines without their ends; None for one that is too long."""
    first = True
    while line := file.readline(LONGEST_LINE + 2):
        if first:
            line, first = line.removeprefix(_BOM), False
        is_whole = line.endswith(b"\n")
        text = line.removesuffix(b"\n")
        if len(text) <= LONGEST_LINE:
            yield text.removesuffix(b"\r")
            continue
        while not is_whole and (rest := file.readline(1 << 20)):
            is_whole = rest.endswith(b"\n")
        yield None


def _read_lines(path: str, kind: str) -> Iterator[tuple[Row | BadRow, bool]]:
    """The rows of a text or JSONL file; each with whether it brought an id of its own."""
    with _opened(path) as file:
        for number, data in enumerate(_lines(file), 1):
            if data is None:
                yield BadRow(number, str(number), "too_long_line"), False
                continue
            if not data.strip():
                continue
            try:
                text = data.decode("utf-8")
            except UnicodeDecodeError as error:
                yield BadRow(number, str(number), "not_utf8", f"byte {error.start + 1}"), False
                continue
            yield (Row(number, str(number), text), False) if kind == "text" else _parse_json(number, text)


def _read_csv(path: str, column: str) -> Iterator[tuple[Row | BadRow, bool]]:
    records = _csv_records(path)
    heading = next(records, (0, []))[1]
    if isinstance(heading, csv.Error):
        raise InputError("unreadable", str(heading))
    place, id_place = _columns(heading, column)
    for number, cells in records:
        if isinstance(cells, csv.Error):
            yield BadRow(number, str(number), "not_csv", str(cells)), False
        elif cells:
            yield _csv_row(number, cells, place, id_place)


def _csv_records(path: str) -> Iterator[tuple[int, list[str] | csv.Error]]:
    """Every record with the line that it ends at: its cells (none in an empty line), or why it has none."""
    csv.field_size_limit(LONGEST_LINE)
    with TextIOWrapper(_opened(path), encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file)
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield reader.line_num, error
            else:
                yield reader.line_num, cells


def _columns(heading: list[str], column: str) -> tuple[int, int]:
    """Where the prompt is, and the id (-1: nowhere). Raises InputError."""
    wanted = column or ("prompt" if "prompt" in heading else heading[0] if len(heading) == 1 else "")
    if wanted not in heading:
        raise InputError("no_column", f"{column or 'prompt'}: {', '.join(heading)}")
    own = next((heading.index(name) for name in ("custom_id", "id") if name in heading and name != wanted), -1)
    return heading.index(wanted), own


def _csv_row(line: int, cells: list[str], place: int, id_place: int) -> tuple[Row | BadRow, bool]:
    own_id = cells[id_place].strip() if 0 <= id_place < len(cells) else ""
    id = own_id or str(line)
    text = cells[place] if place < len(cells) else ""
    if not text.strip():
        return BadRow(line, id, "no_prompt"), False
    if not _is_text(text) or not _is_text(id):
        return BadRow(line, str(line), "not_utf8"), False
    return Row(line, id, text), bool(own_id)


def _is_text(text: str) -> bool:
    """Whether it can be written as UTF-8: a lone half of a pair can't."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _parse_json(line: int, text: str) -> tuple[Row | BadRow, bool]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        return BadRow(line, str(line), "not_json", str(error)), False
    if "\\u" in text and not _is_text(json.dumps(data, ensure_ascii=False)):
        return BadRow(line, str(line), "not_utf8"), False
    if isinstance(data, str):
        data = {"prompt": data}
    if not isinstance(data, dict):
        return BadRow(line, str(line), "no_prompt"), False
    own_id = next((data[key] for key in ("custom_id", "id") if isinstance(data.get(key), str | int)), "")
    row = _from_object(line, str(own_id) if own_id != "" else str(line), data)
    return row, own_id != ""


def _from_object(line: int, id: str, data: dict[str, Any]) -> Row | BadRow:
    """A row out of {"custom_id", "url", "body"}, {"prompt"} or {"messages"}."""
    body = data.get("body")
    if isinstance(body, dict):
        if data.get("url", _URLS[0]) not in _URLS or data.get("method", "POST") != "POST":
            return BadRow(line, id, "not_supported", f"{data.get('method', 'POST')} {data.get('url')}")
        parameters = {key: value for key, value in body.items() if key not in _NO_PARAMETERS and value is not None}
    else:
        body = data
        parameters = {key: data[key] for key in SAMPLING_FIELDS & data.keys() if data[key] is not None}
    if "messages" in body:
        messages = _messages(body["messages"])
        if isinstance(messages, str):
            return BadRow(line, id, *messages.split(":", 1))
        return Row(line, id, None, messages, parameters)
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str) or not prompt.strip():
        return BadRow(line, id, "no_prompt")
    return Row(line, id, prompt, None, parameters)


def _messages(value: Any) -> list[dict[str, Any]] | str:
    """The messages with every content as one text, or why they are none: "code:detail"."""
    if not isinstance(value, list) or not value:
        return "no_prompt"
    found = []
    for message in value:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            return "bad_message:role"
        content = message.get("content")
        if isinstance(content, list):
            other = [part for part in content if not isinstance(part, dict) or part.get("type") != "text"]
            if other:
                kind = other[0].get("type") if isinstance(other[0], dict) else other[0]
                return f"not_supported:{kind}"
            content = "".join(str(part.get("text", "")) for part in content)
        if not isinstance(content, str) and not (content is None and message.get("tool_calls")):
            return "bad_message:content"
        found.append({**message, "content": content})
    return found
