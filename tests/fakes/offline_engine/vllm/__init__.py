"""A vLLM whose LLM answers with as many tokens as it is told to, and whose engine is a process of its own.

FAKE_SAW: a file to which each call's prompts are added, one JSON list a line. FAKE_HANG: generate without an end, with
an engine's process that minds no SIGTERM (with FAKE_SESSION in a session of its own); the pids of the worker's parent,
of the worker and of the engine are written to the file of this name.
"""

import os
import subprocess
import sys
import time
from types import SimpleNamespace

from transformers import saw

__version__ = "0.99.0"
_STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(1000)"


class SamplingParams:
    def __init__(self, n, temperature, top_p, ignore_eos, max_tokens):
        assert ignore_eos
        self.length = n * max_tokens


class Tokens:
    def __init__(self, count):
        self.token_ids = [1] * count


class Output:
    def __init__(self, prompt, count):
        self.prompt_token_ids = prompt["prompt_token_ids"]
        self.outputs = [Tokens(count)]


class LLM:
    def __init__(self, arguments):
        self.arguments = arguments
        self.resets = 0
        self.llm_engine = SimpleNamespace(
            vllm_config=SimpleNamespace(
                model_config=SimpleNamespace(dtype="torch.float32", max_model_len=512, enforce_eager=False),
                scheduler_config=SimpleNamespace(max_num_seqs=4),
                cache_config=SimpleNamespace(enable_prefix_caching=arguments.enable_prefix_caching),
            )
        )

    @classmethod
    def from_engine_args(cls, arguments):
        return cls(arguments)

    def reset_prefix_cache(self):
        self.resets += 1

    def generate(self, prompts, parameters, use_tqdm):
        if os.environ.get("FAKE_HANG"):
            apart = bool(os.environ.get("FAKE_SESSION"))
            engine = subprocess.Popen([sys.executable, "-c", _STUBBORN], start_new_session=apart)
            with open(os.environ["FAKE_HANG"] + ".new", "w") as file:
                file.write(f"{os.getppid()} {os.getpid()} {engine.pid}")
            os.rename(os.environ["FAKE_HANG"] + ".new", os.environ["FAKE_HANG"])
            time.sleep(1000)
        saw([prompt["prompt_token_ids"] for prompt in prompts])
        return [Output(prompt, one.length) for prompt, one in zip(prompts, parameters, strict=True)]
