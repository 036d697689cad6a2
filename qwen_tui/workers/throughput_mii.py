"""An offline speed test's backend: DeepSpeed-MII's pipeline, every prompt handed over at once, as texts.

Runs under the engine's interpreter. Request: {"prompts" (file), "model", "n", "seed", "tensor_parallel_size"}.
What it says: see throughput_round. Result: {"load_seconds", "about"}.
"""

from __future__ import annotations

import importlib
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qwen_tui.workers import protocol, throughput_round
else:
    import protocol
    import throughput_round


def main(request: dict[str, Any]) -> dict[str, Any]:
    throughput_round.behind_the_engine()
    protocol.emit("phase", phase="import")
    import transformers

    mii = importlib.import_module("mii")

    protocol.emit("phase", phase="load")
    began = time.monotonic()
    pipe = mii.pipeline(request["model"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(request["model"])
    load_seconds = time.monotonic() - began

    def generate(
        prompts: list[throughput_round.Prompt], ticker: throughput_round.Ticker
    ) -> tuple[float, list[int], list[int]]:
        lengths = {length for _ids, length in prompts}
        if len(lengths) > 1:
            raise ValueError("MII answers all prompts of a call with the same number of tokens")
        wanted = lengths.pop()
        texts = [tokenizer.decode(ids) for ids, _length in prompts]
        begin = time.perf_counter()
        answers = pipe(texts, max_new_tokens=wanted, min_new_tokens=wanted, ignore_eos=True)
        elapsed = time.perf_counter() - begin
        ticker.add(done=len(prompts), tokens=wanted * len(prompts))
        prompt_lens = [int(answer.prompt_length) for answer in answers]
        return elapsed, prompt_lens, [int(answer.generated_length) for answer in answers]

    throughput_round.run_rounds(request, generate)
    destroy = getattr(pipe, "destroy", None)
    if destroy is not None:
        destroy()
    return {
        "load_seconds": load_seconds,
        "about": {"mii_version": str(getattr(mii, "__version__", "")), "dtype": "float16", "device": "cuda"},
    }


if __name__ == "__main__":
    protocol.run(main)
