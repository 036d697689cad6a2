"""Batches from their start to their end, with an engine that has no model: kills, cancels, and going on."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qwen_tui.batch.jobs import Batches
from qwen_tui.batch.order import BatchOrder, read_input
from qwen_tui.batch.results import read_results
from qwen_tui.batch.state import BatchState, BatchStatus, read_json
from qwen_tui.engine.find import Engine
from qwen_tui.errors import UsageError
from qwen_tui.paths import Paths
from qwen_tui.server import keeper, processes
from tests.conftest import until

FAKE = Path(__file__).parents[1] / "fakes" / "batch_engine"


@pytest.fixture
def engine() -> Engine:
    return Engine(Path(sys.executable), "0.0.fake", "cpu", "option")


@pytest.fixture
async def batches(paths: Paths) -> AsyncIterator[Batches]:
    service = Batches(paths, Path(keeper.__file__))
    yield service
    for state in service.list():
        if state.status.is_alive:
            await service.cancel(state.id)


def order(tmp_path: Path, rows: list[Any], **changes: Any) -> BatchOrder:
    """A batch of these rows; step: seconds that each step of the engine takes."""
    file = tmp_path / "in.jsonl"
    file.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    step = changes.pop("step", 0)
    env = {"PYTHONPATH": str(FAKE), "FAKE_VLLM_STEP": str(step), **changes.pop("env", {})}
    return replace(BatchOrder("m", read_input(file), tmp_path / "out.jsonl", env=env), **changes)


def written(state: BatchState) -> int:
    """Rows in the output."""
    return state.output.read_bytes().count(b"\n") if state.output.exists() else 0


async def ended(batches: Batches, state: BatchState) -> BatchState:
    return [now async for now in batches.follow(state.id)][-1]


def run_of(state: BatchState) -> list[int]:
    """The processes of a batch."""
    launch = read_json(state.folder / "launch.json")
    return [stat.pid for stat in processes.members(-1, 0, launch["id"])]


async def test_good_rows_are_answered_and_bad_ones_are_told(batches: Batches, engine: Engine, tmp_path: Path) -> None:
    rows = [
        {"prompt": "one two three"}, "no json", {"prompt": "w " * 70}, {"prompt": "a", "temperature": "hot"},
        {"prompt": "a", "n": 2}, {"prompt": "a", "temperature": -1},
        {"custom_id": "c", "body": {"messages": [{"role": "user", "content": "hi there"}], "max_completion_tokens": 1}},
        {"custom_id": "d", "body": {"prompt": "x", "unheard_of": 1}},
        # Numbers that would end the engine, or can't be sent to it.
        {"prompt": "a", "seed": 10**30}, {"prompt": "a", "stop_token_ids": [1, -(10**30)]},
        {"prompt": "a", "temperature": float("nan")}, {"prompt": "a", "top_p": 1e300},
    ]  # fmt: skip
    state = await ended(batches, await batches.start(order(tmp_path, rows), engine))
    assert (state.status, state.total, state.finished, state.failed, state.too_long) == (BatchStatus.DONE, 12, 3, 9, 1)
    assert {row.id: row.text for row in read_results(state.output)} == {
        "1": "three two one", "5": "a", "c": "there",
    }  # fmt: skip
    assert {row.line: row.code for row in read_results(state.errors)} == {
        2: "not_json", 3: "too_long", 4: "bad_parameter", 6: "bad_parameter", 8: "bad_parameter",
        9: "bad_parameter", 10: "bad_parameter", 11: "bad_parameter", 12: "bad_parameter",
    }  # fmt: skip
    both = [json.loads(line) for line in state.output.read_text().splitlines()]
    assert [len(row.get("choices", [])) for row in both if row["id"] == "5"] == [2]


async def test_killed_at_any_moment_it_goes_on_and_no_row_is_lost_or_twice(
    batches: Batches, engine: Engine, tmp_path: Path
) -> None:
    rows = [{"prompt": f"number {number}"} for number in range(1500)]
    whole = order(tmp_path, rows, step=0.01)
    for victim in ("worker", "keeper"):
        before = (tmp_path / "out.jsonl").read_bytes().count(b"\n") if victim == "keeper" else 0
        state = await (batches.again("") if victim == "keeper" else batches.start(whole, engine))
        await until(lambda: written(state) > before + 20)  # noqa: B023
        again = await batches.start(whole, engine)
        assert again.id == state.id  # it runs already
        kept = read_json(state.folder / "state.json")
        os.kill(kept["server" if victim == "worker" else "keeper"]["pid"], signal.SIGKILL)
        state = await ended(batches, state)
        assert state.status is (BatchStatus.INTERRUPTED if victim == "worker" else BatchStatus.CANCELLED)
        await until(lambda: not run_of(state))  # noqa: B023
        assert 0 < written(state) < 1500
    # Its keeper gone before it has begun, it does not begin.
    state = await batches.start(whole, engine)
    os.kill(read_json(state.folder / "state.json")["keeper"]["pid"], signal.SIGKILL)
    await until(lambda: not run_of(state))
    with (tmp_path / "out.jsonl").open("ab") as file:
        file.write(b'{"line": 7, "id"')
    state = await ended(batches, await batches.start(replace(whole, env={**whole.env, "FAKE_VLLM_STEP": "0"}), engine))
    assert state.status is BatchStatus.DONE
    assert state.finished_before > 40
    found = sorted(read_results(state.output), key=lambda row: row.line)
    assert [row.text for row in found] == [f"{number} number" for number in range(1500)]
    assert [one.id for one in batches.list()] == [state.id]  # the earlier ones of this output are not kept


async def test_cancelled_it_keeps_what_is_finished(batches: Batches, engine: Engine, tmp_path: Path) -> None:
    whole = order(tmp_path, [f'"{number}"' for number in range(500)], step=0.02)
    state = await batches.start(whole, engine)
    await until(lambda: batches.get(state.id).finished > 10)
    over = await batches.cancel(state.id)
    assert over.status is BatchStatus.CANCELLED
    assert over.finished == written(over)
    assert run_of(over) == []
    # Something else is not mixed into it.
    with pytest.raises(UsageError, match="begun with something else") as caught:
        await batches.start(replace(whole, sampling={"temperature": 0.1}), engine)
    assert "temperature" in caught.value.why
    # How fast the engine is may change, and a new beginning may be anything.
    faster = replace(whole, env={**whole.env, "FAKE_VLLM_STEP": "0"})
    state = await ended(batches, await batches.start(replace(faster, arguments=("--max-num-seqs", "50")), engine))
    assert (state.status, state.finished) == (BatchStatus.DONE, 500)
    anew = replace(faster, sampling={"max_tokens": 1}, overwrite=True, format="openai")
    state = await ended(batches, await batches.start(anew, engine))
    assert (state.finished, state.finished_before) == (500, 0)
    assert json.loads(state.output.read_text().splitlines()[0])["response"]["status_code"] == 200


async def test_a_start_that_fails_says_why(paths: Paths, engine: Engine, tmp_path: Path) -> None:
    batches = Batches(paths, Path(keeper.__file__), lambda log: (log.read_text().splitlines()[-1], "less"))
    wrong = order(tmp_path, ["1"], sampling={"temprature": 1})
    state = await ended(batches, await batches.start(replace(wrong, input=order(tmp_path, ['"a"']).input), engine))
    assert state.problem is not None
    assert "temprature" in state.problem.why
    failing = order(tmp_path, ['"a"'], env={"FAKE_VLLM_FAIL": "no memory left"})
    state = await ended(batches, await batches.start(failing, engine))
    assert state.status is BatchStatus.FAILED
    assert state.problem is not None
    assert (state.problem.why, state.problem.hint) == ("RuntimeError: no memory left", "less")
    other = tmp_path / "mine.jsonl"
    other.write_text('{"my": "file"}\n')
    with pytest.raises(UsageError, match="holds something else"):
        await batches.start(replace(failing, output=other), engine)
    assert other.read_text() == '{"my": "file"}\n'
    # Not even a new beginning is one over the input: as the output, or under the name of the errors file.
    inputs = (tmp_path / "x.jsonl", tmp_path / "x.errors.jsonl")
    for file in inputs:
        file.write_text('"a"\n')
        with pytest.raises(UsageError, match="over the input"):
            await batches.start(replace(failing, output=inputs[0], input=read_input(file), overwrite=True), engine)
        assert file.exists()
    with pytest.raises(UsageError, match="no ordinary file"):
        await batches.start(replace(failing, output=tmp_path, overwrite=True), engine)
