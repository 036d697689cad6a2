"""An offline speed test's backend: vllm.LLM, every prompt handed over at once.

Runs under the engine's interpreter. Request: {"prompts" (file), "arguments" (words for vLLM's EngineArgs), "n",
"seed"}. What it says: see throughput_round. Result: {"load_seconds", "about"}.
"""

from __future__ import annotations

import dataclasses
import inspect
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
    import vllm

    protocol.emit("phase", phase="load")
    began = time.monotonic()
    llm = load(request["arguments"])
    load_seconds = time.monotonic() - began
    generate = generator(llm, request["n"])
    throughput_round.run_rounds(request, generate, lambda: forget_prefixes(llm))
    return {"load_seconds": load_seconds, "about": {"vllm_version": vllm.__version__, **about(llm)}}


def generator(llm: Any, n: int) -> throughput_round.Generate:
    """What generates with `llm`, and tells how long it took. n: answers to each prompt."""
    meter = StepMeter(llm)

    def generate(
        prompts: list[throughput_round.Prompt], ticker: throughput_round.Ticker
    ) -> tuple[float, list[int], list[int]]:
        given: list[Any] = [{"prompt_token_ids": ids} for ids, _length in prompts]
        parameters = [sampling(length, n) for _ids, length in prompts]
        meter.ticker = ticker
        # As `vllm bench throughput` does, progress bar included: its time is part of vLLM's own figure.
        begin = time.perf_counter()
        outputs = llm.generate(given, parameters, use_tqdm=True)
        elapsed = time.perf_counter() - begin
        prompt_lens = [len(output.prompt_token_ids or ()) for output in outputs]
        return elapsed, prompt_lens, [sum(len(one.token_ids) for one in output.outputs) for output in outputs]

    return generate


def load(words: list[str]) -> Any:
    """The engine that these arguments ask for. Raises what vLLM raises."""
    from vllm import LLM
    from vllm.engine.arg_utils import EngineArgs

    parser = EngineArgs.add_cli_args(parser_class()())
    arguments = EngineArgs.from_cli_args(parser.parse_args(words))
    if hasattr(LLM, "from_engine_args"):
        return LLM.from_engine_args(arguments)
    return LLM(**dataclasses.asdict(arguments))


def parser_class() -> Any:
    """vLLM's own parser, wherever this vLLM keeps it; argparse's where it has none."""
    import argparse
    import importlib

    for name in ("vllm.utils.argparse_utils", "vllm.utils"):
        try:
            found = getattr(importlib.import_module(name), "FlexibleArgumentParser", None)
        except ModuleNotFoundError:
            continue
        if found is not None:
            return found
    return argparse.ArgumentParser


def sampling(length: int, n: int) -> Any:
    """As vLLM's own benchmark samples: from the whole distribution, exactly `length` tokens."""
    from vllm import SamplingParams

    return SamplingParams(n=n, temperature=1.0, top_p=1.0, ignore_eos=True, max_tokens=length)


def forget_prefixes(llm: Any) -> None:
    """A round must not profit from what the one before it left in the prefix cache."""
    reset = getattr(llm, "reset_prefix_cache", None)
    if reset is not None and not inspect.iscoroutinefunction(reset):
        reset()


class StepMeter:
    """Counts the tokens of each step where they come in from the engine: LLM.generate tells only whole answers.

    Where this vLLM keeps that place elsewhere, nothing is counted before the end. Some 10 µs for 100 requests a step.
    """

    def __init__(self, llm: Any) -> None:
        self.ticker: throughput_round.Ticker | None = None
        core = getattr(llm.llm_engine, "engine_core", None)
        inner = getattr(core, "get_output", None)
        if core is None or inner is None or inspect.iscoroutinefunction(inner):
            return

        def get_output(*given: Any, **named: Any) -> Any:
            outputs = inner(*given, **named)
            if self.ticker is not None:
                self.count(outputs, self.ticker)
            return outputs

        core.get_output = get_output

    @staticmethod
    def count(outputs: Any, ticker: throughput_round.Ticker) -> None:
        items = getattr(outputs, "outputs", None) or ()
        tokens = done = 0
        for item in items:
            tokens += len(getattr(item, "new_token_ids", None) or ())
            done += getattr(item, "finish_reason", None) is not None
        ticker.add(done, tokens)


def about(llm: Any) -> dict[str, Any]:
    """What the figures were made on, as far as this vLLM tells."""
    found: dict[str, Any] = {}
    try:
        import torch
        from vllm.platforms import current_platform

        config = llm.llm_engine.vllm_config
        found = {
            "dtype": str(config.model_config.dtype).removeprefix("torch."),
            "device": current_platform.device_type,
            "device_name": current_platform.get_device_name(),
            "torch_version": torch.__version__,
            "max_model_len": config.model_config.max_model_len,
            "max_num_seqs": config.scheduler_config.max_num_seqs,
            "enforce_eager": bool(config.model_config.enforce_eager),
            "prefix_caching": bool(config.cache_config.enable_prefix_caching),
        }
    except Exception as error:  # noqa: BLE001 - every vLLM keeps these somewhere else
        print(f"about: {error!r}")
    return found


if __name__ == "__main__":
    protocol.run(main)
