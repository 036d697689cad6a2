"""From a model to a server: the start that its fit proposes, and two models side by side."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from qwen_tui.errors import ModelError
from qwen_tui.i18n import _, ngettext
from qwen_tui.models.fit import GIB
from qwen_tui.models.fit_box import ModelFit
from qwen_tui.models.local_model import LocalModel
from qwen_tui.progress import format_bytes


@dataclass(frozen=True)
class Proposal:
    """How to start a server of a model; what is vLLM's own default is left out.

    model: its path. flags: further arguments of the API server (extra_args of a ServerSpec). environment: variables.
    why: a translated sentence for each choice.
    """

    model: str
    served_model_name: str
    max_model_len: int | None = None
    flags: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    why: tuple[str, ...] = ()

    def fields(self) -> dict[str, str]:
        """The same as texts, as `server.spec.parse_spec` and the server form take them, without the environment."""
        return {
            "model": self.model,
            "served_model_name": self.served_model_name,
            "max_model_len": str(self.max_model_len) if self.max_model_len else "",
            "extra_args": shlex.join(self.flags),
        }


def propose(model: LocalModel, fit: ModelFit) -> Proposal:
    """The server to start for `model`, from its fit. Raises ModelError if it can't be served, or is not whole.

    A model that does not fit gets vLLM's defaults: the plan then says what is in the way.
    """
    if model.kind != "model":
        raise ModelError(_("{model} can't be served by itself").format(model=model.id), fit.why)
    if not model.is_whole:
        raise ModelError(
            _("{model} is not whole").format(model=model.id), "\n".join(model.problems), _("Resume its download")
        )
    flags: list[str] = []
    why: list[str] = []
    environment: dict[str, str] = {}
    length, own = None, model.config.default_length if model.config else 0
    if fit.light in ("ok", "tight") and fit.context != own:
        length = fit.context
        shorter = _("max-model-len {count:,}: the model's own does not fit")
        why.append((shorter if fit.longest < own else _("max-model-len {count:,}, as asked for")).format(count=length))
    if fit.tensor > 1:
        flags += ["--tensor-parallel-size", str(fit.tensor)]
        why.append(_("{count} GPUs: on fewer there is no room").format(count=fit.tensor))
    if fit.dtype != "auto":
        flags += ["--dtype", fit.dtype]
        why.append(_("{dtype}: these GPUs can't compute in bfloat16").format(dtype=fit.dtype))
    if fit.utilization is not None:
        flags += ["--gpu-memory-utilization", f"{fit.utilization:.2f}"]
        why.append(_("{percent:.0f} % of the GPU's memory: the rest is taken").format(percent=fit.utilization * 100))
    if fit.cpu_space is not None:
        environment["VLLM_CPU_KVCACHE_SPACE"] = str(fit.cpu_space)
        given = fit.measured is not None and fit.measured.cpu_space == fit.cpu_space
        text = _("{count} GiB of RAM for the KV cache, as at the last start")
        why.append(
            (text if given else _("{count} GiB of RAM for the KV cache: vLLM would take more than is free")).format(
                count=fit.cpu_space
            )
        )
    return Proposal(str(model.path), model.name, length, tuple(flags), environment, tuple(why))


@dataclass(frozen=True)
class ComparedRow:
    """One line of a comparison. label: translated. values: as shown, one for each model.

    best: the place of the model that is better off here; None where that can't be said, or there is no difference.
    """

    label: str
    values: tuple[str, ...]
    best: int | None = None


def compare(models: Sequence[tuple[LocalModel, ModelFit]]) -> list[ComparedRow]:
    """Models side by side: shape, weights, KV cache of a token and of a request, concurrency, longest context.

    Concurrency compares only where both fits are of one context: make them with `context=`.
    """
    fits = [fit for _model, fit in models]
    alike = len({fit.context for fit in fits}) == 1
    rows = [
        _row(_("Parameters"), [model.parameters for model, _fit in models], short_count),
        _row(_("Type"), [" ".join(filter(None, (model.dtype, model.quantization))) for model, _fit in models]),
        _row(_("Size on disk"), [model.size for model, _fit in models], format_bytes),
        _row(_("Weights in memory"), [fit.weights or None for fit in fits], _gib, least=True),
        _row(_("Context"), [model.context or None for model, _fit in models], _whole, most=True),
        _row(_("Runs on"), [runs_on(fit) if fit.account else "" for fit in fits]),
        _row(_("KV cache of a token"), [fit.bytes_per_token or None for fit in fits], format_bytes, least=True),
        _row(_("Reckoned for a context of"), [fit.context or None for fit in fits], _whole),
        _row(_("KV cache of a request"), [fit.request or None for fit in fits], _gib, least=alike),
        _row(_("KV cache holds (tokens)"), [fit.tokens or None for fit in fits], _whole, most=True),
        _row(_("Requests at once"), [fit.concurrency or None for fit in fits], _tenths, most=alike),
        _row(_("Longest context that fits"), [fit.longest or None for fit in fits], _whole, most=True),
    ]
    return [*rows, ComparedRow(_("Fits"), tuple(fit.why for fit in fits))]


def _row(
    label: str, values: Sequence[Any], show: Callable[[Any], str] = str, *, most: bool = False, least: bool = False
) -> ComparedRow:
    """show: turns a value into its text; None and "" are shown as "–"."""
    numbers = [value for value in values if isinstance(value, (int, float))]
    best = None
    if (most or least) and len(numbers) == len(values) and len(set(numbers)) > 1:
        best = values.index(max(numbers) if most else min(numbers))
    return ComparedRow(label, tuple(show(value) if value not in (None, "") else "–" for value in values), best)


def short_count(count: float) -> str:
    """7615616512 → "7.62 B"."""
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f}"


def runs_on(fit: ModelFit) -> str:
    """'2 GPUs', 'the processor'."""
    if fit.is_cpu:
        return _("the processor")
    return ngettext("{count} GPU", "{count} GPUs", fit.tensor).format(count=fit.tensor)


def _gib(count: float) -> str:
    return f"{count / GIB:.1f} GiB" if count >= GIB else format_bytes(count)


def _whole(count: float) -> str:
    return f"{count:,.0f}"


def _tenths(count: float) -> str:
    return f"{count:,.1f}"
