"""The GPU: driver, CUDA, what its generation can do, and what fails while it computes."""

from __future__ import annotations

from qwen_tui.i18n import N_, _
from qwen_tui.server.diagnosis.model import Finding, Relaunch, rule

_RESTART = N_(
    "Start it again. If it comes back: try --enforce-eager, look for Xid errors in `dmesg`, update vLLM, and set"
    " CUDA_LAUNCH_BLOCKING=1 once to see which kernel it was."
)


def _eager(_finding: Finding) -> Relaunch:
    return Relaunch({"--enforce-eager": ""})


def _half(_finding: Finding) -> Relaunch:
    return Relaunch({"--dtype": "half"})


def _driver(finding: Finding) -> str:
    version = finding.number("version")
    if version and version >= 1000:
        found = _("{major}.{minor}").format(major=int(version) // 1000, minor=int(version) % 1000 // 10)
        return _("The NVIDIA driver is too old for this engine: it knows CUDA up to {found}.").format(found=found)
    return _("The NVIDIA driver is too old for this engine's CUDA.")


def _attention(finding: Finding) -> str:
    name, reason = finding.group("name") or finding.group("name2"), finding.group("reason")
    if not name:
        return _("No attention backend of this engine works with this GPU, model and settings.")
    if reason:
        return _("The attention backend {name} does not work here: {reason}").format(name=name, reason=reason)
    return _("This vLLM does not have the attention backend {name}, or it does not work here.").format(name=name)


def _unset_attention(finding: Finding) -> Relaunch | None:
    given = finding.facts.argument("attention_backend")
    return Relaunch(remove=("--attention-backend",)) if given not in ("", "auto") else None


#: What the compiler, the linker or the shell says when something to compile with is missing; and the sentence for it.
_MISSING = (
    (r"Python\.h", N_("A kernel could not be compiled: Python's header files (Python.h) are missing.")),
    (r"cannot find -lcuda\b", N_("A kernel could not be compiled: the linker does not find the driver's libcuda.so.")),
    (
        r"nvcc|CUDA_HOME|cuda_runtime\.h|cuda\.h",
        N_("A kernel could not be compiled: the CUDA toolkit (nvcc and its headers) is missing."),
    ),
    (r"ninja(?!: (?:build stopped|Entering))", N_("A kernel could not be compiled: ninja is missing.")),
    (
        r"C compiler|gcc|g\+\+|cc1plus|C\+\+ compiler|clang",
        N_("A kernel could not be compiled: the C compiler is missing or fails."),
    ),
)
_TO_COMPILE = r"|".join(pattern for pattern, _sentence in _MISSING)


def _missing_to_compile(finding: Finding) -> str:
    for pattern, sentence in _MISSING:
        if finding.mentions(pattern):
            return _(sentence)
    return _("vLLM has to compile kernels, and the compiler, Python's headers or the CUDA toolkit is missing.")


def _kernels(finding: Finding) -> str:
    library = finding.elsewhere(r"(lib[\w.+-]+\.so[\w.]*): cannot open|(undefined symbol: \S+)")
    if library:
        return _("vLLM's compiled kernels could not be loaded: {library}").format(library=library[1] or library[2])
    name = f"{finding.group('space')} {finding.group('name')}{finding.group('name2')}".strip()
    if not name:
        return _("vLLM's compiled kernels could not be loaded.")
    return _("vLLM's compiled kernels could not be loaded, or lack {name}.").format(name=name)


_ASSERT = N_("A check inside a GPU kernel failed (device-side assert); the engine could not go on.")
_AFTER_ASSERT = N_(
    "Often a token outside the vocabulary or a position beyond the context: check that tokenizer and model "
    "belong together and that"
    " --max-model-len is not beyond the model's. CUDA_LAUNCH_BLOCKING=1 shows the kernel."
)
RULES = (
    rule(
        "custom-all-reduce",
        r"[Cc]uda error|CUDA error|[Ee]rror:|^AssertionError|invalid argument",
        N_("The GPUs could not read each other's memory directly, which vLLM's own all-reduce needs."),
        N_("Start with --disable-custom-all-reduce; with several cards without NVLink also try NCCL_P2P_DISABLE=1."),
        lambda _finding: Relaunch({"--disable-custom-all-reduce": ""}),
        where=r"custom_all_?reduce|quick_all_?reduce",
        evidence=r"custom_all_reduce\.cuh",
    ),
    rule(
        "fabric-manager",
        r"\bError 802\b|system not yet initialized|cudaErrorSystemNotReady",
        N_("CUDA is not ready on this machine: on machines with NVSwitch the fabric manager does not run."),
        N_("As root: `systemctl start nvidia-fabricmanager` (its version must be the driver's), else restart the "
           "machine or rent another."),
    ),
    rule(
        "driver-old",
        r"NVIDIA driver on your system is too old(?: \(found version (?P<version>\d+)\))?"
        r"|driver version is insufficient|cudaErrorInsufficientDriver"
        r"|unsupported display driver|CUDA driver version is insufficient|forward compatibility was attempted"
        r"|\bError 80[34]\b"
        r"|provided PTX was compiled with an unsupported toolchain|cudaErrorUnsupportedPtxVersion",
        _driver,
        N_("Update the driver (`nvidia-smi` shows what it supports), or install an engine built for an older CUDA."),
    ),
    rule(
        "driver-mismatch",
        r"Driver/library version mismatch|NVML_ERROR_LIB_RM_VERSION_MISMATCH|NVMLError_LibRmVersionMismatch",
        N_("The NVIDIA driver was updated while the machine ran: its kernel module and its library have different "
           "versions."),
        N_("Restart the machine."),
    ),
    rule(
        "no-driver",
        r"libcuda\.so\S* ?(?::| )|libcuda\.so\.1|Found no NVIDIA driver|libnvidia-ml\.so|NVML_ERROR_LIBRARY_NOT_FOUND"
        r"|NVMLError_LibraryNotFound"
        r"|NVMLError_DriverNotLoaded|Driver Not Loaded|NVML Shared Library Not Found|nvidia-smi.*has failed"
        r"|libcuda not found",
        N_("There is no NVIDIA driver that vLLM can use."),
        N_("`nvidia-smi` must work: install the driver; in a container give it the GPUs (docker run --gpus all)."),
    ),
    rule(
        "gpu-lost",
        r"GPU is lost|fallen off the bus|NVMLError_GpuIsLost|Unable to determine the device handle|uncorrectable ECC"
        r"|ECC error|\bXid\b"
        r"|Unknown Error.*nvml|NVMLError_Unknown|cudaErrorDevicesUnavailable|hardware error",
        N_("The GPU has a fault: the driver lost it or found damaged memory."),
        N_("Look for Xid errors in `dmesg`; restart the machine. If it comes back, the card is broken: rent another."),
    ),
    rule(
        "gpu-busy",
        r"CUDA-capable device\(s\) is/are busy or unavailable|all CUDA-capable devices are busy|exclusive.process",
        N_("The GPU does not take another process (exclusive mode), or it is blocked."),
        N_("End what uses it (`nvidia-smi`), or choose another with CUDA_VISIBLE_DEVICES."),
    ),
    rule(
        "no-gpu",
        r"No CUDA GPUs are available|no CUDA-capable device is detected|Failed to infer device type"
        r"|CUDA_ERROR_NO_DEVICE|cudaErrorNoDevice"
        r"|Torch not compiled with CUDA enabled|Cannot use (?:the )?CUDA|UnspecifiedPlatform|No HIP GPUs"
        r"|Device string must not be empty"
        r"|cuda runtime error \(100\)|No supported device detected",
        N_("vLLM finds no GPU it can use."),
        N_("Check `nvidia-smi`, CUDA_VISIBLE_DEVICES and, in a container, --gpus all. On a machine without GPU "
           "install the CPU engine:"
           " `qwen-tui setup --cpu`."),
    ),
    rule(
        "gpu-number",
        r"[Ii]nvalid device ordinal|device ordinal .*out of range|CUDA_VISIBLE_DEVICES|[Ii]nvalid CUDA device"
        r"|Device index must not be negative"
        r"|device_id \d+ is out of range|--device-ids|invalid device id|NVMLError_InvalidArgument",
        N_("A GPU was asked for that does not exist."),
        N_("Check CUDA_VISIBLE_DEVICES (it counts from 0) and --tensor-parallel-size against `nvidia-smi`."),
    ),
    rule(
        "gpu-too-new-or-old",
        r"no kernel image is available|cudaErrorNoKernelImageForDevice"
        r"|GPUs? with compute capability (?:below|less than|under)"
        r"|is not compatible with the current PyTorch installation"
        r"|CUDA capability sm_(?P<has>\d+)|cuda_utils.*sm_|ptxas fatal.*sm_|Unsupported gpu architecture"
        r"|no kernel found|not compiled for (?:this|sm)",
        N_("The engine was not built for this generation of GPU."),
        N_("Install an engine built for it: for a very new card a newer vLLM and CUDA, for an old one (below compute "
           "capability 7.0) an"
           " older vLLM."),
    ),
    rule(
        "dtype-gpu",
        r"Bfloat16 is only supported on GPUs with compute capability of at least (?P<needed>[\d.]+)\. Your"
        r" (?P<gpu>.+?) GPU (?:has compute capability"
        r" (?P<has>\d+(?:\.\d+)?))?",
        N_("The model's bfloat16 needs a GPU of compute capability {needed}; the {gpu} has {has}."),
        N_("Start with --dtype half."),
        _half,
    ),
    rule(
        "dtype",
        r"does not support float16\. Reason: (?P<reason>.+?)(?: \[type|$)",
        N_("The model does not work with float16: {reason}"),
        N_("Start with --dtype bfloat16, or float32 on a GPU without it."),
        lambda _finding: Relaunch({"--dtype": "bfloat16"}),
    ),
    rule(
        "kv-dtype",
        r"(?i)fp8.{0,20}(?:kv|key).{0,20}cache.{0,80}(?:not|only)|kv_cache_dtype.{0,80}(?:not|invalid|unsupported)"
        r"|(?:key|kv) cache of type",
        N_("The asked data type of the KV cache does not work on this GPU or with this attention backend."),
        N_("Leave --kv-cache-dtype out."),
        lambda _finding: Relaunch(remove=("--kv-cache-dtype",)),
    ),
    rule(
        "attention-backend",
        r"No valid attention backend|Selected backend (?:\w+\.)?(?P<name>\w+) is not valid"
        r"(?:.*?Reason:? \[(?P<reason>[^\]]*)\])?"
        r"|(?:[Ii]nvalid|[Uu]nknown|[Uu]nsupported) attention backend:? '?(?P<name2>\w+)"
        r"|FlashAttention only supports (?:Ampere|head)"
        r"|VLLM_ATTENTION_BACKEND|not supported by (?:Flash|attention)|head[_ ]size .*(?:not supported|unsupported)"
        r"|FlashAttention.*requires|FlashInfer"
        r" backend is not available|attention_backend",
        _attention,
        N_("Leave --attention-backend and VLLM_ATTENTION_BACKEND unset; else try --dtype half, or another version of "
           "vLLM."),
        _unset_attention,
    ),
    rule(
        "device-assert",  # which the next call to the GPU reports, in words of its own
        r"CUDA error|CUBLAS_STATUS|CUDNN_STATUS",
        _ASSERT,
        _AFTER_ASSERT,
        evidence=r"Assertion `[^`]*` failed",
        needs_evidence=True,
    ),
    rule(
        "illegal-access",
        r"illegal memory access|misaligned address|cudaErrorIllegalAddress|CUDA_ERROR_ILLEGAL_ADDRESS"
        r"|Memory access fault by GPU",
        N_("A GPU kernel reached memory that is not its own (illegal memory access); the engine could not go on."),
        _RESTART,
    ),
    rule(
        "device-assert",
        r"device-side assert|cudaErrorAssert|CUDA_ERROR_ASSERT|Assertion `[^`]*` failed",
        _ASSERT,
        _AFTER_ASSERT,
    ),
    rule(
        "graph-capture",
        r"operation (?:not permitted|failed) when (?:stream is capturing|due to a previous error during capture)"
        r"|cudaErrorStreamCapture|[Gg]raph capture"
        r".*(?:fail|error)|cudagraph.*(?:fail|not supported)|CUDAGraphMode",
        N_("The CUDA graphs could not be captured."),
        N_("Start with --enforce-eager: it is slower, but needs no graphs."),
        _eager,
    ),
    rule(
        "gpu-launch",
        r"unspecified launch failure|CUDA error: (?:invalid argument|launch failed|an illegal instruction"
        r"|the launch timed out|unknown error"
        r"|invalid configuration|operation not (?:permitted|supported))|CUBLAS_STATUS_(?!ALLOC)\w+|CUDNN_STATUS_\w+"
        r"|cudaErrorLaunchFailure|CUFFT_"
        r"|CUSPARSE_STATUS|hipError\w+",
        N_("A computation on the GPU failed."),
        _RESTART,
    ),
    rule(
        "compiler-missing",
        r"Failed to find C compiler|Python\.h: No such file|[Cc]ould not find (?:nvcc|CUDA_HOME|cuda)"
        r"|CUDA_HOME (?:environment variable )?is not set|nvcc"
        r"(?:'|:| )?.*(?:not found|No such)|ninja(?:'|:)? .*(?:not found|required)|Ninja is required"
        r"|cannot find -lcuda|No such file or directory: '?[^']*(?:gcc|g\+\+|cc|nvcc|ninja)'?$"
        r"|No working C\+\+ compiler|InvalidCxxCompiler|CppCompileError|cc1plus|Error building extension|command 'gcc'"
        r"|CalledProcessError: Command '?\[?'?[^' ]*\b(?:gcc|g\+\+|cc|clang|nvcc|ninja)\b|Ninja build failed",
        _missing_to_compile,
        N_("Install them (build-essential, python3-dev, ninja; for nvcc the CUDA toolkit), or start with "
           "--enforce-eager."),
        _eager,
        evidence=rf"(?:fatal error|not found|cannot find|No such file).*(?:{_TO_COMPILE})"
        rf"|(?:{_TO_COMPILE}).*(?:fatal error|not found|No such file)",
    ),
    rule(
        "compile",
        r"torch\._(?:dynamo|inductor)\.|BackendCompilerFailed|InductorError|LoweringException|triton\.compiler"
        r"|CompilationError|PassManager::run failed"
        r"|PTXASError|ptxas|OutOfResources|subproc(?:ess)?.*[Tt]riton|[Tt]orch\.compile|failed to compile the model"
        r"|compilation artifact|hash of the compiled graph|No such file.*torch_compile_cache",
        lambda finding: _("Compiling the model failed: {error}").format(error=finding.error.text[:300]),
        N_("Start with --enforce-eager; if an earlier version left its cache, delete "
           "~/.cache/vllm/torch_compile_cache and ~/.triton."),
        _eager,
    ),
    rule(
        "kernel-missing",
        r"'_OpNamespace' '(?P<space>\w+)' object has no attribute '(?P<name>\w+)'"
        r"|Could not run '(?P<name2>[\w:]+)' with arguments from the"
        r"|no attribute 'rms_norm'|_C' object has no attribute|Failed to import from vllm\._C",
        _kernels,
        N_("The engine's parts don't belong together (vLLM, torch, CUDA): build it anew with `qwen-tui setup`."),
    ),
)  # fmt: skip
