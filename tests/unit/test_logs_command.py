"""`qwen-tui logs`: what it prints, and how it ends."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from qwen_tui.errors import ServerNotFound
from qwen_tui.headless import logs
from qwen_tui.logs.reader import LogError
from qwen_tui.paths import Paths
from qwen_tui.settings import Settings


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    logs.add_arguments(parser)
    return parser.parse_args(["demo", *words])


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "server.log"
    path.write_bytes(b"(EngineCore pid=12) WARNING 11-22 \x1b[31mcareful\x1b[0m\n\r 50%\r100%\nlast, unfinished")
    return path


def printed(log: Path, capfdbinary: pytest.CaptureFixture[bytes], *words: str) -> list[str]:
    assert logs.print_log(log, parse(*words)) == 0
    return capfdbinary.readouterr().out.decode().splitlines()


def test_lines_come_out_harmless_and_as_a_terminal_would_show_them(
    log: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert printed(log, capfdbinary) == ["(EngineCore pid=12) WARNING 11-22 careful", "100%", "last, unfinished"]


def test_json_says_where_and_what_each_line_is(log: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    lines = [json.loads(line) for line in printed(log, capfdbinary, "--json")]
    assert lines[0] == {
        "offset": 0,
        "level": "WARNING",
        "process": "EngineCore pid=12",
        "text": "(EngineCore pid=12) WARNING 11-22 careful",
    }
    assert [line["level"] for line in lines[1:]] == [None, None]
    assert log.read_bytes()[lines[2]["offset"] :] == b"last, unfinished"


def test_raw_prints_the_bytes_themselves(log: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    logs.print_log(log, parse("--raw", "-n", "all"))
    assert capfdbinary.readouterr().out == log.read_bytes()


@pytest.mark.parametrize(("count", "expected"), [("0", 0), ("1", 1), ("2", 2), ("99", 3), ("all", 3)])
def test_only_the_last_lines(log: Path, capfdbinary: pytest.CaptureFixture[bytes], count: str, expected: int) -> None:
    lines = printed(log, capfdbinary, "-n", count)
    assert len(lines) == expected
    assert not lines or lines[-1] == "last, unfinished"


def test_a_wrong_number_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse("-n", "-5")
    with pytest.raises(SystemExit):
        parse("-n", "many")
    assert "“many”" in capsys.readouterr().err


def test_a_very_long_line_says_how_much_is_left_out(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    log = tmp_path / "server.log"
    log.write_bytes(b"x" * 20_000 + b"\n")
    (line,) = printed(log, capfdbinary)
    assert line == "x" * 16_384 + " … 3,616 more bytes"
    (data,) = printed(log, capfdbinary, "--json")
    assert json.loads(data)["hidden_bytes"] == 3616


def test_a_missing_log_and_an_unknown_server_are_errors(tmp_path: Path, paths: Paths) -> None:
    with pytest.raises(LogError):
        logs.print_log(tmp_path / "none.log", parse())
    with pytest.raises(ServerNotFound):
        logs.run(parse(), paths, Settings())


PROGRAM = """
import sys
from pathlib import Path
from qwen_tui.headless import logs
from qwen_tui.server import service
import argparse
class Servers:
    def __init__(self, paths): pass
    def get(self, name): return argparse.Namespace(log=Path(name))
service.Servers = Servers
parser = argparse.ArgumentParser()
logs.add_arguments(parser)
sys.exit(logs.run(parser.parse_args(), None, None))
"""


def start(log: Path, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(log), *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@pytest.mark.parametrize("words", [("-f",), ("-f", "--raw"), ("-f", "--json")])
def test_following_ends_quietly_with_130_on_ctrl_c(log: Path, words: tuple[str, ...]) -> None:
    process = start(log, *words)
    assert process.stdout is not None
    assert process.stdout.readline()
    with log.open("ab") as file:
        file.write(b", finished\nthe end\n")
    while b"the end" not in (line := process.stdout.readline()):
        assert line
    process.send_signal(signal.SIGINT)
    _out, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (130, b"")


@pytest.mark.parametrize("words", [(), ("--raw",), ("--json",), ("-f",)])
def test_a_reader_that_has_seen_enough_ends_it_quietly(tmp_path: Path, words: tuple[str, ...]) -> None:
    log = tmp_path / "server.log"
    log.write_bytes(b"a line of the log\n" * 500_000)
    process = start(log, "-n", "all", *words)
    assert process.stdout is not None
    assert process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    assert process.wait(20) == 0


def test_following_waits_for_a_log_that_is_not_there_yet(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    process = start(log, "-f")
    assert process.stdout is not None
    log.write_bytes(b"hello\n")
    assert process.stdout.readline() == b"hello\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130


# Filters, runs, export, rotation


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--level", "warn"), ["(EngineCore pid=12) WARNING 11-22 careful"]),
        (("--process", "enginecore"), ["(EngineCore pid=12) WARNING 11-22 careful"]),
        (("--grep", "100%|last"), ["100%", "last, unfinished"]),
        (("--grep", "100%|last", "-n", "1"), ["last, unfinished"]),
        (("--grep", "100%|last", "-n", "all", "--no-access"), ["100%", "last, unfinished"]),
        (("--level", "ERROR"), []),
    ],
)
def test_only_lines_that_pass(
    log: Path, capfdbinary: pytest.CaptureFixture[bytes], words: tuple[str, ...], expected: list[str]
) -> None:
    assert printed(log, capfdbinary, *words) == expected


def test_what_is_no_regular_expression_is_said(log: Path, capfd: pytest.CaptureFixture[str]) -> None:
    logs.print_log(log, parse("--grep", "(EngineCore"))
    out, errors = capfd.readouterr()
    assert out.startswith("(EngineCore pid=12)")
    assert "letter by letter" in errors


def test_raw_lines_that_pass_are_bytes(log: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    logs.print_log(log, parse("--level", "WARNING", "--raw"))
    assert capfdbinary.readouterr().out == log.read_bytes().splitlines(keepends=True)[0]


def test_following_shows_only_what_passes(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_bytes(b"ERROR one\nINFO two\nERROR unfin")
    process = start(log, "-f", "--level", "ERROR")
    assert process.stdout is not None
    assert process.stdout.readline() == b"ERROR one\n"
    with log.open("ab") as file:
        file.write(b"ished\nINFO no\nERROR three\n")
    assert [process.stdout.readline(), process.stdout.readline()] == [b"ERROR unfinished\n", b"ERROR three\n"]
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)


class Servers:
    """One server, whose log is given."""

    log: Path

    def __init__(self, _paths: Paths) -> None:
        pass

    def get(self, _name: str) -> Servers:
        return self


@pytest.fixture
def two_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    Servers.log = tmp_path / "20261122-160000.log"
    Servers.log.write_text("new\n")
    (tmp_path / "20261121-160000.log").write_text("ERROR old\n" * 200_000)
    monkeypatch.setattr("qwen_tui.server.service.Servers", Servers)
    return tmp_path


def test_runs_are_listed_and_printed(two_runs: Path, paths: Paths, capfd: pytest.CaptureFixture[str]) -> None:
    assert logs.run(parse("--runs"), paths, Settings()) == 0
    first, second = capfd.readouterr().out.splitlines()
    assert "2026-11-22 16:00:00" in first
    assert "20261121-160000.log" in second
    assert logs.run(parse("--run", "2", "-n", "1"), paths, Settings()) == 0
    assert capfd.readouterr().out == "ERROR old\n"
    with pytest.raises(LogError, match="no run 3"):
        logs.run(parse("--run", "3"), paths, Settings())


def test_export_and_rotation(two_runs: Path, paths: Paths, capfd: pytest.CaptureFixture[str]) -> None:
    target = two_runs / "export.txt"
    assert logs.run(parse("--export", str(target), "--grep", "ne"), paths, Settings()) == 0
    assert target.read_text() == "new\n"
    assert "4 B" in capfd.readouterr().err
    assert logs.run(parse("--rotate"), paths, Settings()) == 0
    assert "nothing" in capfd.readouterr().err
    try:
        assert logs.run(parse("--rotate", "--run", "2", "--keep", "0"), paths, Settings()) == 0
    except LogError as error:
        assert "support" in error.why  # noqa: PT017 - not every file system can give back a part of a file
    else:
        assert list(two_runs.glob("20261121-160000.log.*.gz"))


def test_a_wrong_level_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse("--level", "loud")
    assert "WARNING" in capsys.readouterr().err
