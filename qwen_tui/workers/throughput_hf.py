"""An offline speed test's backend: transformers' `generate`, in static batches as vLLM's old script packed them.

Runs under the engine's interpreter. Request: {"prompts" (file), "model", "tokenizer", "trust_remote_code", "dtype",
"max_batch_size", "n", "seed"}. What it says: see throughput_round. Result: {"load_seconds", "about"}.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qwen_tui.workers import protocol, throughput_round
else:
    import protocol
    import throughput_round

#: A batch is full when its longest prompt and its longest answer have more tokens together.
LONGEST = 2048


def main(request: dict[str, Any]) -> dict[str, Any]:
    throughput_round.behind_the_engine()
    protocol.emit("phase", phase="import")
    import torch
    import transformers

    protocol.emit("phase", phase="load")
    began = time.monotonic()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        request["tokenizer"] or request["model"], trust_remote_code=request["trust_remote_code"]
    )
    model = load_model(request, device)
    pad = tokenizer.pad_token_id
    backend = Backend(model, tokenizer, device, pad if pad is not None else tokenizer.eos_token_id or 0, request["n"])
    backend.synchronize()
    load_seconds = time.monotonic() - began
    transformers.set_seed(request["seed"])

    def generate(
        prompts: list[throughput_round.Prompt], ticker: throughput_round.Ticker
    ) -> tuple[float, list[int], list[int]]:
        return backend.generate(prompts, request["max_batch_size"], ticker)

    throughput_round.run_rounds(request, generate)
    return {
        "load_seconds": load_seconds,
        "about": {
            "transformers_version": transformers.__version__,
            "torch_version": torch.__version__,
            "dtype": str(model.dtype).removeprefix("torch."),
            "device": device,
            "device_name": torch.cuda.get_device_name() if device == "cuda" else "cpu",
            "attention": str(getattr(model.config, "_attn_implementation", "")),
            "max_batch_size": request["max_batch_size"],
        },
    }


def load_model(request: dict[str, Any], device: str) -> Any:
    """The model in the asked-for type; "auto" is float16 on a GPU, as in the old script, else the model's own."""
    import torch
    import transformers

    name = request["dtype"]
    if name == "auto":
        dtype: Any = torch.float16 if device == "cuda" else "auto"
    else:
        dtype = getattr(torch, {"half": "float16", "float": "float32"}.get(name, name))
    options = {"trust_remote_code": request["trust_remote_code"]}
    # transformers 4.56 renamed the argument; the older ones ignore, or refuse, the new name.
    key = "dtype" if version_of(transformers.__version__) >= (4, 56) else "torch_dtype"
    model = transformers.AutoModelForCausalLM.from_pretrained(request["model"], **{key: dtype}, **options)
    model = model.to(device)
    model.eval()
    return model


def version_of(text: str) -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def batches(prompts: list[throughput_round.Prompt], most: int) -> Iterator[list[throughput_round.Prompt]]:
    """The prompts in batches of at most `most`, one after the other, padded to the longest: as the old script packs."""
    batch: list[throughput_round.Prompt] = []
    for prompt in prompts:
        together = [*batch, prompt]
        padded = max(len(ids) for ids, _length in together) + max(length for _ids, length in together)
        if batch and (len(batch) >= most or padded > LONGEST):
            yield batch
            batch = []
        batch.append(prompt)
    if batch:
        yield batch


class Backend:
    """A loaded model. pad: the id that fills up shorter prompts, unseen by the model. n: answers for each prompt."""

    def __init__(self, model: Any, tokenizer: Any, device: str, pad: int, n: int) -> None:
        self._model, self._tokenizer, self._device, self._pad, self._n = model, tokenizer, device, pad, n
        self._ticker: throughput_round.Ticker | None = None
        self._rows = 0
        model.register_forward_pre_hook(self._stepped)

    def _stepped(self, *_given: Any) -> None:
        """One step of the model: one token for each row. Runs nothing on the device."""
        if self._ticker is not None:
            self._ticker.add(tokens=self._rows)

    def synchronize(self) -> None:
        """Wait until the device has done what it was told."""
        if self._device == "cuda":
            import torch

            torch.cuda.synchronize()

    def generate(
        self, prompts: list[throughput_round.Prompt], most: int, ticker: throughput_round.Ticker
    ) -> tuple[float, list[int], list[int]]:
        """Seconds, tokens of each prompt, tokens that it was answered with (those it had asked for, of its batch's)."""
        lengths: list[int] = []
        self._ticker = ticker
        self.synchronize()
        begin = time.perf_counter()
        for batch in batches(prompts, most):
            made = self._batch(batch)
            lengths += [self._n * min(made, length) for _ids, length in batch]
            ticker.add(done=len(batch))
        self.synchronize()
        elapsed = time.perf_counter() - begin
        self._ticker = None
        return elapsed, [len(ids) for ids, _length in prompts], lengths

    def _batch(self, batch: list[throughput_round.Prompt]) -> int:
        """Answer one batch, decoding included as in the old script; how many tokens each row got."""
        import torch
        import transformers

        longest = max(len(ids) for ids, _length in batch)
        wanted = max(length for _ids, length in batch)
        self._rows = len(batch) * self._n
        rows = [[self._pad] * (longest - len(ids)) + ids for ids, _length in batch]
        mask = [[0] * (longest - len(ids)) + [1] * len(ids) for ids, _length in batch]
        config = transformers.GenerationConfig(
            do_sample=True,
            temperature=1.0,
            top_p=1.0,
            top_k=0,
            num_return_sequences=self._n,
            min_new_tokens=wanted,
            max_new_tokens=wanted,
            # No token ends an answer: vLLM is told the same by ignore_eos.
            eos_token_id=None,
            pad_token_id=self._pad,
            use_cache=True,
        )
        before = self._model.generation_config
        self._model.generation_config = config  # else the model's own fills in what is left out here
        try:
            with torch.inference_mode():
                outputs = self._model.generate(
                    input_ids=torch.tensor(rows, device=self._device),
                    attention_mask=torch.tensor(mask, device=self._device),
                    generation_config=config,
                )
        finally:
            self._model.generation_config = before
        self._tokenizer.batch_decode(outputs, skip_special_tokens=True)
        return int(outputs.shape[1]) - longest


if __name__ == "__main__":
    protocol.run(main)
