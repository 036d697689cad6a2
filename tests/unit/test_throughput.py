"""The offline speed test, with an engine whose packages are fakes: prompts, figures, failures, ledger, words."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import random
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from qwen_tui.bench.ledger import Ledger
from qwen_tui.bench.target import BenchError, Target
from qwen_tui.bench.throughput import Outcome, Round, Work, difference, throughput_line
from qwen_tui.bench.throughput_backends import ServerBackend, Step
from qwen_tui.bench.throughput_run import Comparison, Watcher, finished
from qwen_tui.bench.throughput_words import as_progress, bars, outcome_text, table_rows, verdict, work_text
from qwen_tui.cli import main
from qwen_tui.errors import UsageError
from qwen_tui.headless import throughput
from qwen_tui.paths import Paths
from qwen_tui.server.offline_failure import explain
from qwen_tui.settings import Settings
from qwen_tui.workers.host import FOLDER
from tests.fakes.openai_server import DONE, FakeOpenAI, finish, usage

PYTHON = Path(sys.executable)
FAKES = Path(__file__).parents[1] / "fakes" / "offline_engine"


@pytest.fixture
def saw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with the prompts that each call of a backend got; the workers' Python finds the fakes."""
    monkeypatch.setenv("PYTHONPATH", str(FAKES))
    monkeypatch.setenv("FAKE_SAW", str(tmp_path / "saw"))
    return tmp_path / "saw"


def worker(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A worker's module, as its own interpreter sees it."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module(name)


async def test_all_get_the_same_prompts_and_each_is_kept(paths: Paths, saw: Path) -> None:
    work = Work("model", ("vllm", "hf", "mii"), num_prompts=5, input_len=7, output_len=3, repeat=2, warmups=2,
                hf_max_batch_size=5)  # fmt: skip
    steps: list[Step] = []
    through: list[Outcome] = []
    comparison = Comparison(paths, work, PYTHON, engine_version="0.99.0", argv=["qwen-tui", "throughput"])
    outcomes = await comparison.run(Watcher(steps.append, through.append))
    assert [one.failure for one in outcomes] == [None] * 3
    assert finished(outcomes, work.backends)
    assert through == outcomes
    assert {(one.prompts, one.prompt_tokens, one.output_tokens) for out in outcomes for one in out.rounds} == {
        (5, 35, 15)
    }
    calls = [json.loads(line) for line in saw.read_text().splitlines()]
    # The warm-up and two rounds of vLLM, then the same of transformers; no round's prompts come again in another.
    assert calls[:3] == calls[3:]
    assert [len(call) for call in calls[:3]] == [2, 5, 5]
    assert len({tuple(ids) for call in calls[:3] for ids in call}) == 12
    assert not {0, 99} & {number for call in calls for ids in call for number in ids}, "no special tokens"
    assert [step.phase for step in steps if step.backend == "vllm" and not step.done] == [
        "prompts", "import", "load", "warmup", "round", "round", "round", "round", "end",
    ]  # fmt: skip
    kept = Ledger(paths).list()
    assert {run.tags for run in kept} == {("vllm",), ("hf",), ("mii",)}
    assert {run.about["comparison"] for run in kept} == {comparison.id}
    assert all(run.kind == "offline" and run.figures.total_output_tokens == 30 for run in kept)
    vllm = next(run for run in kept if run.tags == ("vllm",))
    assert (vllm.about["vllm_version"], vllm.about["engine_version"]) == ("0.99.0", "0.99.0")
    assert len(vllm.about["rounds"]) == 2
    assert not list((paths.cache / "throughput").iterdir())


async def test_one_that_fails_leaves_the_others_figures(
    paths: Paths, saw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_OOM", "1")
    monkeypatch.setenv("FAKE_SHORT", "1")
    work = Work("model", ("hf", "mii", "vllm"), num_prompts=2, warmups=0)
    hf, mii, vllm = await Comparison(paths, work, PYTHON, explain=explain).run()
    assert hf.failure is not None
    assert "memory" in hf.failure.title
    assert hf.failure.hint
    assert hf.failure.log is not None
    assert "OutOfMemoryError" in hf.failure.log.read_text()
    assert mii.failure is not None
    assert "127" in mii.failure.title
    assert "128" in mii.failure.title
    assert vllm.failure is None
    assert [run.tags for run in Ledger(paths).list()] == [("vllm",)]


async def test_a_missing_package_and_a_wrong_argument_are_told(
    paths: Paths, saw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("torch.py", "transformers.py", "vllm"):
        (tmp_path / "fakes").mkdir(exist_ok=True)
        (tmp_path / "fakes" / name).symlink_to(FAKES / name)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fakes"))
    work = Work("model", ("mii", "vllm"), num_prompts=1, engine_arguments=("--no-such-thing",))
    mii, vllm = await Comparison(paths, work, PYTHON, explain=explain).run()
    assert mii.failure is not None
    assert "DeepSpeed-MII" in mii.failure.title
    assert "deepspeed-mii" in mii.failure.hint
    assert vllm.failure is not None
    assert "--no-such-thing" in vllm.failure.title + vllm.failure.why


async def test_a_server_is_asked_for_the_same_tokens(paths: Paths, saw: Path) -> None:
    work = Work("model", ("vllm", "server"), num_prompts=3, input_len=4, output_len=2, warmups=1)
    async with FakeOpenAI(["a", "b", finish(), usage(4, 2), DONE]) as server:
        backend = ServerBackend(Target(server.base_url, "fake-model"))
        _vllm, outcome = await Comparison(paths, work, PYTHON, server=backend).run()
    assert outcome.failure is None
    assert [(one.prompts, one.prompt_tokens, one.output_tokens) for one in outcome.rounds] == [(3, 12, 6)]
    asked = sorted(request.body["prompt"] for request in server.requests[1:])
    calls = [json.loads(line) for line in saw.read_text().splitlines()]
    assert asked == sorted(calls[1])
    assert all(request.body["ignore_eos"] and request.body["max_tokens"] == 2 for request in server.requests)


async def test_prompts_that_repeat_are_read_each_time(paths: Paths, saw: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text('"a b c d"\n"one\u2028line"\n', encoding="utf-8")
    for arguments, words in (((), "no prefix cache"), (("--enable-prefix-caching",), "with a prefix cache")):
        work = Work("model", ("vllm", "hf"), dataset=str(data), num_prompts=4, engine_arguments=arguments)
        vllm, hf = await Comparison(paths, work, PYTHON).run()
        assert vllm.failure is None
        assert words in outcome_text(vllm)
        assert "prefix" not in outcome_text(hf)
    work = Work("model", ("vllm",), dataset=str(data), num_prompts=2)
    (vllm,) = await Comparison(paths, work, PYTHON).run()
    assert vllm.about["prefix_caching"]
    assert "repeat" not in outcome_text(vllm)


async def test_prompts_that_cannot_be_made_end_it(paths: Paths, saw: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.json"
    data.write_text("[]")
    with pytest.raises(BenchError) as told:
        await Comparison(paths, Work("model", dataset=str(data)), PYTHON).run()
    assert "no prompt" in told.value.why
    for content, why in ((b'"a"\n{"b": [\n', "line 2 is not JSON"), (b"\xff\xfe", "utf-8")):
        data.write_bytes(content)
        with pytest.raises(BenchError, match="is no data set") as told:
            await Comparison(paths, Work("model", dataset=str(data)), PYTHON, explain=explain).run()
        assert why in told.value.why


def test_batches_are_packed_as_the_old_script_packs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    hf = worker("throughput_hf", monkeypatch)

    def sizes(lengths: list[tuple[int, int]], most: int) -> list[int]:
        return [len(batch) for batch in hf.batches([([1] * read, made) for read, made in lengths], most)]

    assert sizes([(64, 128)] * 25, 25) == [25]
    assert sizes([(64, 128)] * 25, 10) == [10, 10, 5]
    # The longest prompt and the longest answer of a batch, from whichever of it, make at most 2,048 tokens.
    assert sizes([(1000, 48), (8, 1048), (8, 1049), (1000, 8)], 25) == [2, 1, 1]
    assert sizes([(2000, 500), (2000, 500)], 25) == [1, 1]
    assert sizes([], 3) == []


def test_prompts_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FAKES))
    prompts = worker("throughput_prompts", monkeypatch)
    tokenizer = importlib.import_module("transformers").AutoTokenizer()
    talk = [{"from": "human", "value": "one two three four"}, {"from": "gpt", "value": "five six seven eight nine"}]
    short = [{"from": "human", "value": "one"}, {"from": "gpt", "value": "a b c d e"}]
    file = tmp_path / "talks.json"
    file.write_text(json.dumps([{"conversations": talk}, {"conversations": short}, {"no": 1}]))
    found = prompts.from_file(file, tokenizer, 0, random.Random(1))
    assert [(len(ids), length) for ids, length in found] == [(4, 5)]
    assert [length for _ids, length in prompts.from_file(file, tokenizer, 9, random.Random(1))] == [9]
    lines = tmp_path / "lines.jsonl"
    lines.write_text(
        '{"prompt": "a b c", "max_tokens": 7}\n\n{"messages": [{"role": "user", "content": "hi there"}]}\n"x y"\n'
    )
    found = prompts.from_file(lines, tokenizer, 0, random.Random(1))
    assert [(len(ids), length) for ids, length in found] == [(3, 7), (3, 128), (2, 128)]
    lines.write_text('"x"\n{"nothing": 1}\n')
    with pytest.raises(ValueError, match="line 2"):
        prompts.from_file(lines, tokenizer, 0, random.Random(1))


def outcome(name: Any, *elapsed: float, **more: Any) -> Outcome:
    return Outcome(name, tuple(Round(seconds, 25, 1600, 3200) for seconds in elapsed), **more)


def test_figures_and_words() -> None:
    vllm, hf = outcome("vllm", 25 / 7.68), outcome("hf", 25 / 5.73)
    assert throughput_line(vllm) == "Throughput: 7.68 requests/s, 1474.56 tokens/s"
    apart = difference([hf, outcome("mii"), vllm])
    assert apart is not None
    assert (apart.faster, apart.slower) == ("vllm", "hf")
    assert f"{apart.requests:.2%}" == "34.03%"
    assert verdict([vllm, hf]) == "vllm is 34% faster than hf"
    assert verdict([hf]) == ""
    assert table_rows([vllm, hf]) == [
        ("framework", "requests/s", "tokens/s"),
        ("vllm", "7.68", "1474.56"),
        ("hf", "5.73", "1100.16"),
        ("diff", "34.03%", "34.03%"),
    ]
    spread = table_rows([outcome("vllm", 4.0, 5.0), hf])
    assert spread[1] == ("vllm", "5.62", "1080.00", "120.00")
    assert [len(bar) for _name, bar, _figure in bars([vllm, hf], 10)] == [10, 8]
    assert bars([hf, vllm], 10)[0][1] == "███████▌"
    assert work_text(Work("m")) == "25 prompts × (64 in, 128 out), seed 2024; warm-up: 25 prompts"
    about = {"vllm_version": "0.24.0", "dtype": "float16", "device_name": "H200"}
    assert outcome_text(outcome("vllm", 1.0, about=about, load_seconds=61.8)) == (
        "vllm · vLLM 0.24.0 · float16 · H200 · loaded in 1 min 02 s"
    )


def test_progress_counts_tokens_where_they_are_told() -> None:
    step = Step("vllm", "round", 100.0, 0, 0, 25, 1600, 3200)
    shown = as_progress(step, 102.0)
    assert (shown.step, shown.done, shown.total, shown.rate, shown.eta) == (
        "vllm: generating", 1600, 3200, 800.0, 2.0
    )  # fmt: skip
    assert "0 of 25 prompts" in shown.detail
    assert as_progress(dataclasses.replace(step, tokens=0, done=5), 102.0).done == 5
    loading = as_progress(Step("hf", "load", 100.0), 107.0)
    assert (loading.step, loading.done, loading.unit) == ("hf: loading the model", 7.0, "seconds")


def parsed(words: list[str], paths: Paths) -> Work:
    parser = argparse.ArgumentParser()
    throughput.add_arguments(parser)
    extra: list[str] = []
    if "--" in words:
        words, extra = words[: words.index("--")], words[words.index("--") + 1 :]
    arguments = parser.parse_args(words)
    arguments.extra = extra
    return throughput.work_of(arguments, paths, Settings())


def test_the_tutorials_commands_and_the_command_that_is_shown(paths: Paths, tmp_path: Path) -> None:
    common = ["--input-len", "64", "--output-len", "128", "--num-prompts", "25", "--seed", "2024", "--dtype", "float16"]
    vllm = parsed(["--model", str(tmp_path), "--backend", "vllm", *common, "--max-model-len", "512"], paths)
    assert (vllm.backends, vllm.max_model_len, vllm.seed) == (("vllm",), 512, 2024)
    hf = parsed(["--model", str(tmp_path), "--backend", "hf", *common, "--hf_max_batch_size", "24"], paths)
    assert (hf.backends, hf.hf_max_batch_size) == (("hf",), 24)
    data = tmp_path / "d.json"
    data.write_text("[]")
    for work in (
        vllm,
        hf,
        Work(str(tmp_path), n=2, warmups=0, repeat=3, tensor_parallel_size=2, backends=("vllm",), quantization="fp8"),
        Work(str(tmp_path), dataset=str(data), output_len=0, input_len=64, trust_remote_code=True),
        Work(str(tmp_path), engine_arguments=("--enforce-eager", "--x", "a b")),
    ):
        words = shlex.split(work.command())
        assert words[:2] == ["qwen-tui", "throughput"]
        assert parsed(words[2:], paths) == work


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--use-beam-search"], "beam"),
        (["--backend", "vllm,tgi"], "tgi"),
        (["--backend", "vllm,vllm"], "twice"),
        (["--num-prompts", "0"], "counted from 1"),
        (["--max-model-len", "100"], "192"),
        (["--tensor-parallel-size", "2"], "one GPU"),
        (["-q", "awq"], "vLLM's own"),
        (["--dtype", "int4"], "int4"),
        (["--dataset", "/no/such/file"], "/no/such/file"),
        (["--base-url", "http://127.0.0.1:1/v1"], "server"),
        (["--model", "./no/such/model"], "./no/such/model"),
    ],
)
def test_what_can_not_be_compared_is_refused(words: list[str], told: str, paths: Paths, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        parsed(["--model", str(tmp_path), *words], paths)
    assert told in str(error.value)


def test_the_command_prints_line_table_and_bars(
    saw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in ("CONFIG", "DATA", "STATE", "CACHE"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(tmp_path / kind))
    engine = argparse.Namespace(python=PYTHON, version="0.99.0")
    monkeypatch.setattr("qwen_tui.engine.find.find_engine", lambda *_given: engine)
    out = tmp_path / "result.json"
    words = ["throughput", "--model", str(tmp_path), "--num-prompts", "2", "--output-json", str(out)]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("vllm · vLLM 0.99.0")
    assert [line.split(":")[0] for line in lines[1:4:2]] == ["Throughput"] * 2
    assert [line.split()[0] for line in lines[5:9]] == ["framework", "vllm", "hf", "diff"]
    assert "█" in lines[10]
    result = json.loads(out.read_text())
    assert [one["backend"] for one in result["backends"]] == ["vllm", "hf"]
    assert result["difference"]["faster"] in ("vllm", "hf")
