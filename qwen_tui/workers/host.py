"""The parent's side: run a worker as a child process and hear what it says.

The child gets no terminal: stdin is /dev/null, stdout and stderr go to a log file. It runs in a process
group of its own; cancelling the task that awaits it ends the whole group.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from qwen_tui.errors import WorkerError
from qwen_tui.i18n import _
from qwen_tui.paths import private_folder
from qwen_tui.workers.protocol import FD_VARIABLE, PARENT_VARIABLE

FOLDER = Path(__file__).parent


async def run_worker(
    python: Path,
    script: str,
    request: Mapping[str, Any],
    log: Path,
    on_message: Callable[[dict[str, Any]], None] | None = None,
    environment: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Run `workers/<script>` under `python`; its result object.

    on_message: called with every object that is neither the result nor the error.
    environment: variables added to this process's.
    Raises WorkerError with the worker's own error, or the last line of its log if it just ended.
    """
    argv = [str(python), str(FOLDER / script), json.dumps(request, ensure_ascii=False)]
    result: dict[str, Any] | None = None
    async with child(argv, log, environment) as (process, lines):
        async for line in lines:
            try:
                message = json.loads(line)
            except ValueError:
                continue  # half a line of a child that was killed
            kind = message.get("kind")
            if kind == "result":
                result = message
            elif kind == "error":
                raise WorkerError(message.get("title", ""), message.get("why", ""), message.get("hint", ""))
            elif on_message is not None:
                on_message(message)
        code = await process.wait()
    if result is None:
        raise WorkerError(
            _("{script} ended with status {code} before it was done").format(script=script, code=code),
            last_line(log),
            _("Its whole output is in {log}").format(log=log),
        )
    return result


@contextlib.asynccontextmanager
async def child(
    argv: Sequence[str], log: Path, environment: Mapping[str, str] | None = None, *, stdin: int = subprocess.DEVNULL
) -> AsyncIterator[tuple[asyncio.subprocess.Process, AsyncIterator[bytes]]]:
    """Start `argv` in a group of its own; the process and the lines it writes to its protocol descriptor.

    stdin: subprocess.PIPE for a child that is told things while it runs, through `process.stdin`.
    Leaving the block ends the group if it still runs: SIGTERM, then SIGKILL after 5 seconds.
    """
    private_folder(log.parent)
    read_end, write_end = os.pipe()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=stdin,
            stdout=descriptor,
            stderr=descriptor,
            pass_fds=(write_end,),
            env={
                **os.environ,
                **(environment or {}),
                FD_VARIABLE: str(write_end),
                PARENT_VARIABLE: str(os.getpid()),
            },
            start_new_session=True,
        )
    except BaseException:
        os.close(read_end)
        raise
    finally:
        os.close(descriptor)
        os.close(write_end)
    reader = asyncio.StreamReader(limit=2**24)
    transport, _protocol = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_end, "rb", 0)
    )
    try:
        yield process, reader
    finally:
        transport.close()
        await end_group(process)


async def end_group(process: asyncio.subprocess.Process, grace: float = 5.0) -> None:
    """End the process group that `process` leads, whether or not the leader is still there."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        await asyncio.wait_for(process.wait(), grace)
    except asyncio.TimeoutError:
        pass
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def last_line(log: Path, limit: int = 65536) -> str:
    """The last line of `log` that is not blank, or an empty text."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - limit))
            lines = file.read().decode("utf-8", "replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
