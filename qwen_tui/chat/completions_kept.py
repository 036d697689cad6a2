"""Keeps the text of the Completions room over rooms, runs and crashes: one JSON file, mode 0600."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qwen_tui.chat.completions_session import CompletionsSession, Draft, joined
from qwen_tui.chat.harmless import encodable, harmless
from qwen_tui.chat.sampling import Sampling, make_sampling
from qwen_tui.errors import QwenTuiError, UsageError
from qwen_tui.i18n import _
from qwen_tui.paths import Paths, write_private

#: Seconds between two savings while the text changes.
INTERVAL = 0.2
#: The next saving comes no sooner than this many times what the last one took.
_REST = 10.0


class CompletionsKeeper:
    """Saves every change of the session, off the event loop. A kill -9 loses about the last 250 ms.

    on_problem: told once when saving begins to fail, and again only after it worked in between.
    """

    def __init__(self, session: CompletionsSession, paths: Paths) -> None:
        self.file: Path = paths.state / "completions.json"
        self.on_problem: Callable[[QwenTuiError], None] | None = None
        self._session = session
        self._dirty = False
        self._failing = False
        self._saved: object = None
        self._task: asyncio.Task[None] | None = None
        self._restored = False
        self._closing = asyncio.Event()
        self._unsubscribe = session.subscribe(self._changed)

    async def restore(self) -> None:
        """Give the session what was kept, if nothing was written yet; what can't be read is passed over."""
        kept = None if self._restored else await asyncio.to_thread(_read, self.file)
        self._restored = True
        session = self._session
        if kept is None or session.draft.text or session.attempt is not None:
            return
        session.suffix, session.echo, session.special = kept["suffix"], kept["echo"], kept["special"]
        with contextlib.suppress(QwenTuiError):
            session.sampling = make_sampling(kept["sampling"])
        session.edit(kept["draft"])

    def touch(self) -> None:
        """Something else than the text changed."""
        self._changed()

    async def close(self) -> None:
        """Save what is left, and watch no longer."""
        self._unsubscribe()
        self._closing.set()
        if self._task is not None:
            await self._task
        if self._dirty:
            await self._save()

    def _changed(self) -> None:
        self._dirty = True
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work(), name="completions keeper")

    async def _work(self) -> None:
        try:
            while self._dirty:
                await self._rest(INTERVAL)
                began = time.perf_counter()
                await self._save()
                await self._rest(_REST * (time.perf_counter() - began))
        finally:
            self._task = None

    async def _rest(self, seconds: float) -> None:
        """Wait, but not for the end of the program."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._closing.wait(), seconds)

    async def _save(self) -> None:
        state = self._state()
        if state == self._saved:
            self._dirty = False
            return
        try:
            await asyncio.to_thread(_write, self.file, *state)
        except OSError as error:
            self._dirty = False  # tried again at the next change
            if not self._failing and self.on_problem is not None:
                self.on_problem(UsageError(_("Can't write {file}").format(file=self.file), str(error)))
            self._failing = True
            return
        self._saved, self._failing = state, False
        self._dirty = self._state() != state

    def _state(self) -> tuple[Draft, str, bool, bool, Sampling]:
        session = self._session
        return (session.draft, session.suffix, session.echo, session.special, session.sampling)


def _write(file: Path, draft: Draft, suffix: str, echo: bool, special: bool, sampling: Sampling) -> None:
    content = {
        "text": encodable(draft.text),
        "written": draft.written,
        "suffix": encodable(suffix),
        "echo": echo,
        "special": special,
        "sampling": sampling.chosen(),
    }
    write_private(file, json.dumps(content))


def _read(file: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        text = harmless(str(found["text"]))
        spans = [(int(start), min(int(end), len(text))) for start, end in found["written"] if int(start) >= 0]
        sampling = found["sampling"] if isinstance(found["sampling"], dict) else {}
        return {
            "draft": Draft(text, joined(spans)),
            "suffix": harmless(str(found["suffix"])),
            "echo": bool(found["echo"]),
            "special": bool(found["special"]),
            "sampling": sampling,
        }
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return None
