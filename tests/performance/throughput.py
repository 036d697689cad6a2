"""Whether the offline speed test's figure for vLLM is vLLM's own: `vllm bench throughput` on the same work, in turn.

    python tests/performance/throughput.py --model FOLDER --engine ENVIRONMENT [--order ABBA] [--hf] [--num-prompts N]
        [--input-len N] [--output-len N] [--dtype D] [--max-model-len N] [--warmups N] [-- VLLM'S ARGUMENTS]

A is `vllm bench throughput`, B is `qwen-tui throughput --backend vllm`: each loads the model anew, in the order given,
and the ratio B/A of the means is printed (bar: within 3 %). --hf measures transformers once more at the end, and
prints the table. On a GPU with a 7B model a load takes about a minute: `--order AB --hf` is done within four. Both sides
have the same number of prompts before the clock where this vLLM can (--num-warmups), else none.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from qwen_tui.engine.find import named_engine

#: Runs vLLM's command line; its wheel for CPUs has no metadata to tell the version by.
VLLM = """
import importlib.metadata, sys
told = importlib.metadata.version
importlib.metadata.version = lambda name: "0" if name == "vllm" else told(name)
sys.argv[0] = "vllm"
from vllm.entrypoints.cli.main import main
main()
"""


def main() -> None:
    arguments = parsed()
    python = named_engine(arguments.engine, "option").python
    warmups = arguments.warmups if can_warm_up(python) else 0
    figures: dict[str, list[dict[str, float]]] = {"A": [], "B": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, side in enumerate(arguments.order):
            out = folder / f"{number}.json"
            began = time.monotonic()
            if side == "A":
                vllm_bench(arguments, python, warmups, out)
                result = json.loads(out.read_text())
                figure = {
                    "elapsed": result["elapsed_time"],
                    "requests": result["requests_per_second"],
                    "tokens": result["tokens_per_second"],
                    "counted": result["total_num_tokens"],
                }
            else:
                figure = ours(arguments, python, "vllm", warmups, out)["vllm"]
            figures[side].append(figure)
            print(f"{side} {line(figure)}   load {os.getloadavg()[0]:.1f}, took {time.monotonic() - began:.0f} s",
                  flush=True)  # fmt: skip
        for key in ("requests", "tokens"):
            ratio = mean(figures["B"], key) / mean(figures["A"], key)
            verdict = "within 3 %" if abs(ratio - 1) <= 0.03 else "NOT within 3 %"
            print(f"qwen-tui / vllm bench, {key}/s: {ratio:.4f}  {verdict}")
        if arguments.hf:
            hf = ours(arguments, python, "hf", arguments.warmups, folder / "hf.json")["hf"]
            print(f"hf {line(hf)}")
            for key in ("requests", "tokens"):
                print(f"vllm / hf, {key}/s: {mean(figures['B'], key) / hf[key]:.3f}")


def parsed() -> argparse.Namespace:
    own, words = sys.argv[1:], []
    if "--" in own:
        own, words = own[: own.index("--")], own[own.index("--") + 1 :]
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--engine", required=True)
    parser.add_argument("--order", default="ABBA")
    parser.add_argument("--hf", action="store_true")
    for option, default in (("num-prompts", 25), ("input-len", 64), ("output-len", 128), ("max-model-len", 512),
                            ("warmups", 4), ("seed", 2024)):  # fmt: skip
        parser.add_argument(f"--{option}", type=int, default=default)
    parser.add_argument("--dtype", default="float16")
    arguments = parser.parse_args(own)
    arguments.words = words
    return arguments


def can_warm_up(python: Path) -> bool:
    """Whether this vLLM's benchmark knows --num-warmups; read from its source, for importing it takes ten seconds."""
    for source in python.parent.parent.glob("lib/python*/site-packages/vllm/benchmarks/throughput.py"):
        return "--num-warmups" in source.read_text(encoding="utf-8")
    return False


def vllm_bench(arguments: argparse.Namespace, python: Path, warmups: int, out: Path) -> None:
    words = ["bench", "throughput", "--model", arguments.model, "--backend", "vllm", "--dataset-name", "random"]
    words += ["--input-len", str(arguments.input_len), "--output-len", str(arguments.output_len)]
    words += ["--num-prompts", str(arguments.num_prompts), "--seed", str(arguments.seed), "--dtype", arguments.dtype]
    words += ["--max-model-len", str(arguments.max_model_len), "--output-json", str(out)]
    words += ["--num-warmups", str(warmups)] if warmups else []
    finish([str(python), "-c", VLLM, *words, *arguments.words])


def ours(
    arguments: argparse.Namespace, python: Path, backend: str, warmups: int, out: Path
) -> dict[str, dict[str, float]]:
    words = ["throughput", "--model", arguments.model, "--backend", backend, "--engine", str(python)]
    words += ["--input-len", str(arguments.input_len), "--output-len", str(arguments.output_len)]
    words += ["--num-prompts", str(arguments.num_prompts), "--seed", str(arguments.seed), "--dtype", arguments.dtype]
    words += ["--max-model-len", str(arguments.max_model_len), "--num-warmups", str(warmups)]
    words += ["--hf-max-batch-size", str(arguments.num_prompts), "--output-json", str(out)]
    finish([sys.executable, "-m", "qwen_tui", *words, "--", *arguments.words])
    result: dict[str, Any] = json.loads(out.read_text())
    return {
        one["backend"]: {
            "elapsed": one["rounds"][0]["elapsed"],
            "requests": one["requests_per_second"],
            "tokens": one["tokens_per_second"],
            "counted": one["rounds"][0]["prompt_tokens"] + one["rounds"][0]["output_tokens"],
        }
        for one in result["backends"]
    }


def finish(argv: list[str]) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        told = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)
        raise SystemExit(f"{' '.join(argv[:6])} … ended with {done.returncode}:\n{told[-4000:]}")


def line(figure: dict[str, float]) -> str:
    return (
        f"{figure['elapsed']:.3f} s, {figure['requests']:.2f} requests/s, {figure['tokens']:.2f} tokens/s"
        f" ({figure['counted']:.0f} tokens)"
    )


def mean(figures: list[dict[str, float]], key: str) -> float:
    return statistics.fmean(figure[key] for figure in figures)


if __name__ == "__main__":
    main()
