"""Put a server under a keeper: write what to run, start the keeper, wait until it says how it went."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import json
import os
import secrets
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from qwen_tui.engine.find import Engine
from qwen_tui.errors import ServerError
from qwen_tui.i18n import _
from qwen_tui.paths import private_folder, write_private
from qwen_tui.server import keeper, registry
from qwen_tui.server.spec import ServerSpec

#: Logs of earlier runs that are kept for each server.
LOGS_KEPT = 20
_KEEPER = Path(keeper.__file__)


def _can_bind(host: str, port: int) -> bool:
    """Whether a server could listen there now. Raises ServerError for a host that is no name or address at all."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ServerError(
            _("Can't listen on {host}").format(host=host),
            str(error),
            _("Use 127.0.0.1, 0.0.0.0, or an address of this machine"),
        ) from None
    for family, kind, protocol, _name, address in found:
        with socket.socket(family, kind, protocol) as probe:
            # As vLLM does: a port in TIME_WAIT counts as free, one that is listened on does not.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(address)
            except OSError as error:
                if error.errno == errno.EADDRNOTAVAIL:
                    raise ServerError(
                        _("Can't listen on {host}").format(host=host),
                        _("It is not an address of this machine"),
                        _("Use 127.0.0.1, 0.0.0.0, or an address of this machine"),
                    ) from None
                return False
    return True


def free_port(host: str = "127.0.0.1", first: int = 8000) -> int:
    """The first port from `first` on that is free on `host`.

    Looks the host up, so it may block. Raises ServerError if there is none, or nobody can listen on that host.
    """
    for port in range(first, min(first + 1000, 65536)):
        if _can_bind(host, port):
            return port
    raise ServerError(_("No free port from {first} on, on {host}").format(first=first, host=host))


@contextlib.contextmanager
def launching(folder: Path) -> Iterator[None]:
    """Holds the folder against a launch of the same server by others; raises ServerError if one is under way."""
    descriptor = os.open(folder / "launch.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ServerError(_("“{name}” is being started already").format(name=folder.name)) from None
        yield
    finally:
        os.close(descriptor)


async def launch(servers: Path, spec: ServerSpec, engine: Engine, log_keep_mb: int = 0) -> registry.Record:
    """Start `spec` under a new keeper; returns when its process runs.

    log_keep_mb: how much of its log stays uncompressed (see Settings); 0 for all.
    Raises ServerError if the name or the port is in use, or the system can't run the command.
    """
    try:
        folder = private_folder(servers / spec.name)
        with launching(folder):
            # In a thread: the host's name may have to be looked up.
            await asyncio.to_thread(_refuse_if_taken, folder, spec)
            record = _write_launch(folder, spec, engine, log_keep_mb)
            if not await _start_keeper(folder):
                raise ServerError(
                    _("What is left of the last “{name}” is still being ended").format(name=spec.name),
                    "",
                    _("Try again in a second"),
                )
            record = await _await_state(folder, record.launch["id"])
    except OSError as error:
        raise ServerError(
            _("“{name}” could not be started").format(name=spec.name),
            str(error),
            _("`qwen-tui doctor` checks the disk and the folders"),
        ) from None
    if record.state.get("error"):
        raise ServerError(
            _("“{name}” could not be started").format(name=spec.name),
            record.state["error"],
            _("Is {python} still there? `qwen-tui setup` repairs the engine").format(python=engine.python),
        )
    return record


def _refuse_if_taken(folder: Path, spec: ServerSpec) -> None:
    earlier = registry.read(folder)
    if earlier is not None and (earlier.kept or earlier.server_is_alive):
        raise ServerError(
            _("“{name}” runs already").format(name=spec.name),
            "",
            _("Stop it first, or give the new one another name"),
        )
    if not _can_bind(spec.host, spec.port):
        raise ServerError(
            _("Port {port} on {host} is taken").format(port=spec.port, host=spec.host),
            "",
            _("Free is, for example, {port}").format(port=free_port(spec.host, spec.port + 1)),
        )


def _write_launch(folder: Path, spec: ServerSpec, engine: Engine, log_keep_mb: int = 0) -> registry.Record:
    """Write launch.json for the keeper, with a key made where others can reach the server."""
    environment = dict(spec.env)
    if not spec.is_loopback and "VLLM_API_KEY" not in environment and "--api-key" not in spec.extra_args:
        environment["VLLM_API_KEY"] = secrets.token_urlsafe(24)
    logs = private_folder(folder / "logs")
    for old in sorted(logs.glob("*.log"))[: -LOGS_KEPT + 1]:
        for file in (old, *logs.glob(f"{old.name}.*")):  # what was rotated out of it, too
            file.unlink(missing_ok=True)
    log = logs / time.strftime("%Y%m%d-%H%M%S.log")
    number = 2
    while log.exists():
        log, number = log.with_name(f"{log.stem.split('_')[0]}_{number}.log"), number + 1
    data = {
        "id": uuid.uuid4().hex,
        "spec": spec.to_json(),
        "argv": spec.argv(engine.python),
        "env": environment,
        "cwd": str(Path.cwd()),
        "log": str(log),
        "log_keep_mb": log_keep_mb,
        "restart": spec.restart,
        "idle_minutes": spec.idle_minutes,
        "engine": {"python": str(engine.python), "version": engine.version, "platform": engine.platform},
    }
    for stale in ("state.json", "stop.json", "ready.json"):
        (folder / stale).unlink(missing_ok=True)
    write_private(folder / "launch.json", json.dumps(data, ensure_ascii=False))
    log.touch(mode=0o600)
    return registry.Record(folder, data, {}, False)


async def _start_keeper(folder: Path, adopt: str = "") -> bool:
    """Start a keeper over `folder`; False if there is one already. Raises ServerError if it won't start.

    adopt: the run to take over; empty for a new one.
    """
    log = os.open(folder / "keeper.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", str(_KEEPER), str(folder), *(["--adopt", adopt] if adopt else []),
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    finally:
        os.close(log)
    code = await process.wait()  # it forks away, so this is quick
    if code not in (0, keeper.ALREADY_KEPT):
        raise ServerError(
            _("The keeper of “{name}” did not start").format(name=folder.name),
            _("It ended with status {code}").format(code=code),
            _("See {log}").format(log=folder / "keeper.log"),
        )
    return code == 0


async def _await_state(folder: Path, run: str, seconds: float = 15.0) -> registry.Record:
    """Wait until the keeper of this run has written its first state."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        record = registry.read(folder)
        if record is not None and record.state.get("id") == run and record.state.get("status"):
            return record
        if record is not None and not record.kept and not record.state:
            break  # the keeper died before it could write
        await asyncio.sleep(0.01)
    raise ServerError(
        _("The keeper of “{name}” did not start").format(name=folder.name),
        "",
        _("See {log}").format(log=folder / "keeper.log"),
    )


async def adopt(record: registry.Record, seconds: float = 5.0) -> bool:
    """Give an abandoned run a new keeper, which ends whatever is left if its server is dead; False if it has one.

    Returns when the keeper has said who it is.
    """
    started = await _start_keeper(record.folder, record.launch["id"])
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        now = registry.read(record.folder)
        if now is None or not now.kept or now.keeper is not None:
            break
        await asyncio.sleep(0.01)
    return started
