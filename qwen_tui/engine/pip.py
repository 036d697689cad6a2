"""pip as a child process: its lines as they come, its progress in bytes, its errors in words."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from qwen_tui.engine.mirrors import MIRRORS
from qwen_tui.errors import EngineError
from qwen_tui.i18n import _
from qwen_tui.paths import private_folder
from qwen_tui.workers.host import FOLDER, end_group
from qwen_tui.workers.protocol import PARENT_VARIABLE

OnLine = Callable[[str], None]
_PROGRESS = re.compile(r"^Progress (\d+) of (\d+)$")
_KEPT_LINES = 400
_SAID_TO_NOBODY = ("WARNING: Location ", "WARNING: The directory ", "[notice]")


class PipFailed(Exception):
    """pip ended with a status other than 0. lines: the last ones it wrote."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__(lines[-1] if lines else "pip")
        self.lines = list(lines)


def progress_of(line: str) -> tuple[int, int] | None:
    """The bytes done and in all of the file that pip is downloading, if `line` says so."""
    match = _PROGRESS.match(line)
    return (int(match.group(1)), int(match.group(2))) if match else None


async def run_pip(
    python: Path,
    arguments: Sequence[str],
    log: Path,
    on_line: OnLine | None = None,
    pass_fds: Sequence[int] = (),
) -> list[str]:
    """Run `python -m pip ARGUMENTS` without a terminal; its last lines.

    Everything it writes is appended to `log`. Cancelling ends its process group; so does the death of this
    process. pass_fds: descriptors the child holds open (a lock) as long as it lives. A pip before 24.1, which
    does not know `--progress-bar raw`, works without a word about its progress.
    Raises PipFailed.
    """
    try:
        return await _run_once(python, arguments, log, on_line, pass_fds)
    except PipFailed as failure:
        if not any("--progress-bar" in line and "raw" in line for line in failure.lines):
            raise
    quiet = ["off" if word == "raw" else word for word in arguments]
    return await _run_once(python, quiet, log, on_line, pass_fds)


async def _run_once(
    python: Path, arguments: Sequence[str], log: Path, on_line: OnLine | None, pass_fds: Sequence[int]
) -> list[str]:
    private_folder(log.parent)
    environment = {
        **os.environ,
        PARENT_VARIABLE: str(os.getpid()),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        "PIP_NO_COLOR": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONIOENCODING": "utf-8",
    }
    for variable in ("PIP_TARGET", "PIP_PREFIX", "PIP_USER", "PIP_REQUIRE_VIRTUALENV", "PYTHONPATH", "PYTHONHOME"):
        environment.pop(variable, None)
    kept: list[str] = []
    with log.open("a", encoding="utf-8") as file:
        file.write(f"$ {python} -m pip {' '.join(arguments)}\n")
        process = await asyncio.create_subprocess_exec(
            str(python),
            str(FOLDER / "run_pip.py"),
            *arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            pass_fds=tuple(pass_fds),
            start_new_session=True,
            limit=2**20,
        )
        try:
            assert process.stdout is not None
            async for line in _lines(process.stdout):
                if progress_of(line) is None:
                    file.write(line + "\n")
                    file.flush()
                    if not line.startswith(_SAID_TO_NOBODY):
                        kept.append(line)
                        del kept[:-_KEPT_LINES]
                if on_line is not None:
                    on_line(line)
            status = await process.wait()
        finally:
            await end_group(process)
    if status != 0:
        raise PipFailed(kept or [f"pip: {status}"])
    return kept


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    """Lines of `stream` without their ends; an overlong one is cut into pieces instead of failing."""
    while True:
        try:
            data = await stream.readline()
        except ValueError:
            continue  # the reader has dropped the part that did not fit
        if not data:
            return
        yield data.decode("utf-8", "replace").rstrip("\r\n")


def explain(failure: PipFailed, log: Path, doing: str) -> EngineError:
    """The error a person should read: the line of pip's that decides, and what can be done.

    doing: what was tried, a translated sentence.
    """
    text = "\n".join(failure.lines)
    deciding = _deciding_line(failure.lines)
    names = ", ".join(mirror.name for mirror in MIRRORS if mirror.name != "default")
    hint = _("pip's whole output is in {log}").format(log=log)
    if re.search(r"No space left on device|Errno 28", text):
        hint = _("Free some disk space, then run the same command again: it goes on where it stopped")
    elif re.search(r"THESE PACKAGES DO NOT MATCH THE HASHES|hash(es)? mismatch", text, re.I):
        hint = _(
            "A file arrived damaged, or the mirror is out of step. Run it again, or choose a mirror: --mirror NAME"
        )
    elif _is_network(text):
        hint = _("Check the network, or choose a mirror: --mirror NAME with one of {names}").format(names=names)
    elif re.search(r"CERTIFICATE_VERIFY_FAILED|SSLError", text):
        hint = _("The certificate is not trusted: set PIP_CERT to your organisation's certificate file")
    elif re.search(r"\b(401|403|407)\b", deciding):
        hint = _("The index refused: check its address and password (--index-url, or pip's setting)")
    elif "No matching distribution" in text or "ResolutionImpossible" in text:
        hint = _("The index may lack it: try another with --mirror NAME ({names}) or --index-url URL").format(
            names=names
        )
    elif "Permission denied" in text:
        hint = _("Choose a folder you may write to: --path DIR")
    return EngineError(doing, deciding, hint)


def _is_network(text: str) -> bool:
    return bool(
        re.search(
            r"NameResolutionError|Temporary failure in name resolution|Name or service not known|"
            r"NewConnectionError|ConnectTimeout|ReadTimeout|Connection (refused|reset|aborted)|Network is unreachable|"
            r"Max retries exceeded|ProxyError|IncompleteRead|ProtocolError|HTTPSConnectionPool|after connection broken",
            text,
        )
    )


def _deciding_line(lines: Sequence[str]) -> str:
    """The line that tells most: pip's last ERROR, except the one that only repeats the requirement's name."""
    if any("THESE PACKAGES DO NOT MATCH" in line for line in lines):
        return next(line for line in lines if "THESE PACKAGES DO NOT MATCH" in line)[:400]
    errors = [line for line in lines if line.startswith("ERROR:")]
    network = [line for line in lines if "after connection broken by" in line]
    if network and (not errors or "No matching distribution" in errors[-1]):
        match = re.search(r"broken by ['\"]?(.*?)['\"]?: /", network[-1])
        return (match.group(1) if match else network[-1])[:400]
    if errors:
        for line in errors:
            if "Could not find a version" in line:
                return re.sub(r" \(from versions: .{120,}\)$", "", line.removeprefix("ERROR: "))[:400]
        return errors[-1].removeprefix("ERROR: ")[:400]
    return next((line for line in reversed(lines) if line.strip()), "")[:400]
