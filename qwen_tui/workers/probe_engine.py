"""Prove that an environment can serve: import what the API server imports, and say what is there.

Runs under the engine's interpreter. Request: {}. Result: {"vllm", "torch", "platform", "cuda", "transformers",
"python"}; an import that fails becomes the worker's error, with the exception's own words.
"""

from __future__ import annotations

import platform
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qwen_tui.workers import protocol
else:
    import protocol

STEPS = ("torch", "vllm", "vllm.entrypoints.openai.api_server")


def main(request: dict[str, Any]) -> dict[str, Any]:
    import importlib

    for done, module in enumerate(STEPS):
        protocol.emit("progress", step="import", done=done, total=len(STEPS), unit="items", detail=module)
        started = time.monotonic()
        importlib.import_module(module)
        print(f"import {module}: {time.monotonic() - started:.1f} s")
    protocol.emit("progress", step="import", done=len(STEPS), total=len(STEPS), unit="items", detail="")
    import torch
    import transformers
    import vllm
    from vllm.platforms import current_platform

    return {
        "vllm": vllm.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "cuda": torch.version.cuda or "",
        "platform": current_platform.device_type or "",
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    protocol.run(main)
