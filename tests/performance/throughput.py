"""Whether the offline speed test's figure for vLLM is vLLM's own: `vllm bench throughput` on the same work, in turn.

    python tests/performance/throughput.py --model FOLDER --engine ENVIRONMENT [--order ABBA] [--hf] [--num-prompts N]
        [--input-len N] [--output-len N] [--dtype D] [--max-model-len N] [--warmups N] [--together PAIRS]
        [-- VLLM'S ARGUMENTS]

A is `vllm bench throughput`, B is `qwen-tui throughput --backend vllm`: each loads the model anew, in the order given,
and the ratio B/A of the means is printed (bar: within 3 %). --hf measures transformers once more at the end, and
prints the ratio. On a GPU with a 7B model a load takes about a minute: `--order AB --hf` is done within four. Both
sides have the same number of prompts before the clock where this vLLM can (--num-warmups), else none.

--together loads the model once instead, and lets vLLM's own timed function and this program's worker generate in turn,
ABBA: that tells a difference of a percent also on a machine that others use.
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
from qwen_tui.workers.host import FOLDER

#: Runs vLLM's command line; its wheel for CPUs has no metadata to tell its version and its platform by.
VLLM = """
import importlib.metadata, sys
told = importlib.metadata.version
def version(name):
    try:
        return told(name)
    except importlib.metadata.PackageNotFoundError:
        if name == "vllm":
            return "0+cpu"
        raise
importlib.metadata.version = version
sys.argv[0] = "vllm"
from vllm.entrypoints.cli.main import main
main()
"""

#: Runs under the engine's interpreter: both sides with one engine. argv: workers' folder, JSON.
TOGETHER = """
import json, random, statistics, sys
folder, given = sys.argv[1], json.loads(sys.argv[2])
sys.path.append(folder)
import throughput_round, throughput_vllm
from vllm.benchmarks.datasets import SampleRequest
from vllm.benchmarks.throughput import _run_vllm_requests
if __name__ == "__main__":
    llm = throughput_vllm.load(given["words"])
    generate = throughput_vllm.generator(llm, 1)
    ids = sorted(set(llm.get_tokenizer().get_vocab().values()))
    chance = random.Random(given["seed"])
    def prompts():
        return [(chance.choices(ids, k=given["input"]), given["output"]) for _ in range(given["prompts"])]
    def theirs():
        requests = [SampleRequest(prompt={"prompt_token_ids": one}, prompt_len=len(one), expected_output_len=length)
                    for one, length in prompts()]
        return _run_vllm_requests(llm, requests, 1, False, False, False, False)[0]
    def ours():
        mine = prompts()
        return generate(mine, throughput_round.Ticker(len(mine)))[0]
    theirs(), ours()
    pairs = []
    for number in range(given["pairs"]):
        first, second = (theirs, ours) if number % 2 == 0 else (ours, theirs)
        took = {first: first(), second: second()}
        pairs.append(took[theirs] / took[ours])
        print(f"TOLD {took[theirs]:.3f} s against {took[ours]:.3f} s: {pairs[-1]:.4f}", flush=True)
    middle = statistics.median(pairs)
    print(f"TOLD qwen-tui / vllm bench, median of {len(pairs)} pairs: {middle:.4f}"
          f"  {'within 3 %' if abs(middle - 1) <= 0.03 else 'NOT within 3 %'}", flush=True)
"""


def main() -> None:
    arguments = parsed()
    python = named_engine(arguments.engine, "option").python
    if arguments.together:
        together(arguments, python)
        return
    text = source(python)
    warmups = arguments.warmups if "--num-warmups" in text else 0
    figures: dict[str, list[dict[str, float]]] = {"A": [], "B": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, side in enumerate(arguments.order):
            out = folder / f"{number}.json"
            began = time.monotonic()
            if side == "A":
                vllm_bench(arguments, python, warmups, out, prefers_random="random_input_len" in text)
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
        for key in ("requests", "tokens") if figures["A"] and figures["B"] else ():
            ratio = mean(figures["B"], key) / mean(figures["A"], key)
            verdict = "within 3 %" if abs(ratio - 1) <= 0.03 else "NOT within 3 %"
            print(f"qwen-tui / vllm bench, {key}/s: {ratio:.4f}  {verdict}")
        if arguments.hf:
            hf = ours(arguments, python, "hf", arguments.warmups, folder / "hf.json")["hf"]
            print(f"hf {line(hf)}")
            for key in ("requests", "tokens") if figures["B"] else ():
                print(f"vllm / hf, {key}/s: {mean(figures['B'], key) / hf[key]:.3f}")


def together(arguments: argparse.Namespace, python: Path) -> None:
    words = ["--model", arguments.model, "--seed", str(arguments.seed), "--dtype", arguments.dtype]
    words += ["--max-model-len", str(arguments.max_model_len), *arguments.words]
    given = {
        "words": words,
        "seed": arguments.seed,
        "input": arguments.input_len,
        "output": arguments.output_len,
        "prompts": arguments.num_prompts,
        "pairs": arguments.together,
    }
    with tempfile.TemporaryDirectory() as name:
        script = Path(name) / "together.py"  # a file: vLLM's engine imports it again in a process of its own
        script.write_text(TOGETHER, encoding="utf-8")
        for text in finish([str(python), str(script), str(FOLDER), json.dumps(given)]).splitlines():
            if text.startswith("TOLD "):
                print(text.removeprefix("TOLD "))


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
                            ("warmups", 4), ("seed", 2024),
                            ("together", 0)):  # fmt: skip
        parser.add_argument(f"--{option}", type=int, default=default)
    parser.add_argument("--dtype", default="float16")
    arguments = parser.parse_args(own)
    arguments.words = words
    return arguments


def source(python: Path) -> str:
    """The text of this vLLM's benchmark, to see what it takes; importing it would take ten seconds."""
    where = "import importlib.util as u; print(u.find_spec('vllm').origin)"
    package = Path(finish([str(python), "-c", where]).strip()).parent
    return (package / "benchmarks" / "throughput.py").read_text(encoding="utf-8")


def vllm_bench(arguments: argparse.Namespace, python: Path, warmups: int, out: Path, *, prefers_random: bool) -> None:
    words = ["bench", "throughput", "--model", arguments.model, "--backend", "vllm", "--dataset-name", "random"]
    words += ["--input-len", str(arguments.input_len), "--output-len", str(arguments.output_len)]
    words += ["--num-prompts", str(arguments.num_prompts), "--seed", str(arguments.seed), "--dtype", arguments.dtype]
    words += ["--max-model-len", str(arguments.max_model_len), "--output-json", str(out)]
    words += ["--num-warmups", str(warmups)] if warmups else []
    if prefers_random:  # newer ones prefer these, and default to 1024
        words += ["--random-input-len", str(arguments.input_len), "--random-output-len", str(arguments.output_len)]
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


def finish(argv: list[str]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        told = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)
        raise SystemExit(f"{' '.join(argv[:6])} … ended with {done.returncode}:\n{told[-4000:]}")
    return done.stdout


def line(figure: dict[str, float]) -> str:
    return (
        f"{figure['elapsed']:.3f} s, {figure['requests']:.2f} requests/s, {figure['tokens']:.2f} tokens/s"
        f" ({figure['counted']:.0f} tokens)"
    )


def mean(figures: list[dict[str, float]], key: str) -> float:
    return statistics.fmean(figure[key] for figure in figures)


if __name__ == "__main__":
    main()
