"""`serve --plan`, `flags`, and the check before a start, as whole processes on the fake engine."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from qwen_tui.engine.find import Engine
from qwen_tui.errors import UsageError
from qwen_tui.headless.plan import refuse_what_would_fail
from qwen_tui.paths import Paths
from qwen_tui.server.launch import free_port
from qwen_tui.server.spec import ServerSpec
from tests.unit.test_cli import Run, cli, fake_environment
from tests.unit.test_plan import model

__all__ = ["cli", "fake_environment", "model"]  # fixtures


def test_a_plan_is_printed_and_nothing_started(cli: Run, fake_environment: Path, model: Path) -> None:
    options = ("serve", str(model), "--plan", "--engine", str(fake_environment), "--port", "18391")
    good = cli(*options, "--json", env={"VLLM_CPU_KVCACHE_SPACE": "1"})
    assert good.returncode == 0, good.stdout
    plan = json.loads(good.stdout)
    assert plan["can_start"]
    assert plan["seconds"] < 2
    assert {line["topic"] for line in plan["lines"]} >= {"weights", "tokenizer", "chat", "memory", "port", "host"}
    (model / "tokenizer.json").unlink()
    bad = cli(*options, env={"VLLM_CPU_KVCACHE_SPACE": "1"})
    assert bad.returncode == 1
    assert "✗ Tokenizer" in bad.stdout
    assert "--port 18391" in bad.stdout
    assert "\x1b" not in bad.stdout
    assert json.loads(cli("ps", "--json").stdout) == []


def test_a_typo_stops_a_start_before_it_began(cli: Run, fake_environment: Path) -> None:
    options = ("serve", "some/model", "--engine", str(fake_environment), "--")
    first = cli(*options, "--enforce-eagr")
    assert first.returncode == 2
    assert "Reading the arguments" in first.stderr
    again = cli(*options, "--enforce-eagr")
    assert again.returncode == 2
    assert again.stderr.splitlines() == [
        "qwen-tui: vLLM has no argument --enforce-eagr",
        "  Did you mean “--enforce-eager”?",
        "  `--no-check` starts it all the same",
    ]
    assert json.loads(cli("ps", "--json").stdout) == []


def test_what_the_plan_stops_at_is_not_started_unless_told_to(cli: Run, fake_environment: Path, tmp_path: Path) -> None:
    options = ("serve", str(tmp_path), "--name", "one", "--engine", str(fake_environment), "--port", "18392")
    refused = cli(*options)
    assert refused.returncode == 2
    assert "It would fail" in refused.stderr
    assert "config.json" in refused.stderr
    assert "--no-check" in refused.stderr
    assert json.loads(cli("ps", "--json").stdout) == []
    started = cli(*options, "--no-check", "--no-wait", "--json")
    try:
        assert started.returncode == 0, started.stderr
        assert json.loads(started.stdout)["pid"]
    finally:
        assert cli("stop", "one").returncode == 0


async def test_a_start_on_ray_needs_its_cluster(
    fake_engine: Engine, paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--distributed-executor-backend", "ray")
    spec = ServerSpec("one", "some/model", port=free_port(first=18393), extra_args=words)
    monkeypatch.setenv("PATH", str(tmp_path))
    engine = dataclasses.replace(fake_engine, python=tmp_path / "python")
    with pytest.raises(UsageError, match="Ray is not there") as caught:
        await refuse_what_would_fail(spec, engine, paths)
    assert "--no-check" in caught.value.hint
    ray = tmp_path / "ray"
    ray.write_text("#!/bin/sh\nprintf 'Active:\\n 1 node_one\\nPending:\\n 1.0/8.0 GPU\\n'\n")
    ray.chmod(0o700)
    await refuse_what_would_fail(spec, engine, paths)


def test_flags_are_listed_and_searched(cli: Run, fake_environment: Path) -> None:
    everything = cli("flags", "--engine", str(fake_environment))
    assert everything.returncode == 0, everything.stderr
    assert "--enforce-eager" in everything.stdout
    assert "--port" in everything.stdout
    found = cli("flags", "eager", "--json", "--engine", str(fake_environment))
    assert [argument["dest"] for argument in json.loads(found.stdout)] == ["enforce_eager"]
    assert cli("flags", "no-such-thing", "--engine", str(fake_environment)).returncode == 1
