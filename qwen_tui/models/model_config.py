"""A model's config.json, read for what decides whether and how it fits: shape, attention, context, types.

The names differ between families; the ones tried here, and their order, follow vLLM 0.32
(transformers_utils/model_arch_config_convertor.py, config/model.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qwen_tui.errors import ModelError
from qwen_tui.i18n import _

#: Where a model that also sees or hears keeps the configuration of its language part.
_TEXT_CONFIGS = ("text_config", "thinker_config", "language_config", "llm_config", "language_model_config")
#: The context's length under its different names; vLLM takes the smallest that is there.
_LENGTHS = (
    "max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length", "max_target_positions",
    "max_sequence_length", "max_seq_length", "seq_len",
)  # fmt: skip
#: Ways of stretching RoPE after which max_position_embeddings is the full length already.
_SCALED_ALREADY = ("su", "longrope", "llama3", "default", "mrope", "proportional")
_YARN = ("yarn", "deepseek_yarn", "deepseek_llama_scaling")
#: What files of these types leave out because transformers' configuration class fills it in (gemma-3-4b-it says neither
#: heads nor context).
_FILLED_IN: Mapping[str, Mapping[str, Any]] = {
    "gemma3_text": {
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "max_position_embeddings": 131072,
        "sliding_window": 4096, "sliding_window_pattern": 6, "vocab_size": 262208, "tie_word_embeddings": True,
    },
}  # fmt: skip
#: Models with a kv_lora_rank that vLLM nevertheless runs with keys and values of each head (is_deepseek_mla).
_WITHOUT_MLA = ("minicpm3",)
#: Bytes of one number.
DTYPE_BYTES: Mapping[str, int] = {
    "float64": 8, "float32": 4, "float": 4, "float16": 2, "half": 2, "bfloat16": 2,
}  # fmt: skip


@dataclass(frozen=True)
class ModelConfig:
    """What config.json says. Numbers that are not there are 0, texts empty.

    layers: all; full_layers keep the keys and values of the whole context, window_layers of `sliding_window` tokens
    only; the rest (state space, linear attention, shared caches) keep none for each token.
    head_dim, value_dim: numbers per head in a key and a value. For MLA one latent vector of kv_lora_rank +
    qk_rope_head_dim numbers stands for both, in every head. index_head_dim: of the sparse attention's index beside it.
    max_length: tokens of context as vLLM derives it; longest: the length under any reading (engines differ
    over YaRN). length_key: the key it comes from. default_length: what vLLM takes when it is told none.
    dtype: of the weights. quantization: the method's name as vLLM has it.
    has_code: whether the folder brings Python code of its own (auto_map).
    """

    architectures: tuple[str, ...] = ()
    model_type: str = ""
    layers: int = 0
    full_layers: int = 0
    window_layers: int = 0
    heads: int = 0
    kv_heads: int = 0
    head_dim: int = 0
    value_dim: int = 0
    hidden: int = 0
    intermediate: int = 0
    vocab: int = 0
    is_tied: bool = False
    is_mla: bool = False
    kv_lora_rank: int = 0
    qk_rope_head_dim: int = 0
    index_head_dim: int = 0
    sliding_window: int = 0
    experts: int = 0
    experts_per_token: int = 0
    expert_intermediate: int = 0
    max_length: int = 0
    longest: int = 0
    default_length: int = 0
    length_key: str = ""
    dtype: str = ""
    quantization: str = ""
    has_code: bool = False
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def is_moe(self) -> bool:
        return self.experts > 1

    @property
    def is_approximate(self) -> bool:
        """Whether some layers keep a state that this reading does not size."""
        return self.full_layers + self.window_layers < self.layers


def read_model_config(folder: Path) -> ModelConfig:
    """The configuration of the model in `folder`. Raises ModelError if it is missing or can't be read."""
    file = folder / "config.json"
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(
            _("There is no config.json in {folder}").format(folder=folder),
            "",
            _("Is that the model's folder, and was it downloaded to the end?"),
        ) from None
    except (OSError, ValueError) as error:
        raise ModelError(_("{file} can't be read").format(file=file), str(error)) from None
    if not isinstance(raw, dict):
        raise ModelError(_("{file} can't be read").format(file=file), _("It is not a JSON object"))
    return parse_model_config(raw)


def parse_model_config(raw: Mapping[str, Any]) -> ModelConfig:
    """The same, from the parsed JSON. Never raises: what can't be read is 0 or empty."""
    text, architectures = _text_config(raw), raw.get("architectures")
    heads = _number(text, "num_attention_heads", "n_head", "n_heads", "num_heads")
    hidden = _number(text, "hidden_size", "n_embd", "d_model", "dim")
    rank = _number(text, "kv_lora_rank") if text.get("model_type") not in _WITHOUT_MLA else 0
    expanded = 0 if rank else _number(text, "qk_nope_head_dim") + _number(text, "qk_rope_head_dim")
    head_dim = (
        expanded
        or _number(text, "head_dim", "hidden_size_per_head", "kv_channels")
        or (hidden // heads if heads else 0)
    )
    layers = _number(text, "num_hidden_layers", "n_layer", "n_layers", "num_layers")
    full, windowed = _attention_layers(text, layers)
    length, longest, default, key = _context(text, str(raw.get("model_type", "")))
    intermediate = _number(text, "intermediate_size", "ffn_hidden_size", "ffn_dim", "n_inner") or 4 * hidden
    return ModelConfig(
        architectures=tuple(map(str, architectures)) if isinstance(architectures, list) else (),
        model_type=str(raw.get("model_type", "")),
        layers=layers,
        full_layers=full,
        window_layers=windowed,
        heads=heads,
        kv_heads=_kv_heads(text, heads),
        head_dim=head_dim,
        value_dim=head_dim if rank or expanded else _number(text, "v_head_dim") or head_dim,
        hidden=hidden,
        intermediate=intermediate,
        vocab=_number(text, "vocab_size", "padded_vocab_size"),
        is_tied=bool(raw.get("tie_word_embeddings", text.get("tie_word_embeddings", False))),
        is_mla=rank > 0,
        kv_lora_rank=rank,
        qk_rope_head_dim=_number(text, "qk_rope_head_dim"),
        index_head_dim=_number(text, "index_head_dim") if rank else 0,
        sliding_window=_number(text, "sliding_window") if windowed else 0,
        experts=_number(text, "num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"),
        experts_per_token=_number(text, "num_experts_per_tok", "num_experts_per_token", "top_k_experts", "moe_topk"),
        expert_intermediate=_number(text, "moe_intermediate_size") or intermediate,
        max_length=length,
        longest=longest,
        default_length=default,
        length_key=key,
        dtype=_dtype(raw, text),
        quantization=_quantization(raw, text),
        has_code="auto_map" in raw,
        raw=raw,
    )


def _text_config(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in _TEXT_CONFIGS:
        inner = raw.get(name)
        if isinstance(inner, dict):
            return _text_config(inner) or inner
    return {**_FILLED_IN.get(str(raw.get("model_type")), {}), **raw}


def _number(config: Mapping[str, Any], *names: str) -> int:
    """The first of `names` that is a number; of a list (one entry a layer) the largest; 0 without any."""
    for name in names:
        value = config.get(name)
        if isinstance(value, list):
            value = max((entry for entry in value if isinstance(entry, int)), default=None)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 2**62:
            return int(value)
    return 0


def _kv_heads(text: Mapping[str, Any], heads: int) -> int:
    if text.get("multi_query") is True and not text.get("new_decoder_architecture"):
        return 1
    names = ("n_head_kv", "num_kv_heads", "num_key_value_heads", "multi_query_group_num", "num_attention_groups")
    return _number(text, *names) or heads


def _attention_layers(text: Mapping[str, Any], layers: int) -> tuple[int, int]:
    """How many layers attend to the whole context, and how many to a window of it."""
    layers = max(0, layers - _number(text, "num_kv_shared_layers"))
    kinds = text.get("layer_types") or text.get("layers_block_type")
    pattern = text.get("hybrid_override_pattern")
    window = _number(text, "sliding_window") if text.get("use_sliding_window", True) else 0
    if isinstance(kinds, list) and kinds:
        kinds = kinds[:layers]
        windowed = sum(kind in ("sliding_attention", "chunked_attention") for kind in kinds) if window else 0
        # Without a window vLLM keeps the whole context in layers that attend to a chunk of it, too.
        keeping = ("full_attention", "attention", "hybrid", "sliding_attention", "chunked_attention")
        return sum(kind in keeping for kind in kinds) - windowed, windowed
    if isinstance(pattern, str) and pattern:
        return pattern.count("*"), 0
    for every in ("full_attention_interval", "attn_layer_period"):
        if _number(text, every) > 1:
            return layers // _number(text, every), 0
    if not window:
        return layers, 0
    if _number(text, "sliding_window_pattern") > 1:
        full = layers // _number(text, "sliding_window_pattern")
        return full, layers - full
    if str(text.get("model_type", "")).startswith("gemma2"):
        return layers // 2, layers - layers // 2
    if "use_sliding_window" in text and "max_window_layers" in text:
        full = min(layers, _number(text, "max_window_layers"))
        return full, layers - full
    return 0, layers


def _context(text: Mapping[str, Any], model_type: str) -> tuple[int, int, int, str]:
    """(length, longest under any reading, default, key). Source: _get_and_verify_max_len, config/model.py.

    2,048 without any key, as vLLM assumes. Up to some version vLLM multiplied YaRN's factor with
    original_max_position_embeddings; since, max_position_embeddings stands as it is.
    """
    found = {key: _number(text, key) for key in _LENGTHS if _number(text, key)}
    if not found:
        return 2048, 2048, 2048, ""
    key = "model_max_length" if "model_max_length" in found else min(found, key=lambda name: found[name])
    length = longest = default = found[key]
    for rope in _ropes(text):
        kind = str(rope.get("rope_type", rope.get("type", "default")))
        factor, original = _factor(rope), _number(rope, "original_max_position_embeddings")
        if kind == "longrope" or kind == "su":
            default = _number(text, "original_max_position_embeddings") or default
        elif kind in _YARN:
            longest = max(longest, int((original or length) * factor))
        elif kind not in _SCALED_ALREADY and "gemma3" not in model_type:
            length = longest = default = int(found[key] * factor)
    return length, longest, default, key


def _factor(rope: Mapping[str, Any]) -> float:
    """By how much a way of stretching RoPE stretches it; 1 where it does not say, or says what no model does."""
    factor = rope.get("factor")
    return factor if isinstance(factor, (int, float)) and 0 < factor <= 100_000 else 1.0


def _ropes(text: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The RoPE parameters: one set, or one for each kind of layer."""
    rope = text.get("rope_parameters") or text.get("rope_scaling")
    if not isinstance(rope, dict):
        return ()
    nested = [entry for entry in rope.values() if isinstance(entry, dict)]
    return nested or (rope,)


def _dtype(raw: Mapping[str, Any], text: Mapping[str, Any]) -> str:
    for config in (raw, text, raw.get("vision_config")):
        if not isinstance(config, Mapping):
            continue
        value = config.get("dtype") or config.get("torch_dtype")
        if isinstance(value, str):
            return value.removeprefix("torch.")
    return ""


def _quantization(raw: Mapping[str, Any], text: Mapping[str, Any]) -> str:
    """The method's name, as vLLM normalises it; empty for plain weights."""
    config = raw.get("quantization_config") or raw.get("compression_config") or text.get("quantization_config")
    if not isinstance(config, dict):
        return ""
    producer, inner = config.get("producer"), config.get("quantization")
    if isinstance(producer, dict) and producer.get("name") == "modelopt" and isinstance(inner, dict):
        return "modelopt_fp4" if "FP4" in str(inner.get("quant_algo", "")).upper() else "modelopt"
    return str(config.get("quant_method", "")).lower().replace("compressed_tensors", "compressed-tensors")
