"""How to get at a server from elsewhere, what a start warns of, and what `ps` says of a state."""

from __future__ import annotations

from pathlib import Path

import pytest

from qwen_tui.headless.ps import _state
from qwen_tui.server import reach
from qwen_tui.server.reach import ssh_line, warnings
from qwen_tui.server.spec import ServerSpec
from qwen_tui.server.status import ExitRecord, ServerState, ServerStatus


@pytest.fixture(autouse=True)
def _known_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach.getpass, "getuser", lambda: "ann")
    monkeypatch.setattr(reach.socket, "gethostname", lambda: "box")


@pytest.mark.parametrize(
    ("host", "session", "line"),
    [
        ("127.0.0.1", "10.1.1.1 5000 10.2.2.2 22", "ssh -N -L 8000:127.0.0.1:8000 ann@10.2.2.2"),
        ("0.0.0.0", "10.1.1.1 5000 10.2.2.2 2222", "ssh -N -p 2222 -L 8000:127.0.0.1:8000 ann@10.2.2.2"),
        ("10.9.9.9", "", "ssh -N -L 8000:10.9.9.9:8000 ann@box"),
        ("::1", "nonsense", "ssh -N -L '8000:[::1]:8000' ann@box"),
    ],
)
def test_the_ssh_line(host: str, session: str, line: str) -> None:
    assert ssh_line(ServerSpec("s", "m", host=host), {"SSH_CONNECTION": session}) == line


def test_a_user_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr(reach.getpass, "getuser", nobody)
    assert "@box" in ssh_line(ServerSpec("s", "m"), {})


@pytest.mark.parametrize(
    ("words", "warned"),
    [
        ((), False),
        (("--trust-remote-code",), True),
        (("--trust_remote_code",), True),
        (("--trust-remote-code=True",), True),
        (("--trust-remote-code=false",), False),
    ],
)
def test_trust_remote_code_is_warned_of(words: tuple[str, ...], warned: bool) -> None:
    assert any("all your rights" in text for text in warnings(ServerSpec("s", "m", extra_args=words))) is warned


def test_a_host_that_others_can_reach_is_warned_of() -> None:
    assert warnings(ServerSpec("s", "m")) == []
    assert "unencrypted" in warnings(ServerSpec("s", "m", host="0.0.0.0"))[0]


def test_what_ps_adds_to_a_state() -> None:
    status = ServerStatus(ServerSpec("s", "m"), ServerState.STARTING, Path("log"), next_try=7.6)
    assert _state(status, "starting") == "starting, next try in 8 s"
    ended = ServerStatus(
        ServerSpec("s", "m"), ServerState.STOPPED, Path("log"), exit=ExitRecord(0, None, 0, True, "idle")
    )
    assert _state(ended, "stopped") == "stopped, was idle"
