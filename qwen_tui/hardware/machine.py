"""The machine at one moment, GPUs and host together, read in a thread and by one reader at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from qwen_tui.hardware.gpus import Gpu, Gpus
from qwen_tui.hardware.host import CpuMeter, Disk, Host, disk_of, read_host


@dataclass(frozen=True)
class MachineState:
    """at: monotonic seconds. gpus: empty where NVML finds none. cpu: 0..1 since the reading before, None at the first.

    disk: the file system of the folder that was asked about. took: seconds that the reading took.
    """

    at: float
    gpus: Sequence[Gpu]
    host: Host
    cpu: float | None
    disk: Disk | None = None
    took: float = 0.0


class Machine:
    """Reads GPUs and host. Whoever asks within half a second of a reading gets that one.

    folder: whose disk is looked at; None for none. gpus, host: what reads those, given by tests.
    """

    def __init__(
        self, folder: Path | None = None, gpus: Gpus | None = None, host: Callable[[], Host] = read_host
    ) -> None:
        self._folder = folder
        self._gpus = gpus or Gpus()
        self._host = host
        self._cpu = CpuMeter()
        self._lock = asyncio.Lock()
        self._last: MachineState | None = None

    async def read(self) -> MachineState:
        """The state now. NVML answers in milliseconds, of a card in trouble in seconds: a thread waits for it."""
        async with self._lock:
            if self._last is None or time.monotonic() - self._last.at > 0.5:
                self._last = await asyncio.to_thread(self._read)
            return self._last

    @property
    def driver(self) -> str:
        """The NVIDIA driver's version, after a `read`; empty without one."""
        return self._gpus.driver

    async def close(self) -> None:
        """Let the driver go."""
        async with self._lock:
            await asyncio.to_thread(self._gpus.close)

    def _read(self) -> MachineState:
        began = time.monotonic()
        gpus = tuple(self._gpus.read())
        disk = disk_of(self._folder) if self._folder is not None else None
        return MachineState(began, gpus, self._host(), self._cpu.sample(), disk, time.monotonic() - began)
