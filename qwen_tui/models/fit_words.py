"""The sentences of a fit: what can't be said and why, what is tight, what is special about a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from qwen_tui.hardware.gpus import Gpu
from qwen_tui.i18n import _, ngettext
from qwen_tui.models.fit import CUDA_CONTEXT, GIB
from qwen_tui.models.local_model import LocalModel
from qwen_tui.models.model_config import ModelConfig
from qwen_tui.models.quantization import LEAST_CAPABILITY, ON_CPU


def unknown_words(model: LocalModel) -> str:
    """Why nothing can be reckoned for `model`; empty if it can."""
    config = model.config
    if model.kind == "adapter":
        return _("An adapter is served on top of its model: {base}").format(base=model.base or "?")
    if model.kind == "pipeline":
        return _("It is a pipeline for images or sound, not for vLLM's chat server")
    if not model.is_whole:
        return _("It is not whole: {problem}").format(problem=model.problems[0])
    if config is None:
        return _("There is no config.json")
    if not config.layers or not config.kv_heads or not config.head_dim:
        return _("Its config.json does not tell the shape of its attention")
    if not model.weights.size:
        return _("There are no weight files")
    if "decoder_layers" in config.raw or config.raw.get("is_encoder_decoder"):
        return _("It has an encoder besides: its memory can't be reckoned")
    return ""


def too_old_words(config: ModelConfig, gpus: Sequence[Gpu]) -> str:
    """Why these GPUs can't run weights quantized so; empty if they can, or it is not known."""
    known = [gpu for gpu in gpus if gpu.compute_capability]
    oldest = min(known, key=lambda gpu: gpu.compute_capability or (0, 0), default=None)
    needed = LEAST_CAPABILITY.get(config.quantization, (0, 0))
    if oldest is None or oldest.compute_capability is None or oldest.compute_capability >= needed:
        return ""
    text = _("{method} needs compute capability {needed}; {card} has {capability}")
    return text.format(
        method=config.quantization,
        needed=f"{needed[0]}.{needed[1]}",
        card=oldest.name,
        capability="{}.{}".format(*oldest.compute_capability),
    )


def cpu_words(config: ModelConfig) -> str:
    """Why a CPU build can't run weights quantized so; empty if it can."""
    if not config.quantization or config.quantization in ON_CPU:
        return ""
    return _("A CPU build of vLLM can't run {method} weights").format(method=config.quantization)


def tight_words(figures: Mapping[str, Any], *, is_shorter: bool) -> str:
    """What makes a fit tight."""
    if is_shorter:
        return _("Only with a context of {context:,} tokens").format(**figures)
    return _("Only {concurrency:,.1f} requests of {context:,} tokens at once").format(**figures)


def notes_on(model: LocalModel, config: ModelConfig, gpus: Sequence[Gpu], needed: int) -> Iterator[str]:
    """What is special about the model's memory, and what is in the way of a start now."""
    if config.is_mla:
        numbers = config.kv_lora_rank + config.qk_rope_head_dim
        yield _("MLA: a token takes {count} numbers in each layer, whole on every GPU").format(count=numbers)
    if config.window_layers:
        yield ngettext(
            "{count} of {all} layers keeps a window of {window:,} tokens only",
            "{count} of {all} layers keep a window of {window:,} tokens only",
            config.window_layers,
        ).format(count=config.window_layers, all=config.layers, window=config.sliding_window)
    if config.is_moe:
        text = _("Mixture of experts: {chosen} of {count} work on a token, all take memory")
        yield text.format(chosen=config.experts_per_token or "?", count=config.experts)
    if config.is_tied and model.weights.head:
        yield _("The output layer is the embedding: its stored copy is not loaded")
    if config.has_code:
        yield _("Its folder brings Python code of its own, which runs only with --trust-remote-code")
    short = [gpu for gpu in gpus if gpu.memory_free - CUDA_CONTEXT < needed]
    if short:
        text = _("Now {free} of {total} GiB are free on GPU {index}")
        gpu = min(short, key=lambda one: one.memory_free)
        yield text.format(free=f"{gpu.memory_free / GIB:.1f}", total=f"{gpu.memory_total / GIB:.1f}", index=gpu.index)
