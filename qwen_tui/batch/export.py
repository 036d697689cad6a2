"""A batch's results for other programs and for people: CSV, Markdown, and lines as vLLM's own example prints them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TextIO

from qwen_tui.batch.results import ResultRow, read_results

#: How → the ending of the file.
ENDINGS = {"csv": ".csv", "markdown": ".md", "text": ".txt"}


def export(output: Path, how: str) -> Path:
    """Write the results beside the output, in the order in which they were finished; where. For a thread.

    Raises OSError. Memory: one row.
    """
    target = output.with_suffix(ENDINGS[how])
    number = 2
    while target.exists():
        target, number = output.with_name(f"{output.stem}-{number}{ENDINGS[how]}"), number + 1
    with target.open("x", encoding="utf-8", newline="") as file:
        if how == "csv":
            _write_csv(output, file)
        else:
            for row in read_results(output):
                file.write(as_line(row) if how == "text" else _as_markdown(row))
    return target


def as_line(row: ResultRow) -> str:
    """Prompt: '…', Generated text: '…'"""
    return f"Prompt: {row.prompt!r}, Generated text: {row.text!r}\n"


def _as_markdown(row: ResultRow) -> str:
    quoted = "\n".join(f"> {line}" for line in row.prompt.splitlines() or [""])
    return f"## {' '.join(row.id.split())}\n\n{quoted}\n\n{row.text}\n\n"


def _write_csv(output: Path, file: TextIO) -> None:
    writer = csv.writer(file)
    writer.writerow(["line", "id", "prompt", "text", "finish_reason", "prompt_tokens", "output_tokens", "seconds"])
    for row in read_results(output):
        writer.writerow(
            [row.line, row.id, row.prompt, row.text, row.finish_reason, row.prompt_tokens, row.output_tokens,
             row.seconds]
        )  # fmt: skip
