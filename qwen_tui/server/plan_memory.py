"""The plan's questions about the hardware: enough GPUs, of a kind that can do it, with memory for the context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qwen_tui.hardware.gpus import Gpu, visible
from qwen_tui.i18n import _, ngettext
from qwen_tui.models import fit as memory
from qwen_tui.models.fit import GIB, Fit, Load
from qwen_tui.models.model_config import DTYPE_BYTES, ModelConfig
from qwen_tui.models.quantization import LEAST_CAPABILITY, ON_CPU
from qwen_tui.server.plan_arguments import Change, version_of
from qwen_tui.server.plan_check import Check

#: Methods that shrink plain weights while they are loaded → what is left of 16-bit weights.
_SHRINKING: Mapping[str, float] = {"fp8": 0.53, "experts_int8": 0.53, "bitsandbytes": 0.3}
#: How far a start may differ from the reckoning; within it, a plan warns and does not forbid.
_MARGIN = 0.1


def parallel(check: Check) -> tuple[int, int, int]:
    """(tensor, pipeline, data) parallel sizes."""
    number = check.choices.number
    sizes = (number(f"--{kind}-parallel-size", 1) for kind in ("tensor", "pipeline", "data"))
    tensor, pipeline, data = (max(1, size) for size in sizes)
    return tensor, pipeline, data


def usable_gpus(check: Check) -> list[Gpu]:
    """The GPUs that the server will see."""
    devices = check.choices.environment.get("CUDA_VISIBLE_DEVICES")
    return visible(check.machine.gpus, devices)


def _spans_machines(check: Check) -> bool:
    return check.choices.text("--distributed-executor-backend") == "ray" or check.choices.number("--nnodes", 1) > 1


def check_gpus(check: Check) -> None:
    """Whether there are as many GPUs as asked for, and whether the heads can be shared out among them."""
    tensor, pipeline, data = parallel(check)
    wanted, gpus = tensor * pipeline * data, usable_gpus(check)
    _check_heads(check, tensor, len(gpus))
    if check.is_cpu:
        host = check.machine.host
        text = ngettext("none: runs on {count:g} core", "none: runs on {count:g} cores", round(host.cores))
        check.ok("gpus", text.format(count=host.cores))
        return
    if not gpus:
        hidden = bool(check.machine.gpus)
        problem = f": {check.machine.gpu_problem}" if check.machine.gpu_problem else ""
        check.stop(
            "gpus",
            _("CUDA_VISIBLE_DEVICES hides every GPU") if hidden else _("No GPU is to be seen") + problem,
            _("Check the driver with nvidia-smi") if not hidden else _("Give it the number of a GPU, such as 0"),
            Change("CUDA_VISIBLE_DEVICES=0", env={"CUDA_VISIBLE_DEVICES": "0"}) if hidden else None,
        )
        return
    names = ", ".join(sorted({gpu.name for gpu in gpus}))
    if wanted > len(gpus):
        text = ngettext("{wanted} GPUs are asked for, {count} is here", "{wanted} GPUs are asked for, {count} are here",
                        len(gpus)).format(wanted=wanted, count=len(gpus))  # fmt: skip
        if _spans_machines(check):
            check.warn("gpus", text, _("The others must come from other machines: look at `ray status` first"))
            return
        check.stop("gpus", text, _("Use fewer"), _fewer(check, len(gpus)))
        return
    text = ngettext("{count} GPU of {all} is used: {names}", "{count} GPUs of {all} are used: {names}", wanted)
    check.ok("gpus", text.format(count=wanted, all=len(gpus), names=names))
    slow = [gpu for gpu in gpus[:wanted] if gpu.compute_capability and gpu.compute_capability < (7, 0)]
    if slow:
        check.stop("gpus", _("{name} is too old for vLLM: it needs compute capability 7.0").format(name=slow[0].name))


def _fewer(check: Check, count: int) -> Change | None:
    size = _tensor_size(check.config, count)
    changes = {"--tensor-parallel-size": str(size) if size > 1 else None}
    changes |= dict.fromkeys(("--pipeline-parallel-size", "--data-parallel-size"))
    return Change(f"tensor-parallel-size {size}", flags=changes) if size else None


def _tensor_size(config: ModelConfig | None, most: int) -> int:
    """The largest size up to `most` that divides the heads."""
    heads = config.heads if config is not None and config.heads else 2**most
    return next((size for size in range(most, 0, -1) if heads % size == 0), 0)


def _check_heads(check: Check, tensor: int, count: int) -> None:
    config = check.config
    if config is None or tensor == 1 or not config.heads:
        return
    if config.heads % tensor:
        size = _tensor_size(config, min(tensor, count or tensor))
        check.stop(
            "gpus",
            _("{heads} attention heads can't be shared by {count} GPUs").format(heads=config.heads, count=tensor),
            _("The size of tensor parallel must divide {heads}").format(heads=config.heads),
            Change(f"tensor-parallel-size {size}", flags={"--tensor-parallel-size": str(size) if size > 1 else None}),
        )
    elif not config.is_mla and config.kv_heads % tensor and tensor % config.kv_heads:
        text = _("{heads} KV heads can't be shared by {count} GPUs")
        check.stop("gpus", text.format(heads=config.kv_heads, count=tensor))
    elif not config.is_mla and config.kv_heads < tensor:
        text = _("{heads} KV heads on {count} GPUs: each is kept {copies} times, so the cache grows less than the GPUs")
        copies = tensor // config.kv_heads
        check.warn("gpus", text.format(heads=config.kv_heads, count=tensor, copies=copies))


def check_precision(check: Check) -> None:
    """Whether the hardware can compute in the type, and with the quantization, that the model or the flags ask for."""
    config = check.config
    if config is None:
        return
    method = check.choices.text("--quantization") or config.quantization
    dtype = check.choices.text("--dtype", "auto")
    shown = dtype if dtype != "auto" else config.dtype or "auto"
    name = f"{shown}, {method}" if method else shown
    if check.is_cpu:
        if method and method not in ON_CPU:
            check.warn("precision", _("{name} weights: most CPU builds can't run them").format(name=method))
        else:
            check.ok("precision", name)
        return
    gpus = [gpu for gpu in usable_gpus(check) if gpu.compute_capability]
    if not gpus:
        return
    oldest = min(gpus, key=lambda gpu: gpu.compute_capability or (0, 0))
    capability = oldest.compute_capability or (0, 0)
    card = f"{oldest.name} ({capability[0]}.{capability[1]})"
    needed = LEAST_CAPABILITY.get(method, (0, 0))
    if capability < needed:
        text = _("{method} needs compute capability {needed}; {card} has less")
        check.stop("precision", text.format(method=method, needed=f"{needed[0]}.{needed[1]}", card=card),
                   _("Use a model quantized another way"))  # fmt: skip
    elif dtype == "bfloat16" and capability < (8, 0):
        text = _("bfloat16 needs compute capability 8.0; {card} has less").format(card=card)
        check.stop("precision", text, _("Compute in float16"), Change("dtype half", flags={"--dtype": "half"}))
    elif method in ("fp8", "modelopt") and capability < (8, 9):
        check.warn("precision", _("{card} can't compute in 8 bits: fp8 saves memory there, not time").format(card=card))
    else:
        check.ok("precision", f"{name} · {card}")


def load_of(check: Check, config: ModelConfig, gpus: Sequence[Gpu]) -> Load:
    """How this engine will run the model, with vLLM's defaults for what is not given. Source: get_batch_defaults."""
    choices, version = check.choices, version_of(check.engine.version)
    tensor, pipeline, _data = parallel(check)
    dtype = choices.text("--dtype", "auto")
    width = DTYPE_BYTES.get(dtype, 2)
    cache = choices.text("--kv-cache-dtype", "auto")
    kv_bytes = 1 if cache.startswith(("fp8", "int8")) else DTYPE_BYTES.get(cache, width)
    if check.is_cpu:
        tokens, sequences, block = 2048 * tensor * pipeline, 128 * tensor * pipeline, 128 if version >= (0, 10) else 16
    else:
        total = min((gpu.memory_total for gpu in gpus), default=0)
        is_large = total >= 70 * GIB and not any("a100" in gpu.name.lower() for gpu in gpus)
        tokens, sequences = (8192, 1024) if is_large else (2048, 256)
        tokens = 16384 if total >= 160 * GIB else tokens
        block = 16
    return Load(
        tensor=tensor,
        pipeline=pipeline,
        batched_tokens=max(1, choices.number("--max-num-batched-tokens", tokens)),
        sequences=max(1, choices.number("--max-num-seqs", sequences)),
        block=max(1, choices.number("--block-size", block)),
        kv_bytes=kv_bytes,
        dtype_bytes=width,
        is_eager=choices.has("--enforce-eager"),
        counts_graphs=version >= (0, 21),
    )


def check_memory(check: Check) -> None:
    """Whether weights and cache fit, how much context that gives, and what is in the way now."""
    config, weights = check.config, check.weights
    if config is None or weights is None or not weights.size or not config.layers or not config.kv_heads:
        return
    gpus = usable_gpus(check)[: max(1, parallel(check)[0] * parallel(check)[1])]
    if not check.is_cpu and not gpus:
        return
    load = load_of(check, config, gpus)
    size = weights.loaded_size(load.dtype_bytes, is_tied=config.is_tied)
    if not config.quantization:
        size = int(size * _SHRINKING.get(check.choices.text("--quantization"), 1.0))
    context = check.spec.max_model_len or config.default_length
    if check.is_cpu:
        fit = _cpu_fit(check, config, load, size, context)
    else:
        fit = _gpu_fit(check, config, load, size, context, gpus)
    if fit is not None:
        check.fit = fit
        _report(check, fit, config)


def _gpu_fit(check: Check, config: ModelConfig, load: Load, size: int, context: int, gpus: Sequence[Gpu]) -> Fit:
    total, free = min(gpu.memory_total for gpu in gpus), min(gpu.memory_free for gpu in gpus)
    given = check.choices.number("--kv-cache-memory-bytes", 0)
    if given:
        return memory.sized_fit(config, load, size, given, context)
    default = 0.92 if version_of(check.engine.version) >= (0, 20) else 0.9
    utilization = check.choices.real("--gpu-memory-utilization", default)
    fit = memory.gpu_fit(config, load, size, total, utilization, context)
    if free - memory.CUDA_CONTEXT >= fit.budget:
        return fit
    # vLLM refuses before it loads anything: the share it was told must be free.
    possible = int((free - memory.CUDA_CONTEXT) / total * 100) / 100
    smaller = memory.gpu_fit(config, load, size, total, possible, context) if possible > 0 else None
    change = None
    if smaller is not None and smaller.fits:
        change = Change(f"gpu-memory-utilization {possible:.2f}", flags={"--gpu-memory-utilization": f"{possible:.2f}"})
    busiest = min(gpus, key=lambda gpu: gpu.memory_free)
    text = _("{free} of {total} GiB are free on GPU {index}, and vLLM wants {wanted}{holders}")
    check.stop(
        "memory",
        text.format(
            free=_gib(free), total=_gib(total), index=busiest.index, wanted=_gib(fit.budget), holders=_holders(busiest)
        ),
        _("End what holds it, or use a smaller share of the memory"),
        change,
    )
    return smaller if change is not None and smaller is not None else fit


def _holders(gpu: Gpu) -> str:
    """' · held by 1234 python -m … (20.1 GiB)', for at most three processes."""
    shown = [
        f"{process.pid} {process.command[:60]}".strip() + (f" ({_gib(process.memory)} GiB)" if process.memory else "")
        for process in sorted(gpu.processes, key=lambda one: one.memory or 0, reverse=True)[:3]
    ]
    return " · " + _("held by {processes}").format(processes=", ".join(shown)) if shown else ""


def _cpu_fit(check: Check, config: ModelConfig, load: Load, size: int, context: int) -> Fit | None:
    (total, available), version = check.machine.node, version_of(check.engine.version)
    per_device = memory.weights_on_device(size, load)
    beside = load.tensor * load.pipeline * (per_device + memory.cpu_worker(load))
    room = available - beside
    space = check.choices.variable("VLLM_CPU_KVCACHE_SPACE")
    given = check.choices.number("--kv-cache-memory-bytes", 0)
    if space and not space.isdecimal():
        check.stop("memory", _("VLLM_CPU_KVCACHE_SPACE is “{value}”: it must be whole GiB").format(value=space),
                   "", _cache_change(room, load))  # fmt: skip
        return None
    cache = int(space or 0) * GIB or given
    if not cache and version < (0, 10):
        cache = 4 * GIB
    if not cache and version < (0, 30):
        cache = total // 2
    if cache:
        if cache * load.tensor * load.pipeline > room:
            text = _("{cache} GiB of KV cache and {weights} GiB of weights do not fit into the {free} GiB of RAM free")
            check.stop("memory", text.format(cache=_gib(cache), weights=_gib(size), free=_gib(available)),
                       _("Use a smaller cache"), _cache_change(room, load))  # fmt: skip
        return memory.sized_fit(config, load, size, cache, context)
    utilization = check.choices.real("--gpu-memory-utilization", 0.92)
    fit = memory.cpu_fit(config, load, size, total, utilization, context)
    if fit.budget <= available:
        return fit
    text = _("vLLM wants {wanted} GiB, {percent} % of the RAM, and {free} GiB are free")
    check.stop(
        "memory",
        text.format(wanted=_gib(fit.budget), percent=round(utilization * 100), free=_gib(available)),
        _("Say how many GiB the KV cache may have: VLLM_CPU_KVCACHE_SPACE"),
        _cache_change(room, load),
    )
    return None


def _cache_change(room: int, load: Load) -> Change | None:
    """A cache of half the room that is left, 1 to 40 GiB."""
    space = min(40, max(1, room // (2 * load.tensor * load.pipeline * GIB)))
    if room < space * GIB:
        return None
    return Change(f"VLLM_CPU_KVCACHE_SPACE={space}", env={"VLLM_CPU_KVCACHE_SPACE": str(space)})


def _report(check: Check, fit: Fit, config: ModelConfig) -> None:
    if fit.available <= 0:
        text = _(
            "The weights ({weights} GiB) and what vLLM needs beside them ({other} GiB) leave no memory for a cache"
        )
        other = fit.activation + fit.graphs + fit.other
        check.stop("memory", text.format(weights=_gib(fit.weights), other=_gib(other)),
                   _("Use more GPUs (--tensor-parallel-size), or a smaller or quantized model"))  # fmt: skip
        return
    shorter = _rounded(fit.longest)
    if fit.concurrency < 1 + _MARGIN:
        change = Change(f"max-model-len {shorter}", fields={"max_model_len": shorter}) if shorter >= 64 else None
        text = _("The KV cache ({cache} GiB) holds about {tokens:,} tokens, and one request may have {context:,}")
        tell = check.stop if fit.concurrency < 1 - _MARGIN else check.warn
        remedy = _("Ask for a context of at most {count:,}").format(count=shorter)
        tell("memory", text.format(cache=_gib(fit.available), tokens=fit.longest, context=fit.context), remedy, change)
        return
    text = _("KV cache about {cache} GiB, {tokens:,} tokens: {concurrency:.1f} requests of {context:,} at once")
    shown = text.format(cache=_gib(fit.available), tokens=fit.tokens, concurrency=fit.concurrency, context=fit.context)
    longest = min(fit.longest, config.max_length or fit.longest)
    if longest > fit.context:
        shown += " · " + _("the longest context that fits: {count:,}").format(count=longest)
    if config.is_approximate:
        check.warn("memory", shown, _("Some layers keep a state of another kind, which is not reckoned in"))
    else:
        check.ok("memory", shown)


def _rounded(tokens: int) -> int:
    """A context that surely fits: a tenth less than reckoned, down to a round number."""
    safe = int(tokens * (1 - _MARGIN))
    step = 1024 if safe >= 4096 else 64
    return safe // step * step


def _gib(count: float) -> str:
    return f"{count / GIB:.1f}"
