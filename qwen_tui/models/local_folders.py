"""Where models lie on this machine: the hubs' caches in their layouts, old and new, and folders of any kind.

    ModelScope   models/OWNER--NAME/snapshots/REVISION   since 1.38; before: [hub/][models/]OWNER/NAME, '.' as '___'
    Hugging Face models--OWNER--NAME/snapshots/COMMIT, files there being links into ../../blobs

Sources: modelscope_hub 0.5.1 (_download.py, _find_legacy_repo_dir; _cache_manager.py), huggingface_hub's cache layout.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qwen_tui.models.local_model import Source
from qwen_tui.paths import Paths

#: Levels below a place that are looked at, and folders in all: naming "/" must not take minutes.
_DEPTH, _FOLDERS = 6, 20_000
_SKIPPED = frozenset(
    ("blobs", "refs", "datasets", "studios", "skills", "mcps", "spaces", "site-packages", "node_modules", "proc", "sys")
)
_CONFIGS = frozenset(("config.json", "adapter_config.json", "model_index.json", "params.json"))
#: ModelScope's client leaves these in a model's folder.
_MARKS = frozenset((".msc", ".mdl", ".mv", "configuration.json"))
#: transformers' Trainer names them so (PREFIX_CHECKPOINT_DIR).
_CHECKPOINT = re.compile(r"checkpoint-\d+$")
#: What a model being deleted is renamed to, before its name and after it this process's number.
DELETED = ".qwen-tui-deleted-"
#: The same for a copy that a move is making.
MOVING = ".qwen-tui-moving-"


@dataclass(frozen=True)
class Place:
    """A folder to look through. source: what is found there belongs to, unless its layout says otherwise."""

    folder: Path
    source: Source


@dataclass(frozen=True)
class Found:
    """A folder (or a .gguf file) that holds a model. See LocalModel. entries: names of the files and links in it."""

    id: str
    path: Path
    root: Path
    source: Source
    revision: str = ""
    entries: tuple[str, ...] = ()


def places(paths: Paths, folders: Sequence[Path] = (), environment: Mapping[str, str] | None = None) -> list[Place]:
    """Every folder to look through, in the order that decides what a folder named twice belongs to."""
    variables = os.environ if environment is None else environment
    home = Path.home()

    def named(*names: str) -> list[Path]:
        return [Path(variables[name]).expanduser() for name in names if variables.get(name)]

    hub = [folder / "hub" for folder in named("HF_HOME")]
    hub += [folder / "huggingface" / "hub" for folder in (*named("XDG_CACHE_HOME"), home / ".cache")]
    found = [Place(paths.models, "qwen-tui")]
    found += [Place(folder, "modelscope") for folder in (*named("MODELSCOPE_CACHE"), home / ".cache" / "modelscope")]
    found += [Place(folder, "huggingface") for folder in (*named("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"), *hub)]
    found += [Place(folder.expanduser(), "folder") for folder in folders]
    unique: dict[Path, Place] = {}
    for place in found:
        unique.setdefault(place.folder.absolute(), place)
    return list(unique.values())


def find_models(where: Sequence[Place]) -> Iterator[Found]:
    """The models in these places, each once, as they are found. What can't be read is passed over."""
    seen: set[tuple[int, int]] = set()
    for place in where:
        yield from _walk(place, seen)


def _walk(place: Place, seen: set[tuple[int, int]]) -> Iterator[Found]:
    left = _FOLDERS
    waiting = [(place.folder, 0)]
    while waiting and left:
        left -= 1
        folder, depth = waiting.pop()
        names, folders, links = _listing(folder, seen)
        models = list(_models_in(place, folder, names))
        yield from models
        if any(model.path == folder for model in models):
            # Below a model are other forms of it; but what a training left there stands by itself.
            waiting += [(inner, depth + 1) for inner in sorted(folders, reverse=True) if _CHECKPOINT.match(inner.name)]
        elif depth < _DEPTH:
            # Links come last: a model is listed under its own name where it has both.
            waiting += [(inner, depth + 1) for inner in sorted(links, reverse=True)]
            waiting += [(inner, depth + 1) for inner in sorted(folders, reverse=True)]


def _listing(folder: Path, seen: set[tuple[int, int]]) -> tuple[tuple[str, ...], list[Path], list[Path]]:
    """Names of files (and of links to files), folders, links to folders; nothing for a folder seen before."""
    names, folders, links = [], [], []
    try:
        status = folder.stat()
        if (status.st_dev, status.st_ino) in seen:
            return (), [], []
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as entries:
            for entry in entries:
                is_inner = not entry.name.startswith((".", "datasets--", "spaces--")) and entry.name not in _SKIPPED
                if entry.is_dir(follow_symlinks=False):
                    if is_inner and not entry.name.endswith(".partial"):
                        folders.append(folder / entry.name)
                elif entry.is_symlink() and _leads_to_folder(entry):
                    if is_inner:
                        links.append(folder / entry.name)
                else:
                    names.append(entry.name)
    except OSError:
        return (), [], []
    return tuple(names), folders, links


def _leads_to_folder(link: os.DirEntry[str]) -> bool:
    try:
        return link.is_dir()
    except OSError:  # a link to itself, or into a folder that may not be read
        return False


def _models_in(place: Place, folder: Path, names: tuple[str, ...]) -> Iterator[Found]:
    if not names:
        return
    present = set(names)
    if folder.parent.name == "snapshots" and "--" in folder.parent.parent.name:  # a hub's cache
        yield _snapshot(folder, names)
        return
    owned = _owned(place, folder, present)
    source: Source = "modelscope" if owned else "qwen-tui" if place.source == "qwen-tui" else "folder"
    has_weights = any(name.endswith((".safetensors", ".bin", ".pt", ".pth", ".index.json")) for name in names)
    is_model = bool(present & _CONFIGS) and (has_weights or bool(owned) or _is_configuration(folder, present))
    is_model |= "model_index.json" in present  # its weights lie in folders of their own
    if is_model or (owned and has_weights):
        title = f"{folder.parent.name}/{folder.name}" if _CHECKPOINT.match(folder.name) else folder.name
        yield Found(owned or title, folder, folder, source, "", names)
        return
    for name in sorted(present):
        # Of a file in parts the first is what vLLM is given.
        if name.endswith(".gguf") and ("-of-" not in name or "-00001-of-" in name):
            title = f"{owned}/{name}" if owned else name
            yield Found(title, folder / name, folder / name, source, "", names)


def _snapshot(folder: Path, names: tuple[str, ...]) -> Found:
    """A revision in one of the layouts with `snapshots`."""
    repository = folder.parent.parent
    is_huggingface = repository.name.startswith("models--")
    title = repository.name.removeprefix("models--").replace("--", "/", 1)
    source: Source = "huggingface" if is_huggingface else "modelscope"
    return Found(title, folder, repository, source, folder.name, names)


def _owned(place: Place, folder: Path, present: set[str]) -> str:
    """owner/name where the folder lies as ModelScope's client before 1.38 put it; else empty."""
    if place.source == "modelscope":
        parts = folder.relative_to(place.folder).parts
        while parts and parts[0] in ("hub", "models"):
            parts = parts[1:]
        if len(parts) != 2:
            return ""
    elif not present & {".msc", ".mdl", ".mv"}:
        return ""
    is_marked = bool(present & (_CONFIGS | _MARKS)) or any(name.endswith((".incomplete", ".gguf")) for name in present)
    return f"{folder.parent.name}/{folder.name.replace('___', '.')}" if is_marked else ""


def _is_configuration(folder: Path, present: set[str]) -> bool:
    """Whether config.json is a model's, where there are no weights beside it: the rest is yet to come."""
    if any(name.endswith(".incomplete") for name in present):
        return True
    try:
        file = folder / "config.json"
        status = file.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > 1_000_000:
            return False
        text = file.read_bytes()
    except OSError:
        return False
    return b'"model_type"' in text and b'"architectures"' in text
