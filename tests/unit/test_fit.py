"""The reckoning of memory against what vLLM printed on real machines."""

from __future__ import annotations

import dataclasses

import pytest

from qwen_tui.models.fit import (
    GIB,
    Load,
    activation_peak,
    cpu_fit,
    gpu_fit,
    kv_bytes_per_token,
    longest_context,
    request_bytes,
    sized_fit,
)
from qwen_tui.models.model_config import parse_model_config
from tests.unit.test_fit_model import QWEN2_7B

CONFIG = parse_model_config(QWEN2_7B)
#: 14.19 GiB of checkpoint; the memory of an H200 as CUDA tells it: 139.80 GiB.
WEIGHTS, H200 = int(14.19 * GIB), 150_109_880_320
#: What vLLM takes on such a card by default.
LARGE = Load(batched_tokens=8192, sequences=1024)


def test_h200_as_printed_by_0_24() -> None:
    """Available KV cache memory: 111.38 GiB; 2,085,488 tokens; concurrency 1018.30x at 2,048."""
    fit = gpu_fit(CONFIG, LARGE, WEIGHTS, H200, 0.92, 2048)
    assert fit.available / GIB == pytest.approx(111.38, rel=0.005)
    assert fit.tokens == pytest.approx(2_085_488, rel=0.005)
    assert fit.concurrency == pytest.approx(1018.3, rel=0.005)
    assert fit.graphs / GIB == pytest.approx(0.51, rel=0.02)


def test_h200_with_almost_no_memory_given() -> None:
    """At 0.12, eager: 0.06 GiB available, estimated maximum model length 1,040; 1.75 GiB needed for 32,768."""
    eager = dataclasses.replace(LARGE, is_eager=True)
    fit = gpu_fit(CONFIG, eager, WEIGHTS, H200, 0.12, 32768)
    assert not fit.fits
    # The difference of two large numbers: a thousandth of the budget is 17 MiB.
    assert abs(fit.available - 0.06 * GIB) < 0.02 * GIB
    assert request_bytes(CONFIG, eager, 32768) / GIB == 1.75
    assert longest_context(CONFIG, eager, int(0.0568 * GIB)) == pytest.approx(1040, abs=32)


def test_cpu_with_a_given_cache_as_printed_by_0_32() -> None:
    """SmolLM2-135M, VLLM_CPU_KVCACHE_SPACE=1, max-model-len 2048: 46,592 tokens, 22.75x."""
    config = parse_model_config({"num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
                                 "hidden_size": 576, "vocab_size": 49152, "max_position_embeddings": 8192})  # fmt: skip
    fit = sized_fit(config, Load(block=128), 269_030_016, GIB, 2048)
    assert (fit.tokens, fit.concurrency) == (46_592, 22.75)


def test_cpu_without_a_given_cache_takes_the_share_less_what_is_held() -> None:
    fit = cpu_fit(CONFIG, Load(block=128), WEIGHTS, 64 * GIB, 0.5, 2048)
    assert fit.available == 32 * GIB - fit.weights - fit.other
    assert fit.fits


def test_tensor_parallel_shares_weights_and_heads() -> None:
    two = dataclasses.replace(LARGE, tensor=2)
    assert kv_bytes_per_token(CONFIG, two) * 2 == kv_bytes_per_token(CONFIG, LARGE)
    # Four KV heads on eight GPUs: one each, kept twice.
    assert kv_bytes_per_token(CONFIG, dataclasses.replace(LARGE, tensor=8)) == 2 * 128 * 2
    one, both = (gpu_fit(CONFIG, load, WEIGHTS, H200, 0.92, 2048) for load in (LARGE, two))
    assert both.weights == pytest.approx(one.weights / 2, rel=0.01)
    assert both.tokens > 2 * one.tokens


def test_8_bit_cache_holds_twice_the_tokens() -> None:
    fp8 = dataclasses.replace(LARGE, kv_bytes=1)
    one, both = (gpu_fit(CONFIG, load, WEIGHTS, H200, 0.92, 2048) for load in (LARGE, fp8))
    assert both.tokens == pytest.approx(2 * one.tokens, rel=0.001)


def test_mla_keeps_one_vector_for_all_heads_on_every_gpu() -> None:
    mla = parse_model_config({"num_hidden_layers": 61, "num_attention_heads": 128, "kv_lora_rank": 512,
                              "qk_rope_head_dim": 64, "hidden_size": 7168})  # fmt: skip
    assert kv_bytes_per_token(mla, Load()) == 576 * 2 == kv_bytes_per_token(mla, Load(tensor=8))


def test_a_sliding_window_costs_no_more_than_its_window() -> None:
    half = parse_model_config({**QWEN2_7B, "use_sliding_window": True, "sliding_window": 4096,
                               "max_window_layers": 14})  # fmt: skip
    page = kv_bytes_per_token(half, Load()) * 16
    blocks = (4096 - 1 + 2048 + 15) // 16 + 1
    assert request_bytes(half, Load(), 131072) == 14 * 131072 // 16 * page + 14 * blocks * page
    assert request_bytes(half, Load(), 1024) <= request_bytes(CONFIG, Load(), 1024) + 14 * page


@pytest.mark.parametrize("cache", [0, 1, 10**6, 10**9, 10**11])
def test_the_longest_context_fits_and_one_block_more_does_not(cache: int) -> None:
    load = Load()
    longest = longest_context(CONFIG, load, cache)
    assert longest == 0 or request_bytes(CONFIG, load, longest) <= cache
    assert request_bytes(CONFIG, load, longest + load.block) > cache


def test_the_profile_run_of_a_small_batch_is_the_samplers_or_the_feed_forwards() -> None:
    assert activation_peak(CONFIG, LARGE) == pytest.approx(2.43 * GIB, rel=0.01)
    wide = dataclasses.replace(LARGE, batched_tokens=65536, sequences=16)
    assert activation_peak(CONFIG, wide) == 65536 * (3 * 18944 + 4 * 3584) * 2


def test_a_model_that_does_not_fit_says_so() -> None:
    fit = gpu_fit(CONFIG, Load(), WEIGHTS, 8 * GIB, 0.9, 2048)
    assert fit.available < 0
    assert (fit.tokens, fit.longest, fit.fits) == (0, 0, False)


@pytest.mark.parametrize(
    ("total", "is_eager", "tokens", "concurrency"),
    [(17.2, True, 113_408, 27.69), (20.84, False, 137_088, 33.47)],
)
def test_cpu_at_a_share_as_printed_by_0_32(total: float, is_eager: bool, tokens: int, concurrency: float) -> None:
    """SmolLM2-135M at 0.2 of 17.2 GiB (1.01 GiB held, 2.43 for the cache), and of 20.84, compiled (1.22, 2.94)."""
    config = parse_model_config({"num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
                                 "hidden_size": 576, "vocab_size": 49152})  # fmt: skip
    load = Load(block=128, is_eager=is_eager)
    fit = cpu_fit(config, load, 269_030_016, int(total * GIB), 0.2, 4096)
    assert fit.tokens == pytest.approx(tokens, rel=0.02)
    assert fit.concurrency == pytest.approx(concurrency, rel=0.02)
