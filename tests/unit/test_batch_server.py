"""A batch through a server that has its moods: refusals for now, refusals for good, and being gone."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from qwen_tui.batch.jobs import Batches
from qwen_tui.batch.order import BatchOrder, ServerTarget, read_input
from qwen_tui.batch.results import read_results
from qwen_tui.batch.state import BatchStatus
from qwen_tui.cli import main
from qwen_tui.paths import Paths
from qwen_tui.server import keeper


class Moods(BaseHTTPRequestHandler):
    """Answers "echo: PROMPT"; the first tries of some prompts are refused. Class attributes are the server's memory."""

    protocol_version = "HTTP/1.1"
    tries: Counter[str]
    keys: set[str]
    most: int
    now: int
    lock: threading.Lock

    def do_POST(self) -> None:
        kind = type(self)
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        asked = body.get("prompt") or body["messages"][-1]["content"]
        with kind.lock:
            kind.now += 1
            kind.most = max(kind.most, kind.now)
            kind.tries[asked] += 1
            kind.keys.add(self.headers.get("authorization", ""))
        status, answer = self.answer(asked, body)
        with kind.lock:
            kind.now -= 1
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def answer(self, asked: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if asked == "busy" and self.tries[asked] < 3:
            return 429, {"error": {"message": "later"}}
        if asked == "broken":
            return 500, {"error": {"message": "oh no"}}
        if asked == "long":
            return 400, {"error": {"message": "This model's maximum context length is 5 tokens."}}
        if asked == "locked":
            return 401, {"error": {"message": "Unauthorized"}}
        said = f"echo: {asked} {body['max_tokens']}"
        choice = {"text": said} if "prompt" in body else {"message": {"role": "assistant", "content": said}}
        usage = {"prompt_tokens": 1, "completion_tokens": 2}
        return 200, {"choices": [{**choice, "index": 0, "finish_reason": "stop"}], "usage": usage}

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@pytest.fixture
def moods() -> Iterator[tuple[type[Moods], str]]:
    fresh = {"tries": Counter(), "keys": set(), "most": 0, "now": 0, "lock": threading.Lock()}
    kind = type("FreshMoods", (Moods,), fresh)
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield kind, f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


def order(batches: Batches, tmp_path: Path, url: str, prompts: list[str], **changes: Any) -> BatchOrder:
    changes = {"concurrency": 3, "retries": 2, "patience": 1.0, "api_key": "secret", **changes}
    chat = changes.pop("chat", False)
    server = ServerTarget(url, **changes)
    return BatchOrder("m", batches.typed_input(prompts), tmp_path / "out.jsonl", server=server, chat=chat)


async def test_what_may_pass_is_tried_again_and_the_rest_is_told(
    paths: Paths, moods: tuple[type[Moods], str], tmp_path: Path
) -> None:
    kind, url = moods
    batches = Batches(paths, Path(keeper.__file__))
    prompts = [*(f"p{number}" for number in range(20)), "busy", "broken", "long"]
    wanted = order(batches, tmp_path, url, prompts, retries=2)
    state = [now async for now in batches.follow((await batches.start(wanted, None)).id)][-1]
    assert (state.status, state.finished, state.failed, state.too_long) == (BatchStatus.DONE, 21, 2, 1)
    assert {row.text for row in read_results(state.output)} == {f"echo: {one} 512" for one in [*prompts[:20], "busy"]}
    assert {row.code for row in read_results(state.errors)} == {"failed", "too_long"}
    assert (kind.tries["busy"], kind.tries["broken"], kind.tries["p0"]) == (3, 3, 1)
    assert kind.most <= 3
    assert kind.keys == {"Bearer secret"}
    assert "secret" not in (state.folder / "order.json").read_text()
    # Run again: what failed in passing is tried once more, nothing else.
    state = [now async for now in batches.follow((await batches.start(wanted, None)).id)][-1]
    assert (state.finished, state.finished_before, state.failed) == (21, 21, 2)
    assert (kind.tries["broken"], kind.tries["p0"], kind.tries["long"]) == (6, 1, 1)


async def test_a_row_that_json_can_not_say_stops_no_other(
    paths: Paths, moods: tuple[type[Moods], str], tmp_path: Path
) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text('{"prompt": "a", "temperature": NaN}\n{"prompt": "b"}\n')
    batches = Batches(paths, Path(keeper.__file__))
    wanted = replace(order(batches, tmp_path, moods[1], ["x"]), input=read_input(file))
    state = [now async for now in batches.follow((await batches.start(wanted, None)).id)][-1]
    assert (state.status, state.finished) == (BatchStatus.DONE, 1)
    assert [row.code for row in read_results(state.errors)] == ["bad_parameter"]


async def test_a_server_that_is_gone_or_refuses_all_ends_the_batch(
    paths: Paths, moods: tuple[type[Moods], str], tmp_path: Path
) -> None:
    _kind, url = moods
    batches = Batches(paths, Path(keeper.__file__))
    locked = order(batches, tmp_path, url, ["locked"] * 5, chat=True)
    state = [now async for now in batches.follow((await batches.start(locked, None)).id)][-1]
    assert state.status is BatchStatus.FAILED
    assert state.problem is not None
    assert "401" in state.problem.why
    assert state.done == 0
    gone = order(batches, tmp_path, "http://127.0.0.1:9/v1", ["a", "b"], patience=0.2)
    state = [now async for now in batches.follow((await batches.start(gone, None)).id)][-1]
    assert state.problem is not None
    assert state.problem.title == "The server does not answer"
    assert state.done == 0  # nothing is lost: run again, it goes on


def test_the_command_prints_as_vllm_does_and_goes_on(
    moods: tuple[type[Moods], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kind, url = moods
    for name in ("CONFIG", "DATA", "STATE", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name))
    there = ["batch", "--base-url", url, "--model", "m", "--max-tokens", "5"]
    assert main([*there, "--prompt", "it's", "--prompt", "你好"]) == 0
    said = capsys.readouterr()
    assert said.out == (
        "Prompt: \"it's\", Generated text: \"echo: it's 5\"\nPrompt: '你好', Generated text: 'echo: 你好 5'\n"
    )
    assert "2 rows answered" in said.err
    assert not list((tmp_path / "STATE" / "qwen-tui" / "batch-files").iterdir())  # nothing of it is kept
    source, output = tmp_path / "in.csv", tmp_path / "out.jsonl"
    source.write_text("q,a\none,1\nlong,2\n")
    files = ["--input", str(source), "--column", "q", "--output", str(output)]
    assert main([*there, *files, "--chat", "--system", "be short"]) == 0
    said = capsys.readouterr()
    assert said.out.strip() == str(output)
    assert "1 × longer than the model's context, the first in line 3" in said.err
    assert main([*there, *files, "--chat", "--system", "be short", "--json"]) == 0
    state = json.loads(capsys.readouterr().out)
    assert (state["status"], state["finished_before"], state["failed"]) == ("done", 1, 1)
    assert kind.tries["one"] == 1
    assert main([*there, *files]) == 2  # not through the chat template: another batch
    assert "begun with something else" in capsys.readouterr().err
    assert main(["batch", "list"]) == 0
    assert "done  2/2  m" in capsys.readouterr().out
    assert main(["batch", "remove"]) == 0
    assert main(["batch", "list"]) == 0
    assert capsys.readouterr().out == "No batches\n"
    assert main(["batch", "--prompt", "x"]) == 2
    assert main([*there, "--input", str(tmp_path / "none.txt")]) == 2
