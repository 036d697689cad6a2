"""What is read off a log: phases of a start, the cause of a failure; and the ETA learned from earlier starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_tui.server.diagnosis import find_cause
from qwen_tui.server.history import StartHistory, eta, kind_of_start
from qwen_tui.server.phases import PhaseReader
from qwen_tui.server.spec import ServerSpec
from qwen_tui.server.status import Phase, StartProgress

OLD_ENGINE = [
    ("INFO 04-12 10:00:00 api_server.py:149] vLLM API server version 0.4.0.post1", Phase.RESOLVE),
    ("INFO 04-12 10:00:00 api_server.py:150] args: Namespace(host=None, port=8000)", Phase.RESOLVE),
    ("INFO 04-12 10:00:01 llm_engine.py:75] Initializing an LLM engine (v0.4.0.post1) with config: …", Phase.ENGINE),
    ("INFO 04-12 10:00:04 weight_utils.py:199] Using model weights format ['*.safetensors']", Phase.WEIGHTS),
    ("INFO 04-12 10:00:09 model_runner.py:104] Loading model weights took 14.2487 GB", Phase.WEIGHTS),
    ("INFO 04-12 10:00:11 gpu_executor.py:94] # GPU blocks: 7429, # CPU blocks: 4681", Phase.PROFILE),
    ("INFO 04-12 10:00:13 model_runner.py:791] Capturing the model for CUDA graphs.", Phase.GRAPHS),
    ("INFO:     Started server process [4711]", Phase.API),
    ("INFO:     Application startup complete.", Phase.API),
]
#: vLLM 0.6, with an engine process; and the first V1 engine of 0.8.
LATER_ENGINES = [
    [
        ("INFO 11-18 18:06:59 api_server.py:585] vLLM API server version 0.6.4.post1", Phase.RESOLVE),
        ("INFO 11-18 18:06:59 api_server.py:194] Started engine process with PID 77", Phase.ENGINE),
        ("INFO 11-18 18:07:08 model_runner.py:1072] Starting to load model /m...", Phase.WEIGHTS),
        ("INFO 11-18 18:07:14 worker.py:232] Memory profiling results: total_gpu_memory=79.15GiB", Phase.PROFILE),
        ("INFO 11-18 18:07:14 gpu_executor.py:117] Maximum concurrency for 32768 tokens: 13.18x", Phase.PROFILE),
        ("INFO 11-18 18:07:18 model_runner.py:1400] Capturing cudagraphs for decoding.", Phase.GRAPHS),
        ("INFO 11-18 18:07:38 launcher.py:19] Available routes are:", Phase.API),
    ],
    [
        ("INFO 04-09 05:39:44 [core.py:58] Initializing a V1 LLM engine (v0.8.5) with config: x", Phase.ENGINE),
        ("INFO 04-09 05:39:50 [gpu_model_runner.py:1347] Model loading took 14.2 GiB and 4.1 seconds", Phase.WEIGHTS),
        ("INFO 04-09 05:40:10 [monitor.py:33] torch.compile takes 13.93 s in total", Phase.COMPILE),
        ("INFO 04-09 05:40:11 [kv_cache_utils.py:634] GPU KV cache size: 1,085,488 tokens", Phase.PROFILE),
        ("INFO 04-09 05:40:30 [gpu_model_runner.py:1686] Graph capturing finished in 19 secs", Phase.GRAPHS),
        ("INFO 04-09 05:40:31 [api_server.py:1081] Starting vLLM API server on http://0.0.0.0:8000", Phase.API),
    ],
]


#: vLLM 0.32 on a CPU, which compiles for longer than it does anything else.
CPU_ENGINE = [
    ("(Worker pid=2) INFO 11-22 22:12:04 [default_loader.py:501] Loading weights took 0.29 seconds", Phase.WEIGHTS),
    (
        "(Worker pid=2) INFO 11-22 22:12:05 [cpu_model_runner.py:87] Warming up model for the compilation...",
        Phase.COMPILE,
    ),
    ("(Worker pid=2) INFO 11-22 22:13:33 [cpu_model_runner.py:91] Warming up done.", Phase.COMPILE),
    ("(EngineCore pid=1) INFO 11-22 22:13:33 [kv_cache_utils.py:2327] CPU KV cache size: 46,592", Phase.PROFILE),
]


@pytest.mark.parametrize("engine", [OLD_ENGINE, CPU_ENGINE, *LATER_ENGINES])
def test_phases_of_an_old_engine(tmp_path: Path, engine: list[tuple[str, Phase]]) -> None:
    log = tmp_path / "log"
    log.touch()
    reader = PhaseReader(log)
    for line, phase in engine:
        with log.open("a") as file:
            file.write(line + "\n")
        reader.update()
        assert reader.phase is phase, line


def test_progress_bars_are_counted_while_the_line_is_unfinished(tmp_path: Path) -> None:
    log = tmp_path / "log"
    reader = PhaseReader(log)
    reader.update()
    assert reader.phase is Phase.SPAWN
    log.write_text("(Worker pid=1) \rLoading safetensors checkpoint shards:  25% Completed | 1/4 [00:01<")
    reader.update()
    assert (reader.phase, reader.done, reader.total) == (Phase.WEIGHTS, 1, 4)
    with log.open("a") as file:
        file.write("00:03]\rLoading safetensors checkpoint shards:  75% Completed | 3/4 [00:03<00:01]\n")
    reader.update()
    assert (reader.done, reader.total) == (3, 4)
    with log.open("a") as file:
        file.write("(EngineCore pid=2) \rCapturing CUDA graphs (mixed prefill-decode, PIECEWISE):  50%|##| 7/14 [\n")
    reader.update()
    assert (reader.phase, reader.done, reader.total) == (Phase.GRAPHS, 7, 14)


def test_a_phase_never_goes_back(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("Capturing CUDA graphs: 1/2\nResolved architecture: X\nLoading safetensors: 1/9\n")
    reader = PhaseReader(log)
    reader.update()
    assert (reader.phase, reader.done, reader.total) == (Phase.GRAPHS, 1, 2)


@given(st.binary(max_size=3000))
def test_any_log_can_be_read(data: bytes) -> None:
    import tempfile

    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        PhaseReader(Path(file.name)).update()
        find_cause(Path(file.name))


def test_cause_without_a_log(tmp_path: Path) -> None:
    assert find_cause(tmp_path / "none") == ""


def test_history_gives_the_eta_of_the_same_kind_only(tmp_path: Path) -> None:
    history = StartHistory(tmp_path / "starts.json")
    spec = ServerSpec("a", "m", port=8000)
    kind = kind_of_start(spec, "0.32.0")
    assert kind == kind_of_start(ServerSpec("b", "m", served_model_name="x", port=9000), "0.32.0")
    assert kind != kind_of_start(ServerSpec("a", "m", max_model_len=512), "0.32.0")
    assert kind != kind_of_start(spec, "0.33.0")
    assert history.expected(kind) == {}
    history.record(kind, [(Phase.SPAWN, 4.0), (Phase.WEIGHTS, 6.0), (Phase.API, 1.0)])
    expected = history.expected(kind)
    assert eta(expected, Phase.SPAWN, 1.0) == pytest.approx(10.0)
    assert eta(expected, Phase.WEIGHTS, 8.0) == pytest.approx(1.0)
    assert eta({}, Phase.SPAWN, 1.0) is None
    (tmp_path / "starts.json").write_text("{broken")
    assert history.expected(kind) == {}


def test_fraction_moves_forward_without_a_history() -> None:
    course = [(Phase.SPAWN, 0), (Phase.WEIGHTS, 1), (Phase.WEIGHTS, 3), (Phase.API, 0)]
    fractions = [StartProgress(phase, done, 4 if done else 0).fraction for phase, done in course]
    assert fractions == sorted(fractions)
    assert fractions[-1] < 1.0
    assert StartProgress(Phase.READY).fraction == 1.0
