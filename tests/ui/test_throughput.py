"""The offline speed test's form and screen: from the palette's words to the table, stopped, and put away."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from qwen_tui.bench.throughput import Failure, Outcome, Round, Work
from qwen_tui.bench.throughput_backends import Step
from qwen_tui.engine.find import Engine
from qwen_tui.errors import UsageError
from qwen_tui.ui.screens.dialogs import Confirm
from qwen_tui.ui.screens.throughput import ThroughputScreen, open_throughput
from qwen_tui.ui.screens.throughput_form import FIRST, ThroughputForm, work_of
from qwen_tui.ui.services import Services
from qwen_tui.ui.throughput_desk import ThroughputJob
from qwen_tui.ui.widgets.throughput_words import as_markdown, job_line, lines_of

from .conftest import running, wait_until, with_servers
from .looking import shown

FAKES = Path(__file__).parents[1] / "fakes" / "offline_engine"
VLLM = Outcome("vllm", (Round(25 / 7.68, 25, 1600, 3200),), 61.8, {"vllm_version": "0.24.0"}, run="20261123-1")
HF = Outcome("hf", (Round(25 / 5.73, 25, 1600, 3200),), 8.0, {"transformers_version": "5.1"})


async def test_form_measure_stop_and_again(services: Services, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTHONPATH", str(FAKES))
    monkeypatch.setenv("FAKE_HANG", str(tmp_path / "pids"))
    services.find_engine = lambda paths, setting: Engine(Path(sys.executable), "0.99.0", "cpu", "setting")
    with_servers(services)
    desk = services.throughput
    desk.values = {"num_prompts": "2", "input_len": "4", "output_len": "3"}
    async with running(services) as (app, pilot):
        open_throughput(app, str(tmp_path))
        await wait_until(pilot, lambda: isinstance(app.screen, ThroughputForm))
        await wait_until(pilot, lambda: "--hf-max-batch-size 25" in shown(app))
        assert "with vLLM 0.99.0" in shown(app)
        await pilot.press("ctrl+s")
        await wait_until(pilot, lambda: isinstance(app.screen, ThroughputScreen))
        await wait_until(pilot, lambda: (tmp_path / "pids").exists())
        assert app.job, "the frame tells of it"
        await pilot.press("escape")
        await wait_until(pilot, lambda: not isinstance(app.screen, ThroughputScreen))
        await pilot.press("q")
        await wait_until(pilot, lambda: "A speed test runs" in shown(app))
        await pilot.press("escape")
        await wait_until(pilot, lambda: not isinstance(app.screen, Confirm))
        assert desk.is_busy
        open_throughput(app)
        await wait_until(pilot, lambda: isinstance(app.screen, ThroughputScreen))
        await pilot.press("x")
        await wait_until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("y")
        await wait_until(pilot, lambda: "its memory is free" in shown(app))
        assert not desk.is_busy
        assert not app.job
        monkeypatch.delenv("FAKE_HANG")
        await pilot.press("r")
        await wait_until(pilot, lambda: "% faster than" in shown(app))
        assert desk.job is not None
        assert [one.failure for one in desk.job.outcomes] == [None, None]
        await pilot.press("y", "escape")
        assert app.clipboard.startswith("| framework |")
        await wait_until(pilot, lambda: not isinstance(app.screen, ThroughputScreen))


def test_the_forms_first_values_are_the_tutorials() -> None:
    work = work_of({**FIRST, "model": "qwen/Qwen2-7B-Instruct"})
    assert work == Work("qwen/Qwen2-7B-Instruct", dtype="float16", max_model_len=512)
    for wrong in ({"model": ""}, {"backends": ""}, {"seed": "x"}, {"extra": "'"}, {"backends": "server"}):
        with pytest.raises(UsageError):
            work_of({**FIRST, "model": "m/m", **wrong})


def test_what_is_drawn() -> None:
    job = ThroughputJob(Work("[bold]m\x1b]2;x\x07", ("vllm", "hf", "mii")), "qwen-tui throughput")
    job.step = Step("vllm", "round", 0.0, 0, 0, 25, 1600, 3200)
    assert "50%" in job_line(job)
    drawn = "\n".join(line.plain for line in lines_of(job, 76))
    assert "\x1b" not in drawn
    assert "1,600 / 3,200" in drawn
    assert "○ hf" in drawn
    job.outcomes = [VLLM, HF, Outcome("mii", failure=Failure("no \x1b[1mmemory", "", "less", Path("/log")))]
    job.is_over = True
    lines = [line.plain for line in lines_of(job, 76)]
    assert "vllm is 34% faster than hf" in lines
    assert any(line.startswith("diff") and line.endswith("34.03%") for line in lines)
    assert any("✗ mii: no" in line for line in lines)
    assert max(map(len, lines)) <= 76
    assert "\x1b" not in "".join(lines)
    assert as_markdown([VLLM, HF]).splitlines()[2] == "| vllm | 7.68 | 1474.56 |"
