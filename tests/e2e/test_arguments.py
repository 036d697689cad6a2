"""The arguments of the real engine, and our reading of command lines against its own parser's."""

from __future__ import annotations

import asyncio
import json
import shlex
import subprocess
from pathlib import Path

from qwen_tui.engine.arguments import ArgumentSchema
from qwen_tui.engine.arguments_check import check
from qwen_tui.engine.find import Engine
from qwen_tui.paths import Paths

#: Parses each line of argv[1] (JSON) with the engine's parser; prints whether it was taken.
JUDGE = """
import contextlib, io, json, sys
lines = json.loads(sys.argv[1])
sys.argv = ["api_server"]
try:
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
except ImportError:
    from vllm.entrypoints.openai.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser
verdicts = []
for words in lines:
    parser = make_arg_parser(FlexibleArgumentParser())
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            parser.parse_args(words)
        verdicts.append(True)
    except (SystemExit, Exception):
        verdicts.append(False)
print("VERDICTS" + json.dumps(verdicts))
"""

LINES = (
    "--max-model-len 2048 --enforce-eager -tp 2",
    "--max_model_len 8k --max-num-batched-tokens 16K",
    "--max-model-len=auto",
    "--max-model-len -1 --seed -1",
    "--max-model-len 4x",
    "--max-model-len 1.5K",
    "--max-modle-len 5",
    "--max-model-len",
    "--max-model-len --enforce-eager",
    "--max-mod 5",
    "--enf",
    "--max 5",
    "--tensor-parallel-size two",
    "--tensor-parallel-size=2",
    "-tp=2 -pp 1 -dp 1",
    "--gpu-memory-utilization .9",
    "--gpu-memory-utilization high",
    "--dtype half",
    "--dtype hlaf",
    "--dtype=",
    "--enforce-eager=true",
    "--no-enforce-eager --no-enable-prefix-caching",
    "--no-max-model-len",
    "--compilation-config.mode 3",
    "-cc.mode=3 -cc.pass_config.fuse_norm_quant true",
    "--compilation_config.mode 3 --compilation-config.cudagraph_capture_sizes+ 1,2,4",
    "-cc.moed 3",
    '-cc {"mode":3}',
    "-cc {mode}",
    "-O3",
    "-O 2",
    "-O=1",
    "--kv-transfer-config {}",
    "--api-key a b c",
    "--api-key",
    '--allowed-origins [\\"*\\"]',
    "--allowed-origins *",
    "--moe-backend Triton",
    "--moe-backend trition",
    "--served-model-name a b",
    "--chat-template-kwargs {}",
    "--default-chat-template-kwargs {}",
    "--default-chat-template-kwargs x",
    "--uvicorn-log-level debug",
    "--uvicorn-log-level loud",
    "--trust-remote-code --trust_remote_code",
    "--max-num-seqs None",
    "--max-num-seqs 1.5",
    "--swap-space 4",
    "--limit-mm-per-prompt.image 2",
    '--limit-mm-per-prompt {"image":2}',
    "--kv-cache-memory-bytes 2G",
    "--block-size 128",
    "--otlp-traces-endpoint -x",
)


async def test_every_argument_of_the_real_engine_is_read(engine: Engine, tmp_path: Path) -> None:
    paths = Paths(*(tmp_path / name for name in ("config", "data", "state", "cache")))
    schema = await ArgumentSchema.load(engine, paths)
    assert ArgumentSchema.cached(engine, paths) == schema
    assert schema.version.startswith(engine.version.split("+")[0])
    assert len(schema.arguments) > 150
    assert "Qwen2ForCausalLM" in schema.architectures
    known = schema.by_name
    assert known["--max-model-len"].kind == "human int or auto"
    assert known["--gpu-memory-utilization"].default == 0.92
    assert "float16" in known["-tp"].help or known["-tp"].kind == "int"
    assert "bfloat16" in known["--dtype"].choices
    assert known["--compilation-config"].fields is not None
    texts = [argument for group in schema.groups().values() for argument in group if not argument.help]
    assert len(texts) < 10, [argument.name for argument in texts]
    # Only a few readers of the engine's own are not understood.
    assert len([argument for argument in schema.arguments if argument.kind == "other"]) < 5


async def test_lines_are_judged_as_the_engine_judges_them(engine: Engine, tmp_path: Path) -> None:
    schema = await ArgumentSchema.load(engine, Paths(*(tmp_path / name for name in ("a", "b", "c", "d"))))
    lines = [shlex.split(line) for line in LINES]
    done = await asyncio.to_thread(
        subprocess.run,
        [engine.python, "-c", JUDGE, json.dumps(lines)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    answer = next(line for line in done.stdout.splitlines() if line.startswith("VERDICTS"))
    theirs = json.loads(answer.removeprefix("VERDICTS"))
    ours = [not any(problem.is_certain for problem in check(schema, words)) for words in lines]
    different = [line for line, first, second in zip(LINES, theirs, ours, strict=True) if first != second]
    assert different == []
    assert 0.3 < sum(theirs) / len(theirs) < 0.8
