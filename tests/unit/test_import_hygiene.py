"""The arrows at run time: each folder imported in a fresh interpreter, and what came along."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import qwen_tui

ROOT = Path(qwen_tui.__file__).parent
HEAVY = {"vllm", "torch", "transformers", "modelscope", "numpy", "openai"}
#: Scripts that are only run, each under an interpreter of its own.
SCRIPTS = {path.stem for path in (ROOT / "workers").glob("*.py")} - {"__init__", "host", "protocol"}


def imported_by(code: str) -> set[str]:
    """The top-level names in sys.modules after `code` ran in a new interpreter."""
    program = f"{code}\nimport json, sys; print(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    # Nobody's settings file, nobody's language.
    environment = {**os.environ, "XDG_CONFIG_HOME": "/nowhere", "LANG": "C", "LC_ALL": "C", "LANGUAGE": ""}
    output = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, env=environment
    ).stdout
    return set(json.loads(output.splitlines()[-1]))


def modules_of(*folders: str) -> str:
    names = []
    for folder in folders:
        for file in (ROOT / folder).rglob("*.py"):
            if not (folder == "workers" and file.stem in SCRIPTS):
                names.append(".".join(("qwen_tui", *file.relative_to(ROOT).with_suffix("").parts)))
    return "import " + ", ".join(name.removesuffix(".__init__") for name in sorted(names))


@pytest.mark.parametrize(
    "folder", ["server", "chat", "bench", "batch", "models", "engine", "logs", "workers", "hardware", "headless"]
)
def test_domain_folders_import_no_screens_and_nothing_heavy(folder: str) -> None:
    came = imported_by(modules_of(folder))
    assert "textual" not in came
    assert not came & HEAVY


def test_the_screens_import_nothing_heavy() -> None:
    assert not imported_by(modules_of("ui")) & HEAVY


def test_help_imports_next_to_nothing() -> None:
    came = imported_by("from qwen_tui.cli import main; main(['--help'])")
    assert not came & (HEAVY | {"textual", "rich", "httpx", "argparse", "asyncio", "typing", "dataclasses"})


def test_the_keeper_needs_only_the_standard_library() -> None:
    """It runs with -S: nothing of site-packages is there."""
    program = f"import runpy, sys; sys.argv = ['keeper']; runpy.run_path({str(ROOT / 'server' / 'keeper.py')!r})"
    subprocess.run([sys.executable, "-I", "-S", "-c", program], check=True)
