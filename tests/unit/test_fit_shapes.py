"""KV cache of public models, from the parts of their config.json that matter, against figures reckoned by hand.

By hand: layers × 2 (key and value) × KV heads × numbers per head × 2 bytes; MLA: layers × (rank + rope) × 2 bytes.
"""

from __future__ import annotations

from typing import Any

import pytest

from qwen_tui.models.fit import Load, kv_bytes_per_token, request_bytes
from qwen_tui.models.model_config import parse_model_config

_DEEPSEEK = {"kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128,
             "max_position_embeddings": 163840, "vocab_size": 129280}  # fmt: skip


def config_of(kind: str, layers: int, heads: int, kv_heads: int, hidden: int, **more: Any) -> dict[str, Any]:
    return {"model_type": kind, "num_hidden_layers": layers, "num_attention_heads": heads, "hidden_size": hidden,
            "num_key_value_heads": kv_heads, "max_position_embeddings": 32768, "vocab_size": 1000, **more}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "layers", "per_token"),
    [
        (config_of("qwen2", 28, 28, 4, 3584, use_sliding_window=False, sliding_window=131072), (28, 0), 57_344),
        (config_of("qwen3", 36, 32, 8, 4096, head_dim=128, sliding_window=None), (36, 0), 147_456),
        (config_of("qwen3_moe", 48, 32, 4, 2048, head_dim=128, num_experts=128), (48, 0), 98_304),
        (config_of("deepseek_v2", 27, 16, 16, 2048, **_DEEPSEEK), (27, 0), 31_104),
        (config_of("deepseek_v3", 61, 128, 128, 7168, **_DEEPSEEK), (61, 0), 70_272),
        (config_of("deepseek_v32", 61, 128, 128, 7168, **_DEEPSEEK, index_head_dim=128), (61, 0), 78_324),
        (config_of("minicpm3", 62, 40, 40, 2560, kv_lora_rank=256, qk_rope_head_dim=32, qk_nope_head_dim=64,
                   v_head_dim=64), (62, 0), 952_320),
        (config_of("gemma2", 42, 16, 8, 3584, head_dim=256, sliding_window=4096), (21, 21), 344_064),
        (config_of("gemma3_text", 26, 4, 1, 1152, head_dim=256, sliding_window=512, sliding_window_pattern=6),
         (4, 22), 26_624),
        (config_of("mistral", 32, 32, 8, 4096, sliding_window=4096), (0, 32), 131_072),
        (config_of("mistral", 32, 32, 8, 4096, sliding_window=None), (32, 0), 131_072),
        (config_of("mixtral", 32, 32, 8, 4096, num_local_experts=8), (32, 0), 131_072),
        (config_of("llama", 32, 32, 8, 4096, rope_scaling={"rope_type": "llama3", "factor": 8.0}), (32, 0), 131_072),
        ({"model_type": "llama4", "text_config": config_of(
            "llama4_text", 48, 40, 8, 5120, head_dim=128, attention_chunk_size=8192,
            layer_types=[*["chunked_attention"] * 3, "full_attention"] * 12)}, (48, 0), 196_608),
        (config_of("phi3", 32, 32, 32, 3072, sliding_window=2047), (0, 32), 393_216),
        (config_of("gpt_oss", 24, 64, 8, 2880, head_dim=64, sliding_window=128,
                   layer_types=["sliding_attention", "full_attention"] * 12), (12, 12), 49_152),
        ({"model_type": "chatglm", "num_layers": 40, "num_attention_heads": 32, "hidden_size": 4096,
          "multi_query_attention": True, "multi_query_group_num": 2, "kv_channels": 128}, (40, 0), 40_960),
        (config_of("falcon", 32, 71, 71, 4544, multi_query=True), (32, 0), 8_192),
    ],
    ids=lambda value: value["model_type"] if isinstance(value, dict) else "",
)  # fmt: skip
def test_the_cache_of_a_token(config: dict[str, Any], layers: tuple[int, int], per_token: int) -> None:
    parsed = parse_model_config(config)
    assert (parsed.full_layers, parsed.window_layers) == layers
    assert sum(layers) * kv_bytes_per_token(parsed, Load()) == per_token
    assert not parsed.is_approximate


def test_what_gemma_3_leaves_to_its_class_is_filled_in() -> None:
    """google/gemma-3-4b-it names neither heads nor context; 5 of its 34 layers see all of it."""
    text = {"model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34,
            "sliding_window": 1024, "rope_scaling": {"rope_type": "linear", "factor": 8.0}}  # fmt: skip
    config = parse_model_config({"model_type": "gemma3", "text_config": text})
    assert (config.full_layers, config.window_layers, config.max_length) == (5, 29, 131_072)
    assert (config.heads, config.kv_heads, config.head_dim) == (8, 4, 256)
    page = 4 * (256 + 256) * 2 * 16
    kept = -(-(1023 + 2048) // 16) + 1
    assert request_bytes(config, Load(), 131_072) == (5 * 8192 + 29 * kept) * page


@pytest.mark.parametrize(
    "config",
    [
        config_of("qwen3_next", 48, 16, 2, 2048, head_dim=256, full_attention_interval=4),
        config_of("jamba", 32, 32, 8, 4096, attn_layer_period=8, attn_layer_offset=4),
        config_of("qwen3_5", 32, 16, 2, 2048, layer_types=[*["linear_attention"] * 3, "full_attention"] * 8),
    ],
    ids=lambda config: config["model_type"],
)
def test_layers_with_a_state_of_another_kind_are_not_passed_off_as_reckoned(config: dict[str, Any]) -> None:
    assert parse_model_config(config).is_approximate
