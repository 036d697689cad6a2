"""`qwen-tui doctor`: what it finds, what it mends, and how it says so."""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qwen_tui.engine.find import Engine
from qwen_tui.hardware.gpus import Gpu, GpuProcess
from qwen_tui.headless import doctor as command
from qwen_tui.paths import Paths
from qwen_tui.server import doctor, registry
from qwen_tui.server.doctor import Finding, describe_orphan, driver_version, examine
from qwen_tui.server.orphans import Orphan
from qwen_tui.server.service import Servers
from qwen_tui.server.spec import ServerSpec
from qwen_tui.server.status import ServerState
from tests.conftest import until

MakeSpec = Callable[..., ServerSpec]


def about(topic: str, paths: Paths, level: str = "") -> list[Finding]:
    looks = {"files": lambda: doctor._files(paths), "ports": lambda: doctor._ports(registry.read_all(paths.servers))}
    return [finding for finding in looks[topic]() if level in ("", finding.level)]


def test_every_topic_is_spoken_of(paths: Paths) -> None:
    report = examine(paths)
    assert {finding.topic for finding in report.findings} == set(doctor.TOPICS)
    assert json.loads(json.dumps(report.to_json()))["ok"] is report.is_well


def test_damaged_records_are_named(paths: Paths, fake_spec: MakeSpec) -> None:
    for name, launch in (("empty", None), ("cut", '{"id": '), ("state", "")):
        folder = paths.servers / name
        folder.mkdir(parents=True, mode=0o700)
        if name == "state":
            launch = json.dumps({"id": "x", "spec": fake_spec().to_json(), "log": str(folder / "log")})
            (folder / "state.json").write_text('{"stat')
        if launch is not None:
            (folder / "launch.json").write_text(launch)
    (paths.state / "starts.json").write_text("{")
    paths.config.mkdir()
    (paths.config / "endpoints.toml").write_text("[[")
    found = about("files", paths)
    assert [finding.level for finding in found] == ["fail", "warn", "warn", "fail"]
    assert "cut/launch.json" in found[0].text
    assert "state/state.json" in found[1].text
    assert "starts.json" in found[2].text
    assert "endpoints.toml" in found[3].text


async def test_a_port_that_somebody_else_took_is_told(
    servers: Servers, fake_engine: Engine, fake_spec: MakeSpec, paths: Paths
) -> None:
    spec = fake_spec()
    await servers.start(spec, fake_engine)
    await servers.wait_ready("fake")
    assert about("ports", paths, "ok")
    await servers.stop("fake")
    listener = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", spec.port)
    async with listener:
        (finding,) = about("ports", paths)
    assert finding.level == "warn"
    assert f"{os.getpid()} " in finding.text


def test_the_gpu_and_its_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "version"
    file.write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.133.20  Release Build  (x)\nGCC version: 12.3\n"
    )
    assert driver_version(file) == "570.133.20"
    assert driver_version(tmp_path / "none") == ""

    def card(*held: GpuProcess, used: int = 60 * 2**30) -> Gpu:
        return Gpu(0, "GPU-0", "Fake", 80 * 2**30, 20 * 2**30, used, processes=held)

    def level(gpus: list[Gpu]) -> list[str]:
        return [finding.level for finding in doctor._gpus(gpus, "")]

    assert level([card(GpuProcess(os.getpid(), 60 * 2**30))]) == ["ok"]
    assert level([card(used=2**30)]) == ["ok"]
    assert level([card()]) == ["warn"]
    assert level([]) == ["ok"]
    monkeypatch.setattr(doctor, "driver_version", lambda: "570.1")
    assert level([]) == ["fail"]


def test_an_orphan_in_words() -> None:
    text = describe_orphan(
        Orphan(77, 1, "VLLM::EngineCore", os.geteuid(), 7200, 5 * 10**9, 70 * 10**9, (0, 1), True, "qwen")
    )
    assert text.startswith("77 VLLM::EngineCore: ")
    assert "of GPU 0, 1" in text
    assert "left by “qwen”" in text
    assert "of user" in describe_orphan(Orphan(77, 1, "x", os.geteuid() + 1, 1, 1, None, (0,), False))


async def test_the_command_mends(
    servers: Servers, fake_engine: Engine, fake_spec: MakeSpec, paths: Paths,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """One server lost its keeper, another its keeper and its life."""
    find = doctor.find_orphans
    # Those of other tests, or of somebody's vLLM, are not to be mended here.
    monkeypatch.setattr(doctor, "find_orphans", lambda *given: [orphan for orphan in find(*given) if orphan.server])
    monkeypatch.setattr(doctor, "find_engine", lambda *_: fake_engine)
    monkeypatch.setattr(sys, "stdin", io.StringIO())

    async def run_doctor(*words: str) -> tuple[int, dict[str, Any]]:
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        code = await command._doctor(parser.parse_args(["--json", *words]), paths, "")
        return code, json.loads(capsys.readouterr().out)

    for name in ("lives", "died"):
        await servers.start(fake_spec(name), fake_engine)
    await asyncio.gather(*(servers.wait_ready(name) for name in ("lives", "died")))
    records = {name: registry.find(paths.servers, name) for name in ("lives", "died")}
    for record in records.values():
        os.kill(record.keeper or 0, signal.SIGKILL)
    os.kill(records["died"].server[0], signal.SIGKILL)
    await until(lambda: not any(status.kept for status in servers.list()))
    code, before = await run_doctor()
    assert code == 1
    assert before["abandoned"] == ["died", "lives"]
    left = [orphan for orphan in before["orphans"] if orphan["server"] == "died"]
    assert len(left) == 2
    assert not servers.get("lives").kept, "without --fix nothing is touched"
    _code, after = await run_doctor("--fix")
    assert after["abandoned"] == []
    assert after["done"][:2] == ["giving “died” a new keeper", "giving “lives” a new keeper"]
    assert not {orphan["pid"] for orphan in left} & {orphan["pid"] for orphan in after["orphans"]}
    assert servers.get("lives").state is ServerState.READY
    assert servers.get("died").state is ServerState.FAILED


@pytest.mark.parametrize(("answer", "ended"), [("y\n", True), ("\n", False), (None, False)])
def test_what_others_started_is_ended_only_after_a_question(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answer: str | None, ended: bool
) -> None:
    class Stdin(io.StringIO):
        def isatty(self) -> bool:
            return answer is not None

    monkeypatch.setattr(sys, "stdin", Stdin(answer or "y\n"))
    orphan = Orphan(77, 1, "VLLM::EngineCore", os.geteuid(), 1, 1, None, (), False)
    assert command._confirmed([orphan]) is ended
    assert ("77" in capsys.readouterr().err) is (answer is not None)
