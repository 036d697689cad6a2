"""`qwen-tui models` and `qwen-tui fit`, as one types them; and what servers on record tell of models."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qwen_tui.cli import main
from qwen_tui.hardware.gpus import Gpu
from qwen_tui.models.fit import GIB
from qwen_tui.models.fit_box import Box
from qwen_tui.models.local_model import LocalModel
from qwen_tui.paths import Paths, write_private
from qwen_tui.server.model_records import kv_cache_tokens, read_model_records
from qwen_tui.server.spec import ServerSpec
from tests.fakes.hub_search import Entry, SearchHub, search_hub_server
from tests.unit.test_catalogue import make_model
from tests.unit.test_fit_model import QWEN2_7B


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder with two models in it; nothing of the machine's own is seen."""
    for name in ("CONFIG", "DATA", "STATE", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    for name in ("MODELSCOPE_CACHE", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    make_model(tmp_path / ".cache" / "modelscope" / "models" / "Qwen--Qwen2-7B" / "snapshots" / "master")
    broken = make_model(tmp_path / "data" / "qwen-tui" / "models" / "broken")
    (broken / "model.safetensors").unlink()
    monkeypatch.setattr("qwen_tui.headless.fit._box", lambda *_arguments: BOX)
    return tmp_path


GPU = Gpu(0, "GPU-0", "H200", 139 * GIB, 139 * GIB, 0, (9, 0))
BOX = Box((GPU, GPU), (64 * GIB, 60 * GIB), False, (0, 24))


def test_the_list(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["MODEL", "broken", "!", "Qwen/Qwen2-7B"]
    assert "There are no weight files" in lines[2]
    make_model(home / "data" / "qwen-tui" / "models" / ".qwen-tui-moving-999999999-x")
    assert main(["models"]) == 0
    told = capsys.readouterr()
    assert told.out.splitlines() == lines
    assert ".qwen-tui-moving-999999999-x" in told.err
    extra = home / "elsewhere"
    make_model(extra / "third")
    assert main(["models", "--json", "--folder", str(extra)]) == 0
    assert [model["id"] for model in json.loads(capsys.readouterr().out)] == ["broken", "Qwen/Qwen2-7B", "third"]
    settings = home / "config" / "qwen-tui" / "settings.toml"
    write_private(settings, f'model_folders = ["{extra}"]')
    assert main(["models", "list", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 3
    write_private(settings, "model_folders = [3]")
    assert main(["models"]) == 2
    assert "a list of texts" in capsys.readouterr().err


@pytest.fixture
def hub(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SearchHub]:
    with search_hub_server(SearchHub([Entry("Qwen/Qwen2-7B", 1234, b"# The card\n"), Entry("a/Qwen2.5", 5)])) as served:
        for variable in ("MODELSCOPE_ENDPOINT", "HF_ENDPOINT"):
            monkeypatch.setenv(variable, served.url)
        yield served


def test_search_and_card(hub: SearchHub, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "search", "qwen", "--hub", "huggingface", "--family", "Qwen2"]) == 0
    header, line = capsys.readouterr().out.splitlines()
    assert header.startswith("MODEL")
    assert "Qwen/Qwen2-7B (gated)" in line
    assert "1,234" in line
    assert main(["models", "search", "qwen", "--json", "--limit", "1"]) == 0
    assert [model["id"] for model in json.loads(capsys.readouterr().out)] == ["Qwen/Qwen2-7B"]
    assert main(["models", "card", "Qwen/Qwen2-7B", "--hub", "modelscope"]) == 0
    assert capsys.readouterr().out == "# The card\n"
    hub.status = 503
    assert main(["models", "search", "x", "--json"]) == 1
    assert "in trouble" in json.loads(capsys.readouterr().out)["error"]["title"]


def test_the_card_of_a_model_that_is_here(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "data" / "qwen-tui" / "models" / "broken" / "README.md").write_text("---\nlicense: mit\n---\n# Local")
    assert main(["models", "card", "broken"]) == 0
    assert capsys.readouterr().out == "license: mit\n# Local\n"


def test_delete_asks_unless_told_not_to(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = home / "data" / "qwen-tui" / "models" / "broken"
    assert main(["models", "delete", "broken"]) == 2
    assert folder.exists()
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    for reply, status in (("n\n", 1), ("y\n", 0)):
        monkeypatch.setattr("sys.stdin.readline", lambda reply=reply: reply, raising=False)
        assert main(["models", "delete", "broken"]) == status
        assert folder.exists() == (status == 1)
    assert "freed" in capsys.readouterr().out
    assert main(["models", "delete", "qwen2-7b", "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["freed"] > 0


def test_move(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "move", "qwen2-7b", str(home / "disk"), "--json"]) == 0
    output = capsys.readouterr()
    moved = home / "disk" / "models" / "Qwen--Qwen2-7B" / "snapshots" / "master"
    assert json.loads(output.out) == {"id": "Qwen/Qwen2-7B", "path": str(moved)}
    assert "model_folders" in output.err
    assert (moved / "config.json").exists()


def test_fit_of_one_and_of_two(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "qwen2-7b"]) == 0
    output = capsys.readouterr().out
    assert output.startswith("✓ Qwen/Qwen2-7B: fits.")
    assert "qwen-tui serve" in output.splitlines()[-1]
    assert main(["fit", "qwen2-7b", "--max-model-len", "2048", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["light"], data["context"], data["tensor"]) == ("ok", 2048, 1)
    assert data["command"].endswith("--max-model-len 2048")
    assert main(["fit", "qwen2-7b", "broken"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert ["✓ Qwen/Qwen2-7B" in lines[0], "? broken" in lines[0]] == [True, True]
    assert main(["fit", "qwen2-7b", "--tensor-parallel-size", "3"]) == 2
    assert main(["fit", "nothing"]) == 1


def record(paths: Paths, name: str, at: float, log: str, **spec: Any) -> None:
    """A server that was started at `at` and has ended."""
    folder = paths.servers / name
    made = ServerSpec(name, "Qwen/Qwen2-7B", **spec)
    launch = {"id": name, "spec": made.to_json(), "log": str(folder / "log"), "engine": {"version": "0.24.0"}}
    write_private(folder / "launch.json", json.dumps(launch))
    write_private(folder / "state.json", json.dumps({"started_at": at, "status": "ended"}))
    (folder / "log").write_text(log)


PRINTED = "INFO [kv_cache_utils.py:2146] GPU KV cache size: 1,900,000 tokens\n"


def test_starts_on_record_are_used_and_said(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = Paths.from_environment()
    make_model(home / ".cache" / "modelscope" / "models" / "Qwen--Qwen2-7B" / "snapshots" / "master",
               {"w": ("BF16", [50_000], 100_000)}, **QWEN2_7B)  # fmt: skip
    assert main(["fit", "qwen2-7b", "--json"]) == 0
    reckoned = json.loads(capsys.readouterr().out)["tokens"]
    printed = PRINTED.replace("1,900,000", f"{int(reckoned * 0.9):,}")
    record(paths, "one", 1000.0, "x\n" + PRINTED + printed)
    record(paths, "fp8", 2000.0, printed, extra_args=("--kv-cache-dtype", "fp8"))
    record(paths, "silent", 3000.0, "nothing")
    assert main(["fit", "qwen2-7b", "--json"]) == 0
    fit = json.loads(capsys.readouterr().out)
    assert fit["tokens"] == pytest.approx(reckoned * 0.9, rel=0.001)
    assert (fit["measured"]["at"], fit["measured"]["engine"]) == (1000.0, "0.24.0")
    assert main(["fit", "qwen2-7b"]) == 0
    assert "Measured by" in capsys.readouterr().out
    assert main(["models", "--json"]) == 0
    model = json.loads(capsys.readouterr().out)[1]
    assert (model["last_used"], model["last_used_on_record"]) == (3000.0, True)


def test_living_servers_keep_their_models(paths: Paths) -> None:
    record(paths, "one", time.time(), PRINTED)
    assert read_model_records(paths).in_use == ()
    # A keeper's lock says that the server lives.
    import fcntl

    descriptor = os.open(paths.servers / "one" / "keeper.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        records = read_model_records(paths)
        assert records.in_use == (Path("Qwen/Qwen2-7B"),)
        path = Path("/models/Qwen2-7B")
        assert records.servers_of(LocalModel("Qwen/Qwen2-7B", path, path, "modelscope")) == ("one",)
        assert records.servers_of(LocalModel("Qwen/Qwen2-1B", path, path, "modelscope")) == ()
    finally:
        os.close(descriptor)


def test_a_log_that_is_not_there_tells_nothing(tmp_path: Path) -> None:
    assert kv_cache_tokens(tmp_path / "nothing.log") == 0
    (tmp_path / "odd.log").write_bytes(b"GPU KV cache size: , tokens\n\xff")
    assert kv_cache_tokens(tmp_path / "odd.log") == 0
