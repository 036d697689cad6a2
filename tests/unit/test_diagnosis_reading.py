"""How a log is read for a diagnosis: which error counts, whose, where it stands, in logs of any size and shape."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen_tui import cli
from qwen_tui.server.diagnosis import Relaunch, RunContext, apply_relaunch, diagnose, find_cause
from qwen_tui.server.diagnosis import reading as diagnosis_reading
from qwen_tui.server.spec import ServerSpec
from tests.unit.test_diagnosis import traceback

BEGIN = "INFO 04-12 10:00:00 api_server.py:149] vLLM API server version 0.4.0\n"
READY = (
    "INFO:     Started server process [1]\nINFO:     Application startup complete.\n"
    'INFO:     127.0.0.1:1 - "POST /v1/completions HTTP/1.1" 200 OK\n'
)
STOPPED = "INFO:     Shutting down\nINFO:     Application shutdown complete.\nINFO:     Finished server process [1]\n"
LEAKED = "/usr/lib/python3.11/multiprocessing/resource_tracker.py:254: UserWarning: resource_tracker: leaked\n"
WORKER = "(Worker_TP1 pid=5) ERROR 11-22 10:00:00 [multiproc_executor.py:9] "
CORE = "(EngineCore pid=4) ERROR 11-22 10:00:01 [core.py:1] "
API = "(APIServer pid=1) "
HOLLOW = "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"
DEAD = "vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack trace (above)"
FULL = "OSError: [Errno 28] No space left on device"
ILLEGAL = "torch.AcceleratorError: CUDA error: an illegal memory access was encountered"


def write(folder: Path, text: str | bytes) -> Path:
    file = folder / "log"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


@pytest.mark.parametrize(
    "log",
    [
        "",
        BEGIN,
        BEGIN + READY,
        BEGIN + READY + STOPPED + LEAKED,
        # survived during the start
        BEGIN + traceback("ImportError: libfoo.so: cannot open shared object file") + READY,
        BEGIN + traceback(FULL, prefix="WARNING 04-12 10:00:00 x.py:1] ") + READY,
        BEGIN + traceback(FULL, prefix="WARNING 04-12 10:00:00 x.py:1] "),
        # one request's error
        BEGIN + READY + "ERROR:    Exception in ASGI application\n" + traceback("ValueError: bad body") + READY,
        BEGIN + READY + traceback("ValueError: x", prefix="ERROR 04-12 10:00:00 serving_chat.py:1] ") + READY + STOPPED,
        # the noise of stopping
        BEGIN + READY + STOPPED + "Process EngineCore_0:\n" + traceback("RuntimeError: whatever"),
        BEGIN + READY + "^C" + traceback("KeyboardInterrupt") + traceback("zmq.error.ContextTerminated: gone"),
        BEGIN + READY + STOPPED + "Exception ignored in: <function f>\n" + traceback("TypeError: 'NoneType'"),
        BEGIN + READY + "Exception ignored in: <function f>\n" + traceback("TypeError: 'NoneType'"),
        # restarted, and well since
        BEGIN + traceback(FULL) + BEGIN + READY,
    ],
)
def test_no_failure(tmp_path: Path, log: str) -> None:
    assert diagnose(write(tmp_path, log)) is None
    assert diagnose(write(tmp_path, log), RunContext(asked=True)) is None


def test_the_worker_before_the_core_before_the_server(tmp_path: Path) -> None:
    log = (
        "(Worker_TP1 pid=5) ERROR 11-22 10:00:00 [multiproc_executor.py:9] WorkerProc failed to start.\n"
        + traceback("FooError: weird\nsecond line", prefix=WORKER)
        + traceback(
            "Exception: WorkerProc initialization failed due to an exception in a background process.", prefix=CORE
        )
        + "Process EngineCore:\n"
        + traceback("Exception: WorkerProc initialization failed due to an exception in a background process.")
        + traceback(HOLLOW, prefix=API)
    )
    found = diagnose(write(tmp_path, log))
    assert found is not None
    assert (found.kind, found.cause) == ("unknown", "FooError: weird second line")
    assert found.line == WORKER + "FooError: weird"


def test_lines_of_several_processes_may_alternate(tmp_path: Path) -> None:
    one = traceback("FooError: first", "a.py:f", "b.py:g", prefix="(Worker_TP0 pid=5) ").splitlines()
    two = traceback("BarError: second", "c.py:f", "d.py:g", prefix="(Worker_TP1 pid=6) ").splitlines()
    log = "\n".join(line for pair in zip(one, two, strict=True) for line in pair) + "\n"
    found = diagnose(write(tmp_path, log))
    assert found is not None
    assert found.cause == "FooError: first"


def test_what_followed_from_a_lost_process_comes_last(tmp_path: Path) -> None:
    lost = traceback("torch.distributed.DistBackendError: NCCL error: remote process exited", prefix=WORKER)
    log = lost + traceback("FooError: the reason", prefix=WORKER.replace("TP1 pid=5", "TP0 pid=6"))
    found = diagnose(write(tmp_path, log))
    assert found is not None
    assert found.cause == "FooError: the reason"


@pytest.mark.parametrize(
    ("between", "cause"),
    [
        ("The above exception was the direct cause of the following exception:", "KeyError: 'a'"),
        ("During handling of the above exception, another exception occurred:", "FooError: b"),
    ],
)
def test_the_deepest_of_a_chain(tmp_path: Path, between: str, cause: str) -> None:
    log = traceback("KeyError: 'a'") + f"\n{between}\n\n" + traceback("FooError: b")
    found = diagnose(write(tmp_path, log))
    assert found is not None
    assert found.cause == cause


def test_a_known_error_is_found_anywhere_in_its_chain(tmp_path: Path) -> None:
    log = traceback("BarError: a") + "\nThe above exception was the direct cause of the following exception:\n\n"
    found = diagnose(write(tmp_path, log + traceback(FULL)))
    assert found is not None
    assert found.kind == "disk-full"


def test_the_errors_of_a_group(tmp_path: Path) -> None:
    log = (
        "  + Exception Group Traceback (most recent call last):\n"
        '  |   File "a.py", line 1, in f\n  |     g()\n'
        "  | ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception)\n"
        "  +-+---------------- 1 ----------------\n"
        "    | Traceback (most recent call last):\n"
        '    |   File "b.py", line 2, in g\n    |     h()\n'
        "    | FooError: inner\n"
        "    +------------------------------------\n"
    )
    found = diagnose(write(tmp_path, log))
    assert found is not None
    assert found.cause == "FooError: inner"


def test_an_exception_whose_traceback_was_cut_off(tmp_path: Path) -> None:
    cut = "    call()\nOSError: [Errno 28] No space left on device\n"
    found = diagnose(write(tmp_path, cut))
    assert found is not None
    assert found.kind == "disk-full"
    assert diagnose(write(tmp_path, BEGIN + READY + cut)) is None


def test_an_error_without_a_message_gets_its_place(tmp_path: Path) -> None:
    found = diagnose(write(tmp_path, traceback("AssertionError", "v1/core/sched.py:schedule")))
    assert found is not None
    assert found.cause == "AssertionError in schedule (vllm/v1/core/sched.py)"


@pytest.mark.parametrize(
    "outer",
    [
        "1795364815.232844912 ",
        "2026-11-22T10:00:00.123456789Z stderr F ",
        "vllm-1  | ",
        "Nov 22 10:00:00 box vllm[12]: ",
        "[rank0]: ",
        "\x1b[36m(RayWorkerWrapper pid=8, ip=10.0.0.2)\x1b[0m ",
    ],
)
def test_what_stands_before_a_line(tmp_path: Path, outer: str) -> None:
    found = diagnose(write(tmp_path, traceback("FooError: x\ny", prefix=outer)))
    assert found is not None
    assert found.cause == "FooError: x y"
    assert found.line_number == 4
    assert "\x1b" not in found.line
    assert "\r" not in found.line


def test_a_traceback_behind_a_progress_bar(tmp_path: Path) -> None:
    bar = "\rLoading safetensors checkpoint shards:  50% Completed | 2/4 [00:01<00:01]\r"
    found = diagnose(write(tmp_path, bar + traceback("FooError: x")))
    assert found is not None
    assert (found.cause, found.line_number) == ("FooError: x", 4)


def test_a_traceback_that_begins_within_a_line(tmp_path: Path) -> None:
    text = traceback("FooError: x", prefix="(W pid=1) ERROR 01-12 08:36:38 u.py:233] ")
    log = text.replace("Traceback", "Exception in worker W while processing method f: x, Traceback", 1)
    found = diagnose(write(tmp_path, log))
    assert found is not None
    assert found.cause == "FooError: x"


def test_a_server_that_died_while_it_served(tmp_path: Path) -> None:
    earlier = "ERROR:    Exception in ASGI application\n" + traceback("ValueError: one request")
    death = (
        CORE + "EngineCore encountered a fatal error.\n" + traceback(ILLEGAL, prefix=CORE)
        + traceback(DEAD, prefix="(APIServer pid=1) ERROR 11-22 10:00:02 [async_llm.py:5] ")
        + 'INFO:     127.0.0.1:1 - "POST /v1/completions HTTP/1.1" 500 Internal Server Error\n' + STOPPED
    )  # fmt: skip
    found = diagnose(write(tmp_path, BEGIN + traceback(FULL) + READY + earlier + READY + death))
    assert found is not None
    assert found.kind == "illegal-access"


def test_an_engine_that_vanished(tmp_path: Path) -> None:
    died = (
        "(APIServer pid=1) ERROR 11-22 10:00:00 [core_client.py:6] Engine core proc EngineCore_0 died unexpectedly.\n"
    )
    log = write(tmp_path, BEGIN + READY + died + traceback(DEAD, prefix=API) + STOPPED)
    found = diagnose(log)
    assert found is not None
    assert found.kind == "engine-died"
    assert found.line == died.strip()
    assert "above" not in found.cause


def test_only_hollow_errors_never_point_above(tmp_path: Path) -> None:
    found = diagnose(write(tmp_path, traceback(HOLLOW, prefix=API)))
    assert found is not None
    assert "above" not in found.cause


def test_the_last_run_of_a_log_counts(tmp_path: Path) -> None:
    log = BEGIN + traceback(FULL) + BEGIN + traceback("RuntimeError: No CUDA GPUs are available")
    found = diagnose(write(tmp_path, log))
    assert found is not None
    assert found.kind == "no-gpu"


@pytest.mark.parametrize(
    ("context", "kind"),
    [
        (RunContext(exit_signal=9), "killed"),
        (RunContext(exit_code=137), "killed"),
        (RunContext(exit_signal=11), "crash"),
        (RunContext(exit_signal=4), "crash-illegal"),
        (RunContext(exit_signal=9, asked=True), None),
        (RunContext(exit_code=0), None),
        (RunContext(), None),
    ],
)
@pytest.mark.parametrize("text", ["", BEGIN, BEGIN + READY])
def test_an_exit_without_a_word(tmp_path: Path, context: RunContext, kind: str | None, text: str) -> None:
    found = diagnose(write(tmp_path, text), context)
    assert (found.kind if found else None) == kind
    missing = diagnose(tmp_path / "none", context)
    assert (missing.kind if missing else None) == kind


def test_interrupted_while_starting(tmp_path: Path) -> None:
    log = write(tmp_path, BEGIN + traceback("KeyboardInterrupt: terminated"))
    found = diagnose(log)
    assert found is not None
    assert found.kind == "ended"
    assert diagnose(log, RunContext(asked=True)) is None


# -- large logs ---------------------------------------------------------------------------------------------

ACCESS = b'INFO:     127.0.0.1:1 - "POST /v1/completions HTTP/1.1" 200 OK\n'


@pytest.fixture
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in (("WHOLE", 20_000), ("HEAD", 5000), ("TAIL", 10_000), ("BEFORE_DEATH", 6000),
                       ("AFTER_DEATH", 3000), ("_MANY", 50_000), ("_CHUNK", 4096)):  # fmt: skip
        monkeypatch.setattr(diagnosis_reading, name, size)


@pytest.mark.usefixtures("_small_parts")
@pytest.mark.parametrize("requests", [300, 3000])
def test_the_line_number_in_a_large_log(tmp_path: Path, requests: int) -> None:
    death = CORE + "EngineCore encountered a fatal error.\n" + traceback(ILLEGAL, prefix=CORE)
    flood = "".join(
        traceback(DEAD, prefix=f"(APIServer pid=1) ERROR 11-22 10:00:02 [serving.py:{number}] ")
        for number in range(200)
    )
    file = write(tmp_path, (BEGIN + READY).encode() + ACCESS * requests + death.encode() + flood.encode())
    found = diagnose(file)
    assert found is not None
    assert found.kind == "illegal-access"
    assert file.read_text().split("\n")[found.line_number - 1] == found.line


@pytest.mark.usefixtures("_small_parts")
def test_a_large_log_of_a_healthy_server(tmp_path: Path) -> None:
    assert diagnose(write(tmp_path, (BEGIN + READY).encode() + ACCESS * 3000)) is None


@pytest.mark.usefixtures("_small_parts")
def test_a_failed_start_at_the_end_of_a_large_log(tmp_path: Path) -> None:
    noise = "DEBUG 04-12 10:00:00 x.py:1] step\n" * 3000
    file = write(tmp_path, BEGIN + noise + traceback(FULL))
    found = diagnose(file)
    assert found is not None
    assert found.kind == "disk-full"
    assert file.read_text().split("\n")[found.line_number - 1] == found.line


# -- any bytes ------------------------------------------------------------------------------------------------

TEXTS = (
    BEGIN, READY, STOPPED, traceback(FULL), traceback(HOLLOW, prefix=CORE), "usage: x\n", '  File "a", line 1\n',
    "The above exception was the direct cause of the following exception:\n", "Traceback (most recent call last):\n",
    "a.B: x\n", "\x1b[31m", "\r",
)  # fmt: skip
PIECES = st.sampled_from([text.encode() for text in TEXTS])


@settings(deadline=None)
@given(st.lists(st.one_of(PIECES, st.binary(max_size=60)), max_size=30), st.integers(0, 40) | st.none())
def test_any_bytes_can_be_read(pieces: list[bytes], signal: int | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log = write(Path(folder), b"".join(pieces))
        found = diagnose(log, RunContext(exit_signal=signal))
        if found is not None:
            assert found.cause
            assert found.line.isprintable()
            assert 0 <= found.line_number <= log.read_bytes().count(b"\n") + 1
        assert "\n" not in find_cause(log)


# -- relaunching ----------------------------------------------------------------------------------------------


def test_changes_reach_fields_and_extra_arguments() -> None:
    spec = ServerSpec(
        "a", "m", port=8000, chat_template="/x.jinja",
        extra_args=("-tp", "4", "--gpu_memory_utilization=0.9", "--enforce-eager", "--seed", "1"), env={"A": "1"},
    )  # fmt: skip
    changed = apply_relaunch(
        spec,
        Relaunch(
            {
                "--port": "8001",
                "--max-model-len": "1040",
                "--tensor-parallel-size": "1",
                "--gpu-memory-utilization": "0.5",
            },
            remove=("--chat-template", "--enforce-eager"),
            env={"B": "2"},
        ),
    )
    assert (changed.port, changed.max_model_len, changed.chat_template) == (8001, 1040, "")
    assert changed.extra_args == ("--seed", "1", "--tensor-parallel-size", "1", "--gpu-memory-utilization", "0.5")
    assert changed.env == {"A": "1", "B": "2"}
    assert spec.port == 8000


def test_a_misspelt_flag_keeps_its_value() -> None:
    rename = Relaunch(rename={"--max-modle-len": "--max-model-len", "--sed": "--seed"})
    spec = ServerSpec("a", "m", extra_args=("--max-modle-len", "512", "--sed=1"))
    changed = apply_relaunch(spec, rename)
    assert changed.max_model_len == 512
    assert changed.extra_args == ("--seed=1",)


def test_a_value_that_a_field_can_not_hold_stays_an_argument() -> None:
    changed = apply_relaunch(
        ServerSpec("a", "m", extra_args=("--max-modle-len", "8k")),
        Relaunch(rename={"--max-modle-len": "--max-model-len"}),
    )
    assert changed.max_model_len is None
    assert changed.extra_args == ("--max-model-len", "8k")


# -- the command ----------------------------------------------------------------------------------------------


@pytest.fixture
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONFIG", "DATA", "STATE", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name))
    monkeypatch.setenv("LC_ALL", "C")


@pytest.mark.usefixtures("_own_folders")
def test_the_command_prints_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = "ValueError: max seq len (9) is larger than the maximum number of tokens that can be stored in KV cache (7)"
    file = write(tmp_path, traceback(error))
    assert cli.main(["diagnose", str(file), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert set(printed) == {"cause", "line", "line_number", "remedy", "relaunch"}
    assert (printed["line_number"], printed["relaunch"]) == (4, ["--max-model-len 7"])


@pytest.mark.usefixtures("_own_folders")
def test_the_command_draws_a_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["diagnose", str(write(tmp_path, traceback(FULL)))]) == 0
    printed = capsys.readouterr().out
    assert "The disk is full" in printed
    assert "line 4" in printed


@pytest.mark.usefixtures("_own_folders")
def test_the_command_without_a_failure_or_a_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, BEGIN + READY)
    assert cli.main(["diagnose", str(file)]) == 3
    assert cli.main(["diagnose", str(file), "--json"]) == 3
    assert json.loads(capsys.readouterr().out.split("\n")[-2])["cause"] is None
    assert cli.main(["diagnose", str(tmp_path / "none")]) == 2
    assert cli.main(["diagnose", "nobody"]) == 2
    assert cli.main(["diagnose", str(tmp_path)]) == 2
