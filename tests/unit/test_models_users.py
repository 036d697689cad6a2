"""Which programs use a model: those that have its files open, and servers that somebody else started on it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from qwen_tui.errors import ModelError
from qwen_tui.models.catalogue import Catalogue
from qwen_tui.models.local_changes import delete_model, plan_deletion
from qwen_tui.models.local_folders import Place
from qwen_tui.models.local_users import users_of
from qwen_tui.paths import Paths
from tests.unit.test_catalogue import make_model

OPEN = "import sys; kept = open(sys.argv[1], 'rb'); print(flush=True); sys.stdin.read()"
MAP = (
    "import mmap, sys\nwith open(sys.argv[1], 'rb') as file: kept = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)\n"
    "print(flush=True); sys.stdin.read()"
)
ONLY_NAMED = "import sys; print(flush=True); sys.stdin.read()"


@contextlib.contextmanager
def running(program: str, *words: str, folder: Path | None = None) -> Iterator[int]:
    """A process that is as far as its print; its pid."""
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", program, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder
    )
    assert process.stdout is not None
    process.stdout.readline()
    try:
        yield process.pid
    finally:
        process.communicate()


@pytest.mark.parametrize("program", [OPEN, MAP])
def test_a_model_whose_file_another_program_has_open_is_not_deleted(paths: Paths, tmp_path: Path, program: str) -> None:
    folder = make_model(tmp_path / "here" / "a")
    (model,) = Catalogue(paths, where=[Place(tmp_path / "here", "folder")]).list()
    plan = plan_deletion(model)
    with running(program, str(folder / "model.safetensors")) as pid:
        with pytest.raises(ModelError, match="in use") as caught:
            delete_model(plan)
        assert str(pid) in caught.value.why
    delete_model(plan)
    assert not folder.exists()


def test_a_server_is_known_by_what_it_was_told_to_serve(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "a"
    folder.mkdir(parents=True)
    with (
        running(ONLY_NAMED, "vllm", "serve", str(folder)) as by_path,
        running(ONLY_NAMED, "-m", "vllm.entrypoints.openai.api_server", f"--model={folder}/") as by_option,
        running(ONLY_NAMED, "vllm", "serve", "./a", folder=folder.parent) as from_here,
        running(ONLY_NAMED, "vllm", "serve", "qwen/a") as by_id,
        running(ONLY_NAMED, "vllm", "serve", f"{folder}-other") as beside,
        running(ONLY_NAMED, "qwen-tui", "models", "delete", str(folder)) as no_server,
    ):
        pids = {user.pid for user in users_of([folder], "qwen/a")}
        assert pids == {by_path, by_option, from_here, by_id}
        assert not pids & {beside, no_server}
