"""Copy a text to the clipboard of whoever sits at the terminal: over SSH, and through tmux."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from textual.app import App

from qwen_tui.chat.harmless import encodable
from qwen_tui.i18n import _
from qwen_tui.progress import format_bytes

#: Bytes. A terminal drops a longer OSC 52 without a word: some take 100,000 characters of base64 and no more.
MOST_COPIED = 72_000
_PATIENCE = 3.0


async def copy_text(app: App[Any], text: str) -> str:
    """Copy; returns what is to be said about it, a sentence or nothing.

    tmux passes a program's OSC 52 on only with `set-clipboard on`, which is not its default; but it sends what is
    loaded into its own buffer, so that is done too, and prefix ] pastes it in any case.
    """
    text = encodable(text)
    notes = []
    if os.environ.get("TMUX"):
        App.copy_to_clipboard(app, text)  # not the app's own, which would load tmux's buffer too
        notes.append(await copy_in_tmux(text))
    else:
        app.copy_to_clipboard(text)
        if os.environ.get("TERM", "").startswith(("tmux", "screen")):
            notes.append(_("If nothing arrives: tmux passes it on after `tmux set -g set-clipboard on`"))
    if len(text.encode()) > MOST_COPIED:
        notes.append(
            _("Many terminals refuse more than {size} without a word: o writes it to a file").format(
                size=format_bytes(MOST_COPIED)
            )
        )
    return "\n".join(filter(None, notes))


async def copy_and_tell(app: App[Any], text: str) -> None:
    """Copy, and say how much, with what there is to be said about it."""
    note = await copy_text(app, text)
    copied = _("Copied, {count} characters").format(count=f"{len(text):,}")
    app.notify("\n".join(filter(None, (copied, note))), timeout=10 if note else 3, markup=False)


async def copy_in_tmux(text: str) -> str:
    """Load it into tmux's buffer, which goes on to the terminal; what is to be said if it does not."""
    loaded = await _tmux("load-buffer", "-w", "-", given=text)
    if loaded is None:  # before tmux 3.2 there is no -w
        loaded = await _tmux("load-buffer", "-", given=text)
    allowed = (await _tmux("show-options", "-gsv", "set-clipboard") or "").strip()
    if allowed == "off" or loaded is None:
        return _("tmux keeps it from the terminal: `tmux set -g set-clipboard on` lets it through")
    return ""


async def _tmux(*arguments: str, given: str = "") -> str | None:
    """What tmux prints; None if it fails or takes too long."""
    try:
        process = await asyncio.create_subprocess_exec(
            "tmux", *arguments,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
    except OSError:
        return None
    try:
        output, _errors = await asyncio.wait_for(process.communicate(given.encode()), _PATIENCE)
    except (asyncio.TimeoutError, OSError):
        if process.returncode is None:
            process.kill()
            await process.wait()
        return None
    return output.decode("utf-8", "replace") if process.returncode == 0 else None
