"""Convert a GGUF file to a model folder that vLLM loads: safetensors, configuration, tokenizer, chat template.

Runs under the engine's interpreter (torch, transformers), with accelerate and gguf lent by PYTHONPATH.
Request: {"gguf": file, "out": folder, must not exist}.
Result: {"folder", "parameters", "chat_template"}.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qwen_tui.workers import protocol
else:
    import protocol

STEPS = ("import", "weights", "tokenizer", "save")


def main(request: dict[str, Any]) -> dict[str, Any]:
    gguf, out = Path(request["gguf"]), Path(request["out"])
    _tell(0)
    import torch
    import transformers

    options: dict[str, Any] = {"gguf_file": gguf.name}
    _tell(1)
    # transformers 5 converts only when told to; older ones always do and know no GgufConfig.
    config = getattr(transformers, "GgufConfig", None)
    extra = {"quantization_config": config(dequantize=True)} if config is not None else {}
    model = transformers.AutoModelForCausalLM.from_pretrained(gguf.parent, **options, **extra)
    model = model.to(torch.bfloat16)
    model.config.dtype = torch.bfloat16
    if getattr(model.config, "quantization_config", None) is not None:
        del model.config.quantization_config
    _tell(2)
    tokenizer = transformers.AutoTokenizer.from_pretrained(gguf.parent, **options)
    if not tokenizer.chat_template:
        raise RuntimeError(f"{gguf.name} carries no chat template")
    _tell(3)
    model.save_pretrained(out, safe_serialization=True)
    tokenizer.save_pretrained(out)
    _tell(len(STEPS))
    return {
        "folder": str(out),
        "parameters": sum(tensor.numel() for tensor in model.parameters()),
        "chat_template": tokenizer.chat_template,
    }


def _tell(done: int) -> None:
    protocol.emit("progress", step="convert", done=done, total=len(STEPS), unit="items", detail=(*STEPS, "")[done])


if __name__ == "__main__":
    protocol.run(main)
