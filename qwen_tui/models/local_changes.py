"""Delete and move models on this machine: asked first what would happen, done so that a crash loses nothing.

What is deleted is renamed aside first, in the same folder: half a model is never found, and what a crash left under
that name is removed by the next deletion there. What is moved to another disk is copied under a hidden name, compared,
put in place by one rename, and only then removed here; what a crash left of a copy is removed by the next move there,
and named by `qwen-tui models` until then.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from qwen_tui.errors import ModelError
from qwen_tui.i18n import _
from qwen_tui.models.local_folders import DELETED, MOVING
from qwen_tui.models.local_model import LocalModel
from qwen_tui.models.local_reading import parts_of
from qwen_tui.models.local_users import users_of
from qwen_tui.paths import nearest_existing
from qwen_tui.progress import format_bytes


@dataclass(frozen=True)
class Deletion:
    """What deleting a model would do.

    paths: what would be removed. freed: bytes the disk gains. kept: bytes of the model that stay, because another
    revision, or a link elsewhere, needs them.
    """

    model: LocalModel
    paths: tuple[Path, ...]
    freed: int
    kept: int = 0


def plan_deletion(model: LocalModel, in_use: Collection[Path] = ()) -> Deletion:
    """What deleting `model` would remove; blocking. in_use: what servers run on (folders, files or
    ids, as they were given) and folders that downloads go into.

    Raises ModelError if one of those is in the model's folder, or the folder can't be written."""
    paths = _paths(model)
    check_unused(model, in_use, *paths, *_being_filled(model))
    for path in paths:
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise ModelError(
                _("{folder} can't be changed").format(folder=path.parent),
                _("It belongs to another user, or is read-only"),
            )
    freed = _freed(paths)
    return Deletion(model, tuple(paths), freed, max(0, model.size - freed))


def delete_model(deletion: Deletion, in_use: Collection[Path] = ()) -> int:
    """Do it; the bytes freed. Blocking. What goes is first renamed aside: half a model is never found.

    No link is followed out of the cache. Raises ModelError."""
    model = deletion.model
    paths = _paths(model)
    check_unused(model, in_use, *paths, *_being_filled(model))
    freed = _freed(paths)
    aside: list[Path] = []
    try:
        for path in paths:
            target = path.with_name(f"{DELETED}{os.getpid()}-{path.name}")
            path.rename(target)
            aside.append(target)
    except OSError as error:
        for path in reversed(aside):
            with contextlib.suppress(OSError):
                path.rename(path.with_name(path.name.removeprefix(f"{DELETED}{os.getpid()}-")))
        raise ModelError(_("Can't delete {model}").format(model=model.id), str(error)) from None
    problems = [str(error) for path in aside for error in _remove(path)]
    for folder in {path.parent for path in paths}:
        _remove_leftovers(folder)
    _tidy(model)
    if problems:
        raise ModelError(_("Not everything of {model} could be deleted").format(model=model.id), problems[0])
    return freed


def check_unused(model: LocalModel, in_use: Collection[Path], *further: Path) -> None:
    """Raises ModelError if one of `in_use` is, is in or is around the model's folder (and `further`), or is its id; or
    if any other program uses the model. Blocking."""
    mine = {resolved for path in (model.path, *further) for resolved in (path, path.resolve())}
    for used in in_use:
        theirs = used.expanduser().resolve()
        is_near = any(path.is_relative_to(theirs) or theirs.is_relative_to(path) for path in mine)
        if is_near or str(used) == model.id:
            raise ModelError(
                _("{model} is in use").format(model=model.id),
                str(used),
                _("Stop the server that runs on it, or the download into it, first"),
            )
    users = users_of(mine, model.id)
    if users:
        raise ModelError(
            _("{model} is in use").format(model=model.id),
            "\n".join(
                _("process {pid}: {command}").format(pid=user.pid, command=user.command[:200]) for user in users[:3]
            ),
            _("End it first; qwen-tui did not start it"),
        )


def _paths(model: LocalModel) -> list[Path]:
    """What belongs to the model and to nothing else.

    In a cache with several revisions: the revision, the refs that name it, the blobs that only it needs; the whole
    repository where it is the last.
    """
    if model.path.is_file():
        return parts_of(model.path)
    if model.root == model.path:
        return [model.path, *links_to(model.path)]
    others = [path for path in model.path.parent.iterdir() if path != model.path and not path.name.startswith(".")]
    if not others:
        return [model.root]
    mine, theirs = _blobs(model.root, [model.path]), _blobs(model.root, others)
    refs = [path for path in (model.root / "refs").rglob("*") if path.is_file() and _text(path) == model.path.name]
    return [model.path, *refs, *sorted(mine - theirs)]


def _being_filled(model: LocalModel) -> list[Path]:
    """The repository where files of it are unfinished: another revision may be coming that shares this one's blobs."""
    return [model.root] if any((model.root / "blobs").glob("*.incomplete")) else []


def links_to(path: Path) -> list[Path]:
    """Links beside `path` that lead to it: ModelScope's client made one where a name has a dot."""
    found = []
    for other in path.parent.iterdir():
        with contextlib.suppress(OSError):
            if other.is_symlink() and other != path and (other.parent / other.readlink()) == path:
                found.append(other)
    return found


def _blobs(root: Path, snapshots: Collection[Path]) -> set[Path]:
    """The files in `root`/blobs that links in these folders lead to."""
    blobs = (root / "blobs").resolve()
    links = (file for folder in snapshots for file in _files_below(folder) if file.is_symlink())
    targets = {link.resolve() for link in links}
    return {target for target in targets if target.parent == blobs}


def _files_below(folder: Path) -> Iterator[Path]:
    """Every file and link below `folder`; no folder that is a link is entered."""
    for parent, folders, names in os.walk(folder):
        for name in (*names, *(inner for inner in folders if Path(parent, inner).is_symlink())):
            yield Path(parent, name)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _freed(paths: Collection[Path]) -> int:
    """Bytes that removing these gives back: a file with a hard link elsewhere gives none, a link next to nothing."""
    links: dict[tuple[int, int], int] = {}
    sizes: dict[tuple[int, int], tuple[int, int]] = {}
    for path in paths:
        for file in [path] if path.is_symlink() or path.is_file() else _files_below(path):
            with contextlib.suppress(OSError):
                status = file.lstat()
                key = status.st_dev, status.st_ino
                links[key] = links.get(key, 0) + 1
                sizes[key] = status.st_size, status.st_nlink
    return sum(size for key, (size, count) in sizes.items() if links[key] >= count)


def _remove(path: Path) -> list[OSError]:
    """Remove a file, a link (not what it leads to) or a folder; what went wrong."""
    problems: list[OSError] = []
    try:
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
        else:
            shutil.rmtree(path, onerror=lambda _call, _path, info: problems.append(info[1]))  # type: ignore[arg-type]
    except OSError as error:
        problems.append(error)
    return problems


def _remove_leftovers(folder: Path) -> None:
    """Finish deletions that a crash broke off."""
    for path in leftovers(folder):
        _remove(path)


def leftovers(folder: Path) -> list[Path]:
    """What deletions and moves that were broken off left in `folder`: those whose process is gone."""
    found = []
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            start = next((start for start in (DELETED, MOVING) if path.name.startswith(start)), None)
            number = path.name.removeprefix(start).partition("-")[0] if start else ""
            if number.isdecimal() and int(number) != os.getpid() and not Path("/proc", number).exists():
                found.append(path)
    return found


def remove_leftovers(folder: Path) -> int:
    """Remove them; the bytes freed. Blocking."""
    found = leftovers(folder)
    freed = _freed(found)
    for path in found:
        _remove(path)
    return freed


def _tidy(model: LocalModel) -> None:
    """Remove the owner's folder, where the model was the last in it."""
    if model.source == "modelscope" and model.root == model.path and model.path.parent.name == model.id.split("/")[0]:
        with contextlib.suppress(OSError):
            model.path.parent.rmdir()


def describe_error(error: OSError) -> str:
    """What an error of the file system means, in words where it is a full disk."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _("The disk is full")
    return str(error)


def room_for(size: int, target: Path) -> None:
    """Raises ModelError unless `target` has room for `size` bytes."""
    free = shutil.disk_usage(nearest_existing(target)).free
    if free < size:
        raise ModelError(
            _("Not enough disk space in {folder}").format(folder=target),
            _("It needs {needed}, {free} are free").format(needed=format_bytes(size), free=format_bytes(free)),
        )
