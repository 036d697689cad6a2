"""The batches of this user: start, find again, cancel. Each runs under a keeper and outlives whoever started it.

A batch holds the GPU's memory as a server does, so the same kind of keeper stands over it: it ends every process of
the engine when the worker ends, however that was. The worker ends when its keeper does. What is done is in the output
itself: a batch that was killed goes on when the same order is started again.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from qwen_tui.batch.order import BatchInput, BatchOrder, read_input
from qwen_tui.batch.state import BatchProblem, BatchState, BatchStatus, is_held, read_state
from qwen_tui.batch.words import job_words
from qwen_tui.engine.find import Engine
from qwen_tui.errors import QwenTuiError, UsageError
from qwen_tui.i18n import _, language, ngettext
from qwen_tui.paths import Paths, private_folder, write_private
from qwen_tui.state_files import read_json
from qwen_tui.workers.host import FOLDER

#: Seconds that a batch gets to end in good order before its processes are killed.
GRACE = 20.0
#: Batches that are over whose records are kept.
KEPT = 20
#: Seconds between two looks at a batch that is followed.
LOOK_EVERY = 0.25
Explain = Callable[[Path], tuple[str, str]]


class BatchError(QwenTuiError):
    """A batch could not be started, or failed."""


class Batches:
    """The batches on the disk.

    keeper: the keeper's script (the servers' own: qwen_tui/server/keeper.py). explain: cause and remedy of a
    failure out of the engine's log, or empty texts.
    """

    def __init__(self, paths: Paths, keeper: Path, explain: Explain = lambda log: ("", "")) -> None:
        self._folder = paths.state / "batches"
        self._keeper = keeper
        self._explain = explain
        self._explained: dict[tuple[str, str], tuple[str, str]] = {}

    # -- looking -----------------------------------------------------------------------------------

    def list(self) -> list[BatchState]:
        """All of them, the newest first. Reads a few small files for each."""
        try:
            names = sorted((entry.name for entry in os.scandir(self._folder) if entry.is_dir()), reverse=True)
        except OSError:
            return []
        found = (read_state(self._folder / name) for name in names)
        return [state for state in found if state is not None]

    def get(self, id: str) -> BatchState:
        """The batch of this id, or of an id that begins so; empty: the newest. Raises UsageError."""
        found = [state for state in self.list() if state.id.startswith(id)]
        if not found or (id and len(found) > 1 and found[0].id != id):
            raise UsageError(
                _("There is no batch “{id}”").format(id=id) if id else _("There is no batch"),
                "",
                _("`qwen-tui batch list` shows them"),
            )
        return found[0]

    def explained(self, state: BatchState) -> BatchState:
        """The same; where the engine failed, with the cause that its log tells. Reads the log: for a thread."""
        if state.problem is None or state.status is not BatchStatus.FAILED:
            return state
        if state.problem.title != job_words("exception")[0]:
            return state  # it has said itself what is wrong
        key = state.id, language()
        if key not in self._explained:
            try:
                self._explained[key] = self._explain(state.log)
            except OSError:
                self._explained[key] = "", ""
        cause, remedy = self._explained[key]
        if not cause:
            return state
        return replace(state, problem=BatchProblem(state.problem.title, cause, remedy or state.problem.hint))

    async def follow(self, id: str) -> AsyncIterator[BatchState]:
        """The batch as it goes, four times a second; the last one is the end. Raises UsageError."""
        while True:
            state = await asyncio.to_thread(self.get, id)
            if not state.status.is_alive:
                yield await asyncio.to_thread(self.explained, state)
                return
            yield state
            await asyncio.sleep(LOOK_EVERY)

    # -- starting ----------------------------------------------------------------------------------

    async def start(self, order: BatchOrder, engine: Engine | None) -> BatchState:
        """Start the batch, or find the one that runs with this order already; returns when its process runs.

        engine: whose interpreter runs it; None with `order.server`. An output that another order made is refused.
        Raises UsageError, BatchError.
        """
        return await asyncio.to_thread(self._start, order, engine)

    def _start(self, order: BatchOrder, engine: Engine | None) -> BatchState:
        order = replace(order, output=order.output.expanduser().resolve())
        earlier = [state for state in self.list() if state.output == order.output]
        for state in earlier:
            if state.status.is_alive:
                if not order.overwrite and read_json(order.marker) == order.fingerprint():
                    return state
                title, hint = job_words("in_use")
                raise UsageError(title, str(order.output), hint)
        _claim(order)
        for state in earlier:
            self.remove(state.id)
        folder = private_folder(self._folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}")
        try:
            self._write(folder, order, engine)
            self._run_keeper(folder)
        except OSError as error:
            raise BatchError(_("The batch could not be started"), str(error)) from None
        self._forget_old()
        state = self._await(folder)
        problem = read_json(folder / "state.json").get("error")
        if problem:
            raise BatchError(_("The batch could not be started"), str(problem))
        return state

    def _write(self, folder: Path, order: BatchOrder, engine: Engine | None) -> None:
        """order.json for the worker, launch.json for the keeper."""
        write_private(folder / "order.json", json.dumps(order.to_json(), ensure_ascii=False))
        environment = dict(order.env)
        if order.server is not None and order.server.api_key:
            environment["VLLM_API_KEY"] = order.server.api_key
        python = str(engine.python) if engine is not None else sys.executable
        script = "batch_engine.py" if order.server is None else "batch_server.py"
        launch: dict[str, Any] = {
            "id": uuid.uuid4().hex,
            "argv": [python, str(FOLDER / script), str(folder)],
            "env": environment,
            "cwd": str(Path.cwd()),
            "log": str(folder / "log"),
            "restart": "no",
        }
        write_private(folder / "stop.json", json.dumps({"grace": GRACE}))
        (folder / "log").touch(mode=0o600)
        write_private(folder / "launch.json", json.dumps(launch, ensure_ascii=False))

    def _run_keeper(self, folder: Path) -> None:
        log = os.open(folder / "keeper.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            code = subprocess.run(
                [sys.executable, "-I", "-S", str(self._keeper), str(folder)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, check=False,
            ).returncode  # fmt: skip
        finally:
            os.close(log)
        if code != 0:
            raise OSError(
                _("The keeper ended with status {code}, see {log}").format(code=code, log=folder / "keeper.log")
            )

    def _await(self, folder: Path, seconds: float = 15.0) -> BatchState:
        """Wait until the keeper has written that the process runs."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if read_json(folder / "state.json").get("status"):
                break
            if not is_held(folder):
                break
            time.sleep(0.01)
        state = read_state(folder)
        if state is None or not read_json(folder / "state.json"):
            raise BatchError(_("The batch could not be started"), "", _("See {log}").format(log=folder / "keeper.log"))
        return state

    async def again(self, id: str) -> BatchState:
        """Start a batch that is over once more, with the same order: it goes on. Raises UsageError, BatchError."""
        return await asyncio.to_thread(self._again, self.get(id))

    def _again(self, state: BatchState) -> BatchState:
        launch = read_json(state.folder / "launch.json")
        try:
            env = dict(launch["env"])
            key = env.pop("VLLM_API_KEY", None) if state.order.get("server") else None
            order = BatchOrder.from_json(state.order, env, key)
            python = Path(launch["argv"][0])
        except (KeyError, TypeError, IndexError):
            raise BatchError(_("The batch could not be started"), _("Its record is damaged")) from None
        return self._start(order, None if order.server is not None else Engine(python, "", "unknown", "option"))

    # -- ending ------------------------------------------------------------------------------------

    async def cancel(self, id: str) -> BatchState:
        """End it in good order and wait for that; what is finished stays. One that is over is left as it is."""
        state = await asyncio.to_thread(self.get, id)
        if state.status.is_alive and state.keeper is not None and _is_keeper(state.keeper, state.folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(state.keeper, signal.SIGTERM)
        while state.status.is_alive:
            await asyncio.sleep(0.1)
            state = await asyncio.to_thread(self.get, state.id)
        return state

    def remove(self, id: str) -> None:
        """Forget a batch that is over; its output stays."""
        state = self.get(id)
        if state.status.is_alive:
            raise UsageError(_("The batch runs"), "", _("`qwen-tui batch cancel {id}` ends it").format(id=state.id))
        shutil.rmtree(state.folder, ignore_errors=True)

    def _forget_old(self) -> None:
        over = [state for state in self.list() if not state.status.is_alive and not _is_inside(state)]
        for state in over[KEPT:]:
            self.remove(state.id)

    def work_folder(self, name: str = "") -> Path:
        """The folder of this name, else a new one, for an input that was typed or an output that nobody named."""
        return private_folder(self._folder.parent / "batch-files" / (name or uuid.uuid4().hex[:12]))

    def typed_input(self, prompts: Sequence[str]) -> BatchInput:
        """An input out of prompts that a person typed; the same prompts are the same input. Raises UsageError."""
        kept = [prompt for prompt in prompts if prompt.strip()]
        if not kept:
            raise UsageError(_("There are no prompts"))
        text = "".join(json.dumps({"prompt": prompt}, ensure_ascii=False) + "\n" for prompt in kept)
        file = self.work_folder(hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:12]) / "prompts.jsonl"
        if not file.exists():
            write_private(file, text)
        return read_input(file, "jsonl")


def _is_inside(state: BatchState) -> bool:
    """Whether the only copy of its results is within qwen-tui's own folders."""
    return "batch-files" in state.output.parts


def _is_keeper(pid: int, folder: Path) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return os.fsencode(folder) in words


def _claim(order: BatchOrder) -> None:
    """Make the output this order's. Raises UsageError if another made what is in it."""
    marker, fingerprint = order.marker, order.fingerprint()
    for file in (order.output, order.errors, marker):
        code = _why_no_output(file, order.input.path)
        if code:
            title, hint = job_words(code)
            raise UsageError(title, str(file), hint)
    try:
        if order.overwrite:
            order.output.unlink(missing_ok=True)
            order.errors.unlink(missing_ok=True)
        has_rows = any(file.exists() and file.stat().st_size for file in (order.output, order.errors))
        if has_rows:
            _refuse_other(order, read_json(marker), fingerprint)
        order.output.parent.mkdir(parents=True, exist_ok=True)
        write_private(marker, json.dumps(fingerprint, ensure_ascii=False, indent=1))
    except OSError as error:
        title, hint = job_words("unwritable")
        raise UsageError(title, str(error), hint) from None


def _why_no_output(file: Path, input: Path) -> str:
    """Why nothing may be written there, as a code; empty where it may be."""
    try:
        if not file.exists():
            return ""
        return "same_file" if file.samefile(input) else "" if file.is_file() else "no_output"
    except OSError:
        return ""  # whether it can be written shows then


def _refuse_other(order: BatchOrder, made_of: Mapping[str, Any], fingerprint: Mapping[str, str]) -> None:
    if not made_of:
        title, hint = job_words("not_ours")
        raise UsageError(title, str(order.output), hint)
    other = [name for name in sorted({*made_of, *fingerprint}) if made_of.get(name) != fingerprint.get(name)]
    if other:
        names = ", ".join(name.removeprefix("sampling.") for name in other)
        raise UsageError(
            _("{output} was begun with something else").format(output=order.output),
            ngettext("This differs: {names}", "These differ: {names}", len(other)).format(names=names),
            _("Give the same as then, another --output, or --overwrite to begin anew"),
        )
