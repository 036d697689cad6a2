"""The verdict on a model for a box, against what vLLM printed on real machines; proposals and comparisons."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen_tui.errors import ModelError
from qwen_tui.hardware.gpus import Gpu
from qwen_tui.models.fit import GIB
from qwen_tui.models.fit_box import Box, Measured, ModelFit, fit_model
from qwen_tui.models.fit_propose import compare, propose
from qwen_tui.models.local_model import LocalModel
from qwen_tui.models.local_weights import WeightTally
from qwen_tui.models.model_config import parse_model_config
from tests.unit.test_fit_model import QWEN2_7B


def gpu(gib: float, free: float | None = None, capability: tuple[int, int] = (9, 0), name: str = "GPU") -> Gpu:
    total, left = int(gib * GIB), int((gib if free is None else free) * GIB)
    return Gpu(0, "GPU-0", name, total, left, total - left, capability)


def box(*gpus: Gpu, version: tuple[int, int] = (0, 24)) -> Box:
    return Box(gpus, (64 * GIB, 60 * GIB), False, version)


def model(changes: dict[str, Any] | None = None, gib: float = 14.19, **fields: Any) -> LocalModel:
    config = parse_model_config({**QWEN2_7B, **(changes or {})})
    tally = WeightTally("safetensors", 4, int(gib * GIB), int(gib * GIB / 2), int(gib * GIB / 2))
    path = Path("/models/Qwen2-7B")
    made = LocalModel("qwen/Qwen2-7B", path, path, "modelscope", config=config, weights=tally, dtype=config.dtype,
                      context=config.max_length)  # fmt: skip
    return dataclasses.replace(made, **fields)


H200 = dataclasses.replace(gpu(1, capability=(9, 0)), memory_total=150_109_880_320, memory_free=150_109_880_320)


def test_the_7b_shape_on_an_h200() -> None:
    """GPU KV cache size: 2,085,488 tokens; 1018.30x at 2,048 (0.24, utilization 0.92)."""
    fit = fit_model(model(), box(H200), context=2048)
    assert (fit.light, fit.tensor, fit.dtype, fit.utilization) == ("ok", 1, "auto", None)
    assert fit.tokens == pytest.approx(2_085_488, rel=0.001)
    assert fit.concurrency == pytest.approx(1018.3, rel=0.001)
    assert fit.bytes_per_token == 2 * 28 * 4 * 128 * 2
    assert fit.request == 2048 * fit.bytes_per_token
    assert fit.longest == 32768
    assert "1,018.4 requests of 2,048" in fit.why


def test_a_start_on_record_sets_the_figures() -> None:
    start = Measured(2_000_000, at=5.0, max_model_len=2048)
    fit = fit_model(model(), box(H200), context=2048, measured=[start, Measured(3_000_000, at=1.0, max_model_len=2048)])
    assert fit.measured == start
    assert fit.tokens == pytest.approx(2_000_000, rel=1e-4)
    # Of another card, or of two: nothing is taken from it.
    for other in (Measured(100_000, 9.0), Measured(2_000_000, 9.0, tensor=2)):
        assert fit_model(model(), box(H200), context=2048, measured=[other]).measured is None


def test_a_card_of_24_gib_takes_it_whole_and_of_17_with_a_shorter_context() -> None:
    whole = fit_model(model(), box(gpu(24)))
    assert (whole.light, whole.context) == ("ok", 32768)
    tight = fit_model(model(), box(gpu(18.5)))
    assert tight.light == "tight"
    assert 512 <= tight.context < 32768
    assert tight.concurrency >= 1
    assert f"{tight.context:,}" in tight.why
    asked = fit_model(model(), box(gpu(18.5)), context=32768)
    assert (asked.light, asked.context) == ("no", 32768)
    none = fit_model(model(), box(gpu(12)))
    assert (none.light, none.longest, none.tokens) == ("no", 0, 0)
    assert "14.2 GiB" in none.why


def test_the_fewest_gpus_that_do_are_taken() -> None:
    four = [gpu(12)] * 4
    fit = fit_model(model(), box(*four))
    assert (fit.light, fit.tensor) == ("ok", 2)
    assert fit.bytes_per_token == 2 * 28 * 4 * 128 * 2
    # 28 heads can't be shared by 8, and three KV heads not by two.
    assert fit_model(model(gib=120), box(*[gpu(24)] * 8)).tensor <= 4
    odd = model({"num_attention_heads": 9, "num_key_value_heads": 3, "hidden_size": 1152}, gib=20)
    assert fit_model(odd, box(*[gpu(12)] * 3)).tensor == 3


def test_old_cards_compute_in_half() -> None:
    assert fit_model(model(), box(gpu(32, capability=(7, 0)))).dtype == "half"
    assert fit_model(model({"torch_dtype": "float16"}), box(gpu(32, capability=(7, 0)))).dtype == "auto"


def test_cards_too_old_for_the_quantization() -> None:
    awq = model({"quantization_config": {"quant_method": "awq", "bits": 4}}, gib=5)
    fit = fit_model(awq, box(gpu(32, capability=(7, 0), name="V100")))
    assert (fit.light, fit.why) == ("no", "awq needs compute capability 7.5; V100 has 7.0")
    assert fit_model(awq, box(gpu(32, capability=(7, 5)))).light == "ok"
    fp8 = model({"quantization_config": {"quant_method": "fp8"}}, gib=7)
    assert fit_model(fp8, Box((), (64 * GIB, 60 * GIB), True, (0, 32))).light == "no"


def test_a_card_that_is_taken_is_said_and_a_smaller_share_proposed() -> None:
    chosen = model()
    fit = fit_model(chosen, box(gpu(80, free=40)))
    assert fit.light == "ok"
    assert fit.utilization == 0.49
    assert "40.0 of 80.0 GiB" in fit.notes[-1]
    assert propose(chosen, fit).flags == ("--gpu-memory-utilization", "0.49")
    assert fit_model(chosen, box(gpu(80, free=4))).utilization is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_hidden_layers": 0}, "shape of its attention"),
        ({"is_encoder_decoder": True}, "encoder"),
        ({"layer_types": ["linear_attention"] * 21 + ["full_attention"] * 7}, "can't be said"),
        ({"hybrid_override_pattern": "M-M*" * 7}, "can't be said"),
    ],
)
def test_what_cant_be_said_is_not_said(changes: dict[str, Any], said: str) -> None:
    fit = fit_model(model(changes), box(H200))
    assert fit.light == "unknown"
    assert said in fit.why


def test_mixed_layers_mla_and_experts_are_named() -> None:
    gemma = model({"layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 4 + ["full_attention"] * 4,
                   "sliding_window": 1024, "use_sliding_window": True})  # fmt: skip
    fit = fit_model(gemma, box(H200))
    assert fit.light == "ok"
    assert "20 of 28 layers keep a window of 1,024" in fit.notes[0]
    assert fit.request < fit_model(model(), box(H200)).request / 2
    deepseek = model({"kv_lora_rank": 512, "qk_rope_head_dim": 64, "n_routed_experts": 64, "num_experts_per_tok": 6})
    fit = fit_model(deepseek, box(H200))
    assert fit.bytes_per_token == 28 * 576 * 2
    assert ["576 numbers" in fit.notes[0], "6 of 64" in fit.notes[1]] == [True, True]


def test_incomplete_models_and_adapters() -> None:
    broken = model(problems=("2 of 4 weight files are missing: a, b",))
    assert "2 of 4" in fit_model(broken, box(H200)).why
    adapter = model(kind="adapter", base="qwen/Qwen2-7B")
    assert "qwen/Qwen2-7B" in fit_model(adapter, box(H200)).why
    for one in (broken, adapter):
        with pytest.raises(ModelError):
            propose(one, fit_model(one, box(H200)))


def test_without_a_gpu_nothing_is_promised() -> None:
    assert fit_model(model(), Box((), (GIB, GIB), False)).light == "unknown"


SMOL = {"num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "hidden_size": 576,
        "vocab_size": 49152, "max_position_embeddings": 8192, "tie_word_embeddings": True}  # fmt: skip


def test_on_a_cpu_as_printed_by_0_32() -> None:
    """SmolLM2-135M, VLLM_CPU_KVCACHE_SPACE=1, max-model-len 2048: 46,592 tokens, 22.75x."""
    small = model(SMOL, gib=269_030_016 / GIB)
    fit = fit_model(small, Box((), (20 * GIB, 3 * GIB), True, (0, 32)), context=2048)
    assert (fit.light, fit.cpu_space, fit.tokens, fit.concurrency) == ("ok", 1, 46_592, 22.75)
    assert propose(small, fit).environment == {"VLLM_CPU_KVCACHE_SPACE": "1"}
    # With the default share free, vLLM is left to itself.
    free = fit_model(small, Box((), (20 * GIB, 19 * GIB), True, (0, 32)))
    assert free.cpu_space is None
    assert propose(small, free).environment == {}
    # A start on record: as much again, and its figures exactly.
    start = Measured(46_592, at=1.0, max_model_len=2048, cpu_space=1)
    again = fit_model(small, Box((), (20 * GIB, 19 * GIB), True, (0, 32)), context=2048, measured=[start])
    assert (again.cpu_space, again.tokens, again.measured) == (1, 46_592, start)
    full = fit_model(small, Box((), (20 * GIB, GIB), True, (0, 32)))
    assert full.light == "no"


def test_a_proposal_is_what_the_form_takes() -> None:
    one = model({"torch_dtype": "bfloat16"})
    fit = fit_model(one, box(*[gpu(10.2, capability=(7, 5))] * 2))
    assert fit.light == "tight"
    proposal = propose(one, fit)
    assert proposal.fields() == {
        "model": "/models/Qwen2-7B",
        "served_model_name": "Qwen2-7B",
        "max_model_len": str(fit.context),
        "extra_args": "--tensor-parallel-size 2 --dtype half",
    }
    assert len(proposal.why) == 3
    asked = propose(one, fit_model(one, box(H200), context=2048))
    assert (asked.max_model_len, asked.why) == (2048, ("max-model-len 2,048, as asked for",))


def test_two_models_side_by_side() -> None:
    large, small = model(), model(SMOL, gib=0.25, dtype="bfloat16", quantization="awq")
    fits = [fit_model(one, box(H200), context=2048) for one in (large, small)]
    rows = {row.label: row for row in compare(list(zip((large, small), fits, strict=True)))}
    assert rows["Weights in memory"].values == ("14.2 GiB", "268 MB")
    assert rows["Weights in memory"].best == 1
    assert rows["Context"].best == 0
    assert rows["Type"].values == ("bfloat16", "bfloat16 awq")
    assert rows["Requests at once"].best == 1
    unknown = ModelFit("x", "unknown", "why")
    assert compare([(large, unknown), (small, fits[1])])[3].values[0] == "–"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**63) | st.floats() | st.sampled_from(["yarn", "linear", "fp8", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["factor", "type", "bits"]), inner),
    max_leaves=5,
)
KEYS = [*QWEN2_7B, "layer_types", "rope_scaling", "quantization_config", "kv_lora_rank", "n_routed_experts", "head_dim",
        "text_config", "vision_config", "hybrid_override_pattern", "sliding_window_pattern"]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=5))
def test_no_configuration_makes_it_fail(changes: dict[str, Any]) -> None:
    one = model(changes)
    for where in (box(gpu(24), gpu(24)), Box((), (10 * GIB, 5 * GIB), True, (0, 32))):
        fit = fit_model(one, where, measured=[Measured(1000, 1.0)])
        assert fit.why
        assert len(compare([(one, fit), (one, fit)])) == 13
