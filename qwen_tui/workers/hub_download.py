"""Download a model from ModelScope with its own client, telling honestly how many bytes are there.

Runs under qwen-tui's interpreter. Request: {"model", "revision" or null, "cache_dir"}. Messages: one
{"kind": "files", "total", "present", "count", "root"} before the first byte, then {"kind": "progress", "done",
"total", "unit": "bytes", "detail"} four times a second. Result: {"folder", "bytes"}.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qwen_tui.workers import protocol
else:
    import protocol

INTERVAL = 0.25


class Tally:
    """The bytes of all files of a repository that are on the disk.

    The client makes one callback object per file and attempt, and calls it from several threads. A resumed file
    first reports what was there before; a server that restarts it takes that back with a negative update; a file
    that failed its checksum is begun again by a second object; a file that was complete gets none. So each file has
    its own count, which the latest object owns, never beyond the file's size.
    """

    def __init__(self, sizes: dict[str, int], present: dict[str, int]) -> None:
        self._lock = threading.Lock()
        self._sizes = sizes
        self._done = dict(present)
        self._owners: dict[str, object] = {}
        self._latest = ""

    def begin(self, owner: object, name: str, size: int) -> None:
        """`owner` reports on the file `name` from now on."""
        with self._lock:
            if size > 0:
                self._sizes.setdefault(name, size)
            if name in self._owners:
                self._done[name] = 0  # a second attempt
            self._owners[name] = owner

    def set(self, owner: object, name: str, done: int) -> None:
        """`owner` has counted `done` bytes of the file `name`."""
        with self._lock:
            if self._owners.get(name) is not owner:
                return
            self._latest = name
            self._done[name] = max(0, min(done, self._sizes.get(name, done)))

    def state(self) -> tuple[int, int, str]:
        """Bytes done, bytes in all, the file that moved last."""
        with self._lock:
            total = sum(self._sizes.values())
            return min(sum(self._done.values()), total), total, self._latest


def callback_for(tally: Tally) -> type:
    """The class that the client is given."""

    class Callback:
        def __init__(self, filename: str, file_size: int) -> None:
            self.filename = filename
            self.file_size = file_size
            self.count = 0
            tally.begin(self, filename, file_size)

        def update(self, size: int) -> None:
            self.count += size
            tally.set(self, self.filename, self.count)

        def end(self) -> None:
            """Says nothing: it is called after a failure too."""

    return Callback


def main(request: dict[str, Any]) -> dict[str, Any]:
    os.environ.setdefault("TQDM_DISABLE", "1")
    from modelscope.hub.snapshot_download import snapshot_download

    model, revision, cache = request["model"], request.get("revision"), Path(request["cache_dir"])
    sizes = _sizes(model, revision)
    root = cache / "models" / model.replace("/", "--") / "snapshots" / (revision or "master")
    present = {name: _on_disk(root / name, size) for name, size in sizes.items()}
    tally = Tally(sizes, present)
    protocol.emit("files", total=sum(sizes.values()), present=sum(present.values()), count=len(sizes), root=str(root))
    finished = threading.Event()
    reporter = threading.Thread(target=_report, args=(tally, finished), daemon=True)
    reporter.start()
    try:
        folder = snapshot_download(
            model, revision=revision, cache_dir=str(cache), progress_callbacks=[callback_for(tally)]
        )
    except Exception as error:
        raise _plainer(error) from error
    finally:
        finished.set()
        reporter.join()
    short = [name for name, size in sizes.items() if _size(Path(folder) / name) != size]
    if short:
        raise RuntimeError(f"not whole: {', '.join(short[:5])}")
    total = sum(sizes.values())
    protocol.emit("progress", step="download", done=total, total=total, unit="bytes", detail="")
    return {"folder": str(folder), "bytes": total}


def _sizes(model: str, revision: str | None) -> dict[str, int]:
    """Bytes of each file of the repository."""
    from modelscope.hub.api import HubApi

    entries = HubApi().get_model_files(model, revision=revision or "master", recursive=True)
    sizes = {str(entry.get("Path") or entry["Name"]): int(entry.get("Size") or 0) for entry in entries}
    # Folders are listed too, and the client's answer does not always say which ones they are.
    folders = {name[:end] for name in sizes for end, character in enumerate(name) if character == "/"}
    return {name: size for name, size in sizes.items() if name not in folders}


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return -1


def _on_disk(file: Path, size: int) -> int:
    """How many bytes of `file` an earlier run left."""
    if _size(file) == size:
        return size
    return max(0, min(size, _size(file.with_name(file.name + ".incomplete"))))


def _report(tally: Tally, finished: threading.Event) -> None:
    while not finished.wait(INTERVAL):
        done, total, name = tally.state()
        protocol.emit("progress", step="download", done=done, total=total, unit="bytes", detail=name)


def _plainer(error: Exception) -> Exception:
    """For a download in which some files failed, the failure of the first; other errors as they are."""
    failed = getattr(error, "failed_files", None)
    if not failed:
        return error
    name, cause = next(iter(failed.items()))
    named: type[Exception] = type(type(cause).__name__, (RuntimeError,), {})
    return named(f"{name}: {cause}")


if __name__ == "__main__":
    protocol.run(main)
