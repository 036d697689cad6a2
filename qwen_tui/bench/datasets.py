"""Files of prompts: ShareGPT's JSON, and JSON lines with a prompt, or chat messages, each."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwen_tui.bench.target import BenchError
from qwen_tui.bench.tokens import TokenCounter
from qwen_tui.i18n import _

#: Of ShareGPT, `vllm bench serve` keeps what is within these: tokens of either side, of the prompt, of both.
_FEWEST, _PROMPT_MOST, _BOTH_MOST = 4, 1024, 2048
#: Letters per token of English, where nothing can count.
_LETTERS = 4.5
_MOST_ITEMS = 20000


@dataclass(frozen=True)
class Item:
    """One thing to ask: a text or chat messages, and how many tokens to answer with; 0 where the file does not say."""

    prompt: str | list[dict[str, Any]]
    output_tokens: int = 0

    @property
    def text(self) -> str:
        """The prompt as one text, for the endpoint that knows no messages."""
        if isinstance(self.prompt, str):
            return self.prompt
        return "\n\n".join(str(message.get("content", "")) for message in self.prompt)


def read_items(file: Path, kind: str, counter: TokenCounter | None) -> list[Item]:
    """What is in `file`. kind: "sharegpt" or "jsonl". Raises BenchError naming the file, and the line."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BenchError(_("Can't read {file}").format(file=file), str(error)) from None
    items = _sharegpt(file, text, counter) if kind == "sharegpt" else _lines(file, text)
    if not items:
        raise BenchError(_("There is no prompt in {file}").format(file=file))
    return items


def _sharegpt(file: Path, text: str, counter: TokenCounter | None) -> list[Item]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BenchError(_("{file} is not JSON").format(file=file), str(error)) from None
    items: list[Item] = []
    for entry in (data if isinstance(data, list) else [])[:_MOST_ITEMS]:
        turns = (entry.get("conversations") or entry.get("conversation")) if isinstance(entry, dict) else None
        if not isinstance(turns, list) or len(turns) < 2 or not all(isinstance(turn, dict) for turn in turns[:2]):
            continue
        prompt, answer = (str(turn.get("value") or turn.get("content") or "") for turn in turns[:2])
        # Exact counts of a whole data set would take minutes over a network; only the limits depend on these.
        asked, answered = len(prompt) / _LETTERS, len(answer) / _LETTERS
        if min(asked, answered) < _FEWEST or asked > _PROMPT_MOST or asked + answered > _BOTH_MOST:
            continue
        tokens = round(answered)
        if counter is not None and len(items) < 1000:
            tokens = counter.count(answer)
        items.append(Item(prompt, max(1, tokens)))
    return items


def _lines(file: Path, text: str) -> list[Item]:
    items = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BenchError(
                _("{file}, line {number} is not JSON").format(file=file, number=number), str(error)
            ) from None
        prompt = entry if isinstance(entry, str) else None
        tokens = 0
        if isinstance(entry, dict):
            # The line may be a request of OpenAI's batch format, which has it all in "body".
            body = entry["body"] if isinstance(entry.get("body"), dict) else entry
            prompt = body.get("prompt", body.get("messages"))
            told = body.get("output_tokens", body.get("max_completion_tokens", body.get("max_tokens", 0)))
            tokens = told if isinstance(told, int) and told > 0 else 0
        is_messages = isinstance(prompt, list) and all(isinstance(message, dict) for message in prompt)
        if not prompt or not (isinstance(prompt, str) or is_messages):
            raise BenchError(
                _("{file}, line {number} has neither a prompt nor messages").format(file=file, number=number)
            )
        items.append(Item(prompt, tokens))
        if len(items) >= _MOST_ITEMS:
            break
    return items
