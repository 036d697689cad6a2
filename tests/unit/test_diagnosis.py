"""What is said about each kind of failure: short logs in the wording of vLLM 0.4 to 0.32 and of what it rests on."""

# ruff: noqa: E501 - messages stand as they are printed
from __future__ import annotations

from pathlib import Path

import pytest

from qwen_tui.server.diagnosis import diagnose, rules

VLLM = "/opt/engine/lib/python3.12/site-packages/vllm"


def traceback(error: str, *frames: str, prefix: str = "") -> str:
    """A traceback as Python prints it; frames: 'path:function', of vLLM where the path is relative."""
    lines = ["Traceback (most recent call last):"]
    for frame in frames or ("v1/engine/core.py:run_engine_core",):
        path, _colon, function = frame.rpartition(":")
        full = path if path.startswith(("/", "<")) else f"{VLLM}/{path}"
        lines += [f'  File "{full}", line 7, in {function}', "    call()"]
    lines += error.split("\n")
    return "".join(f"{prefix}{line}\n" for line in lines)


def site(path: str) -> str:
    return f"/opt/engine/lib/python3.12/site-packages/{path}"


USAGE = "usage: api_server.py [-h] [--max-model-len N] [--dtype {auto,half}]\n                     [--max-num-seqs N]\n"
CONFIG = "config/model.py:__post_init__"
INVALID = "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n  Value error, "
TAIL = " [type=value_error, input_value=ArgsKwargs((), {'model': 'm'}), input_type=ArgsKwargs]"

#: kind, log, something that the cause says, the changes it proposes.
KINDS: list[tuple[str, str, str, list[str]]] = [
    # -- arguments
    ("unknown-flag", USAGE + "api_server.py: error: unrecognized arguments: --max-modle-len 12\n", "--max-modle-len",
     ["--max-modle-len → --max-model-len"]),
    ("unknown-flag", USAGE + "api_server.py: error: unrecognized arguments: --xyzzy\n", "--xyzzy", []),
    ("unknown-flag", "usage: vllm serve [model_tag] [options]\nvllm serve: error: unrecognized arguments: --use-v2-block-manager"
     " --num_scheduler_steps 8\n", "--use-v2-block-manager", ["without --use-v2-block-manager", "without --num_scheduler_steps"]),
    ("bad-choice", USAGE + "api_server.py: error: argument --dtype: invalid choice: 'haf' (choose from 'auto', 'half')\n",
     "haf", ["--dtype half"]),
    ("bad-choice", USAGE + "vllm: error: argument --dtype: invalid choice: 'x' (choose from auto, half)\n", "--dtype", []),
    ("bad-value", USAGE + "api_server.py: error: argument --max-num-seqs: invalid int value: 'abc'\n", "abc", []),
    ("bad-value", USAGE + "api_server.py: error: argument --port: Port must be between 1024 and 65535\n", "--port", []),
    ("no-value", USAGE + "api_server.py: error: argument --max-model-len: expected one argument\n", "--max-model-len", []),
    ("ambiguous-flag", USAGE + "api_server.py: error: ambiguous option: --max could match --max-model-len, --max-num-seqs\n",
     "--max-num-seqs", []),
    ("missing-flag", USAGE + "api_server.py: error: the following arguments are required: --model\n", "--model", []),
    ("max-model-len-over", traceback(
        INVALID + "User-specified max_model_len (99999) is greater than the derived max_model_len (max_position_embeddings=32768.0"
        " or model_max_length=None in model's config.json)." + TAIL, CONFIG), "32,768", ["--max-model-len 32768"]),
    ("max-model-len-over", traceback(
        "ValueError: User-specified max_model_len (40960) is greater than the derived max_model_len (max_position_embeddings=4096 or"
        " model_max_length=8192 in model's config.json).", "config.py:_get_and_verify_max_len"), "40,960", ["--max-model-len 8192"]),
    ("batched-tokens", traceback(
        "ValueError: max_num_batched_tokens (512) is smaller than max_model_len (4096). This effectively limits", "config.py:x"),
     "512", ["--max-num-batched-tokens 4096"]),
    ("batched-tokens", traceback(
        INVALID + "max_num_batched_tokens (64) must be greater than or equal to max_num_seqs (256)." + TAIL, CONFIG),
     "256", ["--max-num-seqs 64"]),
    ("chat-template-missing", traceback(
        "ValueError: The supplied chat template string (/no.jinja) appears path-like, but doesn't exist!"), "/no.jinja",
     ["without --chat-template"]),
    ("chat-template-bad", traceback("jinja2.exceptions.TemplateSyntaxError: unexpected '}'"), "Jinja", []),
    ("tool-parser-missing", traceback("TypeError: Error: --enable-auto-tool-choice requires --tool-call-parser"),
     "--tool-call-parser", []),
    ("tool-parser-unknown", traceback("KeyError: 'invalid tool call parser: hermess (chose from { granite,hermes,jamba })'"),
     "hermess", ["--tool-call-parser hermes"]),
    ("reasoning-parser-unknown", traceback("KeyError: \"Reasoning parser 'nope' not found. Available parsers: qwen3\""),
     "nope", ["without --reasoning-parser"]),
    ("parser-misfit", traceback(
        "RuntimeError: Qwen3ReasoningParser reasoning parser could not locate think start/end tokens in the tokenizer!"),
     "tokenizer", ["without --reasoning-parser", "without --tool-call-parser", "without --enable-auto-tool-choice"]),
    ("trust-remote-code", traceback(
        "ValueError: Loading /m requires you to execute the configuration file in that repo on your local machine. Make sure you have read"
        " the code there to avoid malicious use, then set the option `trust_remote_code=True` to remove this error."), "Python", []),
    ("lora-rank", traceback("ValueError: LoRA rank 64 is greater than max_lora_rank 16."), "64", ["--max-lora-rank 64"]),
    ("lora", traceback("ValueError: Loading lora /adapters/x failed: No adapter found for /adapters/x"), "LoRA", []),
    ("lora-disabled", traceback("ValueError: Got lora_request LoRARequest(x) but LoRA is not enabled!"), "LoRA", ["--enable-lora"]),
    ("speculative", traceback("ValueError: num_speculative_tokens must be provided with speculative model", "config/speculative.py:x"),
     "speculative", ["without --speculative-config"]),
    ("environment-variable", traceback("ValueError: Invalid value 'x' for VLLM_ATTENTION_BACKEND. Valid options: ['FLASH_ATTN'].",
                                       "envs.py:f"), "VLLM_ATTENTION_BACKEND", []),
    ("bad-json", traceback("json.decoder.JSONDecodeError: Expecting property name", "engine/arg_utils.py:parse"), "JSON", []),
    ("no-model", traceback("ValueError: No model specified! Please specify model either as a positional argument"), "model", []),
    ("ssl-files", traceback("FileNotFoundError: [Errno 2] No such file or directory", site("uvicorn/config.py:create_ssl_context")),
     "certificate", []),
    ("combination", traceback(INVALID + "nvfp4 KV cache is not supported with MLA backends." + TAIL, CONFIG), "nvfp4", []),
    ("setting", traceback("pydantic_core._pydantic_core.ValidationError: 1 validation error for CacheConfig\n  block_size\n"
                          "  Input should be 1, 8 or 16 [type=literal_error, input_value=7]", "config/cache.py:x"), "CacheConfig", []),
    # -- the model
    ("weights-lfs-pointer", traceback(
        "safetensors_rust.SafetensorError: Error while deserializing header: HeaderTooLarge", "model_executor/model_loader/x.py:y"),
     "Git LFS", []),
    ("weights-damaged", traceback("MemoryError", "transformers_utils/utils.py:parse_safetensors_file_metadata"), "Git LFS", []),
    ("weights-incomplete", traceback(
        "safetensors_rust.SafetensorError: Error while deserializing header: MetadataIncompleteBuffer"), "damaged", []),
    ("weights-incomplete", traceback(
        "RuntimeError: PytorchStreamReader failed reading zip archive: failed finding central directory"), "damaged", []),
    ("weights-missing", traceback(
        "FileNotFoundError: Weight files referenced in index but missing: {'model-00002-of-00004.safetensors'}"), "00002-of-00004", []),
    ("weights-missing", traceback("RuntimeError: Cannot find any model weights with `/models/x`"), "no weight files", []),
    ("weights-missing", traceback(
        "FileNotFoundError: No such file or directory: \"/m/model-00003-of-00004.safetensors\""), "00003", []),
    ("weights-missing", traceback("ValueError: Following weights were not initialized from checkpoint: {'lm_head.weight'}"),
     "lm_head.weight", []),
    ("config-damaged", traceback("OSError: It looks like the config file at '/m/config.json' is not a valid JSON file."),
     "/m/config.json", []),
    ("model-path-missing", traceback(
        "huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name' or 'namespace/repo_name': '/nope/m'."),
     "/nope/m", []),
    ("config-missing", traceback(INVALID + "Invalid repository ID or local directory specified: '/m'.\nPlease verify" + TAIL, CONFIG),
     "config.json", []),
    ("config-missing", traceback(
        "ValueError: Unrecognized model in /m. Should have a `model_type` key in its config.json"), "config.json", []),
    ("tokenizer", traceback("OSError: Can't load tokenizer for '/m'. If you were trying to load it from"), "tokenizer", []),
    ("hub-gated", traceback("huggingface_hub.errors.GatedRepoError: 403 Client Error.\n\nCannot access gated repo for url x."),
     "gated", []),
    ("hub-unauthorized", traceback("requests.exceptions.HTTPError: 401 Client Error: Unauthorized for url: x"), "refused", []),
    ("hub-not-found", traceback("modelscope.hub.errors.NotExistError: The request model: q/Q does not exist!"), "no such model", []),
    ("hub-offline", traceback("huggingface_hub.errors.OfflineModeIsEnabled: Cannot reach x: offline mode is enabled."),
     "HF_HUB_OFFLINE", []),
    ("hub-rate", traceback("huggingface_hub.errors.HfHubHTTPError: 429 Client Error: Too Many Requests for url"), "more requests", []),
    ("hub-unreachable", traceback(
        "OSError: We couldn't connect to 'https://huggingface.co' to load the files", site("transformers/utils/hub.py:cached_file")),
     "reached", []),
    ("hub-unreachable", traceback(
        "requests.exceptions.ConnectTimeout: HTTPSConnectionPool(host='www.modelscope.cn', port=443): Max retries exceeded",
        site("requests/adapters.py:send")), "reached", []),
    ("hub-proxy", traceback(
        "requests.exceptions.ProxyError: HTTPSConnectionPool(host='www.modelscope.cn', port=443): Max retries exceeded",
        site("requests/adapters.py:send")), "www.modelscope.cn", []),
    ("hub-certificate", traceback(
        "requests.exceptions.SSLError: HTTPSConnectionPool(host='hf.co', port=443): (SSLCertVerificationError(1, 'certificate verify"
        " failed: self-signed certificate'))", site("requests/adapters.py:send")), "hf.co", []),
    ("hub-checksum", traceback("modelscope.hub.errors.FileIntegrityError: File x integrity check failed"), "damaged", []),
    ("modelscope-missing", traceback("ImportError: Please install modelscope>=1.18.1 via `pip install modelscope`"), "modelscope", []),
    ("architecture-unknown", traceback(
        "ValueError: Model architectures ['Qwen9ForCausalLM'] are not supported for now. Supported architectures: dict_keys(['A'])"),
     "Qwen9ForCausalLM", []),
    ("model-type-unknown", traceback(
        INVALID + "The checkpoint you are trying to load has model type `qwen9` but Transformers does not recognize this architecture."
        + TAIL, CONFIG), "qwen9", []),
    ("quantization-mismatch", traceback(
        "ValueError: Quantization method specified in the model config (gptq) does not match the quantization method specified in the"
        " `quantization` argument (awq)."), "gptq", ["without --quantization"]),
    ("quantization-missing", traceback(INVALID + "Cannot find the config file for awq" + TAIL, CONFIG), "awq",
     ["without --quantization"]),
    ("quantization-gpu", traceback(
        "ValueError: The quantization method fp8 is not supported for the current GPU. Minimum capability: 80. Current capability: 75."),
     "75", []),
    ("quantization-unknown", traceback("ValueError: Unknown quantization method: foo. Must be one of ['awq']."), "foo", []),
    ("quantization-unknown", traceback("ValueError: No compatible scheme was found"), "quantized", []),
    ("quantization-dtype", traceback(
        "ValueError: torch.bfloat16 is not supported for quantization method awq. Supported dtypes: [torch.float16]"), "bfloat16",
     ["--dtype half"]),
    ("quantization-shape", traceback(
        "ValueError: The input size is not aligned with the quantized weight shape. This can be caused by too large tensor parallel"
        " size."), "GPUs", []),
    ("weights-misfit", traceback("KeyError: 'layers.0.mlp.down_proj.weight_scale'", "model_executor/models/qwen2.py:load_weights"),
     "config.json", []),
    ("load-format", traceback("ValueError: Unknown load_format: foo"), "foo", ["without --load-format"]),
    ("task", traceback("ValueError: This model does not support `--runner generate`.", "x.py:y"), "started for", []),
    # -- memory
    ("gpu-memory-taken", traceback(
        "ValueError: Free memory on device (9.41/139.8 GiB) on startup is less than desired GPU memory utilization (0.9, 125.8 GiB)."),
     "9.41", ["--gpu-memory-utilization 0.06"]),
    ("cpu-memory-taken", traceback(
        "ValueError: Available memory on node 0 (8.0/16.0 GiB) on startup is less than desired CPU memory utilization (0.92, 14.7 GiB)."),
     "14.7", ["--gpu-memory-utilization 0.49"]),
    ("cpu-kv-space", traceback(
        "ValueError: Available memory on node 0 (11.25/13.46 GiB) on kv cache allocation is less than requested memory for kv (400.0 GiB)."),
     "400.0", ["VLLM_CPU_KVCACHE_SPACE=5"]),
    ("kv-cache-too-small", traceback(
        "ValueError: To serve at least one request with the model's max seq len (32768), (1.75 GiB KV cache is needed, which is larger than"
        " the available KV cache memory (0.06 GiB). Based on the available memory, the estimated maximum model length is 1040. Try"),
     "1.75 GiB", ["--max-model-len 1040"]),
    ("kv-cache-too-small", traceback(
        "ValueError: To serve at least one request with the models's max seq len (4096), (2.00 GiB KV cache is needed, which is larger than"
        " the available KV cache memory (1.00 GiB). Try"), "4096", ["--max-model-len 2048"]),
    ("kv-cache-too-small", traceback(
        "ValueError: The model's max seq len (32768) is larger than the maximum number of tokens that can be stored in KV cache (7344)."),
     "7344", ["--max-model-len 7344"]),
    ("kv-cache-none", traceback("ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`"),
     "KV cache", ["--gpu-memory-utilization 0.95"]),
    ("gpu-memory-changed", traceback(
        "AssertionError: Error in memory profiling. Initial free memory 10.0 GiB, current free memory 12.0 GiB."), "changed", []),
    ("gpu-memory", traceback(
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.02 GiB. GPU 0 has a total capacity of 23.55 GiB of which 0.50 GiB"
        " is free.", "v1/worker/gpu_worker.py:load_model"), "weights were loaded: 1.02 GiB", []),
    ("gpu-memory", traceback("torch.OutOfMemoryError: CUDA out of memory.", "v1/worker/gpu_model_runner.py:capture_model"), "graphs",
     ["--gpu-memory-utilization 0.80"]),
    ("gpu-memory-sampler", traceback(
        "RuntimeError: CUDA out of memory occurred when warming up sampler with 1024 dummy requests. Please try lowering"), "1,024"[:1],
     ["--max-num-seqs 256"]),
    ("shared-memory", traceback(
        "RuntimeError: Insufficient space in /dev/shm for message queue: 64 MiB required, 10 MiB free. Increase /dev/shm"), "64", []),
    ("memory-lock", traceback("RuntimeError: cudaHostAlloc failed"), "locked", []),
    ("host-memory", traceback("RuntimeError: [enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate memory"), "RAM", []),
    # -- the GPU
    ("driver-old", traceback("RuntimeError: The NVIDIA driver on your system is too old (found version 11040)."), "11.4", []),
    ("driver-mismatch", traceback("pynvml.NVMLError_LibRmVersionMismatch: RM has detected an NVML/RM version mismatch."), "driver", []),
    ("no-driver", traceback("ImportError: libcuda.so.1: cannot open shared object file: No such file or directory"), "driver", []),
    ("gpu-lost", traceback("RuntimeError: CUDA error: uncorrectable ECC error encountered"), "fault", []),
    ("gpu-busy", traceback("RuntimeError: CUDA error: all CUDA-capable devices are busy or unavailable"), "blocked", []),
    ("no-gpu", traceback("RuntimeError: No CUDA GPUs are available"), "no GPU", []),
    ("gpu-number", traceback("RuntimeError: CUDA error: invalid device ordinal"), "does not exist", []),
    ("gpu-too-new-or-old", traceback("RuntimeError: CUDA error: no kernel image is available for execution on the device"),
     "generation", []),
    ("dtype-gpu", traceback(
        "ValueError: Bfloat16 is only supported on GPUs with compute capability of at least 8.0. Your Tesla T4 GPU has compute capability"
        " 7.5. You can use float16 instead"), "Tesla T4 has 7.5", ["--dtype half"]),
    ("dtype", traceback("ValueError: The model type 'gemma3' does not support float16. Reason: Numerical instability."), "float16",
     ["--dtype bfloat16"]),
    ("kv-dtype", traceback("ValueError: Does not support key cache of type fp8_e5m2"), "KV cache", ["without --kv-cache-dtype"]),
    ("attention-backend", traceback("ValueError: No valid attention backend found for cuda with x. Reasons: y."), "attention", []),
    ("illegal-access", traceback("torch.AcceleratorError: CUDA error: an illegal memory access was encountered"), "illegal", []),
    ("device-assert", traceback("RuntimeError: CUDA error: device-side assert triggered"), "assert", []),
    ("gpu-launch", traceback("RuntimeError: CUDA error: unspecified launch failure"), "GPU failed", []),
    ("graph-capture", traceback("RuntimeError: CUDA error: operation not permitted when stream is capturing"), "graphs",
     ["--enforce-eager"]),
    ("compiler-missing", traceback("RuntimeError: Failed to find C compiler. Please specify via CC environment variable."), "compiler",
     ["--enforce-eager"]),
    ("compile", traceback("torch._inductor.exc.InductorError: AssertionError: x"), "Compiling", ["--enforce-eager"]),
    ("kernel-missing", traceback("AttributeError: '_OpNamespace' '_C' object has no attribute 'rms_norm'"), "rms_norm", []),
    # -- several GPUs
    ("too-few-gpus", traceback(
        INVALID + "World size (3) is larger than the number of available GPUs (1) in this node." + TAIL, "config/parallel.py:x"), "3 GPUs",
     ["--tensor-parallel-size 1"]),
    ("heads-not-divisible", traceback(
        "ValueError: Total number of attention heads (28) must be divisible by tensor parallel size (8)."), "28",
     ["--tensor-parallel-size 4"]),
    ("pipeline-unsupported", traceback("NotImplementedError: Pipeline parallelism is not supported for this model."), "pipeline",
     ["without --pipeline-parallel-size"]),
    ("pipeline-layers", traceback("ValueError: len(partitions)=3 does not match pp_size=2."), "pipeline", []),
    ("parallel-settings", traceback(
        "ValueError: Invalid data-parallel launch options: `--node-rank` must be between 0 and 1", "engine/arg_utils.py:x"), "node-rank",
     []),
    ("nccl", traceback("torch.distributed.DistBackendError: NCCL error in: x, unhandled system error (run with NCCL_DEBUG=INFO)"),
     "NCCL", []),
    ("gloo", traceback("RuntimeError: [c10d] The client socket has timed out after 600000ms while trying to connect to (10.0.0.1, 1)."),
     "network", []),
    ("ray-missing", traceback("ModuleNotFoundError: No module named 'ray'"), "Ray", ["--distributed-executor-backend mp"]),
    ("ray-down", traceback("ConnectionError: Could not find any running Ray instance."), "Ray", []),
    ("start-timeout", traceback("TimeoutError: Timed out waiting for engine core processes to start."), "ready",
     ["VLLM_ENGINE_READY_TIMEOUT_S=3600"]),
    ("step-timeout", traceback("TimeoutError: RPC call to execute_model timed out."), "hangs", []),
    ("numa", traceback("RuntimeError: numactl is required for NUMA binding but is not installed"), "bind", []),
    # -- the environment
    ("vllm-missing", "/usr/bin/python3: Error while finding module specification for 'vllm.entrypoints.openai.api_server'"
     " (ModuleNotFoundError: No module named 'vllm')\n", "not installed", []),
    ("vllm-missing", "bash: line 1: vllm: command not found\n", "not installed", []),
    ("vllm-incomplete", traceback("ModuleNotFoundError: No module named 'vllm._C_stable'"), "vllm._C_stable", []),
    ("torchvision-mismatch", traceback("RuntimeError: operator torchvision::nms does not exist"), "torchvision", []),
    ("library-mismatch", traceback("ImportError: /x/vllm/_C.abi3.so: undefined symbol: _ZN3c10"), "_C.abi3.so", []),
    ("system-too-old", traceback("ImportError: /lib/libc.so.6: version `GLIBC_2.34' not found (required by /x.so)"), "GLIBC_2.34", []),
    ("library-missing", traceback("ImportError: libcudart.so.13: cannot open shared object file: No such file or directory"),
     "libcudart.so.13", []),
    ("flash-attention", traceback("ModuleNotFoundError: No module named 'flash_attn'"), "flash_attn", []),
    ("transformers-version", traceback("ImportError: cannot import name 'Qwen9Config' from 'transformers' (/x/__init__.py)"),
     "transformers", []),
    ("numpy-version", traceback("ValueError: numpy.dtype size changed, may indicate binary incompatibility."), "NumPy", []),
    ("python-version", traceback("TypeError: unsupported operand type(s) for |: 'type' and 'NoneType'"), "Python", []),
    ("spawn-main", traceback(
        "RuntimeError: \n        An attempt has been made to start a new process before the\n        current process has finished its"
        " bootstrapping phase."), "processes", []),
    ("import-shadowed", traceback(
        "AttributeError: partially initialized module 'ray' has no attribute 'init' (most likely due to a circular import)"), "ray", []),
    ("module-missing", traceback("ModuleNotFoundError: No module named 'pandas'"), "pandas", []),
    ("import-failed", traceback("ImportError: something is odd"), "odd", []),
    ("protobuf-version", traceback("TypeError: Descriptors cannot be created directly."), "protobuf", []),
    # -- the machine
    ("port-bad", traceback("OverflowError: bind(): port must be 0-65535."), "65535", []),
    ("host-bad", traceback("OSError: [Errno 99] Cannot assign requested address", "entrypoints/x.py:create_server_socket"),
     "address", []),
    ("disk-full", traceback("OSError: [Errno 28] No space left on device"), "full", []),
    ("too-many-files", traceback("OSError: [Errno 24] Too many open files"), "open files", []),
    ("too-many-processes", traceback("RuntimeError: can't start new thread"), "threads", []),
    ("read-only", traceback("OSError: [Errno 30] Read-only file system: '/root/.cache'"), "read-only", []),
    ("permission", traceback("PermissionError: [Errno 13] Permission denied: '/root/.cache/vllm'"), "/root/.cache/vllm", []),
    ("socket-path", traceback("OSError: AF_UNIX path too long"), "too long", []),
    ("engine-killed", traceback(
        "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore': -9}"), "killed", []),
    ("crash-illegal", "Illegal instruction (core dumped)\n", "CPU", []),
    ("shared-memory", "Bus error (core dumped)\n", "/dev/shm", []),
    # -- seen in the field
    ("custom-all-reduce", traceback("RuntimeError: CUDA error: invalid argument", "distributed/custom_all_reduce.py:register"),
     "all-reduce", ["--disable-custom-all-reduce"]),
    ("fabric-manager", traceback("RuntimeError: Unexpected error from cudaGetDeviceCount(). Error 802: system not yet initialized"),
     "fabric manager", []),
    ("internal-port", traceback("torch.distributed.DistNetworkError: The server socket has failed to listen on any local network address."
                                " port: 29500, useIpv6: false, code: -98, name: EADDRINUSE, message: address already in use"), "port", []),
    ("user-unknown", traceback("KeyError: 'getpwuid(): uid not found: 1000'"), "/etc/passwd", ["LOGNAME=vllm"]),
    ("rope", traceback("KeyError: 'type'", "config.py:_get_and_verify_max_len"), "rope_scaling", []),
    ("rope", traceback("ValueError: `rope_scaling` must be a dictionary with two fields, `type` and `factor`, got {'factor': 8}"),
     "rope_scaling", []),
    ("gguf", traceback("ValueError: GGUF model with architecture deepseek2 is not supported yet."), "deepseek2", []),
    ("tokenizer-package", traceback("ValueError: Cannot instantiate this tokenizer from a slow version. If it's based on sentencepiece,"
                                    " make sure you have sentencepiece installed."), "sentencepiece", []),
    ("cache-database", traceback("sqlite3.OperationalError: disk I/O error"), "disk I/O error", []),
    ("ray-worker-died", traceback("ray.exceptions.ActorDiedError: The actor is dead because its worker process has died. There are some"
                                  " potential root causes. (1) The process is killed by SIGKILL by OOM killer"), "Ray", []),
    ("processor", traceback("OSError: Can't load image processor for '/m'. If you were trying to load it"), "pictures", []),
    ("architecture-broken", traceback("ValueError: Model architectures ['XForCausalLM'] failed to be inspected. Please check the logs"),
     "XForCausalLM", []),
    ("crash", "!!!!!!! Segfault encountered !!!!!!!\n", "crashed", []),
]  # fmt: skip
for _kind, _line in (
    ("port-taken", "OSError: [Errno 98] Address already in use"),
    ("port-forbidden", "PermissionError: [Errno 13] Permission denied"),
):
    KINDS.append((_kind, traceback(_line, "entrypoints/launcher.py:create_server_socket"), "ort", ["PORT"]))


@pytest.mark.parametrize(("kind", "log", "said", "changes"), KINDS, ids=[f"{k[0]}-{n}" for n, k in enumerate(KINDS)])
@pytest.mark.parametrize("prefix", ["", "(EngineCore pid=7) ERROR 11-22 16:34:56 [core.py:1] "], ids=["raw", "logged"])
def test_kind(tmp_path: Path, kind: str, log: str, said: str, changes: list[str], prefix: str) -> None:
    if prefix and "Traceback" not in log:
        pytest.skip("said by a shell or by argparse, never within a record")
    file = tmp_path / "log"
    file.write_text("some line\n" + "".join(prefix + line + "\n" for line in log.splitlines()))
    found = diagnose(file)
    assert found is not None
    assert found.kind == kind
    assert said in found.cause
    assert "{" not in found.cause.replace("{'", "")
    assert found.remedy
    if changes == ["PORT"]:
        assert found.relaunch is not None
        assert found.relaunch.set["--port"].isdecimal()
    else:
        assert (found.relaunch.changes() if found.relaunch else []) == changes
    assert found.line == file.read_text().split("\n")[found.line_number - 1]


def test_every_kind_is_tried() -> None:
    assert set(rules.kinds()) == {kind for kind, *_rest in KINDS}
