"""What an error that no rule knows was about, by where in the engine's code it came up."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from qwen_tui.i18n import N_
from qwen_tui.server.diagnosis.model import Relaunch

#: Frames that are looked at, from the innermost outwards.
_FRAMES = 14
#: How deep within the code that a package runs when it is loaded an error may come up.
_SINCE_IMPORT = 6


@dataclass(frozen=True)
class Area:
    """A part of the engine. where: searched in 'path:function'. doing, remedy: texts for the catalogue.

    relaunch: what a new start may be tried with.
    """

    where: re.Pattern[str]
    doing: str
    remedy: str
    relaunch: Relaunch | None = None


def _area(where: str, doing: str, remedy: str, relaunch: Relaunch | None = None) -> Area:
    return Area(re.compile(where), doing, remedy, relaunch)


_EAGER = Relaunch({"--enforce-eager": ""})
_AREAS = (
    _area(
        r"deep_?gemm",
        N_("DeepGEMM's kernels failed: {error}"),
        N_("Start with VLLM_USE_DEEP_GEMM=0, or update vLLM and DeepGEMM together."),
        Relaunch(env={"VLLM_USE_DEEP_GEMM": "0"}),
    ),
    _area(
        r"/quantization/|compressed_tensors|bitsandbytes|auto_gptq|gptqmodel",
        N_("vLLM's code for the model's quantization failed: {error}"),
        N_("Try a newer vLLM, or another quantization of the model; leave --quantization out if it was given."),
    ),
    _area(
        r"/lora/|/peft/",
        N_("A LoRA adapter could not be used: {error}"),
        N_("Check that the adapter was made for this model; start without --lora-modules to see that it is the cause."),
    ),
    _area(
        r"spec_decode|eagle|medusa|speculative",
        N_("Speculative decoding failed: {error}"),
        N_("Correct --speculative-config, or leave it out."),
    ),
    _area(
        r"flashinfer",
        N_("FlashInfer failed: {error}"),
        N_("Start with VLLM_USE_FLASHINFER_SAMPLER=0 and without a chosen attention backend; FlashInfer's packages "
           "must be of the version that this vLLM asks for."),
        Relaunch(env={"VLLM_USE_FLASHINFER_SAMPLER": "0"}),
    ),
    _area(
        r"xgrammar|outlines|lm_?format_?enforcer|structured_output|guided_decoding|grammar_bitmask",
        N_("Structured output (JSON, a grammar) failed: {error}"),
        N_("Choose another backend for it (--structured-outputs-config, in older versions --guided-decoding-backend), "
           "or update vLLM and xgrammar together."),
    ),
    _area(
        r"/attention/|flash_attn|xformers",
        N_("The attention kernels failed: {error}"),
        N_("Try another attention backend, --dtype half, or another version of vLLM."),
    ),
    _area(
        r"/tool_parsers?/|/reasoning/",
        N_("The tool or reasoning parser failed: {error}"),
        N_("Choose the parser of the model's family, or leave it out."),
    ),
    _area(
        r"/multimodal/|image_processing|/processing_|video_processing|feature_extraction",
        N_("Preparing pictures, sound or video failed: {error}"),
        N_("Try a newer vLLM and transformers. If text is enough, --limit-mm-per-prompt can turn the rest off."),
    ),
    _area(
        r"tokeniz",
        N_("The model's tokenizer could not be loaded: {error}"),
        N_("Check that the tokenizer's files in the model folder are whole; a new tokenizer may need a newer "
           "transformers."),
    ),
    _area(
        r"transformers_utils/config|configuration_\w+\.py|/transformers_utils/",
        N_("The model's config.json could not be understood: {error}"),
        N_("Use a newer vLLM and transformers; if config.json was changed by hand, take the publisher's."),
    ),
    _area(
        r"weight_loader|load_weights|model_loader|weight_utils|safetensors",
        N_("Loading the weights failed: {error}"),
        N_("Verify the model's files; if they are whole, this vLLM may be too old for the model, or config.json does "
           "not belong to the weights."),
    ),
    _area(
        r"/distributed/|torch/distributed|ray_",
        N_("The engine's processes could not work together: {error}"),
        N_("Try with one GPU to see whether the model itself starts; then NCCL_DEBUG=INFO says more."),
    ),
    _area(
        r"torch/_inductor|torch/_dynamo|/triton/|/compilation/|torch/fx",
        N_("Compiling the model failed: {error}"),
        N_("Start with --enforce-eager; if an earlier version left its cache, delete ~/.cache/vllm/torch_compile_cache "
           "and ~/.triton."),
        _EAGER,
    ),
    _area(
        r"torch/cuda/|/platforms/",
        N_("The GPU could not be used: {error}"),
        N_("`nvidia-smi` must work; check CUDA_VISIBLE_DEVICES and, in a container, that it was given the GPUs."),
    ),
    _area(
        r"arg_utils|/vllm/config|cli_args|argparse",
        N_("A setting is not taken: {error}"),
        N_("Change or leave out the setting it names."),
    ),
)  # fmt: skip


_IMPORT = _area(
    r":<module>$",
    N_("A package of the engine fails while it is loaded: {error}"),
    N_("Packages of the engine are of versions that don't belong together: `pip check` in its environment names them; "
       "or build it anew with `qwen-tui setup`."),
)  # fmt: skip


def area_of(frames: Sequence[str]) -> Area | None:
    """The part of the engine that the innermost frames belong to; None where they tell nothing.

    frames: 'path:function', outermost first.
    """
    modules = [position for position, frame in enumerate(frames) if _IMPORT.where.search(frame)]
    if len(modules) > 1 and len(frames) - modules[-1] <= _SINCE_IMPORT:
        return _IMPORT
    for frame in reversed(frames[-_FRAMES:]):
        for area in _AREAS:
            if area.where.search(frame):
                return area
    return None
