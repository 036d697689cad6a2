"""An offline speed test: the same prompts through several backends, each loaded in a process of its own.

What the figures mean: requests/s = prompts / elapsed, tokens/s = (prompt tokens + tokens of answers) / elapsed; elapsed
is generation only. Tokens are counted from what a backend produced, and each answer must be as long as asked for.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from qwen_tui.bench.statistics import Distribution
from qwen_tui.errors import UsageError
from qwen_tui.i18n import N_, _

BackendName = Literal["vllm", "hf", "mii", "server"]
#: Backend → what it is, in the order in which they are offered.
BACKENDS: Mapping[BackendName, str] = {
    "vllm": N_("vLLM's own engine, all prompts at once"),
    "hf": N_("transformers' generate, in static batches"),
    "mii": N_("DeepSpeed-MII, where the engine has it"),
    "server": N_("a running server or any endpoint, all prompts at once"),
}
DTYPES = ("auto", "half", "float16", "bfloat16", "float", "float32")


@dataclass(frozen=True)
class Work:
    """What every backend is to do; the defaults are the usual comparison's.

    model: a folder or a hub id. tokenizer: another than the model's; empty for its own. input_len, output_len: tokens
    of each prompt and each answer; an output_len of 0 takes a data set's own lengths. num_prompts: prompts of a round.
    dataset: ShareGPT's JSON or JSON lines of prompts; empty makes random prompts out of the seed. n: answers to each
    prompt. max_model_len: tokens of context, None for the model's own. hf_max_batch_size: prompts of a batch, at most.
    warmups: prompts before the clock starts, None for a batch of them: the first batch of a size costs a GPU seconds.
    repeat: rounds with the model loaded once.
    engine_arguments: further words for vLLM.
    """

    model: str
    backends: tuple[BackendName, ...] = ("vllm", "hf")
    tokenizer: str = ""
    input_len: int = 64
    output_len: int = 128
    num_prompts: int = 25
    seed: int = 2024
    dtype: str = "auto"
    max_model_len: int | None = None
    hf_max_batch_size: int = 25
    dataset: str = ""
    n: int = 1
    warmups: int | None = None
    repeat: int = 1
    trust_remote_code: bool = False
    tensor_parallel_size: int = 1
    quantization: str = ""
    engine_arguments: tuple[str, ...] = ()

    @property
    def warmup_prompts(self) -> int:
        """How many prompts are answered before the clock starts."""
        return min(self.num_prompts, self.hf_max_batch_size) if self.warmups is None else self.warmups

    def check(self) -> None:
        """Raises UsageError where the fields contradict each other, or a backend can't do them."""
        if not self.backends:
            raise UsageError(_("Name at least one backend"), "", ", ".join(BACKENDS))
        for name in self.backends:
            if name not in BACKENDS:
                raise UsageError(_("There is no backend “{name}”").format(name=name), "", ", ".join(BACKENDS))
        if len(set(self.backends)) < len(self.backends):
            raise UsageError(_("A backend is named twice"), "", _("--repeat N measures each several times"))
        if not self.model:
            raise UsageError(_("Which model? Give a folder or a hub id, such as qwen/Qwen2-7B-Instruct"))
        counts = (self.num_prompts, self.hf_max_batch_size, self.repeat, self.n, self.tensor_parallel_size)
        lengths = (1, 1) if self.dataset else (self.input_len, self.output_len)
        if min(*counts, *lengths) < 1 or self.warmup_prompts < 0:
            raise UsageError(_("Prompts, tokens, batches, rounds and GPUs are counted from 1"))
        if self.dtype not in DTYPES:
            raise UsageError(_("There is no dtype “{name}”").format(name=self.dtype), "", ", ".join(DTYPES))
        if self.dataset and not Path(self.dataset).expanduser().is_file():
            raise UsageError(_("There is no file {path}").format(path=self.dataset))
        longest = self.input_len + self.output_len
        if self.max_model_len is not None and not self.dataset and longest > self.max_model_len:
            raise UsageError(
                _("A prompt and its answer have {sum} tokens, and --max-model-len is {limit}").format(
                    sum=longest, limit=self.max_model_len
                )
            )
        self._check_backends()

    def _check_backends(self) -> None:
        """What only some backends can do is refused, rather than done by one and not by the other."""
        others = ", ".join(name for name in self.backends if name != "vllm")
        if "hf" in self.backends and self.tensor_parallel_size > 1:
            raise UsageError(
                _("transformers runs on one GPU here, so --tensor-parallel-size can't be compared"),
                "",
                _("Measure vLLM alone: --backend vllm"),
            )
        if self.quantization and ("hf" in self.backends or "mii" in self.backends):
            raise UsageError(
                _("--quantization is vLLM's own, {backends} would run the model as it is").format(backends=others),
                "",
                _("Measure vLLM alone: --backend vllm"),
            )
        if "mii" in self.backends and self.n > 1:
            raise UsageError(_("DeepSpeed-MII gives one answer to each prompt: --n must be 1"))
        if "mii" in self.backends and (self.tokenizer or self.dataset):
            raise UsageError(_("DeepSpeed-MII takes the model's own tokenizer, and prompts of one length only"))
        if "server" in self.backends and self.n > 1:
            raise UsageError(_("A server is asked for one answer to each prompt: --n must be 1"))

    def vllm_arguments(self, model: str, *, repeats: bool = False) -> list[str]:
        """The words for vLLM's engine. model: where it is, once that is known. repeats: prompts occur more than once.

        Those would be read once by vLLM and each time by the others, so its prefix cache is off then, unless it is
        asked for. (`vllm bench throughput` repeats a short data set too, and leaves the cache on.)
        """
        words = ["--model", model, "--seed", str(self.seed)]
        words += ["--tokenizer", self.tokenizer] if self.tokenizer else []
        words += ["--dtype", self.dtype]
        words += ["--max-model-len", str(self.max_model_len)] if self.max_model_len is not None else []
        words += ["--tensor-parallel-size", str(self.tensor_parallel_size)] if self.tensor_parallel_size > 1 else []
        words += ["--quantization", self.quantization] if self.quantization else []
        words += ["--trust-remote-code"] if self.trust_remote_code else []
        is_said = any("enable-prefix-caching" in word.replace("_", "-") for word in self.engine_arguments)
        words += ["--no-enable-prefix-caching"] if repeats and not is_said else []
        return [*words, *self.engine_arguments]

    def command(self, base_url: str = "", engine: str = "") -> str:
        """The line for a shell that measures the same."""
        words = ["qwen-tui", "throughput", "--model", self.model, "--backend", ",".join(self.backends)]
        words += ["--tokenizer", self.tokenizer] if self.tokenizer else []
        if self.dataset:
            words += ["--dataset", self.dataset]
            words += ["--output-len", str(self.output_len)] if self.output_len else []
        else:
            words += ["--input-len", str(self.input_len), "--output-len", str(self.output_len)]
        words += ["--num-prompts", str(self.num_prompts), "--seed", str(self.seed), "--dtype", self.dtype]
        words += ["--max-model-len", str(self.max_model_len)] if self.max_model_len is not None else []
        words += ["--hf-max-batch-size", str(self.hf_max_batch_size)] if "hf" in self.backends else []
        plain = Work(self.model)
        for option, field_name in (("--n", "n"), ("--num-warmups", "warmups"), ("--repeat", "repeat"),
                                   ("--tensor-parallel-size", "tensor_parallel_size"),
                                   ("--quantization", "quantization")):  # fmt: skip
            value = getattr(self, field_name)
            words += [option, str(value)] if value != getattr(plain, field_name) else []
        words += ["--trust-remote-code"] if self.trust_remote_code else []
        words += ["--base-url", base_url] if base_url and "server" in self.backends else []
        words += ["--engine", engine] if engine else []
        words += ["--", *self.engine_arguments] if self.engine_arguments else []
        return shlex.join(words)

    def to_json(self) -> dict[str, Any]:
        """Numbers, texts and lists of them."""
        return {**asdict(self), "backends": list(self.backends), "engine_arguments": list(self.engine_arguments)}


@dataclass(frozen=True)
class Round:
    """One time through all prompts. elapsed: seconds of generation. The tokens are those that were counted."""

    elapsed: float
    prompts: int
    prompt_tokens: int
    output_tokens: int

    @property
    def requests_per_second(self) -> float:
        return self.prompts / self.elapsed if self.elapsed > 0 else math.inf

    @property
    def tokens_per_second(self) -> float:
        """Of prompts and answers."""
        return (self.prompt_tokens + self.output_tokens) / self.elapsed if self.elapsed > 0 else math.inf

    @property
    def output_tokens_per_second(self) -> float:
        return self.output_tokens / self.elapsed if self.elapsed > 0 else math.inf

    def to_json(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "requests_per_second": self.requests_per_second,
            "tokens_per_second": self.tokens_per_second,
            "output_tokens_per_second": self.output_tokens_per_second,
        }


@dataclass(frozen=True)
class Failure:
    """Why a backend has no figures. log: its whole output, None where it has none."""

    title: str
    why: str = ""
    hint: str = ""
    log: Path | None = None

    def to_json(self) -> dict[str, Any]:
        return {"title": self.title, "why": self.why, "hint": self.hint, "log": str(self.log) if self.log else None}


@dataclass(frozen=True)
class Outcome:
    """What one backend did. load_seconds: until the model was ready, None for a server. about: versions, device, …

    failure: set if it did not come to its end; the rounds before that count. run: its id in the ledger, if it is kept.
    """

    backend: BackendName
    rounds: tuple[Round, ...] = ()
    load_seconds: float | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    failure: Failure | None = None
    run: str = ""

    @property
    def requests(self) -> Distribution:
        """Requests per second over the rounds."""
        return Distribution.of(one.requests_per_second for one in self.rounds)

    @property
    def tokens(self) -> Distribution:
        """Tokens per second, of prompts and answers, over the rounds."""
        return Distribution.of(one.tokens_per_second for one in self.rounds)

    @property
    def output(self) -> Distribution:
        """Tokens of answers per second, over the rounds."""
        return Distribution.of(one.output_tokens_per_second for one in self.rounds)

    def to_json(self) -> dict[str, Any]:
        """What a program wants to know of it."""
        return {
            "backend": self.backend,
            "requests_per_second": self.requests.mean,
            "tokens_per_second": self.tokens.mean,
            "output_tokens_per_second": self.output.mean,
            "requests_per_second_std": self.requests.std,
            "tokens_per_second_std": self.tokens.std,
            "load_seconds": self.load_seconds,
            "rounds": [one.to_json() for one in self.rounds],
            "about": dict(self.about),
            "failure": self.failure.to_json() if self.failure else None,
            "run_id": self.run,
        }


@dataclass(frozen=True)
class Difference:
    """The fastest against the slowest: shares of the slower, 0.34 for 34 %."""

    faster: BackendName
    slower: BackendName
    requests: float
    tokens: float


def difference(outcomes: Sequence[Outcome]) -> Difference | None:
    """How far the fastest and the slowest are apart, by tokens/s; None with fewer than two that have figures."""
    measured = sorted((one for one in outcomes if one.rounds), key=lambda one: one.tokens.mean)
    if len(measured) < 2:
        return None
    slow, fast = measured[0], measured[-1]
    return Difference(
        fast.backend,
        slow.backend,
        fast.requests.mean / slow.requests.mean - 1,
        fast.tokens.mean / slow.tokens.mean - 1,
    )


def throughput_line(outcome: Outcome) -> str:
    """As vLLM's script prints it; for programs that look for it, so it is the same in every language."""
    return f"Throughput: {outcome.requests.mean:.2f} requests/s, {outcome.tokens.mean:.2f} tokens/s"
