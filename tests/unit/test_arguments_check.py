"""A command line read as the engine's parser reads it, and what is wrong with it named."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_tui.engine.arguments import Argument, ArgumentSchema
from qwen_tui.engine.arguments_check import check, corrected, diff_from_defaults, read_whole_number

SCHEMA = ArgumentSchema(
    "0.32.0",
    (
        Argument((), "model_tag", nargs="?"),
        Argument(("--max-model-len",), "max_model_len", kind="human int or auto"),
        Argument(("--max-num-seqs",), "max_num_seqs", kind="int", optional=True),
        Argument(("--max-num-batched-tokens",), "max_num_batched_tokens", kind="human int", optional=True),
        Argument(("--gpu-memory-utilization",), "gpu_memory_utilization", kind="float", default=0.92),
        Argument(("--dtype",), "dtype", choices=("auto", "bfloat16", "half"), default="auto"),
        Argument(("--tensor-parallel-size", "-tp"), "tensor_parallel_size", kind="int", default=1),
        Argument(("--stages",), "stages", kind="int", choices=(1, 2)),
        Argument(("--enforce-eager", "--no-enforce-eager"), "enforce_eager", nargs=0, action="BooleanOptionalAction",
                 default=False),
        Argument(("--grpc",), "grpc", nargs=0, action="StoreTrueAction", default=False),
        Argument(("--api-key",), "api_key", nargs="+", optional=True),
        Argument(("--compilation-config", "-cc"), "compilation_config", kind="json", default="{…}",
                 fields={"mode": None, "pass_config": {"fuse_norm": None}}),
        Argument(("--kv-transfer-config",), "kv_transfer_config", kind="json", optional=True),
        Argument(("--optimization-level",), "optimization_level", kind="int"),
        Argument(("--attention-backend",), "attention_backend", kind="folded text", choices=("flash_attn",)),
        Argument(("--quantization", "-q"), "quantization", suggestions=("awq", "gptq", "fp8"), optional=True),
        Argument(("--log",), "log", kind="bool"),
        Argument(("--device-ids",), "device_ids", kind="other", choices=(0, 1)),
    ),
)  # fmt: skip


def problems(line: str) -> list[str]:
    return [str(problem) for problem in check(SCHEMA, shlex.split(line))]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "--max-model-len 2048 --enforce-eager -tp 2",
        "--max_model_len=8k --max_num_batched_tokens 2M --max-num-seqs None",
        "--max-model-len -1 --no-enforce-eager --max-num-seqs=auto".replace("auto", "4"),
        "--max-model-len auto",
        "--api-key a b c --grpc",
        "--compilation-config.mode 3 -cc.pass_config.fuse_norm=true",
        '-cc \'{"mode": 3, "size": 2k}\'',
        "--kv-transfer-config.anything.at_all 3 --kv-transfer-config.list+ a,b",
        "-O3 --dtype half -O 2 -O=1",
        "--enforce --max-mod 5",
        "--attention-backend FLASH-attn",
        "--log true",
        "--quantization my-plugin",
        "--device-ids 3,4",
    ],
)
def test_what_the_engine_takes_is_let_through(line: str) -> None:
    assert problems(line) == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--max-modle-len 5", "vLLM has no argument --max-modle-len · Did you mean “--max-model-len”?"),
        ("--max_modle_len=5", "vLLM has no argument --max-modle-len · Did you mean “--max-model-len”?"),
        ("--quite-unlike-anything", "vLLM has no argument --quite-unlike-anything"),
        ("--max-model-len", "--max-model-len needs a value: whole number, 1k and 2M allowed, or auto"),
        ("--max-model-len --enforce-eager", "--max-model-len needs a value"),
        ("--max-model-len 4x", "--max-model-len: “4x” is not a whole number"),
        ("--max-num-seqs 1k", "--max-num-seqs: “1k” is not a whole number"),
        ("--gpu-memory-utilization=high", "--gpu-memory-utilization: “high” is not a number"),
        ("--dtype bfloat", "“bfloat” is none of auto, bfloat16, half · Did you mean “bfloat16”?"),
        ("--stages 3", "--stages: “3” is none of 1, 2"),
        ("--enforce-eager true", "“true” belongs to no argument"),
        ("--grpc=1", "--grpc stands alone, without a value · Did you mean “--grpc”?"),
        ("--max-num 5", "“--max-num” could be any of --max-num-batched-tokens, --max-num-seqs"),
        ("-cc.moed 3", "-cc has no key “moed” · Did you mean “-cc.mode”?"),
        ("-cc.pass_config.fuse_norn x", "Did you mean “-cc.pass_config.fuse_norm”?"),
        ("--dtype.x 3", "--dtype takes no keys"),
        ("-cc {bad", "-cc: not valid JSON"),
        ("--log maybe", "--log: “maybe” is neither true nor false"),
        ("-q awqq", "-q: vLLM comes without “awqq” · Did you mean “awq”?"),
    ],
)
def test_what_is_wrong_is_named(line: str, said: str) -> None:
    (problem,) = problems(line)
    assert said in problem


def test_only_what_the_engine_surely_refuses_is_certain() -> None:
    assert [problem.is_certain for problem in check(SCHEMA, ["-q", "awqq", "--dtype", "x"])] == [False, True]


def test_an_old_parser_takes_no_underscores() -> None:
    old = ArgumentSchema("0.4.0", SCHEMA.arguments, is_flexible=False)
    (problem,) = check(old, ["--max_model_len", "5"])
    assert problem.suggestion == "--max-model-len"


def test_each_problem_points_at_its_word() -> None:
    words = shlex.split("--dtype x --bad --max-num-seqs y")
    assert [(problem.index, problem.word) for problem in check(SCHEMA, words)] == [(1, "x"), (2, "--bad"), (4, "y")]


@pytest.mark.parametrize(
    ("line", "fixed"),
    [
        ("--seed --max-modle-len 5", None),
        ("--max-modle-len 5", "--max-model-len 5"),
        ("--max_modle_len=5", "--max-model-len=5"),
        ("--dtype=bfloat", "--dtype=bfloat16"),
        ("--dtype bfloat", "--dtype bfloat16"),
        ("--grpc=1", "--grpc"),
        ("-cc.moed=3", "-cc.mode=3"),
    ],
)
def test_the_suggestion_put_in_its_place(line: str, fixed: str | None) -> None:
    words = shlex.split(line)
    assert corrected(words, check(SCHEMA, words)[0]) == (shlex.split(fixed) if fixed else None)


def test_differences_from_the_defaults() -> None:
    words = shlex.split(
        "--dtype auto --max-model-len 2k --no-enforce-eager --grpc -cc.mode 3 -cc.pass_config.fuse_norm true "
        "--gpu-memory-utilization 0.92 -tp 2 -tp 4"
    )
    changed = {one.argument.name: (one.value, one.default) for one in diff_from_defaults(SCHEMA, words)}
    assert changed == {
        "--max-model-len": ("2000", "null"),
        "--grpc": ("true", "false"),
        "--compilation-config": ('{"mode": 3, "pass_config": {"fuse_norm": true}}', "{…}"),
        "--tensor-parallel-size": ("4", "1"),
    }


def test_whole_numbers_as_vllm_reads_them() -> None:
    assert [read_whole_number(text) for text in ("5", "1k", "1K", "25.6k", "2M")] == [5, 1000, 1024, 25600, 2 * 2**20]
    for text in ("1.5K", "k", "", "1kk"):
        with pytest.raises(ValueError):  # noqa: PT011 - as int() raises it
            read_whole_number(text)


@given(st.lists(st.one_of(st.text(max_size=12), st.sampled_from(["--dtype", "-cc.", "--", "-O", "-cc.mode", "-1"]))))
def test_no_words_break_it(words: list[str]) -> None:
    for problem in check(SCHEMA, words):
        assert problem.text
    diff_from_defaults(SCHEMA, words)
