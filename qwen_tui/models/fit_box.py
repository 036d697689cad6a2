"""Does a model fit this machine: with which type, how many GPUs, how long a context, for how many at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from qwen_tui.hardware.gpus import Gpu
from qwen_tui.models.fit import Fit
from qwen_tui.models.local_model import LocalModel

#: "ok"; "tight": it starts, but with a shorter context than the model's or for few at once; "no"; "unknown": it can't
#: be said from the files.
Light = Literal["ok", "tight", "no", "unknown"]


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
        raise NotImplementedError


@dataclass(frozen=True)
class Measured:
    """What a real start of a model printed.

    tokens: "GPU KV cache size". at: Unix time. tensor, max_model_len, utilization: how it was started (None: default).
    engine: vLLM's version.
    """

    tokens: int
    at: float
    tensor: int = 1
    max_model_len: int | None = None
    utilization: float | None = None
    engine: str = ""


@dataclass(frozen=True)
class ModelFit:
    """How a model fits a box.

    light, why: the verdict, and one translated sentence with the figure behind it.
    tensor: GPUs that share it (1 on a CPU). dtype: to compute in. utilization: share of each GPU's memory, None on CPU.
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
    dtype: str = "auto"
    utilization: float | None = None
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
        raise NotImplementedError


def fit_model(
    model: LocalModel,
    box: Box,
    *,
    context: int | None = None,
    tensor: int | None = None,
    measured: Sequence[Measured] = (),
) -> ModelFit:
    """How `model` fits `box`; reads no file, takes well under a millisecond or two.

    context: asked max-model-len; None: the model's own, or less if that does not fit. tensor: GPUs to use; None: the
    fewest that do.
    """
    raise NotImplementedError


@dataclass(frozen=True)
class ComparedRow:
    """One line of a comparison. label: translated. values: as shown, one for each model. better: its place, or None."""

    label: str
    values: tuple[str, ...]
    better: int | None = None


def compare(models: Sequence[tuple[LocalModel, ModelFit]]) -> list[ComparedRow]:
    """Models side by side: parameters, weights, KV cache for a token and a request, concurrency, longest context."""
    raise NotImplementedError


@dataclass(frozen=True)
class Proposal:
    """How to start a server of a model. model: its path. flags: further arguments of the API server (extra_args).

    environment: variables. why: a translated sentence for each choice that is not vLLM's default.
    """

    model: str
    served_model_name: str
    max_model_len: int | None
    flags: tuple[str, ...] = ()
    environment: Mapping[str, str] | None = None
    why: tuple[str, ...] = ()

    def fields(self) -> dict[str, str]:
        """The same as `server.spec.parse_spec` and the server form take it: all texts."""
        raise NotImplementedError


def propose(model: LocalModel, fit: ModelFit) -> Proposal:
    """The server to start for `model`, from its fit. Raises ModelError if it can't be served at all."""
    raise NotImplementedError
