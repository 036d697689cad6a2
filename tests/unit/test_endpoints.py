"""Servers elsewhere: kept privately, asked, chatted with, and their keys nowhere to be seen."""

from __future__ import annotations

import asyncio
import io
import json
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from qwen_tui import cli
from qwen_tui.errors import ServerError, ServerNotFound, SettingsError, UsageError
from qwen_tui.paths import Paths
from qwen_tui.server.endpoint_status import EndpointState
from qwen_tui.server.endpoint_watch import EndpointWatch
from qwen_tui.server.endpoints import Endpoint, Endpoints, checked_url, probe
from tests.fakes.openai_server import FakeOpenAI

KEY = "sk-very-secret-0123"
Run = Callable[..., int]


class Stdin(io.StringIO):
    def __init__(self, text: str, is_terminal: bool) -> None:
        super().__init__(text)
        self.is_terminal = is_terminal

    def isatty(self) -> bool:
        return self.is_terminal


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command line in folders of this test's own, with what is piped in."""
    for kind in ("CONFIG", "DATA", "STATE", "CACHE"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(tmp_path / kind))
    monkeypatch.setenv("LANGUAGE", "en")

    def call(*words: str, stdin: str = "", is_terminal: bool = False) -> int:
        monkeypatch.setattr(sys, "stdin", Stdin(stdin, is_terminal))
        return cli.main(["endpoints", *words])

    return call


def test_kept_privately_and_found_again(paths: Paths) -> None:
    endpoints = Endpoints(paths)
    assert endpoints.list() == []
    endpoints.add("b", "https://example.org/v1/", "m", KEY + "\n")
    endpoints.add("a", "http://127.0.0.1:9")
    assert [(e.name, e.base_url, e.model, e.api_key) for e in Endpoints(paths).list()] == [
        ("a", "http://127.0.0.1:9/v1", "", None),
        ("b", "https://example.org/v1", "m", KEY),
    ]
    for path in [paths.config, *paths.config.iterdir()]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
    assert KEY not in endpoints.file.read_text()
    assert KEY not in repr(endpoints.list()) + json.dumps([e.to_json() for e in endpoints.list()])
    with pytest.raises(UsageError, match="already"):
        endpoints.add("b", "https://other.example")
    endpoints.remove("b")
    assert [e.name for e in endpoints.list()] == ["a"]
    assert KEY not in endpoints.key_file.read_text()
    with pytest.raises(ServerNotFound, match="no endpoint"):
        endpoints.get("b")


def test_a_key_file_that_others_can_read_is_closed(paths: Paths) -> None:
    endpoints = Endpoints(paths)
    endpoints.add("a", "https://example.org", api_key=KEY)
    endpoints.key_file.chmod(0o644)
    assert endpoints.get("a").api_key == KEY
    assert stat.S_IMODE(endpoints.key_file.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "content", ["a = 1", "a = {}", "[a]\nbase_url = 3", "[[", b"\xff", "[a]\nbase_url = 'http://x'\nmodel = 1"]
)
def test_a_damaged_file_is_named(paths: Paths, content: str | bytes) -> None:
    endpoints = Endpoints(paths)
    paths.config.mkdir()
    endpoints.file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SettingsError, match=r"endpoints\.toml"):
        endpoints.list()


def test_a_damaged_key_file_tells_no_key(paths: Paths) -> None:
    endpoints = Endpoints(paths)
    endpoints.add("a", "https://example.org", api_key=KEY)
    endpoints.key_file.write_bytes(f"a = {KEY}\xff".encode("latin-1"))
    with pytest.raises(SettingsError) as caught:
        endpoints.list()
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://h", "http://h/v1"),
        ("https://h:8443/", "https://h:8443/v1"),
        ("http://[::1]:8000/api/v3/", "http://[::1]:8000/api/v3"),
        (" http://h/v1 ", "http://h/v1"),
    ],
)
def test_urls(text: str, url: str) -> None:
    assert checked_url(text) == url


@pytest.mark.parametrize(
    "text", ["", "h", "ftp://h", "http://", "http://h:99999", "http://u:secret@h", "http://h/?key=secret", "http://h\x1b/v1"]
)  # fmt: skip
def test_what_is_no_base_url(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        checked_url(text)
    assert "secret" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("key", ["two words", "schlüssel", "a\r\nX-Header: b"])
def test_a_key_that_is_none(paths: Paths, key: str) -> None:
    with pytest.raises(UsageError) as caught:
        Endpoints(paths).add("a", "https://example.org", api_key=key)
    assert key not in str(caught.value)


def test_a_key_over_plain_http_is_warned_of() -> None:
    assert Endpoint("a", "http://example.org/v1", api_key="k").sends_key_in_clear
    assert not Endpoint("a", "http://example.org/v1").sends_key_in_clear
    assert not Endpoint("a", "https://example.org/v1", api_key="k").sends_key_in_clear
    assert not Endpoint("a", "http://127.0.0.1:1/v1", api_key="k").sends_key_in_clear


async def test_probe(unused_tcp_port: int) -> None:
    async with FakeOpenAI() as server:
        assert (await probe(Endpoint("a", server.base_url, api_key=KEY))).models == ("fake-model",)
    with pytest.raises(ServerError, match="does not answer"):
        await probe(Endpoint("a", f"http://127.0.0.1:{unused_tcp_port}/v1", api_key=KEY))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("HTTP/1.1 401 Unauthorized\r\n\r\nno " + KEY, "does not take the key"),
        ("HTTP/1.1 302 Found\r\nLocation: http://elsewhere.example/\r\n\r\n", "sends elsewhere"),
        ("HTTP/1.1 200 OK\r\n\r\n<html>", "not as an OpenAI API does"),
        ("HTTP/1.1 200 OK\r\n\r\n[1]", "not as an OpenAI API does"),
        ("what?\r\n\r\n", "does not answer"),
    ],
)
async def test_a_probe_says_what_is_wrong_and_never_the_key(answer: str, words: str) -> None:
    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer.encode())
        writer.close()

    async with await asyncio.start_server(reply, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        with pytest.raises(ServerError) as caught:
            await probe(Endpoint("a", url, api_key=KEY))
    assert words in str(caught.value)
    assert KEY not in str(caught.value)


def test_the_commands(run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert run() == 0
    assert run("add", "one", "https://one.example", "--key-stdin", stdin=KEY + "\n") == 0
    monkeypatch.setenv("MY_KEY", KEY)
    assert run("add", "two", "http://two.example", "--key-env", "MY_KEY", "--model", "m") == 0
    assert run("add", "three", "http://three.example") == 0
    assert run("add", "four", "http://four.example", "--key-env", "NOT_SET") == 2
    output = capsys.readouterr()
    assert "unencrypted" in output.err
    assert run("--json") == 0
    assert json.loads(capsys.readouterr().out)[1] == {
        "name": "three", "base_url": "http://three.example/v1", "model": "", "has_key": False,
    }  # fmt: skip
    assert run("list", "--json") == 0
    listed = capsys.readouterr()
    assert [entry["has_key"] for entry in json.loads(listed.out)] == [True, False, True]
    assert run("remove", "one") == 0
    assert run("remove", "one") == 1
    assert KEY not in output.out + output.err + listed.out


def test_the_key_is_asked_for_without_echo(
    run: Run, paths: Paths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from qwen_tui.headless import endpoints as command

    monkeypatch.setattr(command.getpass, "getpass", lambda _prompt: KEY)
    assert run("add", "one", "https://one.example", "--json", is_terminal=True) == 0
    assert json.loads(capsys.readouterr().out)[0]["has_key"] is True


async def test_testing_and_chatting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.fakes.openai_server import DONE, finish

    paths = Paths(tmp_path / "CONFIG" / "qwen-tui", tmp_path, tmp_path, tmp_path)
    async with FakeOpenAI(["Paris", finish(), DONE]) as server:
        Endpoints(paths).add("there", server.base_url, api_key=KEY)
        Endpoints(paths).add("gone", "http://127.0.0.1:9/v1")
        code, out = await run_command(tmp_path, "endpoints", "test", "there", "--json")
        assert (code, json.loads(out)[0]["models"]) == (0, ["fake-model"])
        code, out = await run_command(tmp_path, "endpoints", "test")
        assert code == 1
        assert "serves fake-model" in out
        assert "“gone” does not answer" in out
        assert await run_command(tmp_path, "chat", "--endpoint", "there", "?") == (0, "Paris\n")
        assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


async def test_a_key_that_the_server_quotes_is_not_shown() -> None:
    from qwen_tui.chat.events import Target
    from qwen_tui.chat.failures import from_status

    body = json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}"}}).encode()
    error = from_status(401, body, Target("https://example.org/v1", "m", KEY))
    assert "Incorrect API key provided: ***" in str(error)


async def run_command(tmp_path: Path, *words: str) -> tuple[int | None, str]:
    from tests.unit.test_chat_headless import environment

    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "qwen_tui", *words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        env=environment(tmp_path),
        cwd=Path(__file__).parents[2],
    )
    out, _err = await process.communicate()
    return process.returncode, out.decode()


def test_a_key_stays_with_its_server(paths: Paths) -> None:
    endpoints = Endpoints(paths)
    endpoints.add("one", "https://one.example/v1", api_key=KEY)
    endpoints.add("two", "https://two.example/v1")
    endpoints.change("one", "https://one.example/api/v1", "m")
    assert endpoints.get("one") == Endpoint("one", "https://one.example/api/v1", "m", KEY)
    for url in ("https://elsewhere.example/v1", "http://one.example/v1", "https://one.example:8443/v1"):
        with pytest.raises(UsageError, match="belongs to"):
            endpoints.change("one", url)
    endpoints.change("one", "https://elsewhere.example/v1", api_key=" ")
    assert endpoints.get("one").api_key is None
    assert [endpoint.name for endpoint in endpoints.list()] == ["one", "two"]
    with pytest.raises(ServerNotFound):
        endpoints.change("three", "https://three.example/v1")


async def test_which_answer_is_seen_all_at_once(paths: Paths, unused_tcp_port: int) -> None:
    watch = EndpointWatch(paths)
    async with FakeOpenAI() as server:
        await watch.add("there", server.base_url, "", KEY)
        await watch.add("gone", f"http://127.0.0.1:{unused_tcp_port}/v1", "m", "")
        assert [status.state for status in watch.statuses] == [EndpointState.ASKING] * 2
        assert watch.is_due
        await watch.ask()
        assert not watch.is_due
    gone, there = watch.statuses
    assert (gone.name, gone.state, gone.model_name) == ("gone", EndpointState.UNREACHABLE, "m")
    assert gone.problem is not None
    assert (there.state, there.models, there.model_name) == (EndpointState.REACHABLE, ("fake-model",), "fake-model")
    assert watch.get("there") == there
    assert watch.get(None) is None
    await watch.read()
    assert watch.get("there") == there, "what did not change is still known"
    await watch.remove("gone")
    assert [status.name for status in watch.statuses] == ["there"]
    (paths.config / "endpoints.toml").write_text("[")
    await watch.ask()
    assert watch.statuses == ()
    assert "endpoints.toml" in str(watch.problem)
    assert KEY not in repr(there) + repr(watch.problem)
