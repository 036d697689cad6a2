"""config.json and safetensors headers: read as vLLM reads them, damage named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qwen_tui.errors import ModelError
from qwen_tui.models.model_config import parse_model_config, read_model_config
from qwen_tui.models.safetensors_header import read_header, read_weights


def write_safetensors(file: Path, tensors: dict[str, tuple[str, list[int], int]], extra: int = 0) -> None:
    """A file with zeros: name → (dtype, shape, bytes). extra: bytes too many (or, negative, too few)."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (dtype, shape, size) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    data = len(text).to_bytes(8, "little") + text + bytes(end)
    file.write_bytes(data[: len(data) + extra] if extra < 0 else data + bytes(extra))


def wrong_shape() -> bytes:
    """One byte of data for nine numbers."""
    text = b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,1]}}'
    return len(text).to_bytes(8, "little") + text + b"0"


QWEN2_7B = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944,
    "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064,
    "max_position_embeddings": 32768, "torch_dtype": "bfloat16", "tie_word_embeddings": False,
    "use_sliding_window": False, "sliding_window": 131072, "max_window_layers": 28,
}  # fmt: skip


def test_a_header_gives_tensors_and_sizes(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    write_safetensors(file, {"a": ("BF16", [2, 3], 12), "b": ("F32", [5], 20), "scalar": ("I64", [], 8)})
    assert [(tensor.name, tensor.elements, tensor.size) for tensor in read_header(file)] == [
        ("a", 6, 12),
        ("b", 5, 20),
        ("scalar", 1, 8),
    ]
    weights = read_weights(tmp_path)
    assert weights.is_whole
    assert (weights.size, weights.parameters) == (40, 12)
    assert weights.loaded_size(2) == 12 + 10 + 8


def test_a_stored_copy_of_the_embedding_is_not_loaded(tmp_path: Path) -> None:
    tensors = {"embed.weight": ("BF16", [4, 2], 16), "lm_head.weight": ("BF16", [4, 2], 16)}
    write_safetensors(tmp_path / "model.safetensors", tensors)
    weights = read_weights(tmp_path)
    assert (weights.loaded_size(2), weights.loaded_size(2, is_tied=True)) == (32, 16)


@pytest.mark.parametrize(
    ("extra", "said"), [(-1, "bytes long; by its header it should be"), (3, "bytes long; by its header")]
)
def test_a_file_of_the_wrong_length(tmp_path: Path, extra: int, said: str) -> None:
    write_safetensors(tmp_path / "model.safetensors", {"a": ("F16", [100], 200)}, extra)
    weights = read_weights(tmp_path)
    assert not weights.is_whole
    assert said in weights.problems[0]
    assert weights.broken == ("model.safetensors",)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no header"),
        (b"\xff" * 20, "no header"),
        ((50).to_bytes(8, "little") + b"{}", "no header"),
        ((20).to_bytes(8, "little") + b"x" * 30, "header can't be read"),
        ((2).to_bytes(8, "little") + b"[]", "header can't be read"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", "Git LFS pointer"),
        (wrong_shape(), "does not fit"),
    ],
)
def test_files_that_are_no_safetensors(tmp_path: Path, data: bytes, said: str) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(data)
    with pytest.raises(ModelError) as caught:
        read_header(file)
    assert said in str(caught.value)


def test_an_index_names_the_missing_shards(tmp_path: Path) -> None:
    names = [f"model-{number:05}-of-00003.safetensors" for number in (1, 2, 3)]
    (tmp_path / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": dict(zip("abc", names, strict=True))})
    )
    write_safetensors(tmp_path / names[0], {"a": ("F16", [2], 4)})
    write_safetensors(tmp_path / "consolidated.safetensors", {"all": ("F16", [6], 12)})
    weights = read_weights(tmp_path)
    assert weights.problems == (f"2 of 3 weight files are missing: {names[1]}, {names[2]}",)
    assert weights.size == 4
    for name in names[1:]:
        write_safetensors(tmp_path / name, {name: ("F16", [2], 4)})
    assert read_weights(tmp_path).is_whole
    (tmp_path / "model.safetensors.index.json").write_text("{")
    assert "can't be read" in read_weights(tmp_path).problems[0]


def test_folders_in_other_forms(tmp_path: Path) -> None:
    assert "no weight files" in read_weights(tmp_path).problems[0]
    (tmp_path / "pytorch_model.bin").write_bytes(bytes(200_000))
    assert (read_weights(tmp_path).kind, read_weights(tmp_path).size) == ("bin", 200_000)
    write_safetensors(tmp_path / "consolidated.safetensors", {"all": ("F16", [6], 12)})
    assert read_weights(tmp_path).size == 12


def test_qwen2() -> None:
    config = parse_model_config(QWEN2_7B)
    assert (config.layers, config.full_layers, config.window_layers) == (28, 28, 0)
    assert (config.heads, config.kv_heads, config.head_dim, config.value_dim) == (28, 4, 128, 128)
    assert (config.max_length, config.length_key, config.dtype) == (32768, "max_position_embeddings", "bfloat16")
    flags = (config.is_mla, config.is_moe, config.is_tied, config.is_approximate, config.quantization)
    assert not any(flags)


@pytest.mark.parametrize(
    ("changes", "full", "windowed"),
    [
        ({"use_sliding_window": True, "max_window_layers": 20}, 20, 8),
        ({"use_sliding_window": True, "layer_types": ["full_attention", "sliding_attention"] * 14}, 14, 14),
        ({"layer_types": ["linear_attention"] * 21 + ["full_attention"] * 7}, 7, 0),
        ({"full_attention_interval": 4, "use_sliding_window": False}, 7, 0),
        ({"use_sliding_window": True, "max_window_layers": None, "sliding_window_pattern": 6}, 4, 24),
        ({"hybrid_override_pattern": "M-M*M-M*"}, 2, 0),
        ({"num_kv_shared_layers": 8}, 20, 0),
    ],
)
def test_kinds_of_attention(changes: dict[str, Any], full: int, windowed: int) -> None:
    config = parse_model_config({**QWEN2_7B, **changes})
    assert (config.full_layers, config.window_layers) == (full, windowed)
    assert config.is_approximate == (full + windowed < 28)


@pytest.mark.parametrize(
    ("changes", "length", "longest", "default"),
    [
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, 131072, 131072, 131072),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2}}, 65536, 65536, 65536),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 32768, 32768, 32768),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}},
         32768, 131072, 32768),
        ({"rope_scaling": {"type": "longrope"}, "original_max_position_embeddings": 4096}, 32768, 32768, 4096),
        ({"rope_parameters": {"full_attention": {"rope_type": "default"}, "sliding_attention": {"rope_type": "linear",
          "factor": 2}}}, 65536, 65536, 65536),
        ({"rope_scaling": None, "seq_length": 8192}, 8192, 8192, 8192),
        ({"model_max_length": 40000}, 40000, 40000, 40000),
        ({"max_position_embeddings": None}, 2048, 2048, 2048),
    ],
)  # fmt: skip
def test_the_context_as_vllm_derives_it(changes: dict[str, Any], length: int, longest: int, default: int) -> None:
    config = parse_model_config({**QWEN2_7B, **changes})
    assert (config.max_length, config.longest, config.default_length) == (length, longest, default)


def test_other_families() -> None:
    mla = parse_model_config({"model_type": "deepseek_v3", "num_hidden_layers": 61, "num_attention_heads": 128,
                              "kv_lora_rank": 512, "qk_rope_head_dim": 64, "v_head_dim": 128, "hidden_size": 7168,
                              "n_routed_experts": 256, "num_experts_per_tok": 8, "moe_intermediate_size": 2048,
                              "quantization_config": {"quant_method": "fp8"}, "auto_map": {}})  # fmt: skip
    assert (mla.is_mla, mla.is_moe, mla.expert_intermediate, mla.quantization) == (True, True, 2048, "fp8")
    assert mla.has_code
    gpt2 = parse_model_config({"n_layer": 12, "n_head": 12, "n_embd": 768, "n_positions": 1024})
    assert (gpt2.layers, gpt2.kv_heads, gpt2.head_dim, gpt2.intermediate, gpt2.max_length) == (12, 12, 64, 3072, 1024)
    seeing = parse_model_config({"architectures": ["Qwen3VL"], "text_config": {**QWEN2_7B, "architectures": None}})
    assert (seeing.architectures, seeing.layers, seeing.dtype) == (("Qwen3VL",), 28, "bfloat16")
    assert parse_model_config({"multi_query": True, "num_attention_heads": 71}).kv_heads == 1


def test_a_configuration_of_nonsense_is_read_without_an_exception() -> None:
    nonsense = {"num_hidden_layers": "x", "hidden_size": -3, "rope_scaling": [1], "layer_types": "abc",
                "quantization_config": 3, "architectures": None, "num_attention_heads": True}  # fmt: skip
    config = parse_model_config(nonsense)
    assert (config.layers, config.heads, config.architectures) == (0, 0, ())


def test_files_that_are_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        read_model_config(tmp_path)
    for text in ("", "[]", "{"):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ModelError, match="can't be read"):
            read_model_config(tmp_path)
