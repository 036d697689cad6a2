"""As much of vllm as a batch needs, without a model: the answer to a prompt is its words, backwards.

FAKE_VLLM_STEP: seconds that a step takes. FAKE_VLLM_FAIL: what the start dies of.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

__version__ = "0.0.fake"


@dataclass
class SamplingParams:
    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    max_tokens: int | None = 16
    logprobs: int | None = None

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ValueError(f"temperature must be non-negative, got {self.temperature}")


@dataclass
class EngineArgs:
    model: str = ""
    max_model_len: int = 64
    max_num_seqs: int = 4

    @staticmethod
    def add_cli_args(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
        parser.add_argument("--model", default="")
        parser.add_argument("--max-model-len", type=int, default=64)
        parser.add_argument("--max-num-seqs", type=int, default=4)
        return parser

    @classmethod
    def from_cli_args(cls, arguments: argparse.Namespace) -> EngineArgs:
        return cls(arguments.model, arguments.max_model_len, arguments.max_num_seqs)


class Tokenizer:
    """A token is a word."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.numbers: dict[str, int] = {}

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        found = []
        for word in text.split():
            if word not in self.numbers and len(self.words) < 4096:
                self.numbers[word] = len(self.words)
                self.words.append(word)
            found.append(self.numbers.get(word, 0))
        return found

    def apply_chat_template(self, messages: list[dict[str, Any]], **_options: Any) -> str:
        return " ".join(f"<{message['role']}> {message['content']}" for message in messages)

    def get_vocab(self) -> dict[str, int]:
        return {"x" * 32: 0}


@dataclass
class Completion:
    index: int
    text: str
    token_ids: list[int]
    finish_reason: str = "stop"
    stop_reason: str | None = None
    logprobs: Any = None


@dataclass
class Output:
    request_id: str
    outputs: list[Completion]
    finished: bool = True


@dataclass
class Engine:
    arguments: EngineArgs
    tokenizer: Tokenizer
    waiting: dict[str, tuple[list[int], SamplingParams]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.pause = float(os.environ.get("FAKE_VLLM_STEP", "0"))
        self.most = 0
        self.vllm_config = SimpleNamespace(
            model_config=SimpleNamespace(max_model_len=self.arguments.max_model_len),
            scheduler_config=SimpleNamespace(max_num_seqs=self.arguments.max_num_seqs),
        )
        self.model_config = SimpleNamespace(get_diff_sampling_param=lambda: {"temperature": 0.5})

    def add_request(self, request_id: str, prompt: dict[str, Any], params: SamplingParams) -> None:
        assert request_id not in self.waiting
        self.waiting[request_id] = (prompt["prompt_token_ids"], params)

    def step(self) -> list[Output]:
        if self.pause:
            time.sleep(self.pause)
        # The later ones first: the order of the answers is not that of the questions.
        chosen = list(self.waiting)[: self.arguments.max_num_seqs][::-1]
        done = []
        for id in chosen:
            tokens, params = self.waiting.pop(id)
            tokens = tokens[::-1][: params.max_tokens]
            text = " ".join(self.tokenizer.words[token] for token in tokens)
            done.append(Output(id, [Completion(number, text, tokens) for number in range(params.n)]))
        return done

    def abort_request(self, ids: list[str]) -> None:
        for id in ids:
            self.waiting.pop(id, None)


class LLM:
    def __init__(self, **arguments: Any) -> None:
        if why := os.environ.get("FAKE_VLLM_FAIL"):
            raise RuntimeError(why)
        self.tokenizer = Tokenizer()
        self.llm_engine = Engine(EngineArgs(**arguments), self.tokenizer)

    def get_tokenizer(self) -> Tokenizer:
        return self.tokenizer
