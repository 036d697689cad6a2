"""Which programs use a model's files now, whoever started them: by the files they have open, and by what they serve."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

#: A server that has its weights on a GPU has no file of them open any more: its command line still names the model.
_SERVERS = ("vllm", "sglang", "lmdeploy", "llama-server", "llama_cpp", "text-generation", "tritonserver", "ollama")
_PROC = Path("/proc")


@dataclass(frozen=True)
class ModelUser:
    """A process. command: its command line, for people."""

    pid: int
    command: str


def users_of(paths: Collection[Path], id: str = "", proc: Path = _PROC) -> list[ModelUser]:
    """The processes, but this one, that have a file in `paths` open or mapped, or serve one of them or the hub's `id`.

    Blocking: some tenths of a second on a busy machine. Of another user's process only the command line is known.
    """
    wanted = {str(each) for path in paths for each in (path, path.resolve())}
    found = []
    for folder in proc.iterdir():
        if not folder.name.isdecimal() or int(folder.name) == os.getpid():
            continue
        words = _words(folder)
        if _serves(words, wanted, id, folder) or any(_is_in(path, wanted) for path in _open_files(folder)):
            found.append(ModelUser(int(folder.name), " ".join(words) or _name(folder)))
    return found


def _words(folder: Path) -> list[str]:
    try:
        data = (folder / "cmdline").read_bytes()
    except OSError:
        return []
    return [word.decode("utf-8", "replace") for word in data.split(b"\0") if word]


def _name(folder: Path) -> str:
    try:
        return (folder / "comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _serves(words: list[str], wanted: Collection[str], id: str, folder: Path) -> bool:
    if not any(server in word.lower() for word in words[:6] for server in _SERVERS):
        return False
    here = ""
    with contextlib.suppress(OSError):
        here = os.readlink(folder / "cwd")  # noqa: PTH115
    for word in words[1:]:
        value = word.partition("=")[2] if word.startswith("--") else word
        if value and (value == id or _is_in(os.path.join(here, value), wanted)):  # noqa: PTH118
            return True
    return False


def _open_files(folder: Path) -> Iterator[str]:
    """What the process has open, and what it has mapped (weights are read so)."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder / "fd"):
            with contextlib.suppress(OSError):
                yield os.readlink(entry.path)  # noqa: PTH115
    with contextlib.suppress(OSError):
        for line in (folder / "maps").read_text(encoding="utf-8", errors="replace").splitlines():
            parts = line.split(maxsplit=5)
            if len(parts) == 6 and parts[5].startswith("/"):
                yield parts[5]


def _is_in(path: str, wanted: Collection[str]) -> bool:
    path = os.path.normpath(path)
    return any(path == one or path.startswith(f"{one}/") for one in wanted)
