"""What is asked: prompts of wanted lengths, those of a data set, or a conversation again and again."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from qwen_tui.bench.datasets import Item, read_items
from qwen_tui.bench.tokens import TokenCounter, single_token_words
from qwen_tui.bench.vocabulary import WORDS
from qwen_tui.errors import UsageError
from qwen_tui.i18n import _

Kind = Literal["random", "sharegpt", "jsonl", "conversation", "imported"]
#: Those that can be asked for.
KINDS: tuple[Kind, ...] = ("random", "sharegpt", "jsonl", "conversation")
#: Tokens that an answer gets where neither the workload nor the data set says.
_OUTPUT = 128
_FEWEST_WORDS = 32


@dataclass(frozen=True)
class Workload:
    """kind: one of KINDS; or "imported", of which only the mean lengths are known.

    random: input_len and output_len in tokens, each ± spread (0..1, a share, evenly distributed); prefix_len tokens,
        the same for all, come before. The input's length is without what the chat template adds.
    sharegpt, jsonl: `path` is the file; output_len 0 takes each item's own. conversation: `messages`, as they are.
    ignore_eos: answers are exactly as long as asked for (vLLM; others ignore it). None: for `random` only.
    """

    kind: Kind = "random"
    input_len: int = 64
    output_len: int = 128
    spread: float = 0.0
    prefix_len: int = 0
    path: str = ""
    messages: tuple[dict[str, Any], ...] = ()
    ignore_eos: bool | None = None

    def __post_init__(self) -> None:
        """Raises UsageError where the fields make no workload."""
        if self.kind not in (*KINDS, "imported"):
            raise UsageError(_("There is no workload “{kind}”").format(kind=self.kind), "", ", ".join(KINDS))
        if self.kind == "random" and (self.input_len < 1 or self.output_len < 1):
            raise UsageError(_("Prompts and answers have at least one token"))
        if not 0 <= self.spread < 1 or self.prefix_len < 0 or self.output_len < 0:
            raise UsageError(_("A spread is a share from 0 to below 1, and a length is no less than 0"))
        if self.kind in ("sharegpt", "jsonl") and not self.path:
            raise UsageError(_("This workload needs a file"))
        if self.kind == "conversation" and not self.messages:
            raise UsageError(_("This workload needs a conversation"))

    @property
    def ignores_eos(self) -> bool:
        return self.kind == "random" if self.ignore_eos is None else self.ignore_eos

    @property
    def repeats(self) -> bool:
        """Whether the same prompt comes again and again, which a server's prefix cache makes fast."""
        return self.kind == "conversation"

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "messages": list(self.messages)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Workload:
        """What `to_json` wrote. Raises UsageError, TypeError."""
        return cls(**{**data, "messages": tuple(data.get("messages", ()))})


@dataclass(frozen=True)
class Vocabulary:
    """words: of one token each after a blank. leads: those that are one at the very beginning too."""

    words: Sequence[str]
    leads: Sequence[str]


def make_items(
    workload: Workload,
    count: int,
    chance: random.Random,
    counter: TokenCounter | None,
    vocabulary: Vocabulary | None = None,
) -> list[Item]:
    """`count` things to ask. Blocks: counting may ask the server, files are read.

    vocabulary: what `vocabulary_of` found for the counter, where it is known already.

    counter: None makes prompts of that many words, which is an estimate of their tokens. Raises BenchError, UsageError,
    OSError, ValueError.
    """
    if workload.kind == "random":
        return _random(workload, count, chance, vocabulary or vocabulary_of(counter))
    if workload.kind == "imported":
        raise UsageError(_("What an imported run asked for is not known"))
    if workload.kind == "conversation":
        return [Item(list(workload.messages), workload.output_len or _OUTPUT)] * count
    items = read_items(Path(workload.path), workload.kind, counter)
    chance.shuffle(items)
    if workload.output_len:
        items = [Item(item.prompt, workload.output_len) for item in items]
    items = [item if item.output_tokens else Item(item.prompt, _OUTPUT) for item in items]
    return (items * (count // len(items) + 1))[:count]


def _random(workload: Workload, count: int, chance: random.Random, vocabulary: Vocabulary) -> list[Item]:
    words, leads = vocabulary.words, vocabulary.leads
    shared = chance.choices(words, k=workload.prefix_len)
    if shared:
        shared[0] = chance.choice(leads)
    items = []
    for _number in range(count):
        length = _spread(workload.input_len, workload.spread, chance)
        own = chance.choices(words, k=length)
        if not shared:
            own[0] = chance.choice(leads)
        items.append(Item(" ".join(shared + own), _spread(workload.output_len, workload.spread, chance)))
    return items


def _spread(length: int, spread: float, chance: random.Random) -> int:
    if not spread:
        return length
    return max(1, chance.randint(round(length * (1 - spread)), round(length * (1 + spread))))


def vocabulary_of(counter: TokenCounter | None) -> Vocabulary:
    """What random prompts are made of. Blocks: some hundred counts. Raises OSError, ValueError."""
    unique = sorted(set(WORDS))
    if counter is None:
        return Vocabulary(unique, unique)
    words = single_token_words(counter, unique)
    leads = [word for word in words[:: max(1, len(words) // 24)] if counter.count(word) == 1]
    if len(words) < _FEWEST_WORDS or not leads:
        return Vocabulary(unique, unique)  # no tokenizer of words: the lengths are estimates
    return Vocabulary(words, leads)
