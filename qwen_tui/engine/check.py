"""Prove an engine by importing it, and name what is wrong with one that fails."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from qwen_tui.engine.find import Platform
from qwen_tui.engine.plan import HARMFUL
from qwen_tui.errors import EngineError, WorkerError
from qwen_tui.i18n import _
from qwen_tui.progress import Progress
from qwen_tui.workers.host import run_worker

FaultKind = Literal["torchvision", "missing module", "torch build", "damaged", "driver", "other"]


@dataclass(frozen=True)
class EngineReport:
    """What an engine that works consists of."""

    vllm: str
    torch: str
    transformers: str
    cuda: str
    platform: Platform
    python: str


@dataclass(frozen=True)
class Fault:
    """What is wrong with an engine.

    text: one translated sentence. why: the exception's own words. module: the one that is missing, or empty.
    repair: arguments for the environment's `python -m` that mend it; empty if none is known.
    """

    kind: FaultKind
    text: str
    why: str
    module: str = ""
    repair: tuple[str, ...] = ()


class BrokenEngine(EngineError):
    """An engine whose imports fail. fault: what is wrong."""

    def __init__(self, python: Path, fault: Fault, hint: str = "") -> None:
        command = " ".join([str(python), "-m", *fault.repair]) if fault.repair else ""
        super().__init__(
            fault.text, fault.why, hint or (_("To repair it: {command}").format(command=command) if command else "")
        )
        self.fault = fault


async def check_engine(python: Path, log: Path, on_progress: Callable[[Progress], None] | None = None) -> EngineReport:
    """Import under `python` what the server needs; the versions. Takes 10 to 60 s. Raises BrokenEngine."""

    def hear(message: dict[str, object]) -> None:
        if on_progress is not None and message.get("kind") == "progress":
            done, total = float(str(message["done"])), float(str(message["total"]))
            on_progress(Progress(_("Checking the engine"), done, total, "items", detail=str(message["detail"])))

    try:
        # PYTHONPATH could lend the engine a module that a server started later would not have.
        result = await run_worker(python, "probe_engine.py", {}, log, hear, {"PYTHONPATH": ""})
    except WorkerError as error:
        raise BrokenEngine(python, diagnose(error.title, error.why)) from None
    platform = str(result.get("platform", ""))
    return EngineReport(
        vllm=str(result["vllm"]),
        torch=str(result["torch"]),
        transformers=str(result["transformers"]),
        cuda=str(result["cuda"]),
        platform="cpu" if platform == "cpu" else "cuda" if platform == "cuda" else "unknown",
        python=str(result["python"]),
    )


def diagnose(kind: str, why: str) -> Fault:
    """The fault behind an exception. kind: the exception's class; why: its message."""
    text = f"{kind}: {why}"
    why = why or kind
    if "torchvision::nms" in text or re.search(r"lib(torchaudio|torchcodec|torchvision)\w*\.so", text):
        return Fault(
            "torchvision",
            _("torchvision, torchaudio or torchcodec in the engine is of another build than its torch"),
            why,
            repair=("pip", "uninstall", "-y", *HARMFUL),
        )
    match = re.search(r"No module named '([\w.]+)'", text)
    if match:
        module = match.group(1)
        top = module.split(".")[0]
        return Fault(
            "missing module",
            _("The engine lacks the module {module}").format(module=module),
            why,
            top,
            ("pip", "install", "vllm" if top == "vllm" else top.replace("_", "-")),
        )
    if re.search(r"libcuda\.so\.1: cannot open|Found no NVIDIA driver|NVIDIA driver on your system is too old", text):
        return Fault("driver", _("The engine is a CUDA build, and no fitting NVIDIA driver is here"), why)
    if re.search(
        r"lib(cudart|cublas|cudnn|nccl|nvrtc|cusparse|cufft|torch_cuda|torch_cpu|torch|c10)\w*\.so|undefined symbol",
        text,
    ):
        return Fault(
            "torch build",
            _("The engine's torch is not the build that its vLLM was made for"),
            why,
        )
    if kind in (
        "SyntaxError",
        "ImportError",
        "AttributeError",
        "OSError",
        "UnicodeDecodeError",
        "EOFError",
        "ValueError",
    ):
        return Fault("damaged", _("The engine can't be imported: some of its packages are damaged or do not fit"), why)
    return Fault("other", _("The engine can't be imported"), why)
