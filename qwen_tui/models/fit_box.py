"""Does a model fit this machine: with which type, how many GPUs, how long a context, for how many at once.

The reckoning of one device is `qwen_tui.models.fit`; this looks for the start that does:

    tensor-parallel 1, 2, 4, … GPUs, as far as they share the heads out evenly: the fewest on which a request of the
    asked context has room; else those on which the longest context has.

Figures of a real start correct it: KV cache of a start at the same settings, printed ÷ reckoned, scales the cache.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from qwen_tui.hardware.gpus import Gpu, Gpus
from qwen_tui.hardware.host import node_memory, read_host
from qwen_tui.i18n import _
from qwen_tui.models import fit as memory
from qwen_tui.models.fit import GIB, Fit, Load
from qwen_tui.models.fit_words import cpu_words, notes_on, tight_words, too_old_words, unknown_words
from qwen_tui.models.local_model import LocalModel
from qwen_tui.models.model_config import DTYPE_BYTES, ModelConfig

#: "ok"; "tight": it starts, but with a shorter context than the model's or for few at once; "no"; "unknown": it can't
#: be said from the files.
Light = Literal["ok", "tight", "no", "unknown"]
#: How far a start may differ from the reckoning.
_MARGIN = 0.1
#: Below so many requests of the whole context at once, a fit is tight. Below so many tokens, it is none.
_FEW, _LEAST_CONTEXT = 2.0, 512
#: A start on record says nothing about this machine if it differs by more than this from the reckoning.
_MOST_OFF = 1.5


@dataclass(frozen=True)
class Box:
    """The hardware that a server would run on, and what vLLM would make of it.

    gpus: those that can be used. memory: total and available bytes of RAM of the node a CPU build would use.
    is_cpu: whether the engine runs on the processor. version: vLLM's, for its defaults, such as (0, 24).
    """

    gpus: tuple[Gpu, ...]
    memory: tuple[int, int]
    is_cpu: bool
    version: tuple[int, int] = (999, 0)

    @classmethod
    def read(cls, platform: str = "unknown", version: str = "") -> Box:
        """This machine, for an engine of that platform ("cuda", "cpu", …) and version; blocking, up to 0.3 s."""
        gpus = Gpus()
        try:
            found = tuple(gpus.read())
        finally:
            gpus.close()
        numbers = [int(part) for part in version.split(".")[:2] if part.isdecimal()]
        known = (numbers[0], numbers[1]) if len(numbers) == 2 else (999, 0)
        return cls(found, node_memory(read_host()), platform == "cpu" or (platform == "unknown" and not found), known)

    @property
    def utilization(self) -> float:
        """vLLM's default share of the memory. Source: CacheConfig.gpu_memory_utilization, 0.92 since 0.20."""
        return 0.92 if self.version >= (0, 20) else 0.9


@dataclass(frozen=True)
class Measured:
    """What a real start of a model printed.

    tokens: "GPU KV cache size". at: Unix time. tensor, max_model_len, utilization: how it was started (None: default).
    cpu_space: VLLM_CPU_KVCACHE_SPACE, GiB. engine: vLLM's version.
    """

    tokens: int
    at: float
    tensor: int = 1
    max_model_len: int | None = None
    utilization: float | None = None
    cpu_space: int = 0
    engine: str = ""


@dataclass(frozen=True)
class ModelFit:
    """How a model fits a box.

    light, why: the verdict, and one translated sentence with the figure behind it.
    tensor: GPUs that share it (1 if is_cpu). dtype: to compute in. utilization: share of each GPU's memory to be asked
    for, None for the default. cpu_space: GiB of RAM for the KV cache on a CPU, None for the default.
    context: max-model-len it is reckoned for; its own context if that fits, else what does. model_context: the model's.
    weights: bytes, all devices together. bytes_per_token: KV cache of one token, all devices together, at `context`.
    request: bytes of KV cache of one request of `context` tokens, all devices together. tokens: the KV cache holds.
    concurrency: requests of `context` at once. longest: the longest context that fits, within the model's.
    account: where one device's memory goes (None if "unknown"). measured: the real start the figures come from.
    notes: what is special, a translated sentence each (MLA, sliding window, layers that can't be sized, …).
    """

    model: str
    light: Light
    why: str
    tensor: int = 1
    is_cpu: bool = False
    dtype: str = "auto"
    utilization: float | None = None
    cpu_space: int | None = None
    context: int = 0
    model_context: int = 0
    weights: int = 0
    bytes_per_token: float = 0.0
    request: int = 0
    tokens: int = 0
    concurrency: float = 0.0
    longest: int = 0
    account: Fit | None = None
    measured: Measured | None = None
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def fit_model(
    model: LocalModel,
    box: Box,
    *,
    context: int | None = None,
    tensor: int | None = None,
    measured: Sequence[Measured] = (),
) -> ModelFit:
    """How `model` fits `box`; reads no file, takes about a millisecond.

    context: asked max-model-len; None: the model's own, or less if that does not fit. tensor: GPUs to use; None: the
    fewest that do.
    """
    config = model.config
    doubt = unknown_words(model)
    if not box.is_cpu and not box.gpus:
        doubt = doubt or _("No GPU is to be seen")
    if doubt or config is None:
        return ModelFit(model.id, "unknown", doubt or _("There is no config.json"), model_context=model.context)
    too_old = too_old_words(config, box.gpus) if not box.is_cpu else cpu_words(config)
    if too_old:
        return ModelFit(model.id, "no", too_old, is_cpu=box.is_cpu, model_context=model.context)
    asked = context or config.default_length
    sizes = [tensor] if tensor else _tensor_sizes(config, box)
    trials = [_Trial(model, config, box, size, asked, measured) for size in sizes]
    best = next((trial for trial in trials if trial.fit.concurrency >= 1 + _MARGIN), None)
    best = best or max(trials, key=lambda trial: trial.fit.longest)
    return best.answer(is_asked=context is not None)


class _Trial:
    """One way to run the model: on `tensor` devices."""

    def __init__(
        self, model: LocalModel, config: ModelConfig, box: Box, tensor: int, asked: int, measured: Sequence[Measured]
    ) -> None:
        self.model, self.config, self.box = model, config, box
        self.asked = asked
        self.gpus = box.gpus[:tensor]
        self.dtype = _dtype(model, self.gpus, is_cpu=box.is_cpu)
        self.load = _load(config, box, tensor, self.dtype)
        self.weights = model.weights.loaded_size(self.load.dtype_bytes, is_tied=config.is_tied)
        measured = sorted(measured, key=lambda start: start.at, reverse=True)
        self.cpu_space = self._cpu_space(measured) if box.is_cpu else None
        self.measured, self._scale = self._correction(measured)
        self.fit = self._reckon(asked)

    def _reckon(self, context: int, utilization: float | None = None) -> Fit:
        box, config, load = self.box, self.config, self.load
        share = utilization or box.utilization
        if not box.is_cpu:
            total = min(gpu.memory_total for gpu in self.gpus)
            plain = memory.gpu_fit(config, load, self.weights, total, share, context)
        elif self.cpu_space is not None:
            plain = memory.sized_fit(config, load, self.weights, self.cpu_space * GIB, context)
        else:
            plain = memory.cpu_fit(config, load, self.weights, box.memory[0], share, context)
        if self._scale == 1.0 or plain.available <= 0:
            return plain
        return memory.with_cache(config, load, plain, int(plain.available * self._scale))

    def _cpu_space(self, measured: Sequence[Measured]) -> int | None:
        """GiB to give the cache: as many as the last start had, if they are free; else None where vLLM's default share
        of the RAM is free, and half of what is free where it is not.

        Before 0.30 the default was half of the memory, before 0.10 4 GiB, whatever was free: then it is always said.
        """
        total, available = self.box.memory
        beside = memory.weights_on_device(self.weights, self.load) + memory.cpu_worker(self.load)
        given = next((start.cpu_space for start in measured if start.cpu_space), 0)
        if given and given * GIB + beside <= available:
            return given
        if self.box.version >= (0, 30) and total * self.box.utilization <= available:
            return None
        return min(40, max(1, (available - beside) // (2 * GIB)))

    def _correction(self, measured: Sequence[Measured]) -> tuple[Measured | None, float]:
        """The latest start on as many devices, and what its cache was ÷ what is reckoned for it."""
        self._scale = 1.0
        alike = [one for one in measured if one.tensor == self.load.tensor and one.tokens > 0]
        for start in alike:
            context = start.max_model_len or self.config.default_length
            if self.box.is_cpu and start.cpu_space:
                size = start.cpu_space * GIB
                reckoned = memory.sized_fit(self.config, self.load, self.weights, size, context).tokens
            else:
                reckoned = self._reckon(context, start.utilization).tokens
            if reckoned and 1 / _MOST_OFF < start.tokens / reckoned < _MOST_OFF:
                return start, start.tokens / reckoned
        return None, 1.0

    def answer(self, *, is_asked: bool) -> ModelFit:
        """The verdict on this way. is_asked: the context was asked for, so it is not made shorter."""
        config, load, fit = self.config, self.load, self.fit
        limit = config.max_length or fit.longest
        exact = 1.0 if self.measured else 1 - _MARGIN
        longest = min(limit, rounded(fit.longest * exact) if fit.longest < limit else limit)
        context = self.asked
        if fit.concurrency < 1 + _MARGIN and not is_asked and longest >= _LEAST_CONTEXT:
            context = min(self.asked, longest)
            fit = self._reckon(context)
        devices = load.tensor * load.pipeline
        light, why = self._verdict(fit, context)
        request = memory.request_bytes(config, load, context)
        return ModelFit(
            model=self.model.id,
            light=light,
            why=why,
            tensor=load.tensor,
            is_cpu=self.box.is_cpu,
            dtype=self.dtype,
            utilization=self._free_share(),
            cpu_space=self.cpu_space,
            context=context,
            model_context=config.max_length,
            weights=self.weights,
            bytes_per_token=request * devices / max(1, context),
            request=request * devices,
            tokens=fit.tokens,
            concurrency=fit.concurrency,
            longest=max(0, longest),
            account=fit,
            measured=self.measured,
            notes=tuple(notes_on(self.model, config, self.gpus, self._needed_now())),
        )

    def _verdict(self, fit: Fit, context: int) -> tuple[Light, str]:
        figures = {"weights": f"{self.weights / GIB:.1f}", "tokens": fit.tokens, "context": context,
                   "concurrency": fit.concurrency, "longest": fit.longest}  # fmt: skip
        if fit.available <= 0:
            text = _("The weights ({weights} GiB) leave no memory for a KV cache")
            return "no", text.format(**figures)
        if self.config.is_approximate:
            text = _(
                "The weights ({weights} GiB) fit; how much context besides can't be said: "
                "some layers keep a state of another kind"
            )
            return "unknown", text.format(**figures)
        if self.box.is_cpu and self._needed_now() > self.box.memory[1]:
            text = _("Weights and cache need {needed} GiB, and {free} GiB of RAM are free")
            needed, free = self._needed_now() / GIB, self.box.memory[1] / GIB
            return "no", text.format(needed=f"{needed:.1f}", free=f"{free:.1f}")
        if fit.concurrency < 1 or fit.longest < _LEAST_CONTEXT:
            text = _("The KV cache holds {longest:,} tokens; one request may have {context:,}")
            return "no", text.format(**figures)
        if context < self.asked or fit.concurrency < _FEW:
            return "tight", tight_words(figures, is_shorter=context < self.asked)
        return "ok", _("{concurrency:,.1f} requests of {context:,} tokens at once").format(**figures)

    def _needed_now(self) -> int:
        """Bytes that have to be free for the start: on each GPU, or of RAM."""
        if not self.box.is_cpu:
            return self.fit.budget
        beside = memory.weights_on_device(self.weights, self.load) + memory.cpu_worker(self.load)
        return self.cpu_space * GIB + beside if self.cpu_space is not None else self.fit.budget

    def _free_share(self) -> float | None:
        """The share to ask for where others hold so much that the default is not free, if the model fits in it."""
        if self.box.is_cpu:
            return None
        total, free = (min(getattr(gpu, name) for gpu in self.gpus) for name in ("memory_total", "memory_free"))
        left = free - memory.CUDA_CONTEXT
        if left >= self.fit.budget or left <= 0:
            return None
        share = int(left / total * 100) / 100
        return share if share > 0 and self._reckon(_LEAST_CONTEXT, share).fits else None


def rounded(tokens: float) -> int:
    """A round number of tokens below: whole kilotokens from four on, else 64s."""
    step = 1024 if tokens >= 4096 else 64
    return int(tokens) // step * step


def _tensor_sizes(config: ModelConfig, box: Box) -> list[int]:
    """1, 2, 4, … and all of them, as far as heads and KV heads can be shared out so. A CPU is one device."""
    if box.is_cpu:
        return [1]
    count = len(box.gpus)
    sizes = sorted({*(2**power for power in range(count.bit_length()) if 2**power <= count), count})

    def is_even(size: int) -> bool:
        kv = config.kv_heads
        return config.heads % size == 0 and (config.is_mla or kv % size == 0 or size % kv == 0)

    return [size for size in sizes if is_even(size)] or [1]


def _dtype(model: LocalModel, gpus: Sequence[Gpu], *, is_cpu: bool) -> str:
    """What to compute in: "auto", or "half" where the cards are too old for the model's bfloat16 (below 8.0)."""
    oldest = min((gpu.compute_capability for gpu in gpus if gpu.compute_capability), default=(9, 0))
    return "half" if not is_cpu and oldest < (8, 0) and model.dtype in ("bfloat16", "float32", "") else "auto"


def _load(config: ModelConfig, box: Box, tensor: int, dtype: str) -> Load:
    """vLLM's defaults on this hardware. Source: get_batch_defaults, engine/arg_utils.py (0.24 and 0.32)."""
    # float32 weights are computed in 16 bits as well unless told otherwise.
    width = DTYPE_BYTES.get(dtype, 2)
    load = Load(tensor=tensor, kv_bytes=width, dtype_bytes=width, counts_graphs=box.version >= (0, 21))
    if box.is_cpu:
        block = 128 if box.version >= (0, 10) else 16
        return dataclasses.replace(load, batched_tokens=2048 * tensor, sequences=128 * tensor, block=block)
    total = min(gpu.memory_total for gpu in box.gpus)
    is_large = total >= 70 * GIB and not any("a100" in gpu.name.lower() for gpu in box.gpus)
    tokens, sequences = (8192, 1024) if is_large else (2048, 256)
    return dataclasses.replace(load, batched_tokens=16384 if total >= 160 * GIB else tokens, sequences=sequences)
