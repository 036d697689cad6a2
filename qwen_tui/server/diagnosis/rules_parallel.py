"""Several GPUs, several processes, several machines."""

from __future__ import annotations

from qwen_tui.i18n import N_, _
from qwen_tui.server.diagnosis.corrections import fewer_gpus, fitting_tensor_parallel, set_to
from qwen_tui.server.diagnosis.model import Finding, Relaunch, rule


def _nccl(finding: Finding) -> str:
    if finding.mentions(r"shared memory segment|/dev/shm|ncclShm"):
        return _("The GPUs' processes could not talk to each other: the shared memory /dev/shm is too small.")
    if finding.mentions(r"peer access|P2P|cuMem|invalid usage.*Duplicate GPU"):
        return _("The GPUs' processes could not talk to each other: direct access between the cards fails.")
    if finding.mentions(r"timeout|Timeout|timed out|Watchdog caught"):
        return _("The GPUs' processes waited for each other too long (NCCL).")
    return _("The GPUs' processes could not talk to each other (NCCL).")


def _after_nccl(finding: Finding) -> str:
    if finding.mentions(r"shared memory segment|/dev/shm|ncclShm"):
        return _("Give the container more (docker run --shm-size=8g or --ipc=host).")
    return _(
        "Try NCCL_P2P_DISABLE=1 (cards without direct access), --disable-custom-all-reduce, and in a container "
        "--ipc=host; NCCL_DEBUG=INFO"
        " says more."
    )


def _by_nccl(finding: Finding) -> Relaunch | None:
    if finding.mentions(r"peer access|P2P|cuMem"):
        return Relaunch({"--disable-custom-all-reduce": ""}, env={"NCCL_P2P_DISABLE": "1"})
    return None


def _uneven(finding: Finding) -> str:
    if finding.group("heads"):
        return finding.fill(N_("A part of the model, {heads} wide, can't be divided evenly among {size} GPUs."))
    return _("A part of the model can't be divided evenly among the GPUs.")


_TO_ONE = N_("Start with --pipeline-parallel-size 1 and --tensor-parallel-size instead.")
_RAY = N_("`ray status` on this machine shows the nodes and their GPUs; start Ray there (`ray start --head`, on the "
          "others"
          " `ray start --address=…`).")  # fmt: skip
RULES = (
    rule(
        "too-few-gpus",
        r"World size \((?P<size>\d+)\) is larger than the number of available GPUs \((?P<gpus>\d+)\)",
        N_("The server asks for {size} GPUs, but this machine has {gpus}."),
        N_("Start with --tensor-parallel-size of at most the number of GPUs, or on several machines with Ray."),
        fewer_gpus,
    ),
    rule(
        "too-few-gpus",
        r"tensor_parallel_size=(?P<size>\d+).*?(?:is )?(?:greater|larger) than.*?GPUs? \(?(?P<gpus>\d+)"
        r"|please set tensor_parallel_size"
        r" \((?P<size2>\d+)\) to less than max local gpu count \((?P<gpus2>\d+)\)",
        N_("The server asks for {size}{size2} GPUs, but this machine has {gpus}{gpus2}."),
        N_("Start with --tensor-parallel-size of at most the number of GPUs, or on several machines with Ray."),
        lambda finding: fewer_gpus(finding) or set_to("--tensor-parallel-size", "gpus2")(finding),  # type: ignore[operator]
    ),
    rule(
        "too-few-gpus",
        r"number of required (?P<what>\w+)s exceeds the total number of available \w+s.*?(?:Required number of"
        r" devices: (?P<size>\d+)\."
        r" Total number of devices: (?P<gpus>\d+))?|Cannot provide a placement group|You don't have enough GPUs"
        r"|Not enough resources to allocate"
        r"|[Tt]he tensor parallel size .*exceed|node has no (?P<what2>\w+) available"
        r"|Error computing (?:device indices|assigned_physical)",
        N_("The server asks for more GPUs than are free in the Ray cluster or on this machine."),
        N_("Lower --tensor-parallel-size, --pipeline-parallel-size or --data-parallel-size; `ray status` shows what "
           "is there."),
    ),
    rule(
        "heads-not-divisible",
        r"[Tt]otal number of attention heads \((?P<heads>\d+)\) must be divisible by tensor parallel size"
        r" \((?P<size>\d+)\)",
        N_("The model's {heads} attention heads can't be divided among {size} GPUs."),
        N_("Start with a --tensor-parallel-size that divides {heads}."),
        fitting_tensor_parallel,
    ),
    rule(
        "heads-not-divisible",
        r"(?:AssertionError: )?(?P<heads>\d+) is not divisible by (?P<size>\d+)|not divisible by (?:the )?(?:tp_size"
        r"|tensor|world)|must be divisible by (?:tp|tensor|world)",
        _uneven,
        N_("Start with another --tensor-parallel-size (1, 2, 4 or 8 fit most models)."),
        fitting_tensor_parallel,
    ),
    rule(
        "pipeline-unsupported",
        r"Pipeline parallelism is (?:not|only) supported",
        N_("This model can't be split into a pipeline."),
        _TO_ONE,
        lambda _finding: Relaunch(remove=("--pipeline-parallel-size",)),
    ),
    rule(
        "pipeline-layers",
        r"does not match (?:pp_size|num_hidden_layers)|VLLM_PP_LAYER_PARTITION|number of layers.*pipeline",
        N_("The model's layers can't be split into this many pipeline stages."),
        N_("Lower --pipeline-parallel-size, or correct VLLM_PP_LAYER_PARTITION."),
    ),
    rule(
        "parallel-settings",
        r"Invalid data-parallel|data_parallel_\w+ .*must|nnodes|expert parallel|enable_expert_parallel|EPLB"
        r"|distributed executor backend|dcp_size"
        r"|external_launcher|data_parallel",
        lambda finding: _("The settings for several GPUs don't go together: {error}").format(
            error=finding.error.text.split(": ", 1)[-1][:300]
        ),
        N_("Correct the --data-parallel-…, --nnodes and --enable-expert-parallel settings."),
        where=r"/vllm/config|arg_utils|parallel",
    ),
    rule(
        "nccl",
        r"NCCL (?:error|failure)|DistBackendError|ncclSystemError|ncclUnhandled|ncclInvalidUsage|ncclInternalError"
        r"|ncclRemoteError|NCCL_ERROR|[Pp]eer access"
        r"|custom_all_reduce|ProcessGroupNCCL.*(?:terminat|[Tt]imeout|exception)|Watchdog caught collective|NCCL WARN"
        r"|nccl.*not found"
        r"|open_mem_handle|cudaIpc|invalid resource handle|batch testing peer-to-peer",
        _nccl,
        _after_nccl,
        _by_nccl,
        evidence=r"/dev/shm|shared memory segment",
    ),
    rule(
        "internal-port",
        r"server socket has failed.*(?:EADDRINUSE|[Aa]ddress already in use)|DistNetworkError.*EADDRINUSE"
        r"|zmq\.error\.ZMQError: Address already in use",
        N_("A port that the engine's processes use among themselves is taken."),
        N_("Start it again: it chooses others. If VLLM_PORT, MASTER_PORT or --data-parallel-rpc-port is set, unset or "
           "change it; end what a crashed server left (`qwen-tui doctor`)."),
    ),
    rule(
        "gloo",
        r"[Gg]loo|makeDeviceForHostname|Unable to resolve hostname|DistNetworkError|DistStoreError|TCPStore"
        r"|c10d.*(?:timed? ?out|failed)|client socket has"
        r" (?:failed|timed out)|Timed out after \d+ seconds waiting for clients|init_process_group"
        r"|The server socket has failed",
        N_("The engine's processes could not find each other over the network."),
        N_("Set VLLM_HOST_IP to this machine's address (or 127.0.0.1), GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME to "
           "its interface; check"
           " /etc/hosts and firewalls."),
    ),
    rule(
        "ray-missing",
        r"No module named 'ray'|Failed to import Ray|Ray is not installed|requires installation of ray"
        r"|[Rr]ay version .* is required|Ray Compiled Graph is not",
        N_("The engine has no Ray (or not the version it needs), but was told to use it."),
        N_("Install it into the engine's environment (`pip install 'ray[cgraph]'`), or start with "
           "--distributed-executor-backend mp."),
        lambda _finding: Relaunch({"--distributed-executor-backend": "mp"}),
    ),
    rule(
        "ray-worker-died",
        r"worker process has died|Worker exit type|potential root causes",
        N_("A worker process that Ray had started died; Ray does not say why."),
        N_("Most often the kernel ended it for want of RAM (last lines of `dmesg`), or it crashed: its own log is in "
           "/tmp/ray/session_latest/logs."),
    ),
    rule(
        "ray-down",
        r"Could not find any running Ray instance|ray\.init|Failed to connect to (?:the )?(?:Ray|GCS)|GcsRpcError"
        r"|raylet|Ray cluster|gcs_client|RaySystemError"
        r"|node (?:died|was terminated|has been marked dead)|ray\.exceptions\.(?:NodeDied|LocalRayletDied"
        r"|RuntimeEnvSetup)|unique IP address",
        N_("The Ray cluster is not there, or a node of it is gone."),
        _RAY,
    ),
    rule(
        "start-timeout",
        r"Timed out waiting for engine (?:core )?process|VLLM_ENGINE_READY_TIMEOUT_S|VLLM_RPC_TIMEOUT"
        r"|Did not receive response from front-end|failed to"
        r" report ZMQ addresses|handshake.*timed out|did not respond within|Barrier timed out",
        N_("The engine did not get ready within the time vLLM allows."),
        N_("Loading was too slow: start it again (files are cached now), or allow more with "
           "VLLM_ENGINE_READY_TIMEOUT_S=3600."),
        lambda _finding: Relaunch(env={"VLLM_ENGINE_READY_TIMEOUT_S": "3600"}),
    ),
    rule(
        "step-timeout",
        r"RPC call to (?P<method>\w+) timed out|execute_model timed out|Engine iteration timed out"
        r"|VLLM_EXECUTE_MODEL_TIMEOUT|No available (?:shared memory broadcast)"
        r" block",
        N_("A step of the model did not end within the time vLLM allows: a worker hangs."),
        N_("Start it again; look for Xid errors in `dmesg`. If it comes back, try --enforce-eager and "
           "--disable-custom-all-reduce."),
    ),
    rule(
        "numa",
        r"numactl|NUMA|numa_bind|VLLM_CPU_OMP_THREADS_BIND|[Ll]ogical CPU|cpu_allow|sched_setaffinity|CPU binding"
        r"|thread binding|mbind|set_mempolicy",
        N_("The engine could not bind its threads or memory to the CPU as it was told."),
        N_("Start with VLLM_CPU_OMP_THREADS_BIND=nobind; in a container allow it (docker run --security-opt "
           "seccomp=unconfined"
           " --cap-add SYS_NICE)."),
        lambda finding: Relaunch(env={"VLLM_CPU_OMP_THREADS_BIND": "nobind"}) if finding.facts.is_cpu else None,
    ),
)  # fmt: skip
