"""The benchmark's client and `vllm bench serve` in turn on one server: do both say the same of it?

    python tests/performance/bench_pair.py --engine PYTHON [--base-url URL] [--tokenizer FOLDER] [-n PAIRS]
        [--api chat|completions] [--num-prompts N] [--concurrency N | --request-rate R] [--input-len N] [--output-len N]

PAIRS pairs in the order ABBA ABBA …: what drifts with time weighs on both alike. Both get prompts of the same kind and
exactly the same length in tokens, made here and no two alike, so that no prefix cache helps either; the same endpoint,
sampling (temperature 0, no repetition penalty), ignore_eos, and no request ahead of the clock but those that this
script sends before each run, equal for both. Throughput is given twice: as each client says, and by one definition
(first request sent to last chunk) from the requests' own times. Differences are ours over vLLM's: the mean of the
pairs with a 95 % interval (t on the logarithms of the pairs' ratios). Bars: throughput within 3 %; mean TTFT and mean,
p99 ITL not above vLLM's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from qwen_tui.bench.confidence import Interval, paired_change
from qwen_tui.bench.load import Load
from qwen_tui.bench.probe import send_one
from qwen_tui.bench.result import result_json
from qwen_tui.bench.run import Bench, Plan
from qwen_tui.bench.target import Target
from qwen_tui.bench.tokens import counter_for
from qwen_tui.bench.workload import Workload, make_items
from qwen_tui.paths import Paths

#: Runs vLLM's client with these prompts. Its wheel for CPUs has no metadata to tell the version by.
VLLM = """
import importlib.metadata, json, sys
told = importlib.metadata.version
def version(name):
    try:
        return told(name)
    except importlib.metadata.PackageNotFoundError:
        if name != "vllm":
            raise
        return "0"
importlib.metadata.version = version
from vllm.benchmarks import serve
from vllm.benchmarks.datasets import SampleRequest
prompts, *words = sys.argv[1:]
def samples(arguments, tokenizer):
    return [SampleRequest(prompt=text, prompt_len=length, expected_output_len=answer)
            for text, length, answer in json.load(open(prompts))]
serve.get_samples = samples
sys.argv = ["vllm", "bench", "serve", *words]
from vllm.entrypoints.cli.main import main
main()
"""
#: Name in the result → (what it is, the share it may be off either way; None where it may not be above).
FIGURES = {
    "request_throughput": ("requests/s, as said", 0.03),
    "output_throughput": ("output tokens/s, as said", 0.03),
    "request_throughput_own": ("requests/s, one definition", 0.03),
    "output_throughput_own": ("output tokens/s, one definition", 0.03),
    "mean_ttft_ms": ("TTFT mean ms", None),
    "median_ttft_ms": ("TTFT median ms", None),
    "p99_ttft_ms": ("TTFT p99 ms", None),
    "mean_itl_ms": ("ITL mean ms", None),
    "p99_itl_ms": ("ITL p99 ms", None),
    "mean_tpot_ms": ("TPOT mean ms", None),
}


class Pair:
    """Both clients on one server; each run has prompts of its own."""

    def __init__(self, arguments: argparse.Namespace, folder: Path) -> None:
        self._arguments = arguments
        self._folder = folder
        self._paths = Paths(*(folder / kind for kind in ("config", "data", "state", "cache")))
        # Both clients: greedy, and nothing of the model's generation_config.
        extra = {"temperature": 0.0, "repetition_penalty": 1.0}
        self._target = Target(arguments.base_url, arguments.model, os.environ.get("VLLM_API_KEY"), arguments.api, extra)
        self._workload = Workload(input_len=arguments.input_len, output_len=arguments.output_len)
        rate, count = arguments.request_rate, arguments.num_prompts
        self._load = Load(rate=rate, count=count) if rate else Load(streams=arguments.concurrency, count=count)
        self._chance = random.Random(time.time_ns())

    def warm_up(self) -> None:
        """A few requests of the same shape one after another, the same before each run."""
        counter = counter_for(self._target)
        items = make_items(replace(self._workload, output_len=8), 4, self._chance, counter)
        for item in items:
            send_one(self._target, self._target.body(item.prompt, 8, True))

    def burn_in(self) -> None:
        """Two waves of the whole load, counted nowhere: a server's first full batch compiles, and is slow."""
        waves = min(self._load.count, 2 * (self._load.slots or 32))
        self.ours(replace(self._load, count=waves))

    def ours(self, load: Load | None = None) -> dict[str, float]:
        seed = self._chance.randrange(2**31)
        plan = Plan(self._target, self._workload, load or self._load, seed=seed, processes=self._arguments.processes)
        bench = Bench(self._paths)
        run = asyncio.run(bench.run(plan))
        assert not run.figures.failed, run.figures.failures
        result = result_json(run, bench.ledger.records(run))
        result["prompt_tokens_each"] = statistics.fmean(result["input_lens"])
        result["doubts"] = run.health.doubts()
        return result | _by_one_definition(result)

    def vllm(self) -> dict[str, float]:
        arguments = self._arguments
        counter = counter_for(self._target)
        items = make_items(self._workload, arguments.num_prompts, self._chance, counter)
        prompts = self._folder / "prompts.json"
        prompts.write_text(json.dumps([(item.text, arguments.input_len, item.output_tokens) for item in items]))
        is_chat = arguments.api == "chat"
        words = [
            "--base-url", arguments.base_url.removesuffix("/v1"), "--model", arguments.model,
            "--tokenizer", arguments.tokenizer, "--backend", "openai-chat" if is_chat else "openai",
            "--endpoint", "/v1/chat/completions" if is_chat else "/v1/completions",
            "--dataset-name", "sharegpt", "--num-prompts", str(arguments.num_prompts), "--ignore-eos",
            "--disable-tqdm", "--save-result", "--save-detailed", "--result-dir", str(self._folder),
            "--result-filename", "vllm.json",
        ]  # fmt: skip
        if arguments.request_rate:
            words += ["--request-rate", str(arguments.request_rate)]
        else:
            words += ["--max-concurrency", str(arguments.concurrency)]
        known = _source_of_serve(arguments.engine)
        if "--ready-check-timeout-sec" in known:
            # Else the first prompt is asked once ahead, and then comes out of the prefix cache.
            words += ["--ready-check-timeout-sec", "0"]
        if "--temperature" in known:
            words += ["--temperature", "0"]
        if "--repetition-penalty" in known:
            words += ["--repetition-penalty", "1.0"]
        elif "--extra-body" in known:
            words += ["--extra-body", '{"repetition_penalty": 1.0}']
        done = subprocess.run(
            [arguments.engine, "-c", VLLM, str(prompts), *words],
            capture_output=True, text=True, check=False,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "OPENAI_API_KEY": os.environ.get("VLLM_API_KEY", "x")},
        )  # fmt: skip
        if done.returncode:
            raise SystemExit((done.stdout + done.stderr)[-3000:])
        result: dict[str, Any] = json.loads((self._folder / "vllm.json").read_text())
        assert result["completed"] == arguments.num_prompts, done.stdout[-2000:]
        result["prompt_tokens_each"] = statistics.fmean(result["input_lens"])
        return result | _by_one_definition(result)


def _by_one_definition(result: Mapping[str, Any]) -> dict[str, float]:
    """Throughput from the requests' own times: the first sent to the last chunk."""
    starts = result.get("start_times")
    if not starts:
        return {}
    ends = [start + ttft + sum(itls) for start, ttft, itls in zip(starts, result["ttfts"], result["itls"], strict=True)]
    seconds = max(ends) - min(starts)
    return {
        "request_throughput_own": len(starts) / seconds,
        "output_throughput_own": sum(result["output_lens"]) / seconds,
    }


def _source_of_serve(engine: str) -> str:
    """The text of vLLM's client: which options it knows, without the ten seconds that its --help takes."""
    found = subprocess.run(
        [engine, "-c", "import importlib.util as u; print(u.find_spec('vllm').submodule_search_locations[0])"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    folder = Path(found.stdout.split("\n")[-2]) / "benchmarks"
    return "\n".join(file.read_text() for file in [*folder.glob("serve.py"), *folder.rglob("datasets*.py")])


def table(ours: Sequence[Mapping[str, float]], theirs: Sequence[Mapping[str, float]]) -> str:
    """A row for each figure: both means, and the difference of the pairs."""
    lines = [f"{'':32} {'qwen-tui':>11} {'vllm bench':>11}   difference of means, median of pairs [95 % interval]"]
    for name, (words, bar) in FIGURES.items():
        mine = [one[name] for one in ours if name in one]
        other = [one[name] for one in theirs if name in one]
        if len(mine) != len(other) or not mine:
            continue
        difference = statistics.fmean(mine) / statistics.fmean(other) - 1
        interval = paired_change(other, mine)
        middle = statistics.median(one / two - 1 for one, two in zip(mine, other, strict=True))
        text = f"{difference:+.2%}, median pair {middle:+.2%}" + (
            f" [{interval.low:+.2%} {interval.high:+.2%}]" if interval else ""
        )
        lines.append(
            f"{words:32} {statistics.fmean(mine):11.3f} {statistics.fmean(other):11.3f}   {text:50}"
            f" {_verdict(difference, interval, bar)}"
        )
    return "\n".join(lines)


def _verdict(difference: float, interval: Interval | None, bar: float | None) -> str:
    if bar is not None:
        return "within 3 %" if abs(difference) <= bar else "NOT within 3 %"
    if difference <= 0:
        return "not above"
    return "above, within noise" if interval is None or not interval.is_clear else "ABOVE"


def _models(base_url: str) -> dict[str, Any]:
    request = urllib.request.Request(f"{base_url}/models")
    if key := os.environ.get("VLLM_API_KEY"):
        request.add_header("authorization", f"Bearer {key}")
    with urllib.request.urlopen(request, timeout=10) as answer:
        return dict(json.loads(answer.read())["data"][0])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", required=True, help="an interpreter that has vLLM, or its environment's folder")
    parser.add_argument("--base-url", default="http://127.0.0.1:8000/v1")
    parser.add_argument("--model", help="its name there (default: the first)")
    parser.add_argument("--tokenizer", help="the model's folder (default: what the server says)")
    parser.add_argument("--api", choices=("chat", "completions"), default="chat")
    parser.add_argument("-n", type=int, default=4, help="pairs (default: 4)")
    parser.add_argument("--num-prompts", type=int, default=512)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--request-rate", type=float, default=0.0)
    parser.add_argument("--input-len", type=int, default=64)
    parser.add_argument("--output-len", type=int, default=128)
    parser.add_argument("--processes", type=int, default=0, help="of our generator (default: as needed)")
    parser.add_argument("--save", type=Path, help="write both sides' figures of each run there as JSON")
    arguments = parser.parse_args()
    arguments.base_url = arguments.base_url.rstrip("/").removesuffix("/v1") + "/v1"
    if Path(arguments.engine).is_dir():
        arguments.engine = str(Path(arguments.engine) / "bin" / "python")
    if not (arguments.model and arguments.tokenizer):
        first = _models(arguments.base_url)
        arguments.model = arguments.model or first["id"]
        arguments.tokenizer = arguments.tokenizer or first.get("root") or first["id"]
    return arguments


def main() -> None:
    arguments = _arguments()
    load = f"{arguments.request_rate:g}/s" if arguments.request_rate else f"{arguments.concurrency} streams"
    print(
        f"{arguments.model}, {arguments.api}: {arguments.num_prompts} requests x {arguments.input_len} in, "
        f"{arguments.output_len} out, {load}, {arguments.n} pairs",
        flush=True,
    )
    ours: list[dict[str, float]] = []
    theirs: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as name:
        pair = Pair(arguments, Path(name))
        pair.burn_in()
        for number in range(2 * arguments.n):
            pair.warm_up()
            is_ours = number % 4 in (0, 3)  # A B, B A, A B, …
            (ours if is_ours else theirs).append(one := pair.ours() if is_ours else pair.vllm())
            print(
                f"  {'qwen-tui' if is_ours else 'vllm bench':10} {one['request_throughput']:8.3f} requests/s "
                f"{one['output_throughput']:10.1f} tokens/s  TTFT {one['mean_ttft_ms']:8.2f} ms  "
                f"ITL mean {one['mean_itl_ms']:7.2f} p99 {one['p99_itl_ms']:7.2f} ms  "
                f"prompts of {one['prompt_tokens_each']:.2f}  load {os.getloadavg()[0]:.1f}"
                + "".join(f"\n    ! {text}" for text in one.get("doubts", ())),  # type: ignore[attr-defined]
                flush=True,
            )
    print(table(ours, theirs))
    tokens = {(one["total_input_tokens"], one["total_output_tokens"]) for one in (*ours, *theirs)}
    print("both counted the same tokens" if len(tokens) == 1 else f"NOT the same work (prompt, output): {tokens}")
    if arguments.save:
        names = [*FIGURES, "duration", "prompt_tokens_each", "total_output_tokens"]
        kept = {
            who: [{key: one.get(key) for key in names} for one in side]
            for who, side in (("qwen-tui", ours), ("vllm bench", theirs))
        }
        arguments.save.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
