"""What the benchmark's form makes of its texts: the order, the same on a command line, and what is wrong."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qwen_tui.bench.presets import PRESETS
from qwen_tui.headless import bench, capacity
from qwen_tui.headless.bench_arguments import limits_of, load_of, workload_of
from qwen_tui.ui.bench_places import Place
from qwen_tui.ui.screens.bench_fields import FIRST, LABELS, is_shown, read, values_of
from qwen_tui.ui.screens.bench_form import presets

PLACE = Place("server:one", "one", "http://127.0.0.1:8000/v1", "qwen2", ("one",), "secret", {"engine_version": "0.24"})


def filled(**changes: str) -> dict[str, str]:
    return {**FIRST, **values_of(PRESETS["tutorial"]), "target": PLACE.key, **changes}


def nothing_said() -> tuple[Path, Sequence[Any]] | None:
    return None


def parsed(command: str) -> argparse.Namespace:
    """The command as the command line reads it."""
    program, name, *words = shlex.split(command)
    assert program == "qwen-tui"
    parser = argparse.ArgumentParser(allow_abbrev=False)
    {"bench": bench, "capacity": capacity}[name].add_arguments(parser)
    return parser.parse_args(words)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        values_of(PRESETS["rag"]),
        {"api": "completions", "seed": "2024", "ttft": "500", "e2el": "9000.5", "tags": "a, b", "note": 'a "b"; c'},
        {"by": "rate", "rate": "2.5", "burstiness": "0.5", "most_at_once": "7", "count": "", "seconds": "12.5"},
        {"by": "rate", "rate": "9", "ramp": "linear", "ramp_from": "1", "warmup": "3"},
        {"by": "rate", "rate": "inf", "spread": "0.25", "prefix_len": "10"},
    ],
)  # fmt: skip
def test_the_command_asks_for_the_same_as_the_form(changes: dict[str, str]) -> None:
    reading = read(filled(**changes), [PLACE], nothing_said)
    assert reading.errors == {}
    assert reading.order is not None
    plan, arguments = reading.order.plan, parsed(reading.command)
    assert replace(workload_of(arguments)) == plan.workload
    assert load_of(arguments) == plan.load
    assert limits_of(arguments.goodput) == plan.limits
    assert (arguments.seed, arguments.api, tuple(arguments.tag)) == (plan.seed, plan.target.api, plan.tags)
    assert arguments.note == plan.note
    assert (plan.target.base_url, plan.target.api_key) == (PLACE.base_url, "secret")
    assert "secret" not in reading.command


def test_a_ladder_and_a_search_have_commands_too() -> None:
    ladder = read(filled(kind="sweep", levels="8, 1 2", count="10"), [PLACE], nothing_said)
    assert ladder.order is not None
    assert ladder.order.levels == [1, 2, 8]
    arguments = parsed(ladder.command)
    assert (arguments.sweep, arguments.num_prompts) == ([1, 2, 8], 10)
    search = read(
        filled(**{**presets()["users"][1], "by": "rate", "percent": "95", "budget": "45"}), [PLACE], nothing_said
    )
    assert search.order is not None
    arguments = parsed(search.command)
    assert (arguments.ttft, arguments.tpot, arguments.percent, arguments.by_rate) == (500, 50, 95, True)
    assert workload_of(arguments) == search.order.plan.workload == PRESETS["chat"].workload
    assert (search.order.share, search.order.budget, arguments.budget) == (0.95, 45, 45)


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"target": "server:gone"}, {"target"}),
        ({"input_len": "0"}, {"input_len"}),
        ({"output_len": "ten"}, {"output_len"}),
        ({"spread": "1"}, {"spread"}),
        ({"streams": ""}, {"streams"}),
        ({"count": ""}, {"count"}),
        ({"seconds": "3"}, {"seconds"}),
        ({"by": "rate", "rate": "-1"}, {"rate"}),
        ({"by": "rate", "rate": "inf", "count": "", "seconds": "3"}, {""}),
        ({"by": "rate", "rate": "2", "ramp": "linear"}, {""}),
        ({"dataset": "sharegpt"}, {"path"}),
        ({"dataset": "conversation"}, {"path"}),
        ({"kind": "sweep", "levels": "1 2.5"}, {"levels"}),
        ({"kind": "sweep", "levels": "", "count": ""}, {"levels"}),
        ({"kind": "capacity"}, {"ttft"}),
        ({"kind": "capacity", "ttft": "5", "percent": "101"}, {"percent"}),
        ({"price": "cheap as chips"}, {"price"}),
        ({"seed": "-3"}, {"seed"}),
    ],
)
def test_what_is_wrong_is_told_of_the_field(changes: dict[str, str], wrong: set[str]) -> None:
    reading = read(filled(**changes), [PLACE], nothing_said)
    assert set(reading.errors) == wrong
    assert all(reading.errors.values())
    assert reading.order is None
    assert reading.command == ""


def test_a_field_that_is_not_shown_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text(json.dumps({"prompt": "a"}))
    reading = read(filled(dataset="jsonl", path=str(file), input_len="x", rate="x", levels="x"), [PLACE], nothing_said)
    assert reading.errors == {}
    assert reading.order is not None
    assert reading.order.plan.workload.path == str(file)
    assert workload_of(parsed(reading.command)).path == str(file)
    every = {name for name in LABELS if any(is_shown(name, {**filled(), **more}) for more in (
        {}, {"dataset": "jsonl"}, {"kind": "sweep"}, {"kind": "capacity"}, {"by": "rate", "ramp": "linear"}
    ))}  # fmt: skip
    assert every == set(LABELS)


def test_the_conversation_of_chat_is_asked_again_and_again(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "你好"}]
    file = tmp_path / "said.json"
    reading = read(filled(dataset="conversation"), [PLACE], lambda: (file, messages))
    assert reading.order is not None
    assert list(reading.order.plan.workload.messages) == messages
    file.write_text(json.dumps(messages))
    assert workload_of(parsed(reading.command)) == reading.order.plan.workload
    file.write_text("{}")
    assert set(read(filled(dataset="conversation", path=str(file)), [PLACE], nothing_said).errors) == {"path"}
