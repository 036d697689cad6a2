"""What is said about failures as users reported them: many causes, from vLLM 0.4 to 0.28, in every kind of wrapping.

The logs beside this file have the shapes of public reports, shortened and reworded.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from qwen_tui.server.diagnosis import RunContext, diagnose

LOGS = Path(__file__).parent / "field_logs"


class Case(NamedTuple):
    """name: of the log. cause: None where nothing failed. cause, line, remedy, changes: patterns.

    changes: "" where nothing is to be tried, "*" for anything.
    """

    name: str
    cause: str | None
    line: str = ""
    remedy: str = "."
    changes: str = "*"


CASES = (
    Case("accelerator-then-value", "(?i)assert|check inside", "device-side assert"),
    Case("arch-inspect-module", "qwen_vl_utils", "qwen_vl_utils", "(?i)install"),
    Case(
        "arch-inspect-symbol",
        "(?i)flash.?attn|built (for|against)|torch",
        "undefined symbol",
        "(?i)flash|install|torch|setup",
        "",
    ),
    Case("arch-old", "Qwen2VLForConditionalGeneration", "not supported for now", "(?i)newer|update|version", ""),
    Case("arch-transformers-chain", "qwen3_5", "recognize this architecture", "(?i)update|newer", ""),
    Case("argparse-removed", "use-v2-block-manager", "unrecognized"),
    Case("argparse-required", "two", "invalid int"),
    Case("assert-interleaved", "(?i)assert", "device-side assert"),
    Case("attention-backend", "XFORMERS", "XFORMERS"),
    Case("attention-selected", "FLASH_ATTN", "FLASH_ATTN"),
    Case("attr-input-scale", "input_scale", "input_scale"),
    Case("backend-tokenizer", "(?i)tokenizer", "backend tokenizer|sentencepiece", "(?i)sentencepiece"),
    Case("bf16-t4-v0", "(?i)bfloat16", "Bfloat16", changes="--dtype (half|float16)"),
    Case("bf16-t4-v0-stderrprefix", "(?i)bfloat16", "Bfloat16", changes="--dtype (half|float16)"),
    Case("cache-denied", "/app/.cache/vllm", "Permission denied", "VLLM_CACHE_ROOT|HOME"),
    Case("chat-template-run", None),
    Case("compose-padded", "(?i)generation of GPU", "no kernel image"),
    Case("cpu-typeerror-run", "function' object is not subscriptable", "not subscriptable"),
    Case("cpu-worker-killed", "(?i)killed|RAM", "exit code: -9|worker died", "(?i)RAM|dmesg"),
    Case("cublas-invalid", "(?i)computation|GPU|cuBLAS", "CUBLAS_STATUS_INVALID_VALUE"),
    Case(
        "custom-allreduce",
        "(?i)all.?reduce|peer|P2P",
        "(?i)custom_all_reduce|invalid argument",
        "(?i)disable-custom-all-reduce",
        "disable-custom-all-reduce",
    ),
    Case("deepgemm", "exit_code == 0", "exit_code == 0", "(?i)deep.?gemm|quantiz"),
    Case("device-infer", "(?i)GPU|device", "Failed to infer device"),
    Case("dp-launch-failure", "(?i)GPU", "unspecified launch"),
    Case("ecc", "(?i)ECC|damaged memory", "ECC"),
    Case("fabric", "(?i)fabric|driver|GPU", "802", "(?i)fabric"),
    Case("failed-to-apply", "(?i)picture|processor", "Failed to apply", "(?i)transformers|vllm"),
    Case("fork-cuda", "(?i)fork|process", "re-initialize CUDA", "(?i)spawn", "VLLM_WORKER_MULTIPROC_METHOD=spawn"),
    Case("gated", "(?i)gated", "(?i)gated", "(?i)token"),
    Case("getpwuid", "(?i)user|1000", "getpwuid", "(?i)USER|passwd|TORCHINDUCTOR_CACHE_DIR|LOGNAME"),
    Case("gguf-arch", "(?i)deepseek2", "GGUF model", "(?i)newer|safetensors|another"),
    Case("gguf-json", "(?i)gguf", "gguf", "(?i)gguf|safetensors"),
    Case("gguf-type", "deepseek_v4", "Unknown gguf", "(?i)newer|safetensors|another"),
    Case("gloo-mesh", "(?i)network|find each other", "Gloo connectFullMesh", "(?i)GLOO_SOCKET_IFNAME|VLLM_HOST_IP"),
    Case("gloo-timeout-critical", "(?i)network|find each other|gloo", "gloo", "(?i)GLOO|HOST_IP"),
    Case("gptq-config-missing", "(?i)gptq", "Cannot find the config file"),
    Case("header-invalid", "(?i)damaged|corrupt|not a|broken", "deserializing header", "(?i)download|verify"),
    Case("header-new", "(?i)damaged|incomplete|short", "incomplete metadata", "(?i)download|verify"),
    Case("healthy-sigterm", None),
    Case("hub-offline", "(?i)offline|disabled|not here|downloaded", "LocalEntryNotFoundError", "(?i)offline|download"),
    Case("hub-proxy", "(?i)proxy", "ProxyError", "(?i)proxy"),
    Case("hub-ssl", "(?i)certificate|TLS|SSL", "CERTIFICATE_VERIFY_FAILED", "(?i)certif|CA|proxy"),
    Case("hub-unreachable", "(?i)hugging|hub|reach|connect", "huggingface.co", "(?i)modelscope|mirror|HF_ENDPOINT"),
    Case("illegal-0.5-later", "(?i)illegal memory|memory access", "illegal memory access"),
    Case("illegal-capture", "(?i)illegal", "illegal memory"),
    Case("index-assert-cublas", "(?i)assert|check inside", "Assertion|CUBLAS", "(?i)token|vocab"),
    Case("joined-lines", "(?i)lora", "LoRA weight|Loading lora", "(?i)adapter"),
    Case("journal-nvcc", "(?i)nvcc|CUDA toolkit", "nvcc", "(?i)nvcc|toolkit"),
    Case("kernels-mismatch", "revision or a version", "revision or a version", "(?i)version|setup|package|environment"),
    Case("kv-none-compose", "(?i)kv cache|memory", "No available memory", changes="utilization"),
    Case("kv-old-number", "22,?240", "22240", changes="--max-model-len 22240"),
    Case("kv-v1-estimate", "131,?072|41,?920", "41920", changes="--max-model-len 41920"),
    Case("kv-v1-negative", "(?i)memory", "No available memory", changes="utiliz"),
    Case("kv-v1-noestimate", "40,?960", "40960", changes="--max-model-len 10|--max-model-len"),
    Case("lazy-fallback-trace", None),
    Case("libcudart", "(?i)libcudart|CUDA", "libcudart|_C", "(?i)CUDA|install|build|setup"),
    Case("lora-name", "(?i)lora", "No adapter found", "name=path|folder"),
    Case("lora-request-healthy", None),
    Case("lora-target", "(?i)lora", "expected target modules", "(?i)adapter"),
    Case("lora-weight", "(?i)lora", "unsupported LoRA"),
    Case("mamba-seqs", "170", "170", changes="--max-num-seqs 170"),
    Case("memory-profile-assert", "(?i)other process|profil|changed|freed", "Error in memory profiling"),
    Case("memory-taken-worker", "31.44", "Free memory on device", changes="utilization 0.6"),
    Case("missing-shard", "00011-of-00037", "00011", "(?i)download"),
    Case(
        "modelscope-404",
        "(?i)hub|ModelScope|no such model|not found|does not exist",
        "404|record not found",
        "(?i)name|check|id",
    ),
    Case("modelscope-missing", "(?i)modelscope", "modelscope", "(?i)install", ""),
    Case("mq-dead-only", "(?i)ended without", "Engine loop has died", "(?i)dmesg"),
    Case("nccl-generic", "(?i)nccl|between", "NCCL error"),
    Case("nccl-shm", "(?i)shared memory|/dev/shm", "shm|NCCL", "(?i)shm", ""),
    Case("ninja-nvcc", "(?i)nvcc|flashinfer|compil", "(?i)nvcc|ninja", "(?i)nvcc|toolkit|FLASHINFER"),
    Case("no-gcc", "(?i)compiler", "C compiler", "(?i)gcc|build-essential"),
    Case("numa-bind", "(?i)bind", "NUMA nodes", "(?i)OMP_THREADS_BIND"),
    Case("numpy2", "(?i)numpy", "(?i)numpy", "(?i)numpy"),
    Case("nvcc-file", "(?i)nvcc|CUDA toolkit", "nvcc", "(?i)nvcc|toolkit|FLASHINFER"),
    Case("old-logger-assert", "(?i)weights", "AssertionError", "(?i)config.json|weights"),
    Case("oom-capture-v1", "(?i)memory.*graph|graph.*memory", "OutOfMemory", changes="util|eager"),
    Case("oom-load-0.4", "(?i)memory.*load|load.*memory|weights", "OutOfMemoryError"),
    Case("oom-load-new-help", "(?i)memory.*(load|weights)|(load|weights).*memory", "memory"),
    Case("oom-profile-0.6", "(?i)memory", "OutOfMemory", "(?i)max-num|utiliz|context"),
    Case("oom-run-v1", "(?i)memory", "OutOfMemory", changes="util|max-num|len"),
    Case("oom-sampler-v1", "(?i)memory", "warming up sampler", "(?i)max-num-seqs", "max-num-seqs|utilization"),
    Case("p100", "(?i)too old|GPU", "below 7.0", changes=""),
    Case("port-after-load", "8000", "8000", changes="--port 80"),
    Case("port-oserror", "(?i)port", "Errno 98", changes="--port"),
    Case("processor-typeerror", "(?i)picture|processor", "multiple values", "(?i)transformers"),
    Case("pyairports", "pyairports", "pyairports", "(?i)install"),
    Case("python-h", r"(?i)python.*(header|dev)|Python\.h", "Python.h|gcc", "(?i)python3?-dev|header"),
    Case("quant-capability", "gptq_marlin", "Minimum capability"),
    Case("quant-dtype", "(?i)bfloat16", "torch.bfloat16 is not supported", changes="--dtype (half|float16)"),
    Case("quant-found-unknown", "(?i)quanti", "unknown quantization", "(?i)quanti"),
    Case("quant-mismatch", "(?i)gptq", "does not match", changes="quantization"),
    Case("quant-scale-keyerror", "down_proj.weight_scale", "weight_scale", "(?i)quant|version|newer"),
    Case("quant-unknown", "bitsandbytes", "Unknown quantization"),
    Case("quiet-500", None),
    Case("ray-actor-died", "(?i)process|worker", "ActorDied|worker process has died", "(?i)RAM|dmesg|ray"),
    Case("ray-oom-kill", "(?i)RAM|memory", "low on memory", "(?i)RAM|memory"),
    Case("ray-pg", "(?i)GPU", "required GPUs exceeds"),
    Case("ray-repeated", "(?i)memory", "OutOfMemory"),
    Case("ray-waiting", "(?i)ray", "placement group", "(?i)ray status"),
    Case("retry-then-healthy", None),
    Case("retry-then-other", "(?i)mxfp4", "Mxfp4"),
    Case("retry-then-starting", None),
    Case("rope-assert", "(?i)_get_and_verify_max_len|rope|context", "AssertionError"),
    Case("rope-iso", "(?i)rope|transformers", "rope_scaling", "(?i)update|newer|transformers"),
    Case("rope-keyerror", "(?i)rope|config", "KeyError"),
    Case("rpc-timeout", "(?i)worker|answer|time", "RPC call to execute_model timed out|TimeoutError"),
    Case("slow-tokenizer", "(?i)tokenizer", "slow version", "(?i)sentencepiece"),
    Case("sm120", "(?i)GPU", "no kernel image", "(?i)build|newer|engine"),
    Case("sqlite-io", "(?i)disk I/O error|database|cache", "disk I/O", "(?i)HOME|cache|folder"),
    Case("sqlite-open", "(?i)database|cache", "unable to open", "(?i)HOME|cache|folder"),
    Case("symm-mem-crash", "(?i)crash|CUDA driver error", "terminate called|CUDA driver error|-6"),
    Case("syslog-escaped-processor", "(?i)picture|processor", "Received a Qwen2VL", "(?i)transformers"),
    Case("three-prefixes-nixl", "NIXL_ERR_BACKEND", "NIXL_ERR_BACKEND"),
    Case("tokenizer-class", "(?i)tokenizer", "Tokenizer class", "(?i)transformers|version|trust|newer"),
    Case("tokenizer-variant", "(?i)tokenizer", "untagged enum", "(?i)tokenizers|transformers|newer|version|damaged"),
    Case("tp-divide", "18,?944", "18944"),
    Case("tp-heads", "28", "28", changes="--tensor-parallel-size (4|7|2)"),
    Case("transformers5", "(?i)transformers", "all_special_tokens_extended", "(?i)transformers|engine|version"),
    Case("trust", "(?i)code", "custom code|trust_remote", "(?i)trust"),
    Case("vllm-C", "vllm._C", "vllm._C", "(?i)install|build|setup|folder"),
    Case("watchdog", "(?i)illegal|memory access", "illegal memory access"),
    Case("whitespace-gone", "00001-of-00004", "00001-of-00004", "(?i)download"),
    Case("wsl-nccl-ray", "(?i)NCCL|driver", "NCCL error|installed CUDA driver", "(?i)NCCL|driver"),
    Case("wsl-unknown", "(?i)GPU|CUDA", "unknown error", "(?i)driver|restart|dmesg"),
    Case(
        "xinference-inspect",
        "Qwen2_5_VLForConditionalGeneration",
        "failed to be inspected",
        "(?i)version|newer|transformers|install",
    ),
    Case("healthy-request-text", None),
    Case("healthy-after-failed-run", None),
    Case("half-line", None),
    Case("failed-after-healthy-run", "22,240", "22240"),
    Case("second-failed-run", "22,240", "22240"),
    Case("progress-then-error", "disk", "No space left"),
    Case("chinese", "/数据/模型/config.json", "config.json"),
    Case("logfmt", "(?i)GPU", "Failed to infer device", "(?i)nvidia-smi"),
    Case("nccl-library", "libnccl", "libnccl", "(?i)install|setup|LD_LIBRARY"),
    Case("nccl-debug-healthy", None),
    Case("debug-healthy", None),
    Case("pooler", "pooler|can't do", "pooler", "(?i)task|runner|embedding|model"),
    Case("score-weight", "score.weight", "score.weight"),
    Case("no-module-named", "embed_tokens", "embed_tokens", "(?i)config|adapter|weights"),
    Case(
        "eagle3-only",
        "(?i)eagle3|specul",
        "Eagle3 is only|SpeculativeConfig",
        "(?i)speculative",
        "without --speculative-config",
    ),
    Case("eagle-keyerror", "(?i)weights|specul", "k_proj", "(?i)specul|config|weights"),
    Case("graph-hash", "(?i)compil", "failed to get the hash", "(?i)cache|eager"),
    Case("corrupted-artifact", "(?i)compil", "failed to compile", "(?i)torch_compile_cache"),
    Case("inductor-file", "(?i)compil|cache", "inductor_cache", "(?i)cache"),
    Case("inductor-subproc", "(?i)compil|jit functions", "InductorError|jit functions", "(?i)eager|cache"),
    Case("multi-step-assert", "multi_step_model_runner", "AssertionError"),
    Case("k8s-box", "(?i)kv cache", "No available memory", changes="utilization"),
    Case("libcuda-stub", "(?i)driver", "libcuda.so.1", "(?i)driver|gpus all"),
    Case("relayed-as-info", "8.31", "Free memory", changes="utilization 0.3"),
    Case("xgrammar-file", "(?i)xgrammar|structured", "xgrammar_bindings", "(?i)backend|install|setup"),
    Case("xgrammar-index", "(?i)structured|guided|tuple index", "tuple index out of range", "(?i)backend|structured"),
    Case("blank-lines", "(?i)memory.*weights|weights.*memory", "OutOfMemory"),
    Case("wrong-module", "vllm", "No module named", "(?i)engine|setup|install"),
    Case("unexpected-keyword", "tool-call-parser", "unexpected keyword"),
    Case("cut-off-pod", None),
    Case("module-not-callable-run", "fill_next_token_bitmask", "fill_next_token_bitmask"),
    Case("stopped-while-starting", "(?i)it was ended", "SIGTERM"),
)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_case(case: Case) -> None:
    file = LOGS / f"{case.name}.log"
    found = diagnose(file)
    if case.cause is None:
        assert found is None
        return
    assert found is not None
    assert re.search(case.cause, found.cause)
    assert re.search(case.line, found.line)
    assert re.search(case.remedy, found.remedy)
    changes = " ; ".join(found.relaunch.changes()) if found.relaunch else ""
    assert case.changes == "*" or (bool(changes) == bool(case.changes) and re.search(case.changes, changes))
    assert found.line.split("] ")[-1][:60] in file.read_bytes().decode().split("\n")[found.line_number - 1]


def test_every_log_is_tried() -> None:
    assert {case.name for case in CASES} == {file.stem for file in LOGS.iterdir()}


def test_a_stop_that_was_asked_for_is_no_failure() -> None:
    assert diagnose(LOGS / "stopped-while-starting.log", RunContext(asked=True)) is None


def test_a_log_file_of_docker(tmp_path: Path) -> None:
    lines = (LOGS / "kv-old-number.log").read_text().splitlines()
    file = tmp_path / "log"
    file.write_text(
        "".join(json.dumps({"log": f"{line}\n", "stream": "stderr"}, separators=(",", ":")) + "\n" for line in lines)
    )
    found, plain = diagnose(file), diagnose(LOGS / "kv-old-number.log")
    assert found is not None
    assert found == plain
