"""The managed virtual environment itself: where it may be, which Python, one installation at a time."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from qwen_tui.engine.find import BUILDING_MARKER, READY_MARKER
from qwen_tui.engine.pip import PipFailed, explain, run_pip
from qwen_tui.errors import EngineError
from qwen_tui.i18n import _
from qwen_tui.paths import nearest_existing, private_folder, write_private
from qwen_tui.progress import format_bytes
from qwen_tui.workers.host import end_group

#: What vLLM's wheels support, as (major, minor).
PYTHON_VERSIONS = ((3, 10), (3, 11), (3, 12), (3, 13))
#: `--progress-bar raw` came with 24.1, resuming a broken download with 25.1.
_PIP_WANTED = (25, 1)


def has_nvidia_gpu() -> bool:
    """Whether this machine lets us use an NVIDIA GPU, so that vLLM's CUDA build can run.

    The driver is asked, in a child: a container on a GPU host sees the driver's files but not always a GPU.
    """
    if not any(Path("/dev").glob("nvidia[0-9]*")) and not Path("/dev/dxg").exists():
        return False
    code = (
        "import ctypes; cuda = ctypes.CDLL('libcuda.so.1'); count = ctypes.c_int(); "
        "raise SystemExit(cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)) or count.value == 0)"
    )
    try:
        asked = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 0


@contextlib.contextmanager
def installation_lock(folder: Path) -> Iterator[int]:
    """Hold the lock of the environment in `folder`; its descriptor. Raises EngineError if another process does."""
    private_folder(folder.parent)
    descriptor = os.open(folder.parent / f".{folder.name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise EngineError(
                _("Another qwen-tui is working on {folder}").format(folder=folder),
                "",
                _("Wait until it is done, or stop it; then run this again"),
            ) from None
        yield descriptor
    finally:
        os.close(descriptor)


def check_folder(folder: Path) -> None:
    """Raise EngineError unless `folder` is free, empty, or an environment of qwen-tui's own."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise EngineError(_("{folder} is a file").format(folder=folder), "", _("Choose another folder: --path DIR"))
    own = (folder / READY_MARKER).exists() or (folder / BUILDING_MARKER).exists()
    if not own and any(folder.iterdir()):
        raise EngineError(
            _("{folder} is not empty and was not made by qwen-tui").format(folder=folder),
            _("Installing there could break what is in it"),
            _("Choose another folder: --path DIR. An environment that has vLLM can be used as it is: --engine PATH"),
        )


def read_marker(folder: Path) -> dict[str, str]:
    """What was, or is being, installed in `folder`; empty where nothing says so."""
    for name in (BUILDING_MARKER, READY_MARKER):
        with contextlib.suppress(OSError, ValueError):
            data = json.loads((folder / name).read_text(encoding="utf-8"))
            if isinstance(data, dict):
                return {str(key): str(value) for key, value in data.items()}
    return {}


def check_disk(folder: Path, needed: int) -> None:
    """Raise EngineError unless the file system of `folder` has `needed` bytes free."""
    free = shutil.disk_usage(nearest_existing(folder)).free
    if free < needed:
        raise EngineError(
            _("Not enough disk space for {folder}").format(folder=folder),
            _("It needs {needed}, {free} are free").format(needed=format_bytes(needed), free=format_bytes(free)),
            _("Free some space, or choose another disk: --path DIR; then run it again"),
        )


async def choose_python(wanted: str = "") -> Path:
    """The interpreter to build the environment with: `wanted`, else this one's, else a fitting one on PATH.

    Raises EngineError if there is none that vLLM supports.
    """
    if wanted:
        found = shutil.which(wanted)
        if found is None:
            raise EngineError(_("There is no Python interpreter at {path}").format(path=wanted))
        version = await _version_of(Path(found))
        if version not in PYTHON_VERSIONS:
            raise _unsupported(found, version)
        return Path(found)
    own = Path(getattr(sys, "_base_executable", "") or sys.executable)
    if sys.version_info[:2] in PYTHON_VERSIONS:
        return own
    for major, minor in reversed(PYTHON_VERSIONS):
        found = shutil.which(f"python{major}.{minor}")
        if found is not None:
            return Path(found)
    raise _unsupported(str(own), (sys.version_info[0], sys.version_info[1]))


def _unsupported(python: str, version: tuple[int, int] | None) -> EngineError:
    return EngineError(
        _("{python} can't hold vLLM").format(python=python),
        _("It is Python {version}; vLLM needs {oldest} to {newest}").format(
            version=".".join(map(str, version)) if version else "?",
            oldest=".".join(map(str, PYTHON_VERSIONS[0])),
            newest=".".join(map(str, PYTHON_VERSIONS[-1])),
        ),
        _("Install such a Python and name it: --python python3.12"),
    )


async def _version_of(python: Path) -> tuple[int, int] | None:
    status, output = await run_quietly([str(python), "-I", "-c", "import sys; print(*sys.version_info[:2])"])
    words = output.split()
    return (int(words[0]), int(words[1])) if status == 0 and len(words) == 2 else None


async def build(folder: Path, base: Path, about: dict[str, str]) -> Path:
    """Make the virtual environment in `folder`, or keep the one that is there and works; its interpreter.

    An environment that holds another kind of engine is emptied first.
    about: written into the marker that says it is not finished; "distribution" is the kind. Raises EngineError.
    """
    python = folder / "bin" / "python"
    before = read_marker(folder)
    private_folder(folder)
    other_kind = before.get("distribution", about["distribution"]) != about["distribution"]
    is_to_clear = other_kind or "clearing" in before or await _pip_version(python) is None
    write_private(folder / BUILDING_MARKER, json.dumps({**about, "clearing": "yes"} if is_to_clear else about))
    (folder / READY_MARKER).unlink(missing_ok=True)
    if not is_to_clear:
        return python
    await asyncio.to_thread(_clear, folder)
    write_private(folder / BUILDING_MARKER, json.dumps(about))
    status, output = await run_quietly([str(base), "-m", "venv", str(folder)])
    if status == 0 and await _pip_version(python) is not None:
        return python
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    if "ensurepip" in output or "No module named venv" in output:
        raise EngineError(
            _("{python} can't make virtual environments").format(python=base),
            _("Its module venv is missing or incomplete, as on Debian and Ubuntu without the package python3-venv"),
            _("Install it: apt install python3-venv (or python3.X-venv for another Python); then run this again"),
        )
    raise EngineError(_("Can't make a virtual environment in {folder}").format(folder=folder), "\n".join(lines[-3:]))


def _clear(folder: Path) -> None:
    """Empty `folder` but for the marker that says whose it is."""
    for entry in folder.iterdir():
        if entry.name == BUILDING_MARKER:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


async def update_pip(python: Path, index_options: Sequence[str], log: Path, pass_fds: Sequence[int]) -> None:
    """Bring the environment's pip to a version that reports its progress. Raises EngineError."""
    version = await _pip_version(python)
    if version is not None and version >= _PIP_WANTED:
        return
    try:
        await run_pip(python, ["install", "--upgrade", *index_options, "pip"], log, pass_fds=pass_fds)
    except PipFailed as failure:
        raise explain(failure, log, _("Can't update pip")) from None


async def _pip_version(python: Path) -> tuple[int, int] | None:
    """The version of the pip in the environment of `python`; None if there is no working one."""
    if not os.access(python, os.X_OK):
        return None
    status, output = await run_quietly([str(python), "-I", "-c", "import pip, ssl; print(pip.__version__)"])
    words = output.strip().split(".")
    if status != 0 or len(words) < 2 or not words[0].isdigit() or not words[1].isdigit():
        return None
    return int(words[0]), int(words[1])


async def run_quietly(argv: Sequence[str]) -> tuple[int, str]:
    """Run a short command without a terminal; its status and what it wrote. 127 if it can't be run."""
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        return 127, str(error)
    try:
        output, _nothing = await process.communicate()
    finally:
        await end_group(process)
    return process.returncode or 0, output.decode("utf-8", "replace")
