"""A batch against a bare `LLM.generate`: the same prompts through the same engine, in turns; ratios of requests/s.

    python tests/performance/batch.py --engine FOLDER_OR_PYTHON --model FOLDER [--prompts 200] [--input-len 64]
        [--output-len 128] [--rounds 5] [-- ENGINE ARGUMENTS]

The batch's time is from its first row read to its last one on the disk. Prefix caching is off, so that no round helps
the next. Every answer has exactly --output-len tokens, in both; that is checked. On a machine that others use too,
the number of the engine's steps says more than the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

WORKERS = Path(__file__).resolve().parents[2] / "qwen_tui" / "workers"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", required=True, help="an environment, or an interpreter, that has vLLM")
    parser.add_argument("--model", required=True)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--input-len", type=int, default=64)
    parser.add_argument("--output-len", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("words", nargs="*", help="after --: arguments of the engine")
    arguments = parser.parse_args()
    engine = Path(arguments.engine).expanduser()
    python = engine / "bin" / "python" if engine.is_dir() else engine
    environment = dict(os.environ)
    if engine.is_dir() and not python.exists():  # a folder of packages, for PYTHONPATH
        python = Path(sys.executable)
        environment["PYTHONPATH"] = f"{engine}:{environment.get('PYTHONPATH', '')}"
    with tempfile.TemporaryDirectory() as folder:
        request = {**vars(arguments), "folder": folder}
        words = [str(python), __file__, "--measure", json.dumps(request)]
        return subprocess.run(words, env=environment, check=False).returncode


def make_prompts(tokenizer: Any, count: int, length: int) -> list[str]:
    """Texts of about `length` tokens, each of its own words."""
    chance = random.Random(2024)
    words = ["time", "river", "house", "light", "number", "garden", "music", "road", "paper", "stone", "window", "year"]
    found = []
    for number in range(count):
        text = f"{number}: " + " ".join(chance.choice(words) for _word in range(length * 2))
        found.append(tokenizer.decode(tokenizer.encode(text)[:length], skip_special_tokens=True))
    return found


class Pair:
    """Both sides on one engine. Each gives requests per second, and in how many steps of the engine it was done."""

    def __init__(self, request: dict[str, Any], llm: Any, survey: Any) -> None:
        self.llm = llm
        self.folder = Path(request["folder"])
        self.output_len = request["output_len"]
        self.prompts = make_prompts(llm.get_tokenizer(), request["prompts"], request["input_len"])
        source = self.folder / "prompts.jsonl"
        source.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in self.prompts), encoding="utf-8")
        # A batch takes what the model's generation_config says for what is not given, a bare LLM.generate does not;
        # and a repetition penalty is work for the sampler.
        self.sampling = {"max_tokens": self.output_len, "ignore_eos": True, "temperature": 0.0,
                         "repetition_penalty": 1.0, "top_p": 1.0, "top_k": 0}  # fmt: skip
        self.order = {"input": {"path": str(source), "kind": "jsonl", **survey(str(source), "jsonl")},
                      "format": "rows", "sampling": self.sampling, "model": request["model"],
                      "arguments": []}  # fmt: skip
        self.steps = 0
        self._step = llm.llm_engine.step
        llm.llm_engine.step = self._counted

    def _counted(self) -> Any:
        self.steps += 1
        return self._step()

    def bare(self, _number: int) -> tuple[float, int]:
        from vllm import SamplingParams

        self.steps = 0
        began = time.perf_counter()
        outputs = self.llm.generate(self.prompts, SamplingParams(**self.sampling), use_tqdm=False)
        took = time.perf_counter() - began
        assert all(len(output.outputs[0].token_ids) == self.output_len for output in outputs)
        return len(self.prompts) / took, self.steps

    def batch(self, number: int) -> tuple[float, int]:
        import batch_engine  # type: ignore[import-not-found]
        import batch_job  # type: ignore[import-not-found]

        folder = self.folder / f"job{number}"
        folder.mkdir()
        output = folder / "out.jsonl"
        order = {**self.order, "output": str(output), "errors": str(folder / "errors.jsonl")}
        (folder / "order.json").write_text(json.dumps(order), encoding="utf-8")
        job = batch_job.Job(folder)
        run = batch_engine.EngineBatch(job, self.llm)
        self.steps = 0
        began = time.perf_counter()
        job._open()
        job.begin()
        run.run()
        job._stop_writing()
        job.results.close()
        took = time.perf_counter() - began
        rows = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
        assert len(rows) == len(self.prompts)
        assert all(row["output_tokens"] == self.output_len for row in rows)
        return len(self.prompts) / took, self.steps


def measure(request: dict[str, Any]) -> None:
    """Under the engine's interpreter."""
    sys.path.insert(0, str(WORKERS))
    import batch_engine
    import batch_rows  # type: ignore[import-not-found]

    length = request["input_len"] + request["output_len"] + 16
    words = ["--model", request["model"], "--max-model-len", str(length), "--no-enable-prefix-caching"]
    llm = batch_engine.make_engine([*words, *request["words"]])
    pair = Pair(request, llm, batch_rows.survey)
    print("warming up", file=sys.stderr)
    pair.bare(0)
    ratios = []
    for number in range(request["rounds"]):
        # Who goes first changes with each round.
        sides = [pair.bare, pair.batch] if number % 2 == 0 else [pair.batch, pair.bare]
        found = {side.__name__: side(number) for side in sides}
        (alone, alone_steps), (ours, our_steps) = found["bare"], found["batch"]
        ratios.append(ours / alone)
        print(
            f"round {number + 1}: LLM.generate {alone:.3f} requests/s ({alone_steps} steps), batch {ours:.3f}"
            f" ({our_steps} steps): {ratios[-1]:.3f}",
            flush=True,
        )
    middle = statistics.median(ratios)
    print(f"batch / LLM.generate: median {middle:.3f}, from {min(ratios):.3f} to {max(ratios):.3f}")
    batch_engine._end_engine(llm)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(json.loads(sys.argv[2]))
        sys.stdout.flush()
    else:
        sys.exit(main())
