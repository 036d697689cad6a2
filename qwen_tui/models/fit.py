"""How much of a model's context fits into memory: vLLM's own reckoning, done before anything is loaded.

    KV cache = memory × utilization − weights − peak of a profile run − CUDA graphs

Source: vLLM 0.24 and 0.32, v1/worker/gpu_worker.py (determine_available_memory), v1/worker/cpu_worker.py,
v1/kv_cache_interface.py. All sizes are bytes on one device; a GiB is 2³⁰.
"""

from __future__ import annotations

from dataclasses import dataclass

from qwen_tui.models.model_config import ModelConfig

GIB = 2**30
#: What a CUDA context takes before vLLM measures anything (H200, driver 570: 0.51 GiB).
CUDA_CONTEXT = int(0.52 * GIB)
#: Buffers of NCCL and of the custom all-reduce, for each device of a tensor-parallel group.
COMMUNICATION = int(0.4 * GIB)
#: Of one captured graph for each layer (H200, vLLM 0.24, 28 layers: 102 graphs took 0.51 GiB).
GRAPH_PER_LAYER = 0.183 * 2**20
#: What Python, torch and vLLM hold in a CPU worker beside the weights (0.32, --enforce-eager: 0.76 GiB), and what
#: compiling adds to that.
CPU_WORKER, CPU_COMPILER = int(0.76 * GIB), int(0.21 * GIB)


@dataclass(frozen=True)
class Load:
    """How the engine will run the model.

    tensor, pipeline: how many devices share one copy. batched_tokens: most tokens in one step. sequences: most
    requests in one step. block: tokens of a KV block. kv_bytes: of one number in the cache. dtype_bytes: of one
    number in weights and activations. is_eager: no CUDA graphs. counts_graphs: whether the engine takes the
    graphs off before it sizes the cache (since 0.21).
    """

    tensor: int = 1
    pipeline: int = 1
    batched_tokens: int = 2048
    sequences: int = 256
    block: int = 16
    kv_bytes: int = 2
    dtype_bytes: int = 2
    is_eager: bool = False
    counts_graphs: bool = True


@dataclass(frozen=True)
class Fit:
    """What a device's memory goes to, and what that allows.

    budget: what vLLM will use at most. weights, activation, graphs, other: taken before the cache.
    available: left for the cache; negative if not even the weights fit. bytes_per_token: of context, at full length.
    tokens: what vLLM will print as the KV cache's size. concurrency: requests of the asked context at once.
    longest: the longest context that one request can have, not looking at the model's own limit.
    """

    budget: int
    weights: int
    activation: int
    graphs: int
    other: int
    available: int
    bytes_per_token: float
    context: int
    tokens: int
    concurrency: float
    longest: int

    @property
    def fits(self) -> bool:
        """Whether one request of the asked context has room."""
        return self.concurrency >= 1


def kv_bytes_per_token(config: ModelConfig, load: Load) -> int:
    """Bytes of KV cache that one more token takes in one attention layer on one device.

    Keys and values: kv_heads ÷ tensor-parallel (at least one head, then copied) × (head_dim + value_dim) × bytes.
    MLA: one latent vector of kv_lora_rank + qk_rope_head_dim numbers, whole on each device; with sparse attention
    (DeepSeek V3.2) also a key of its index in 8 bits, with a scale of 4 bytes for 128 numbers.
    Source: AttentionSpec and MLAAttentionSpec, v1/kv_cache_interface.py; Indexer, model_executor/models/deepseek_v2.py.
    """
    if config.is_mla:
        index = config.index_head_dim + config.index_head_dim // 128 * 4
        return (config.kv_lora_rank + config.qk_rope_head_dim) * load.kv_bytes + index
    heads = max(1, config.kv_heads // load.tensor)
    return heads * (config.head_dim + config.value_dim) * load.kv_bytes


def request_bytes(config: ModelConfig, load: Load, context: int) -> int:
    """Bytes of KV cache that one request of `context` tokens takes on one device, in whole blocks.

    A layer with a sliding window keeps window − 1 tokens, one step's, and a block more. Source:
    FullAttentionSpec.max_memory_usage_bytes, SlidingWindowSpec.max_admission_blocks_per_request.
    """
    page = kv_bytes_per_token(config, load) * load.block
    full = _ceil(config.full_layers, load.pipeline) * _ceil(context, load.block)
    windowed = 0
    if config.window_layers:
        kept = min(config.sliding_window - 1 + load.batched_tokens, context)
        blocks = min(_ceil(kept, load.block) + 1, _ceil(context, load.block) + 1)
        windowed = _ceil(config.window_layers, load.pipeline) * blocks
    return (full + windowed) * page


def activation_peak(config: ModelConfig, load: Load) -> int:
    """Bytes that a profile run takes at its peak beside the weights: the larger of sampler and feed-forward.

    Sampler: logits in float32, sorted, with their places as int64: 16 bytes × requests × vocabulary, and two
    copies of the hidden states. Feed-forward: gate, up and their product, and the residual stream. Checked on
    the H200 with 0.24 (Qwen2-7B shape, 8,192 tokens, 1,024 requests): 2.43 GiB, as measured, with graphs or without.
    Source: _dummy_run and _dummy_sampler_run, v1/worker/gpu_model_runner.py.
    """
    tokens, width = load.batched_tokens, load.dtype_bytes
    sampler = min(load.sequences, tokens) * config.vocab * 16 + 2 * tokens * config.hidden * width
    if config.is_moe:
        chosen = tokens * max(1, config.experts_per_token)
        inner = chosen * (3 * config.expert_intermediate // load.tensor + config.hidden) * width
    else:
        inner = tokens * 3 * config.intermediate // load.tensor * width
    return max(sampler, inner + 4 * tokens * config.hidden * width)


def graphs_size(config: ModelConfig, load: Load) -> int:
    """Bytes of CUDA graphs: for 1, 2, 4, each 8 up to 256 and each 16 up to 512 requests, twice (piecewise, full).

    Source: CompilationConfig's capture sizes; the size of one is measured.
    """
    if load.is_eager:
        return 0
    largest = min(2 * load.sequences, 512, load.batched_tokens)
    sizes = [size for size in (1, 2, 4, *range(8, 256, 8), *range(256, 513, 16)) if size <= largest]
    return int(2 * len(sizes) * _ceil(config.layers, load.pipeline) * GRAPH_PER_LAYER)


def weights_on_device(weights: int, load: Load) -> int:
    """Bytes of weights on one device; `weights` are those of the whole model. Small parts are copied: 0.7 %."""
    return int(weights / (load.tensor * load.pipeline) * 1.007)


def cpu_worker(load: Load) -> int:
    """Bytes that a worker on the CPU holds beside the weights by the time it sizes the cache."""
    return CPU_WORKER + (0 if load.is_eager else CPU_COMPILER)


def gpu_fit(config: ModelConfig, load: Load, weights: int, total: int, utilization: float, context: int) -> Fit:
    """The fit on GPUs that have `total` bytes each, at --gpu-memory-utilization `utilization`."""
    other = COMMUNICATION if load.tensor > 1 else 0
    graphs = graphs_size(config, load)
    parts = (weights_on_device(weights, load), activation_peak(config, load), graphs, other)
    budget = int(total * utilization)
    available = budget - parts[0] - parts[1] - (graphs if load.counts_graphs else 0) - other
    return _fit(config, load, budget, parts, available, context)


def sized_fit(config: ModelConfig, load: Load, weights: int, cache: int, context: int) -> Fit:
    """The fit where the cache's size is given: --kv-cache-memory-bytes, or VLLM_CPU_KVCACHE_SPACE on a CPU."""
    parts = (weights_on_device(weights, load), activation_peak(config, load), 0, 0)
    return _fit(config, load, cache + sum(parts), parts, cache, context)


def cpu_fit(config: ModelConfig, load: Load, weights: int, total: int, utilization: float, context: int) -> Fit:
    """The fit in `total` bytes of RAM without a size given: memory × utilization less what the worker holds by then.

    Source: CPUWorker.determine_available_memory (0.32).
    """
    parts = (weights_on_device(weights, load), 0, 0, cpu_worker(load))
    budget = int(total * utilization)
    return _fit(config, load, budget, parts, budget - sum(parts), context)


def with_cache(config: ModelConfig, load: Load, fit: Fit, available: int) -> Fit:
    """`fit`, but with a cache of `available` bytes: what a real start was seen to have."""
    parts = (fit.weights, fit.activation, fit.graphs, fit.other)
    return _fit(config, load, fit.budget, parts, available, fit.context)


def _fit(
    config: ModelConfig, load: Load, budget: int, parts: tuple[int, int, int, int], available: int, context: int
) -> Fit:
    """tokens: concurrency × context, as vLLM prints it (get_kv_cache_capacity, v1/core/kv_cache_utils.py)."""
    one = request_bytes(config, load, max(1, context))
    layers = _ceil(config.full_layers, load.pipeline) + _ceil(config.window_layers, load.pipeline)
    block = kv_bytes_per_token(config, load) * load.block * layers
    usable = available // block * block if block and available > 0 else 0
    concurrency = usable / one if one else 0.0
    return Fit(
        budget=budget,
        weights=parts[0],
        activation=parts[1],
        graphs=parts[2],
        other=parts[3],
        available=available,
        bytes_per_token=one / max(1, context),
        context=context,
        tokens=int(concurrency * context),
        concurrency=concurrency,
        longest=longest_context(config, load, usable),
    )


def longest_context(config: ModelConfig, load: Load, cache: int) -> int:
    """The most tokens that one request can have in `cache` bytes, a whole number of blocks."""
    low, high = 0, 2**24 // load.block
    while low < high:
        middle = (low + high + 1) // 2
        if request_bytes(config, load, middle * load.block) <= cache:
            low = middle
        else:
            high = middle - 1
    return low * load.block


def _ceil(dividend: int, divisor: int) -> int:
    return -(-dividend // max(1, divisor))
