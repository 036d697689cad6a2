"""The plan's questions about the machine and the command: port, reachability, arguments, limits, disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from qwen_tui.engine.arguments_check import check as check_words
from qwen_tui.engine.arguments_check import corrected
from qwen_tui.errors import ServerError
from qwen_tui.hardware.host import disk_of, open_files_limit
from qwen_tui.i18n import _
from qwen_tui.progress import format_bytes
from qwen_tui.server.launch import free_port
from qwen_tui.server.plan_arguments import Change
from qwen_tui.server.plan_check import Check
from qwen_tui.server.plan_memory import parallel

_LISTENING = "0A"
#: Below it vLLM warns that it may run out of descriptors; below the second it will with some dozens of clients.
_FILES_WANTED, _FILES_NEEDED = 65535, 2048
_DISK_WANTED = 2 * 10**9
_SHARED_MEMORY_WANTED = 10**9


@dataclass(frozen=True)
class Holder:
    """A process that listens on a port."""

    pid: int
    command: str


def check_port(check: Check) -> None:
    """Whether the port is free, and who has it if not."""
    host, port = check.spec.host, check.spec.port
    try:
        free = free_port(host, port)
    except ServerError as error:
        change = Change("host 127.0.0.1", fields={"host": "127.0.0.1"})
        check.stop("port", f"{error.title}: {error.why}" if error.why else error.title, error.hint, change)
        return
    if free == port:
        check.ok("port", _("{port} is free").format(port=port))
        return
    holders = [f"{holder.pid} {holder.command[:80]}".strip() for holder in port_holders(port)]
    if holders:
        text = _("{port} is taken by {processes}").format(port=port, processes=", ".join(holders))
    elif port < 1024 and os.geteuid() != 0:
        text = _("{port} is for the administrator only").format(port=port)
    else:
        text = _("{port} is taken, by a process that is not to be seen from here").format(port=port)
    remedy = _("Stop it, or take another: {port} is free").format(port=free)
    check.stop("port", text, remedy, Change(f"port {free}", fields={"port": free}))


def port_holders(port: int, proc: Path = Path("/proc")) -> list[Holder]:
    """The processes that listen on a TCP port, as far as this user may see. Takes some ms for each 100 processes."""
    inodes = set(_listeners(port, proc))
    holders: list[Holder] = []
    if not inodes:
        return holders
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for entry in proc.iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            if not any(_target(descriptor) in wanted for descriptor in (entry / "fd").iterdir()):
                continue
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue  # ended, or another user's
        holders.append(Holder(int(entry.name), " ".join(os.fsdecode(word) for word in words if word)))
    return sorted(holders, key=lambda holder: holder.pid)


def _target(descriptor: Path) -> str:
    """What a descriptor stands for; empty once it is closed."""
    try:
        return str(descriptor.readlink())
    except OSError:
        return ""


def _listeners(port: int, proc: Path) -> Iterator[str]:
    """The inodes of the sockets that listen on `port`. Source: proc(5), /proc/net/tcp."""
    for name in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / name).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for words in map(str.split, lines):
            if len(words) > 9 and words[3] == _LISTENING and int(words[1].rsplit(":", 1)[1], 16) == port:
                yield words[9]


def check_reach(check: Check) -> None:
    """Who can reach the server."""
    spec = check.spec
    if spec.is_loopback:
        check.ok("host", _("{host}: from this machine only").format(host=spec.host))
        return
    change = Change("host 127.0.0.1", fields={"host": "127.0.0.1"})
    has_key = bool(check.choices.variable("VLLM_API_KEY")) or check.choices.has("--api-key")
    text = _("{host}: other machines can reach it; the given key is asked of them") if has_key else _(
        "{host}: other machines can reach it; qwen-tui makes a key that they must send"
    )  # fmt: skip
    remedy = _(
        "The key guards /v1 only, and travels unencrypted: 127.0.0.1 with `ssh -L {port}:127.0.0.1:{port}` is safer"
    )
    check.warn("host", text.format(host=spec.host), remedy.format(port=spec.port), change)


def check_code(check: Check) -> None:
    """Whether code that came with the model would be run."""
    has_code = check.config is not None and check.config.has_code
    trusted = check.choices.has("--trust-remote-code")
    if trusted and has_code:
        check.warn(
            "code",
            _("--trust-remote-code runs Python files of the model's folder with all your rights"),
            _("Leave it on only for a source that you trust"),
            Change(_("without trust-remote-code"), flags={"--trust-remote-code": None}),
        )
    elif trusted:
        check.ok("code", _("--trust-remote-code is on, and the model brings no code"))
    elif has_code and any(line.topic == "architecture" and line.level != "ok" for line in check.lines):
        check.warn(
            "code",
            _("The model brings code of its own, which vLLM would need to know it"),
            _("--trust-remote-code runs it with all your rights: only for a source that you trust"),
            Change("trust-remote-code", flags={"--trust-remote-code": ""}),
        )


def check_arguments(check: Check) -> None:
    """Whether the engine knows every argument."""
    if check.schema is None:
        if check.spec.extra_args:
            # No warning: the first start on an engine would always be asked about it.
            check.ok("arguments", _("taken as they are: this engine was not yet asked what it takes"))
        return
    words = check.spec.argv("python")[3:]
    own = len(words) - len(check.spec.extra_args)
    problems = check_words(check.schema, words)
    for problem in problems:
        fixed = corrected(words, problem)
        change = None
        if fixed is not None and problem.index >= own:
            change = Change(problem.suggestion, fields={"extra_args": tuple(fixed[own:])})
        tell = check.stop if problem.is_certain else check.warn
        remedy = _("Did you mean “{near}”?").format(near=problem.suggestion) if problem.suggestion else ""
        tell("arguments", problem.text, remedy, change)
    if not problems:
        text = _("all are known to vLLM {version}").format(version=check.schema.version)
        check.ok("arguments", text)


def check_open_files(check: Check) -> None:
    """Whether enough files and sockets can be open at once."""
    soft, hard = open_files_limit()
    if hard >= _FILES_WANTED or soft >= _FILES_WANTED:
        check.ok("files", _("up to {count:,}").format(count=max(soft, min(hard, _FILES_WANTED))))
    elif hard >= _FILES_NEEDED:
        check.ok("files", _("up to {count:,}: enough for hundreds of clients; vLLM will still warn").format(count=hard))
    else:
        text = _("only {count:,} files and sockets can be open: many clients at once will fail")
        check.warn("files", text.format(count=hard), _("Raise the limit: ulimit -n 65535"))


def check_disk(check: Check) -> None:
    """Whether there is room for compiled graphs and logs, and for what several GPUs share."""
    home = Path.home()
    caches = check.choices.variable("VLLM_CACHE_ROOT") or check.choices.variable("XDG_CACHE_HOME") or home / ".cache"
    folders = {_("caches"): Path(caches), _("logs"): check.paths.servers}
    short = False
    for name, folder in folders.items():
        disk = disk_of(folder)
        if disk is not None and disk.free < _DISK_WANTED:
            short = True
            text = _("{free} free for {name} in {folder}")
            check.warn("disk", text.format(free=format_bytes(disk.free), name=name, folder=folder),
                       _("Free some space: a full disk ends the server"))  # fmt: skip
    tensor, pipeline, _data = parallel(check)
    shared = disk_of(Path("/dev/shm"))
    if tensor * pipeline > 1 and shared is not None and shared.total < _SHARED_MEMORY_WANTED:
        short = True
        text = _("/dev/shm has {size}, too little for several workers")
        check.warn("disk", text.format(size=format_bytes(shared.total)), _("Start the container with --shm-size=8g"))
    if not short:
        free = min((disk.free for disk in map(disk_of, folders.values()) if disk is not None), default=0)
        check.ok("disk", _("{free} free").format(free=format_bytes(free)))
