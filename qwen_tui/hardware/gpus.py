"""NVIDIA GPUs through NVML. Without the package `nvidia-ml-py`, or without a driver, there are none."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from qwen_tui.i18n import N_, _

_T = TypeVar("_T")

#: Bits of nvmlDeviceGetCurrentClocksEventReasons that slow a card down. Source: nvml.h.
THROTTLE_REASONS: Mapping[int, str] = {
    0x04: N_("power limit"),
    0x08: N_("hardware slowdown"),
    0x20: N_("temperature"),
    0x40: N_("hardware: temperature"),
    0x80: N_("hardware: power brake"),
}


@dataclass(frozen=True)
class GpuProcess:
    """A process with memory on a GPU. memory: bytes, None where the driver does not say (in a container)."""

    pid: int
    memory: int | None
    command: str = ""


@dataclass(frozen=True)
class Gpu:
    """One GPU at one moment; None stands for what the driver did not say.

    memory_*: bytes. total is what CUDA can hand out: the card's memory without what the driver keeps.
    utilization, memory_utilization: percent of time busy. power, power_limit: W. temperature: °C.
    clock_sm, clock_memory: MHz. throttle: bits of THROTTLE_REASONS that are set.
    """

    index: int
    uuid: str
    name: str
    memory_total: int
    memory_free: int
    memory_used: int
    compute_capability: tuple[int, int] | None = None
    utilization: int | None = None
    memory_utilization: int | None = None
    power: float | None = None
    power_limit: float | None = None
    temperature: int | None = None
    clock_sm: int | None = None
    clock_memory: int | None = None
    throttle: int = 0
    processes: tuple[GpuProcess, ...] = ()

    @property
    def throttle_words(self) -> list[str]:
        """Why the card runs slower than it could, translated; empty if it does not."""
        return [_(word) for bit, word in THROTTLE_REASONS.items() if self.throttle & bit]


class Gpus:
    """Reads the GPUs. Opened by the first `read`; `close` lets the driver go.

    library: a module with pynvml's functions, given by tests.
    problem: after a `read` that found nothing, why, in NVML's words; may be empty.
    driver: its version, after a `read` that found one.
    """

    def __init__(self, library: Any = None) -> None:
        self._library = library
        self._is_open = False
        self.problem = ""
        self.driver = ""

    def read(self) -> list[Gpu]:
        """Every GPU as it is now; empty without a driver. About 5 ms a card, the first call 20 to 300 ms."""
        library = self._opened()
        if library is None:
            return []
        try:
            return [self._read_one(library, index) for index in range(library.nvmlDeviceGetCount())]
        except library.NVMLError as error:
            self.problem = str(error)
            self.close()
            return []

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            try:
                self._library.nvmlShutdown()
            except self._library.NVMLError as error:
                self.problem = str(error)

    def _opened(self) -> Any:
        if self._is_open:
            return self._library
        if self._library is None:
            try:
                self._library = importlib.import_module("pynvml")
            except ImportError as error:
                self.problem = str(error)
                return None
        try:
            self._library.nvmlInit()
        except self._library.NVMLError as error:
            self.problem = str(error)
            return None
        self._is_open = True
        with contextlib.suppress(self._library.NVMLError, AttributeError):
            self.driver = _text(self._library.nvmlSystemGetDriverVersion())
        return self._library

    def _read_one(self, library: Any, index: int) -> Gpu:
        handle = library.nvmlDeviceGetHandleByIndex(index)

        def ask(call: Callable[[], _T]) -> _T | None:
            """What the card says; None for what it does not know. A lost card is an error."""
            try:
                return call()
            except (library.NVMLError_NotSupported, library.NVMLError_NoPermission, AttributeError):
                return None

        total, free, used = _memory(library, handle)
        rates = ask(lambda: library.nvmlDeviceGetUtilizationRates(handle))
        power = ask(lambda: library.nvmlDeviceGetPowerUsage(handle))
        limit = ask(lambda: library.nvmlDeviceGetEnforcedPowerLimit(handle))
        capability = ask(lambda: library.nvmlDeviceGetCudaComputeCapability(handle))
        return Gpu(
            index=index,
            uuid=_text(ask(lambda: library.nvmlDeviceGetUUID(handle))),
            name=_text(ask(lambda: library.nvmlDeviceGetName(handle))),
            memory_total=total,
            memory_free=free,
            memory_used=used,
            compute_capability=(capability[0], capability[1]) if capability else None,
            utilization=rates.gpu if rates else None,
            memory_utilization=rates.memory if rates else None,
            power=power / 1000 if power is not None else None,
            power_limit=limit / 1000 if limit is not None else None,
            temperature=ask(lambda: library.nvmlDeviceGetTemperature(handle, library.NVML_TEMPERATURE_GPU)),
            clock_sm=ask(lambda: library.nvmlDeviceGetClockInfo(handle, library.NVML_CLOCK_SM)),
            clock_memory=ask(lambda: library.nvmlDeviceGetClockInfo(handle, library.NVML_CLOCK_MEM)),
            throttle=ask(lambda: int(library.nvmlDeviceGetCurrentClocksThrottleReasons(handle))) or 0,
            processes=tuple(
                GpuProcess(entry.pid, entry.usedGpuMemory, _command(entry.pid))
                for entry in ask(lambda: library.nvmlDeviceGetComputeRunningProcesses(handle)) or ()
            ),
        )


def visible(gpus: Sequence[Gpu], devices: str | None) -> list[Gpu]:
    """The GPUs that CUDA_VISIBLE_DEVICES=`devices` leaves, in its order; all for None.

    As CUDA reads it: indices or (beginnings of) UUIDs; the first that names no card ends the list.
    """
    if devices is None:
        return list(gpus)
    chosen: list[Gpu] = []
    for word in (part.strip() for part in devices.split(",")):
        found = [gpu for gpu in gpus if (str(gpu.index) == word if word.isdecimal() else gpu.uuid.startswith(word))]
        if not word or len(found) != 1:
            break
        chosen.append(found[0])
    return chosen


def _memory(library: Any, handle: Any) -> tuple[int, int, int]:
    """Total, free and used bytes. The second version of the call tells apart what the driver keeps for itself."""
    try:
        memory = library.nvmlDeviceGetMemoryInfo(handle, version=library.nvmlMemory_v2)
        return memory.total - memory.reserved, memory.free, memory.used
    except (TypeError, AttributeError, library.NVMLError):
        memory = library.nvmlDeviceGetMemoryInfo(handle)
        return memory.total, memory.free, memory.used


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")


def _command(pid: int) -> str:
    """The process's command line; empty if it is not to be seen from here."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return ""
    return " ".join(os.fsdecode(word) for word in words if word)
