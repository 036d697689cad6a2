"""The host from files, and GPUs from a library that answers like NVML."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from qwen_tui.hardware.gpus import Gpu, Gpus, visible
from qwen_tui.hardware.host import CpuMeter, Host, disk_of, memory_info, node_memory, open_files_limit, read_host

GB = 10**9


class NVMLError(Exception):
    pass


class NVMLError_NotSupported(NVMLError):  # noqa: N801 - the library's own name
    pass


class NVMLError_NoPermission(NVMLError):  # noqa: N801
    pass


def nvml(**changes: Any) -> SimpleNamespace:
    """A library with one H200, as measured: the driver keeps 645 MB, an idle context takes 552 MB."""

    def memory(_handle: int, version: int | None = None) -> SimpleNamespace:
        used = SimpleNamespace(total=150_754_820_096, free=149_557_477_376, used=1_197_342_720)
        return SimpleNamespace(**{**vars(used), "reserved": 644_939_776, "used": 552_402_944}) if version else used

    def unsupported(_handle: int) -> None:
        raise NVMLError_NotSupported("Not Supported")

    functions = {
        "NVMLError": NVMLError, "NVMLError_NotSupported": NVMLError_NotSupported,
        "NVMLError_NoPermission": NVMLError_NoPermission, "nvmlMemory_v2": 2,
        "NVML_TEMPERATURE_GPU": 0, "NVML_CLOCK_SM": 1, "NVML_CLOCK_MEM": 2,
        "nvmlInit": lambda: None, "nvmlShutdown": lambda: None, "nvmlDeviceGetCount": lambda: 1,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetMemoryInfo": memory,
        "nvmlDeviceGetName": lambda _handle: b"NVIDIA H200",
        "nvmlDeviceGetUUID": lambda _handle: "GPU-8ae6",
        "nvmlDeviceGetUtilizationRates": lambda _handle: SimpleNamespace(gpu=87, memory=40),
        "nvmlDeviceGetPowerUsage": lambda _handle: 128_741,
        "nvmlDeviceGetEnforcedPowerLimit": unsupported,
        "nvmlDeviceGetCudaComputeCapability": lambda _handle: (9, 0),
        "nvmlDeviceGetTemperature": lambda _handle, _sensor: 37,
        "nvmlDeviceGetClockInfo": lambda _handle, kind: 1980 if kind == 1 else 3201,
        "nvmlDeviceGetCurrentClocksThrottleReasons": lambda _handle: 0x24,
        "nvmlDeviceGetComputeRunningProcesses": lambda _handle: [SimpleNamespace(pid=999_999_999, usedGpuMemory=None)],
        **changes,
    }  # fmt: skip
    return SimpleNamespace(**functions)


def test_a_gpu_as_cuda_sees_it() -> None:
    (gpu,) = Gpus(nvml()).read()
    assert gpu.memory_total == 150_109_880_320  # what cuDeviceTotalMem said on that card
    assert (gpu.memory_free, gpu.memory_used) == (149_557_477_376, 552_402_944)
    assert (gpu.name, gpu.compute_capability, gpu.utilization) == ("NVIDIA H200", (9, 0), 87)
    assert (gpu.power, gpu.power_limit, gpu.temperature, gpu.clock_sm) == (128.741, None, 37, 1980)
    assert gpu.throttle_words == ["power limit", "temperature"]
    assert [(process.pid, process.memory, process.command) for process in gpu.processes] == [(999_999_999, None, "")]


def test_an_old_driver_without_the_second_kind_of_memory_info() -> None:
    def old(_handle: int) -> SimpleNamespace:
        return SimpleNamespace(total=24 * GB, free=20 * GB, used=4 * GB)

    (gpu,) = Gpus(nvml(nvmlDeviceGetMemoryInfo=old)).read()
    assert (gpu.memory_total, gpu.memory_free) == (24 * GB, 20 * GB)


def test_without_a_driver_there_are_no_gpus_and_the_reason_is_kept() -> None:
    def absent() -> None:
        raise NVMLError("NVML Shared Library Not Found")

    gpus = Gpus(nvml(nvmlInit=absent))
    assert gpus.read() == []
    assert gpus.problem == "NVML Shared Library Not Found"
    gpus.close()


def test_a_card_that_fell_off_the_bus_is_told_and_asked_for_again() -> None:
    opened: list[int] = []

    def lost(_handle: int) -> None:
        raise NVMLError("GPU is lost")

    library = nvml(nvmlDeviceGetUtilizationRates=lost, nvmlInit=lambda: opened.append(1))
    gpus = Gpus(library)
    assert gpus.read() == []
    assert gpus.problem == "GPU is lost"
    library.nvmlDeviceGetUtilizationRates = lambda _handle: SimpleNamespace(gpu=1, memory=1)
    assert len(gpus.read()) == 1
    assert len(opened) == 2


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        (None, [0, 1, 2]),
        ("1,0", [1, 0]),
        ("GPU-c", [2]),
        ("", []),
        ("-1", []),
        ("0,7,1", [0]),
        ("GPU-", []),
        ("1, 2", [1, 2]),
    ],
)
def test_visible_devices_as_cuda_reads_them(devices: str | None, expected: list[int]) -> None:
    gpus = [Gpu(index, f"GPU-{letter}", "", 1, 1, 0) for index, letter in enumerate("abc")]
    assert [gpu.index for gpu in visible(gpus, devices)] == expected


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    folder = tmp_path / "proc"
    folder.mkdir()
    (folder / "meminfo").write_text("MemTotal:  1000 kB\nMemAvailable: 800 kB\nSwapFree: 5 kB\nHugePages_Total: 3\n")
    (folder / "loadavg").write_text("1.50 1 1 1/2 3\n")
    return folder


def test_the_host_without_limits(proc: Path, tmp_path: Path) -> None:
    host = read_host(proc, tmp_path / "none")
    assert (host.memory_total, host.memory_available, host.swap_free) == (1_024_000, 819_200, 5120)
    assert host.load == 1.5
    assert host.cores >= 1
    assert memory_info(proc)["HugePages_Total"] == 3


@pytest.mark.parametrize("version", [1, 2])
def test_a_containers_limit_counts(proc: Path, tmp_path: Path, version: int) -> None:
    group = tmp_path / "cgroup"
    (group / "memory").mkdir(parents=True)
    (group / "cpu").mkdir()
    names = {
        2: ("memory.max", "memory.current", "memory.stat", "inactive_file 100000\n"),
        1: ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat",
            "total_inactive_file 100000\n"),
    }[version]  # fmt: skip
    for name, text in zip(names[:3], ("500000\n", "300000\n", names[3]), strict=True):
        (group / name).write_text(text)
    if version == 2:
        (group / "cpu.max").write_text("50000 100000\n")
    else:
        (group / "cpu/cpu.cfs_quota_us").write_text("50000\n")
        (group / "cpu/cpu.cfs_period_us").write_text("100000\n")
    host = read_host(proc, group)
    assert (host.memory_total, host.memory_available, host.cores) == (500_000, 300_000, 0.5)


def test_no_limit_is_no_limit(proc: Path, tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("5\n")
    (tmp_path / "memory.stat").write_text("")
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert read_host(proc, tmp_path).memory_total == 1_024_000


def test_a_memory_node_is_read_as_vllm_reads_it(tmp_path: Path) -> None:
    host = Host(10**9, 10**9, 0, 1, 0)
    assert node_memory(host, tmp_path) == (10**9, 10**9)
    node = tmp_path / "node" / "node0"
    node.mkdir(parents=True)
    lines = ("MemTotal: 900", "MemFree: 100", "Active(file): 20", "Inactive(file): 3", "SReclaimable: 1", "Dirty: 7")
    (node / "meminfo").write_text("\n".join(f"Node 0 {line} kB" for line in lines))
    assert node_memory(host, tmp_path) == (900 * 1024, 124 * 1024)


def test_the_processors_use_between_two_samples(proc: Path) -> None:
    meter = CpuMeter(proc)
    assert meter.sample() is None
    (proc / "stat").write_text("cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 1\n")
    assert meter.sample() is None
    assert meter.sample() is None
    (proc / "stat").write_text("cpu  150 0 125 720 105 0 0 0 0 0\n")
    assert meter.sample() == pytest.approx(0.75)


def test_the_real_machine() -> None:
    host = read_host()
    assert 0 < host.memory_available <= host.memory_total
    disk = disk_of(Path("/no/such/folder"))
    assert disk is not None
    assert (str(disk.path), 0 < disk.free <= disk.total) == ("/", True)
    soft, hard = open_files_limit()
    assert 0 < soft <= hard
