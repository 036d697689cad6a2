"""Memory: the GPU's, the KV cache's, the machine's, shared memory."""

from __future__ import annotations

from qwen_tui.i18n import N_, _
from qwen_tui.server.diagnosis.corrections import (
    higher_utilization,
    lower_utilization,
    set_to,
    smaller_utilization,
)
from qwen_tui.server.diagnosis.model import Finding, Relaunch, rule

_FREE_GPU = N_(
    "End what else uses the GPU (`nvidia-smi` lists it; a server that crashed may have left a VLLM:: process), or "
    "start with"
    " a smaller --gpu-memory-utilization."
)
_SMALLER = N_(
    "Use a smaller or quantized model, more GPUs (--tensor-parallel-size), or free the GPU of other processes "
    "(`nvidia-smi`)."
)
_LESS_WORK = N_("Lower --gpu-memory-utilization or --max-num-seqs, or start with --enforce-eager.")


def _gpu_taken(finding: Finding) -> str:
    return finding.fill(
        N_(
            "Only {free} of the {total} GiB of GPU memory on {device} are free, but {wanted} GiB (utilization "
            "{part}) were asked for:"
            " other processes hold the rest."
        )
    )


_AMOUNT = r"[\d.]+ ?(?:[KMGT]i?B|bytes)"
_NEEDED = rf"[Tt]ried to allocate (?P<size>{_AMOUNT})"
_THERE = (
    rf"total capac\w+ (?:of )?(?P<total>{_AMOUNT}) of which (?P<free>{_AMOUNT}) is free",
    rf"(?P<total>{_AMOUNT}) total capacity.*?; (?P<free>{_AMOUNT}) free",
)


def _out_of_memory(finding: Finding) -> str:
    """Where it ran out, and the figures that PyTorch gives in several wordings."""
    where = {
        "load": _("The GPU ran out of memory while the weights were loaded"),
        "profile": _("The GPU ran out of memory while vLLM measured what a full batch needs"),
        "graphs": _("The GPU ran out of memory while the CUDA graphs were captured"),
        "kv": _("The GPU ran out of memory when the KV cache was set up"),
        "run": _("The GPU ran out of memory while it computed"),
    }[_stage(finding)]
    figures = []
    needed = finding.elsewhere(_NEEDED)
    if needed:
        figures.append(_("{size} more were needed").format(size=needed["size"]))
    there = finding.elsewhere(_THERE[0]) or finding.elsewhere(_THERE[1])
    if there:
        figures.append(_("{free} of {total} were free").format(free=there["free"], total=there["total"]))
    return where + (_(": {figures}.").format(figures=_(", ").join(figures)) if figures else _("."))


def _stage(finding: Finding) -> str:
    frames = " ".join(getattr(finding.error, "frames", [])) + " " + finding.error.text
    for stage, words in (
        ("graphs", ("capture_model", "capture_graph", "cuda_graph", "capturing", "cudagraph_capture")),
        (
            "kv",
            (
                "initialize_kv_cache",
                "_allocate_kv_cache",
                "initialize_cache",
                "_init_cache_engine",
                "allocate_kv_cache",
            ),
        ),
        (
            "profile",
            (
                "profile_run",
                "determine_num_available_blocks",
                "determine_available_memory",
                "_dummy_run",
                "profile_num",
            ),
        ),
        ("load", ("load_model", "load_weights", "get_model", "initialize_model", "create_weights", "loading")),
    ):
        if any(word in frames for word in words):
            return stage
    return "run"


def _after_out_of_memory(finding: Finding) -> str:
    return {
        "load": _(_SMALLER),
        "profile": _("Lower --max-num-batched-tokens, --max-num-seqs or --max-model-len, or use more GPUs."),
        "graphs": _(_LESS_WORK),
        "kv": _("Lower --gpu-memory-utilization: it asks for more than is free."),
        "run": _(
            "Lower --gpu-memory-utilization (it leaves more to the work itself), --max-num-seqs or "
            "--max-num-batched-tokens."
        ),
    }[_stage(finding)]


def _less_after_out_of_memory(finding: Finding) -> Relaunch | None:
    stage = _stage(finding)
    if stage == "profile":
        return None
    return lower_utilization(finding) if stage != "load" else None


def _kv_space(finding: Finding) -> Relaunch | None:
    """Half of what is free, in GiB, where the CPU's KV cache was asked to be larger."""
    free = finding.number("free")
    return Relaunch(env={"VLLM_CPU_KVCACHE_SPACE": str(max(1, int(free / 2)))}) if free and free >= 2 else None


def _longest(finding: Finding) -> Relaunch | None:
    """The context that fits: the number vLLM computed, else in proportion to the memory."""
    for name in ("longest", "stored"):
        number = finding.number(name)
        if number and number >= 1:
            return Relaunch({"--max-model-len": str(int(number))})
    asked, needed, available = (finding.number(name) for name in ("asked", "needed", "available"))
    if asked and needed and available:
        length = int(asked * available / needed) // 16 * 16
        return Relaunch({"--max-model-len": str(length)}) if length >= 16 else None
    return None


_GIB = r"(?P<{}>[\d.,]+)"
RULES = (
    rule(
        "gpu-memory-taken",
        r"Free memory on device (?P<device>\S+ )?\((?P<free>[\d.]+)/(?P<total>[\d.]+) GiB\) on startup is less than"
        r" desired GPU memory"
        r" utilization \((?P<part>[\d.]+), (?P<wanted>[\d.]+) GiB\)",
        _gpu_taken,
        _FREE_GPU,
        smaller_utilization,
    ),
    rule(
        "gpu-memory-taken",
        r"Free memory on device (?P<device>\S+) \((?P<free>[\d.]+)/(?P<total>[\d.]+) GiB\).*?\((?P<part>[\d.]+), (?P<"
        r"wanted>[\d.]+) GiB\)",
        _gpu_taken,
        _FREE_GPU,
        smaller_utilization,
    ),
    rule(
        "cpu-memory-taken",
        r"Available memory on node \S+ \((?P<free>[\d.]+)/(?P<total>[\d.]+) GiB\) on startup is less than desired CPU"
        r" memory utilization"
        r" \((?P<part>[\d.]+), (?P<wanted>[\d.]+) GiB\)",
        N_("Only {free} of the {total} GiB of RAM are free, but {wanted} GiB (utilization {part}) were asked for."),
        N_("End what else uses the RAM, or start with a smaller --gpu-memory-utilization (on a CPU it means RAM)."),
        smaller_utilization,
    ),
    rule(
        "cpu-kv-space",
        r"Available memory on node \S+ \((?P<free>[\d.]+)/(?P<total>[\d.]+) GiB\) on kv cache allocation is less than"
        r" requested memory"
        r" for kv \((?P<wanted>-?[\d.]+)",
        N_("The KV cache was to take {wanted} GiB of RAM, but only {free} of {total} GiB are free."),
        N_("Set VLLM_CPU_KVCACHE_SPACE (GiB) or --kv-cache-memory-bytes smaller, or end what else uses the RAM."),
        _kv_space,
    ),
    rule(
        "cpu-kv-space",
        r"VLLM_CPU_KVCACHE_SPACE|Too large swap space|CPU cache .*larger than|cpu_kvcache_space",
        N_("The memory asked for the KV cache or the swap space on the CPU is more than this machine has."),
        N_("Set VLLM_CPU_KVCACHE_SPACE (GiB) or --swap-space smaller."),
    ),
    rule(
        "kv-cache-too-small",
        r"max seq len \((?P<asked>\d+)\),? \(?(?P<needed>[\d.]+) Gi?B KV cache is needed, which is larger than the"
        r" available KV cache memory"
        r" \((?P<available>[\d.]+) Gi?B\)(?:.*?estimated maximum model length is (?P<longest>\d+))?",
        N_("A context of {asked} tokens needs {needed} GiB of KV cache, but only {available} GiB are left for it."),
        N_("Start with a smaller --max-model-len, or give the engine more memory (--gpu-memory-utilization)."),
        _longest,
    ),
    rule(
        "kv-cache-too-small",
        r"max seq(?:uence)? len(?:gth)? \((?P<asked>\d+)\) is larger than the maximum number of tokens that can be"
        r" stored in KV cache"
        r" \((?P<stored>\d+)\)",
        N_("The context of {asked} tokens does not fit into the KV cache, which holds {stored} tokens."),
        N_("Start with a smaller --max-model-len, or give the engine more memory (--gpu-memory-utilization)."),
        _longest,
    ),
    rule(
        "kv-cache-too-small",
        r"max_model_len \(?(?P<asked>\d+)\)? .*?(?:KV cache|kv cache).*?\(?(?P<stored>\d+)\)? tokens",
        N_("The context of {asked} tokens does not fit into the KV cache, which holds {stored} tokens."),
        N_("Start with a smaller --max-model-len, or give the engine more memory (--gpu-memory-utilization)."),
        _longest,
    ),
    rule(
        "kv-cache-none",
        r"No available memory for the cache blocks|not enough GPU memory available to serve even a single token"
        r"|No available block found",
        N_("After the weights and the working memory nothing is left for the KV cache."),
        N_("Give the engine more memory (a larger --gpu-memory-utilization), lower --max-model-len or "
           "--max-num-seqs, or use a"
           " smaller or quantized model or more GPUs."),
        higher_utilization,
    ),
    rule(
        "kv-cache-too-small",
        r"max_num_seqs \((?P<asked>\d+)\) exceeds available Mamba cache blocks \((?P<stored>\d+)\)",
        N_("There is room for {stored} sequences at a time, but --max-num-seqs asks for {asked}."),
        N_("Lower --max-num-seqs, or give the engine more memory (--gpu-memory-utilization)."),
        set_to("--max-num-seqs", "stored"),  # type: ignore[arg-type]
    ),
    rule(
        "gpu-memory-changed",
        r"Error in memory profiling|[Ii]nitial free memory (?P<before>[\d.]+).*?current free memory (?P<after>[\d.]+)",
        N_("The GPU's memory changed while vLLM measured it: another process came or went."),
        N_("Start it again when nothing else starts or ends on this GPU."),
    ),
    rule(
        "gpu-memory",
        r"Externally held weights on device \S+ \((?P<held>[\d.]+)/(?P<total>[\d.]+) GiB\) exceed",
        N_("The weights held by another process take {held} of {total} GiB, more than the utilization allows."),
        N_("Raise --gpu-memory-utilization."),
        higher_utilization,
    ),
    rule(
        "gpu-memory-sampler",
        r"CUDA out of memory occurred when warming up (?:sampler|pooler).*? with (?P<asked>\d+) dummy requests",
        N_("The GPU ran out of memory while vLLM prepared for {asked} requests at a time."),
        N_("Lower --max-num-seqs or --gpu-memory-utilization."),
        lambda finding: Relaunch({"--max-num-seqs": str(max(1, int(finding.group("asked")) // 4))}),
    ),
    rule(
        "gpu-memory",
        r"(?:CUDA|HIP|XPU|NPU) out of memory|OutOfMemoryError|CUDA error: out of memory|cudaErrorMemoryAllocation"
        r"|CUBLAS_STATUS_ALLOC_FAILED|hipErrorOutOfMemory|not enough GPU memory|CUDA_ERROR_OUT_OF_MEMORY",
        _out_of_memory,
        _after_out_of_memory,
        _less_after_out_of_memory,
    ),
    rule(
        "shared-memory",
        r"Insufficient space in (?P<place>\S+) for .*?: (?P<needed>\d+) MiB required, (?P<free>\d+) MiB free",
        N_("The shared memory {place} is too small: {needed} MiB are needed, {free} MiB are free."),
        N_("Give the container more (docker run --shm-size=8g or --ipc=host), or empty {place}."),
    ),
    rule(
        "shared-memory",
        r"/dev/shm|shared memory segment|[Ss]hared memory.*(?:too small|No space|out of)|insufficient shared memory"
        r"|\bshm_open|bus error",
        N_("The shared memory /dev/shm is too small or can't be used."),
        N_("Give the container more (docker run --shm-size=8g or --ipc=host); `df -h /dev/shm` shows how much there "
           "is."),
    ),
    rule(
        "memory-lock",
        r"cudaHostAlloc|cudaHostRegister|pin(?:ned)? memory.*(?:fail|error)|cannot pin",
        N_("Memory of the machine could not be locked for the GPU."),
        N_("Lower --swap-space or --cpu-offload-gb, and raise the limit (`ulimit -l unlimited`)."),
    ),
    rule(
        "host-memory",
        r"DefaultCPUAllocator: (?:can't|not enough|cannot).*?(?:allocate (?P<size>\d+) bytes)?|std::bad_alloc"
        r"|^MemoryError|Cannot allocate memory"
        r"|\[Errno 12\]|[Oo]ut of host memory|oom-kill|Out of memory: Killed|OOM ?[Kk]ill|node running low on memory"
        r"|OutOfMemory.*Ray",
        N_("The machine has too little RAM."),
        N_("End what else uses the RAM, use a smaller model, lower --swap-space and --cpu-offload-gb, or, on a CPU,"
           " VLLM_CPU_KVCACHE_SPACE."),
        unless=r"potential root causes",  # Ray lists all that may have been
    ),
)  # fmt: skip
