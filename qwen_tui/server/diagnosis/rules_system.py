"""The machine: ports, addresses, disks, permissions, limits; and processes that ended without a word."""

from __future__ import annotations

from qwen_tui.i18n import N_, _
from qwen_tui.server.diagnosis.corrections import next_free_port
from qwen_tui.server.diagnosis.model import Finding, Relaunch, rule


def _port_taken(finding: Finding) -> str:
    port = finding.group("port") or finding.facts.argument("port") or "8000"
    return _("Port {port} is taken by another process.").format(port=port)


def _forbidden(finding: Finding) -> str:
    file = finding.group("file") or finding.group("file2")
    if file:
        return _("The server may not read or write {file}.").format(file=file)
    return _("The server was refused something for want of rights.")


_KILLED = N_(
    "Look at the last lines of `dmesg` for “Out of memory: Killed process”; then use less RAM, or a machine with more."
)
_CRASHED = N_("Start it again. If it comes back, the engine does not fit this machine: build it anew with `qwen-tui "
              "setup`, or try another"
              " version of vLLM.")  # fmt: skip
_CPU_TOO_OLD = N_("The engine was built for a newer CPU (AVX2, AVX-512): use a build for this one, or another machine.")
#: Tried before all others: these words mean the same wherever they stand.
FIRST = (
    rule(
        "shared-memory",
        r"(?:/dev/shm|/psm_|/torch_|shared memory).*(?:No space|\[Errno 28\]|unable to write)"
        r"|(?:No space left|\[Errno 28\]|unable to write).*(?:/dev/shm|/psm_|/torch_)",
        N_("The shared memory /dev/shm is full."),
        N_("Give the container more (docker run --shm-size=8g or --ipc=host), or empty it; `df -h /dev/shm` shows it."),
    ),
    rule(
        "disk-full",
        r"No space left on device|\[Errno 28\]|ENOSPC|[Dd]isk quota exceeded|\[Errno 122\]|not enough (?:free )?disk"
        r"|disk is full",
        N_("The disk is full (or the user's quota is used up)."),
        N_("`df -h` and `du` show where. Caches are in ~/.cache (vllm, huggingface, modelscope, triton); "
           "VLLM_CACHE_ROOT and HF_HOME move"
           " them."),
    ),
    rule(
        "too-many-files",
        r"Too many open files|\[Errno 24\]|EMFILE|ENFILE",
        N_("The server ran out of open files."),
        N_("Raise the limit before the start: `ulimit -n 65535`."),
    ),
    rule(
        "too-many-processes",
        r"can't start new thread|Resource temporarily unavailable|\[Errno 11\]|pthread_create failed"
        r"|libgomp: Thread creation failed|OMP: Error #\d+",
        N_("The server may not start more processes or threads."),
        N_("Raise the limit (`ulimit -u`, in a container --pids-limit), or set OMP_NUM_THREADS lower."),
    ),
    rule(
        "read-only",
        r"Read-only file system|\[Errno 30\]",
        N_("A file should be written where nothing can be written (read-only file system)."),
        N_("Set HF_HOME, VLLM_CACHE_ROOT and TRITON_CACHE_DIR to folders that can be written."),
    ),
)  # fmt: skip
RULES = (
    rule(
        "port-taken",
        r"error while attempting to bind on address \('(?P<host>[^']*)', (?P<port>\d+)[^)]*\):.*in use",
        _port_taken,
        N_("Start it on another port, or end the process that holds this one (`ss -ltnp` names it)."),
        next_free_port,
    ),
    rule(
        "port-taken",
        r"[Aa]ddress already in use|\[Errno 98\]|EADDRINUSE|[Pp]ort (?P<port>\d+) is (?:already )?(?:in use|used"
        r"|occupied)",
        _port_taken,
        N_("Start it on another port, or end the process that holds this one (`ss -ltnp` names it)."),
        next_free_port,
    ),
    rule(
        "port-forbidden",
        r"\[Errno 13\] Permission denied|error while attempting to bind.*ermission denied",
        N_("The port may not be used: those below 1024 are for the administrator."),
        N_("Use a port from 1024 up."),
        next_free_port,
        where=r"create_server_socket|:bind|socket|attempting to bind",
    ),
    rule(
        "port-bad",
        r"port must be 0-65535|Port must be between",
        N_("The port is no number from 1 to 65535."),
        N_("Correct --port."),
    ),
    rule(
        "host-bad",
        r"Cannot assign requested address|\[Errno 99\]|could not bind on any address|error while attempting to bind"
        r"|gaierror|[Nn]ame or service not known",
        N_("The address to listen on is none of this machine's."),
        N_("Use 127.0.0.1 (this machine only) or 0.0.0.0 (all its addresses) as --host."),
        where=r"create_server_socket|uvicorn/server|base_events\.py:create_server|attempting to bind",
    ),
    rule(
        "cache-database",
        r"sqlite3\.(?:Operational|Database)Error: (?P<text>.+)",
        N_("A cache that is kept in a database file can't be used: {text}"),
        N_("Set HOME (or XDG_CACHE_HOME, OUTLINES_CACHE_DIR) to a folder that can be written and lies on a local "
           "disk, one per server."),
    ),
    rule(
        "user-unknown",
        r"getpwuid\(\): uid not found|No username set in the environment|uid not found: (?P<uid>\d+)",
        N_("The user that the server runs as has no name on this system (no entry in /etc/passwd)."),
        N_("Set LOGNAME to any name, and HOME and TORCHINDUCTOR_CACHE_DIR to folders that can be written."),
        lambda _finding: Relaunch(env={"LOGNAME": "vllm"}),
    ),
    rule(
        "socket-path",
        r"AF_UNIX path too long|ipc path .*longer than|File name too long",
        N_("The path of a socket or file is too long for the system."),
        N_("Set TMPDIR (and VLLM_RPC_BASE_PATH) to a short folder such as /tmp."),
    ),
    rule(
        "engine-killed",
        r"(?:Failed (?:core|frontend) proc\(s\):.*?: |exit ?code:? |exitcode=)-9\b|(?:SIGKILL|was killed)|^Killed\b"
        r"|signal 9\b|exit code:? 137",
        N_("A process of the engine was killed (SIGKILL), most likely by the kernel because the RAM was full."),
        _KILLED,
        unless=r"potential root causes",
    ),
    rule(
        "crash-illegal",
        r"(?:Failed core proc\(s\):.*?: |exit ?code:? |exitcode=)-4\b|[Ii]llegal instruction|SIGILL",
        N_("A process of the engine used an instruction that this CPU does not have."),
        _CPU_TOO_OLD,
    ),
    rule(
        "shared-memory",
        r"(?:Failed core proc\(s\):.*?: |exit ?code:? |exitcode=)-7\b|Bus error|SIGBUS",
        N_("A process of the engine crashed (bus error): most often the shared memory /dev/shm is too small."),
        N_("Give the container more (docker run --shm-size=8g or --ipc=host)."),
    ),
    rule(
        "crash",
        r"(?:Failed core proc\(s\):.*?: |exit ?code:? |exitcode=)-(?:11|6)\b|Segfault encountered|Segmentation fault"
        r"|SIGSEGV|core dumped|^Aborted\b|SIGABRT"
        r"|Fatal Python error|terminate called|panicked at|stack smashing|double free|corrupted (?:size|double)",
        N_("A process of the engine crashed."),
        _CRASHED,
        unless=r"potential root causes",
    ),
)  # fmt: skip
#: What an exit by signal means where the log has nothing.
SIGNALS: dict[int, tuple[str, str, str]] = {
    9: ("killed", N_("The server was killed (SIGKILL), most likely by the kernel because the RAM was full."), _KILLED),
    11: ("crash", N_("The server crashed (SIGSEGV) without a word in its log."), _CRASHED),
    6: ("crash", N_("The server crashed (SIGABRT) without a word in its log."), _CRASHED),
    4: ("crash-illegal", N_("The server used an instruction that this CPU does not have (SIGILL)."), _CPU_TOO_OLD),
    7: (
        "shared-memory",
        N_("The server crashed (SIGBUS): most often the shared memory /dev/shm or the disk is full."),
        N_("`df -h /dev/shm` shows how much there is; give the container more (docker run --shm-size=8g or "
           "--ipc=host)."),
    ),
    15: ("ended", N_("Somebody or something ended the server (SIGTERM)."), N_("Start it again.")),
    2: ("ended", N_("Somebody ended the server (SIGINT, Ctrl-C)."), N_("Start it again.")),
    1: (
        "ended",
        N_("The server ended because its terminal went away (SIGHUP)."),
        N_("Start it with qwen-tui: its servers outlive the terminal."),
    ),
    25: (
        "disk-full",
        N_("The server was ended because a file became larger than allowed (SIGXFSZ)."),
        N_("Raise the limit: `ulimit -f unlimited`."),
    ),
    24: (
        "cpu-limit",
        N_("The server was ended because its CPU time was used up (SIGXCPU)."),
        N_("Raise the limit: `ulimit -t unlimited`."),
    ),
}  # fmt: skip
#: Tried after every other rule.
GENERIC = (
    rule(
        "permission",
        r"(?:PermissionError: )?(?:\[Errno \d+\] )?(?:Permission denied|[Oo]peration not permitted)"
        r"(?:: '(?P<file>[^']*)')?"
        r"|PermissionError(?: at (?P<file2>\S+))?",
        _forbidden,
        N_("Give the user the right to it, or use another folder (HF_HOME, VLLM_CACHE_ROOT)."),
    ),
)  # fmt: skip
