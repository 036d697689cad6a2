"""What hardware the ways of quantizing weights need."""

from __future__ import annotations

from collections.abc import Mapping

#: Quantization → the least compute capability that any vLLM has asked for. Source: get_min_capability in
#: model_executor/layers/quantization.
LEAST_CAPABILITY: Mapping[str, tuple[int, int]] = {
    "awq": (7, 5), "awq_marlin": (7, 5), "gptq": (6, 0), "gptq_marlin": (7, 5), "fp8": (7, 5), "modelopt": (7, 5),
    "modelopt_fp4": (7, 5), "mxfp4": (8, 0), "fbgemm_fp8": (8, 0), "experts_int8": (8, 0), "fp_quant": (10, 0),
    "compressed-tensors": (7, 0), "bitsandbytes": (7, 0), "gguf": (6, 0), "moe_wna16": (7, 0), "torchao": (7, 5),
}  # fmt: skip
#: Methods that a CPU build can run.
ON_CPU = ("awq", "auto_awq", "gptq", "auto_gptq", "compressed-tensors", "inc", "auto-round", "cpu_awq", "gguf")
