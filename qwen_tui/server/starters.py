"""The profiles that ship: one for each usual way to serve, to start from or to clone. Descriptions are msgids."""

from __future__ import annotations

from collections.abc import Mapping

from qwen_tui.i18n import N_
from qwen_tui.server.profiles import MODELSCOPE, FlagValue, Profile


def _starter(
    name: str,
    model: str,
    description: str,
    flags: Mapping[str, FlagValue],
    environment: Mapping[str, str] | None = None,
) -> Profile:
    variables = {MODELSCOPE: "True", **(environment or {})}
    return Profile(name, model, description, flags=flags, environment=variables, is_starter=True)


STARTERS: tuple[Profile, ...] = (
    _starter(
        "qwen2-7b-24gb",
        "qwen/Qwen2-7B-Instruct",
        N_("Qwen2-7B-Instruct on one card with 24 GB: 2,048 tokens of context"),
        {"served-model-name": "Qwen2-7B-Instruct", "max-model-len": 2048},
    ),
    _starter(
        "long-context",
        "Qwen/Qwen3-4B-Instruct-2507",
        N_("131,072 tokens of context for a few users at a time; a card with 40 GB or more"),
        {"max-model-len": 131072, "gpu-memory-utilization": 0.95, "max-num-seqs": 8, "enable-chunked-prefill": True},
    ),
    _starter(
        "tensor-parallel",
        "Qwen/Qwen2.5-14B-Instruct",
        N_("each layer divided between two cards: a model that one card does not hold"),
        {"tensor-parallel-size": 2, "max-model-len": 8192},
    ),
    _starter(
        "pipeline-parallel",
        "Qwen/Qwen2.5-14B-Instruct",
        N_("half of the layers on each of two cards: where the cards are slowly connected"),
        {"pipeline-parallel-size": 2, "max-model-len": 8192},
    ),
    _starter(
        "data-parallel",
        "qwen/Qwen2-7B-Instruct",
        N_("the whole model on each of two cards: twice the requests"),
        {"data-parallel-size": 2, "max-model-len": 8192},
    ),
    _starter(
        "multi-node-ray",
        "Qwen/Qwen2.5-72B-Instruct",
        N_("several machines joined by Ray, here two with eight cards each"),
        {"tensor-parallel-size": 8, "pipeline-parallel-size": 2, "distributed-executor-backend": "ray"},
    ),
    _starter(
        "lora",
        "Qwen/Qwen2.5-7B-Instruct",
        N_("LoRA adapters beside the base model: put your adapter's folder into --lora-modules"),
        {"enable-lora": True, "max-lora-rank": 16, "lora-modules": ["my-adapter=/path/to/adapter"]},
    ),
    _starter(
        "tool-calling",
        "Qwen/Qwen2.5-7B-Instruct",
        N_("the model may call the tools that a request offers"),
        {"enable-auto-tool-choice": True, "tool-call-parser": "hermes", "max-model-len": 16384},
    ),
    _starter(
        "reasoning",
        "Qwen/Qwen3-8B",
        N_("thinking and answer come apart: the reasoning parser"),
        {"reasoning-parser": "qwen3", "max-model-len": 16384},
    ),
    _starter(
        "cpu",
        "Qwen/Qwen2.5-0.5B-Instruct",
        N_("no GPU: a small model on the processor, 4 GiB of RAM for the KV cache"),
        {"dtype": "bfloat16", "max-model-len": 4096},
        {"VLLM_CPU_KVCACHE_SPACE": "4"},
    ),
)
