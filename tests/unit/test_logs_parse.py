"""Lines of real loggers get their level; nothing a line holds acts on the terminal."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_tui.logs.parse import Level, LogLine, parse
from qwen_tui.logs.plain_text import plain_text
from qwen_tui.logs.reader import RawLine


def parsed(text: str | bytes) -> LogLine:
    data = text if isinstance(text, bytes) else text.encode()
    return parse(RawLine(0, len(data) + 1, data, 0, True))


pieces = st.one_of(
    st.binary(max_size=12),
    st.sampled_from(
        [b"\x1b[", b"\x1b]", b"\x9b", b"\xc2\x9b", b"\xc2\x9d", b"\x1bP", b"\x1b\\", b"\x07", b"\r", b"\b"]
    ),
    st.sampled_from(
        [b"31m", b"K", b"2K", b"9G", b"52;c;aGk=", b"\t", "中文".encode(), "😀".encode(), "e\u0301".encode()]
    ),
)


@given(st.lists(pieces, max_size=30).map(b"".join))
def test_no_bytes_reach_the_terminal_as_control_characters(data: bytes) -> None:
    line = parsed(data)
    assert not [character for character in line.text if unicodedata.category(character) in ("Cc", "Zl", "Zp", "Cs")]
    assert not set(line.text) & set("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@given(st.text(st.characters(exclude_categories=["Cc", "Cf", "Cs", "Zl", "Zp"])))
def test_printable_text_stays_as_it_is(text: str) -> None:
    assert plain_text(text.encode()) == text


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\x1b[1;31mred\x1b[0m text", "red text"),
        (b"\x1b]0;a title\x07after", "after"),
        (b"\x1b]0;a title\x1b\\after", "after"),
        (b"\x1b]52;c;cm0gLXJmIC8=\x07x", "x"),
        (b"\x1b]8;;https://example.com\x1b\\a link\x1b]8;;\x1b\\", "a link"),
        (b"\x1bPq#0;2;0;0;0\x1b\\sixel", "sixel"),
        (b"\xc2\x9b31mC1", "C1"),
        (b"\xc2\x9d0;title\xc2\x9cC1", "C1"),
        (b"\x9b31m", "\ufffd31m"),
        (b"\x1b]0;never ended, so not hidden", "0;never ended, so not hidden"),
        (b"end\x1b", "end\u241b"),
        (b"\x1b(0charset\x1bc", "charset"),
        (b"a\x00b\x07c\x7f", "a\u2400b\u2407c\u2421"),
        (b"half a character \xe4\xb8", "half a character \ufffd"),
        ("a\u202egnp.exe\u2028b\x85".encode(), "agnp.exe\ufffdb\ufffd"),
        (b"a\tb", "a       b"),
        ("中\tb".encode(), "中      b"),
        (b"windows\r", "windows"),
        (b"  0%\r 50%\r100%\r", "100%"),
        (b"a long line\rshort", "shortg line"),
        (b"a long line\r\x1b[Kshort", "short"),
        (b"a long line\x1b[2K\rshort", "short"),
        (b"abc\b\bX", "aXc"),
        ("中文\rab".encode(), "ab文"),
        ("中文\ra".encode(), "a 文"),
        ("abcd\r中".encode(), "中cd"),
        ("abcd\r中文\bX".encode(), "中 X"),
        ("👩\u200d💻 ok".encode(), "👩\u200d💻 ok"),
        (b"a\x1b[999999999Cb", "a" + " " * 4095 + "b"),
        (b"a\x1b[" + b"9" * 5000 + b"Cb", "a" + " " * 4095 + "b"),
    ],
)
def test_a_line_shows_what_a_terminal_would_show_and_does_nothing_else(data: bytes, text: str) -> None:
    assert plain_text(data) == text


def test_hostile_lines_take_time_in_proportion_to_their_length() -> None:
    # Each would take minutes if it took the square of its length; the whole is 16 kB as it comes from a log.
    for unit in (b"\xc2\x9d", b"\x1b]", b"\x1b[", b"\x1bP", b" ", b"    ^ ", b"a.", b"a: ", b'File "', b"x\b", b"\t\r"):
        parsed(unit * (16384 // len(unit)))


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("(APIServer pid=7) INFO 11-22 16:24:49 [model.py:598] Resolved architecture", Level.INFO),
        ("(APIServer pid=7) WARNING 11-22 16:24:49 [x.py:1] ERROR is only a word here", Level.WARNING),
        ("(EngineCore_DP0 pid=7) ERROR 11-22 16:24:49 [core.py:1231]     self.run()", Level.ERROR),
        ("DEBUG 11-22 16:24:49 [x.py:1] detail", Level.DEBUG),
        ("INFO:     Started server process [13206]", Level.INFO),
        ("ERROR:    [Errno 98] error while attempting to bind on address", Level.ERROR),
        ("2026-11-22 16:00:00,123 - some.module - ERROR - it broke", Level.ERROR),
        ("2026-11-22 16:00:00.123 | CRITICAL | module:function:12 - it broke", Level.CRITICAL),
        ("[2026-11-22 16:00:00] [WARNING] something", Level.WARNING),
        ("box:123:456 [0] NCCL WARN something", Level.WARNING),
        ("[W1122 16:25:06.197117982 socket.cpp:207] [c10d] no host name", Level.WARNING),
        ("[rank0]:[E1122 16:25:06.197117982 x.cpp:207] timeout", Level.ERROR),
        ("I1122 16:25:06.197117 77 x.cc:207] hello", Level.INFO),
        ('{"time": "2026", "level": "error", "message": "x"}', Level.ERROR),
        ("time=2026-11-22 level=warn msg=x", Level.WARNING),
        ("/opt/x/api_server.py:24: DeprecationWarning: old", Level.WARNING),
        ("Traceback (most recent call last):", Level.ERROR),
        ("(Worker pid=7) Traceback (most recent call last):", Level.ERROR),
        ('(Worker pid=7)   File "/opt/x.py", line 3, in f', Level.ERROR),
        ('  File "' + "/very/long" * 30 + '/x.py", line 3, in f', Level.ERROR),
        ("    raise ValueError(", Level.ERROR),
        ("    a, b = f(c)", Level.ERROR),
        ("           ~~~~~^^^^^", Level.ERROR),
        ("  + Exception Group Traceback (most recent call last):", Level.ERROR),
        ("vllm.exceptions.VLLMValidationError: no such file", Level.ERROR),
        ("Exception: it broke", Level.ERROR),
        ("torch.OutOfMemoryError: CUDA out of memory.", Level.ERROR),
        ("api_server.py: error: unrecognized arguments: --x", Level.ERROR),
        ("/usr/bin/python3: Error while finding module specification", Level.ERROR),
        ("terminate called after throwing an instance of 'c10::Error'", Level.CRITICAL),
        ("Segmentation fault (core dumped)", Level.CRITICAL),
        ("Triton is installed, but doesn't include CPU backend.", Level.NONE),
        ("Loading safetensors checkpoint shards:  50% Completed | 2/4", Level.NONE),
        ("                     [--uvicorn-log-level {critical,debug,error,info}]", Level.NONE),
        ("an ERRORBAR and INFORMATION", Level.NONE),
        ("", Level.NONE),
    ],
)
def test_the_level_of_a_line(text: str, level: Level) -> None:
    assert parsed(text).level is level


@pytest.mark.parametrize(
    ("text", "process", "message"),
    [
        ("(EngineCore pid=13294) INFO x", "EngineCore pid=13294", "INFO x"),
        ("\x1b[36m(EngineCore_DP1 pid=1)\x1b[0;0m text", "EngineCore_DP1 pid=1", "text"),
        ("(RayWorker pid=5, ip=10.0.0.1) INFO x", "RayWorker pid=5, ip=10.0.0.1", "INFO x"),
        ("(APIServer pid=5)", "APIServer pid=5", ""),
        ("(in parentheses) text", "", "(in parentheses) text"),
        ("INFO (EngineCore pid=13294)", "", "INFO (EngineCore pid=13294)"),
    ],
)
def test_the_process_in_front_of_a_line(text: str, process: str, message: str) -> None:
    line = parsed(text)
    assert (line.process, line.message) == (process, message)


def test_requests_are_told_from_other_lines() -> None:
    assert parsed('INFO:     127.0.0.1:1 - "GET /health HTTP/1.1" 200 OK').is_access
    assert parsed('(APIServer pid=1) INFO:     127.0.0.1:1 - "POST /v1/chat/completions HTTP/1.1" 200').is_access
    assert not parsed("INFO 11-22 [launcher.py:195] Route: /health, Methods: GET").is_access
    assert not parsed('ERROR 11-22 [x.py:1] "GET /health HTTP/1.1" 500 failed').is_access
