"""Copying: by OSC 52, and through tmux, which keeps a program's OSC 52 to itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.app import App

from qwen_tui.ui.copying import MOST_COPIED, copy_text
from qwen_tui.ui.screens.copy_form import code_blocks
from qwen_tui.ui.services import Services

from .conftest import running, wait_until


@pytest.fixture
def tmux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tmux that writes down what it is given, and has `set-clipboard` as the file `setting` says."""
    program = tmp_path / "tmux"
    program.write_text(
        f"""#!/bin/sh
case "$*" in
    *-w*) [ -e {tmp_path}/old ] && exit 1; cat > {tmp_path}/loaded;;
    load-buffer*) cat > {tmp_path}/loaded;;
    show-options*) cat {tmp_path}/setting;;
esac
"""
    )
    program.chmod(0o755)
    (tmp_path / "setting").write_text("external\n")
    monkeypatch.setenv("TMUX", "/tmp/tmux-0/default,1,0")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return tmp_path


async def copied(text: str) -> tuple[str, str]:
    """What the terminal got, and what is said."""
    app: App[None] = App()
    note = await copy_text(app, text)
    return app.clipboard, note


async def test_in_tmux_its_own_buffer_is_loaded(tmux: Path) -> None:
    assert await copied("你好 \ud800") == ("你好 ?", "")
    assert (tmux / "loaded").read_text() == "你好 ?"
    (tmux / "old").touch()
    assert await copied("again") == ("again", "")
    assert (tmux / "loaded").read_text() == "again"
    (tmux / "setting").write_text("off\n")
    assert "set -g set-clipboard on" in (await copied("x"))[1]


async def test_whatever_room_copies_goes_through_tmux(services: Services, tmux: Path) -> None:
    async with running(services) as (app, pilot):
        app.copy_to_clipboard("qwen-tui serve")
        await wait_until(pilot, lambda: (tmux / "loaded").exists() and (tmux / "loaded").read_text() != "")
    assert (tmux / "loaded").read_text() == "qwen-tui serve"


async def test_what_may_not_arrive_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TMUX", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    assert (await copied("x"))[1] == ""
    assert "72 kB" in (await copied("x" * (MOST_COPIED + 1)))[1]
    monkeypatch.setenv("TERM", "tmux-256color")  # tmux at the other end of an SSH connection
    assert "set-clipboard on" in (await copied("x"))[1]


def test_code_blocks_are_found_wherever_they_are() -> None:
    text = "a `b`\n\n```python\nx = 1\n```\n\n- item\n\n  ~~~ sh\n  ls\n  ~~~\n\n> ```\n> q\n> ```\n\n    indented\n"
    assert code_blocks(text) == [("x = 1\n", "python"), ("ls\n", "sh"), ("q\n", ""), ("indented\n", "")]
    assert code_blocks("nothing") == []
